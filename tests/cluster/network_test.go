package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// apart starts a cluster under load whose members are in network namespaces.
func apart(t *testing.T) *scenario {
	t.Helper()
	n := harness.NewNetwork(t)
	return start(t, func(c *harness.Cluster) {
		for _, node := range append(append([]*harness.Node{}, c.Ingesters...), c.Front) {
			n.Attach(node)
		}
	})
}

// converged waits until the front and all ingesters hold n ingesters healthy and have the same
// table, and says how long that took. The promise is 15 seconds, which is looked at where
// WEIR_MAX_GAP says that the machine is not busy.
func (s *scenario) converged(what string, n int) {
	s.t.Helper()
	began := time.Now()
	s.AwaitHealthy(n)
	for _, node := range s.Ingesters {
		harness.Until(s.t, func() error {
			if got := node.Metric("weir_ring_members", `state="active"`, `healthy="true"`); got < float64(n) {
				return fmt.Errorf("%s holds %v members healthy", node.Name, got)
			}
			return nil
		})
	}
	harness.Until(s.t, func() error {
		tables := map[string]string{}
		for _, node := range append([]*harness.Node{s.Front}, s.Ingesters...) {
			p, err := ringOf(node)
			if err != nil {
				return err
			}
			tables[p.Table] = node.Name
		}
		if len(tables) != 1 {
			return fmt.Errorf("members have different tables: %v", tables)
		}
		return nil
	})
	took := time.Since(began).Round(100 * time.Millisecond)
	s.t.Logf("%s: the members agree after %s", what, took)
	if took > 15*time.Second && os.Getenv("WEIR_MAX_GAP") != "" {
		s.t.Errorf("%s: the members agreed after %s only", what, took)
	}
}

// refused waits until pushes fail with a reason.
func (s *scenario) refused(reason string) {
	s.t.Helper()
	harness.Until(s.t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if client.Reason(s.failed) != reason {
			return fmt.Errorf("pushes fail with %w", s.failed)
		}
		return nil
	})
}

// degraded waits until a node's /ready says that it serves requests and that something is wrong
// all the same, or, of condition "", that nothing is.
func (s *scenario) degraded(n *harness.Node, condition string) {
	s.t.Helper()
	harness.Until(s.t, func() error {
		code, body, err := n.Get("/ready")
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("/ready of %s: %d %s %w", n.Name, code, body, err)
		}
		if condition == "" && body != "ready\n" || condition != "" && !strings.Contains(body, "\n"+condition+": ") {
			return fmt.Errorf("/ready of %s says %q", n.Name, body)
		}
		return nil
	})
	if got := n.Metric("weir_degraded", fmt.Sprintf("condition=%q", condition)); condition != "" && got != 1 {
		s.t.Errorf("weir_degraded of %s is %v", n.Name, got)
	}
}

// answered reads everything, again and again until a query is answered; all that was
// acknowledged before that must be in it.
func (s *scenario) answered() {
	s.t.Helper()
	harness.Until(s.t, func() error {
		mark := s.load.History.Mark()
		r, err := harness.Read(harness.Context(s.t), s.client, false, 5000)
		if err != nil {
			return err
		}
		if err := s.load.History.Judge(mark, r, nil).Err(); err != nil {
			s.t.Fatal(err)
		}
		return nil
	})
}

// TestPartition cuts one ingester off, then two, then one in one direction: the side with
// a quorum goes on, the other refuses; with the network back the members agree again and
// nothing is lost.
func TestPartition(t *testing.T) {
	t.Parallel()
	s := apart(t)
	in, front := s.Ingesters, s.Front
	s.load.ResetGap()

	in[2].Cut(in[0], in[1], front)
	for _, n := range []*harness.Node{in[0], in[1], front} {
		n.Cut(in[2])
	}
	s.AwaitHealthy(2)
	s.stored(50)
	s.noGap("one cut off")
	s.readUnderLoad()
	for _, n := range append(in, front) {
		n.Heal()
	}
	s.converged("one cut off", 3)
	s.stored(20)

	for _, n := range in[1:] {
		n.Cut(in[0], front)
		in[0].Cut(n)
		front.Cut(n)
	}
	s.refused("NO_QUORUM")
	s.AwaitHealthy(1)
	s.degraded(front, "ingesters")
	if _, err := harness.Read(harness.Context(t), s.client, false, 100); client.Reason(err) != "INCOMPLETE" {
		t.Errorf("a query of the side without a quorum answers %v", err)
	}
	for _, n := range append(in, front) {
		n.Heal()
	}
	s.converged("two cut off", 3)
	s.degraded(front, "")
	s.stored(20)
	s.answered()
	s.load.ResetGap()

	if some(0, 1) == 1 { // it is heard, and hears nothing
		in[1].Cut(in[0], in[2], front)
		s.stored(50)
		s.noGap("one deaf")
		s.answered()
		in[1].Heal()
		s.converged("one deaf", 3)
		s.stored(20)
	}
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, s.check())
}

// TestLossyNetwork drops one packet of twenty, everywhere, and lets requests to ingesters
// and their answers take 100 ms each.
func TestLossyNetwork(t *testing.T) {
	t.Parallel()
	network := harness.NewNetwork(t)
	var proxies []*harness.Proxy
	s := start(t, func(c *harness.Cluster) {
		for _, n := range c.Ingesters {
			network.Attach(n)
			p := network.Proxy(n.GRPC)
			n.Args = append(n.Args, "--cluster.advertise="+p.Addr)
			proxies = append(proxies, p)
		}
		network.Attach(c.Front)
	})
	for _, p := range proxies {
		p.Delay(100 * time.Millisecond)
	}
	for _, n := range append(s.Ingesters, s.Front) {
		n.Deaf("-m", "statistic", "--mode", "random", "--probability", "0.05")
	}
	s.load.ResetGap()
	s.stored(100)
	p := s.load.Pushes()
	for _, p := range proxies {
		p.Delay(0)
	}
	t.Logf("one packet of twenty lost, slow: longest gap %s, 99%% of pushes within %s", p.LongestGap.Round(time.Millisecond), p.Took(0.99).Round(time.Millisecond))
	s.answered()
	for _, n := range append(s.Ingesters, s.Front) {
		n.Heal()
	}
	s.converged("packets lost", 3)
	t.Logf("%s", s.check())
}

// TestGossipDown drops all gossip between members that are up: pushes go on with the members
// as they were, while these are taken for dead one after the other and after that.
func TestGossipDown(t *testing.T) {
	t.Parallel()
	if some(0, 1) == 0 {
		t.Skip("takes a minute; WEIR_SCENARIOS is not set")
	}
	s := apart(t)
	all := append(append([]*harness.Node{}, s.Ingesters...), s.Front)
	s.load.ResetGap()
	for _, n := range all {
		_, port, err := net.SplitHostPort(n.Gossip)
		if err != nil {
			t.Fatal(err)
		}
		for _, protocol := range []string{"tcp", "udp"} {
			n.Deaf("-p", protocol, "--dport", port)
		}
	}
	before := s.load.Pushes()
	harness.Until(t, func() error { // until fewer than a quorum are left
		resp, err := s.client.Admin().Members(t.Context(), &adminv1.MembersRequest{})
		if err != nil {
			return err
		}
		alive := 0
		for _, m := range resp.GetMembers() {
			if m.GetHealthy() && slices.Contains(m.GetRoles(), "ingester") {
				alive++
			}
		}
		if alive > 1 {
			return fmt.Errorf("%d ingesters are taken for alive", alive)
		}
		return nil
	})
	s.stored(100)
	p := s.load.Pushes()
	t.Logf("without gossip %d requests were stored and %d failed", p.Stored-before.Stored, p.Failed-before.Failed)
	s.noGap("no gossip")
	s.readUnderLoad()
	for _, n := range all {
		s.degraded(n, "gossip")
	}
	for _, n := range all {
		n.Heal()
	}
	s.converged("no gossip", 3)
	for _, n := range all {
		s.degraded(n, "")
	}
	s.stored(20)
	s.answered()
	t.Logf("%s", s.check())
}

// TestDiskStalls lets the disk of one ingester hang: writes to it do not return.
func TestDiskStalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fsfreeze"); err != nil {
		t.Skip("there is no fsfreeze")
	}
	var d *disks
	s := start(t, func(c *harness.Cluster) { d = newDisks(t, c) })
	if d == nil {
		t.Skip("this machine mounts no images")
	}
	disk := d.mounts[0]
	thaw := func() error { return exec.Command("fsfreeze", "-u", disk).Run() }
	t.Cleanup(func() { _ = thaw() }) // before the process on it is killed
	s.load.ResetGap()
	command(t, "fsfreeze", "-f", disk)
	s.stored(100)
	p := s.load.Pushes()
	s.noGap("a disk hangs")
	s.readUnderLoad()
	if err := thaw(); err != nil {
		t.Fatal(err)
	}
	s.AwaitHealthy(3)
	s.stored(50)
	s.readUnderLoad()
	t.Logf("99%% of pushes within %s while a disk hung: %s", p.Took(0.99).Round(time.Millisecond), s.check())
}

// TestSlowNetwork gives each ingester's gRPC port 100 ms in each direction.
func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	var proxies []*harness.Proxy
	s := start(t, func(c *harness.Cluster) {
		for _, n := range c.Ingesters {
			p := harness.NewProxy(t, n.GRPC)
			n.Args = append(n.Args, "--cluster.advertise="+p.Addr)
			proxies = append(proxies, p)
		}
	})
	for _, p := range proxies {
		p.Delay(100 * time.Millisecond)
	}
	s.load.ResetGap()
	s.stored(60)
	p := s.load.Pushes()
	t.Logf("longest gap %s, 99%% of pushes within %s", p.LongestGap.Round(time.Millisecond), p.Took(0.99).Round(time.Millisecond))
	s.readUnderLoad()
	// And connections that break in the middle of an answer: one ingester's, then all.
	cut := func(most int64, which ...*harness.Proxy) (n int64) {
		for _, p := range which {
			p.Delay(0)
			p.CutAfter(most)
		}
		harness.Until(t, func() error {
			n = 0
			for _, p := range which {
				n += p.Cuts()
			}
			if n < 5 {
				return fmt.Errorf("%d connections were cut", n)
			}
			return nil
		})
		s.stored(20)
		return n
	}
	cut(500, proxies[1])
	cuts := cut(2000, proxies...)
	for _, p := range proxies {
		p.CutAfter(0)
	}
	s.stored(10)
	s.answered()
	t.Logf("%d connections cut: %s", cuts, s.check())
}

// TestAckLost cuts connections between a client and the cluster while acknowledgements
// are on their way: what is sent again is there once.
func TestAckLost(t *testing.T) {
	t.Parallel()
	node := harness.Start(t)
	p := harness.NewProxy(t, node.GRPC)
	through := *node
	through.GRPC = p.Addr
	load := &checker.Load{Sink: through.Client(), History: &checker.History{}, Seed: rand.Uint64(), Resend: true}
	p.CutAfter(4 << 10)
	stop := load.Start()
	defer stop()
	harness.Until(t, func() error {
		if n := load.Pushes(); n.Stored < 200 || n.Failed < 10 {
			return fmt.Errorf("%d requests stored, %d failed, %d connections cut", n.Stored, n.Failed, p.Cuts())
		}
		return nil
	})
	stop()
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	var v checker.Verdict
	harness.Until(t, func() (err error) { // what was cut off may still be stored: between two reads, too
		if v, err = harness.Check(harness.Context(t), node.Client(), load.History, nil); err == nil && v.Differ > 0 {
			err = v.Err()
		}
		return err
	})
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	n := load.Pushes()
	t.Logf("%d connections cut, %d requests stored, %d failed: %s", p.Cuts(), n.Stored, n.Failed, v)
}

// TestOtherCluster starts a second cluster that joins by the addresses of the first, with
// another label: neither takes the other's members.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	s := start(t)
	other := harness.NewCluster(t, 1)
	other.Others = []string{s.Ingesters[0].Gossip, s.Front.Gossip}
	for _, n := range []*harness.Node{other.Ingesters[0], other.Front} {
		n.Args = append(n.Args, "--cluster.label=other", "--cluster.replication-factor=1")
		n.Args = append(n.Args, "--cluster.name=other-"+n.Name)
	}
	other.Start()
	failed := other.Front.Metric("weir_ring_joins_total", `result="`) - other.Front.Metric("weir_ring_joins_total", `result="success"`)
	harness.Until(t, func() error { // it tries, again and again
		n := other.Front.Metric("weir_ring_joins_total", `result="`) - other.Front.Metric("weir_ring_joins_total", `result="success"`)
		if n < failed+2 {
			return fmt.Errorf("%v attempts to join have failed", n)
		}
		return nil
	})
	s.AwaitHealthy(3)
	p, err := s.ring()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Members) != 4 {
		t.Errorf("members: %+v", p.Members)
	}
	other.AwaitHealthy(1)
	s.readUnderLoad()
	t.Logf("%s", s.check())
}

// TestFlippedBitHeals flips a bit in the log of one ingester after the other: what it lost
// counts as missing until the others have flushed, and no answer is short meanwhile.
func TestFlippedBitHeals(t *testing.T) {
	t.Parallel()
	s := start(t)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for _, n := range s.Ingesters[:some(1, 3)] {
		n.Kill()
		flipLog(t, n, rng)
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(3)
		s.readUnderLoad()
		s.healed()
		s.allStore()
		s.readUnderLoad()
	}
	t.Logf("%s", s.check())
}

// TestDiskFullTwo fills the disks of two ingesters: pushes are refused with a reason, what
// was acknowledged is read, and with room all goes on.
func TestDiskFullTwo(t *testing.T) {
	t.Parallel()
	var disks, ballast []string
	for range 2 {
		disks = append(disks, harness.Mount(t, "-t", "tmpfs", "-o", "size=24m", "weir-test"))
	}
	s := start(t, func(c *harness.Cluster) {
		for i, disk := range disks {
			n := c.Ingesters[i]
			n.Dir = filepath.Join(disk, "data")
			n.Args = append(n.Args, "--ingester.disk-min-free=2MiB", "--ingester.disk-reserve=1MiB", "--ingester.disk-max-used-percent=100")
			ballast = append(ballast, filepath.Join(disk, "ballast"))
		}
	})
	for _, path := range ballast {
		fill(t, path)
	}
	harness.Until(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r := client.Reason(s.failed); r != "NO_QUORUM" && r != "DISK_FULL" {
			return fmt.Errorf("pushes fail with %w", s.failed)
		}
		if client.AsError(s.failed).RetryAfter == 0 {
			t.Errorf("a push fails with %v and does not say when to try again", s.failed)
		}
		return nil
	})
	s.readUnderLoad()
	for _, n := range s.Ingesters[:2] { // they start with a full disk
		n.Kill()
		n.Start()
		n.AwaitReady()
	}
	s.AwaitHealthy(3)
	s.answered()
	for _, path := range ballast {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	s.stored(30)
	p := s.load.Pushes()
	t.Logf("%d requests stored, %d failed: %s", p.Stored, p.Failed, s.check())
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
