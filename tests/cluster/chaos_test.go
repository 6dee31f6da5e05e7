package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// fault is something that happens to a cluster of which all is well, after which all is
// well again.
type fault struct {
	name string
	// single faults are of one ingester: writes go on and queries are complete.
	single bool
	inject func(c *chaos)
}

var faults = []fault{
	{"kill", true, func(c *chaos) {
		n := c.one()
		n.Kill()
		c.stored(5)
		c.pause(time.Second)
		c.back(n)
	}},
	{"freeze", true, func(c *chaos) {
		n := c.one()
		n.Freeze()
		c.pause(c.freeze)
		n.Thaw()
	}},
	{"restart", true, func(c *chaos) {
		for _, n := range c.Ingesters {
			n.Terminate()
			c.back(n)
			c.stored(5)
		}
	}},
	{"wipe", true, func(c *chaos) {
		n := c.one()
		n.Kill()
		if err := os.RemoveAll(n.Dir); err != nil {
			c.t.Fatal(err)
		}
		c.back(n)
		c.healed()
	}},
	{"flip", true, func(c *chaos) {
		n := c.one()
		n.Kill()
		flipLog(c.t, n, c.rng)
		c.back(n)
		c.healed()
	}},
	{"kill-two", false, func(c *chaos) {
		but := c.rng.IntN(3)
		for i, n := range c.Ingesters {
			if i != but {
				n.Kill()
			}
		}
		c.pause(500 * time.Millisecond)
		for i, n := range c.Ingesters {
			if i != but {
				n.Start()
			}
		}
		c.back(nil)
	}},
	{"kill-all", false, func(c *chaos) {
		for _, n := range c.Ingesters {
			n.Kill()
		}
		for _, n := range c.Ingesters {
			n.Start()
		}
		c.back(nil)
	}},
	{"kill-front", false, func(c *chaos) {
		c.Front.Kill()
		c.Front.Start()
		c.Front.AwaitReady()
	}},
	{"power-cut", false, func(c *chaos) { c.disks.cut(c) }},
}

// chaos is a cluster to which faults happen.
type chaos struct {
	*scenario
	rng    *rand.Rand
	freeze time.Duration // at most
	disks  *disks        // nil: there are none whose power can be cut
	since  int64         // time of the oldest entries, nanoseconds
}

func (c *chaos) one() *harness.Node { return c.Ingesters[c.rng.IntN(len(c.Ingesters))] }

func (c *chaos) pause(most time.Duration) { time.Sleep(time.Duration(c.rng.Int64N(int64(most)))) }

// back waits until all is well again, after it has started a node that does not run.
func (c *chaos) back(n *harness.Node) {
	if n != nil {
		n.Start()
	}
	for _, n := range c.Ingesters {
		n.AwaitReady()
	}
	c.AwaitHealthy(len(c.Ingesters))
}

// healed waits until nothing that a member has lost is missing any more.
func (s *scenario) healed() {
	s.t.Helper()
	harness.Until(s.t, func() error {
		p, err := s.ring()
		if err == nil && len(p.Missing) > 0 {
			err = fmt.Errorf("not healed: %+v", p.Missing)
		}
		return err
	})
}

// flipLog flips a bit in the newest half of a log, of a node that does not run.
func flipLog(t *testing.T, n *harness.Node, rng *rand.Rand) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.Dir, "wal", "*.wal"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no segments in %s: %v", n.Dir, err)
	}
	path := slices.Max(paths)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 200 { // it was only begun
		return
	}
	b[len(b)/2+rng.IntN(len(b)/2)] ^= 1 << rng.IntN(8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// disks are file systems of their own for the ingesters, whose images are taken away as
// a cut of the power would leave them.
type disks struct {
	images []string
	mounts []string
}

// newDisks gives each ingester a disk. It returns nil where nothing can be mounted.
func newDisks(t *testing.T, c *harness.Cluster) *disks {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil || os.Getuid() != 0 {
		return nil
	}
	d := &disks{}
	scratch := t.TempDir()
	for i := range c.Ingesters {
		image, dir := filepath.Join(scratch, fmt.Sprint(i, ".img")), filepath.Join(scratch, fmt.Sprint(i))
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 512<<20); err != nil {
			t.Fatal(err)
		}
		command(t, "mkfs.ext4", "-q", "-F", image)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
			t.Logf("this machine does not mount: %v: %s", err, out)
			return nil
		}
		t.Cleanup(func() { unmount(t, dir) })
		d.images, d.mounts = append(d.images, image), append(d.mounts, dir)
	}
	for i, n := range c.Ingesters {
		n.Dir = filepath.Join(d.mounts[i], "data")
		n.Args = append(n.Args, "--ingester.disk-reserve=1MiB", "--ingester.disk-min-free=4MiB", "--ingester.disk-max-used-percent=100")
	}
	// The cleanups of the nodes, which end them, were registered before those of their
	// disks and so come after them.
	t.Cleanup(func() {
		for _, n := range c.Ingesters {
			n.Kill()
		}
	})
	return d
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	harness.Until(t, func() error { return exec.Command("umount", dir).Run() })
}

// cut cuts the power of all ingesters at once, and turns it on again.
func (d *disks) cut(c *chaos) {
	c.t.Helper()
	for _, n := range c.Ingesters {
		n.Freeze()
	}
	for _, image := range d.images {
		command(c.t, "cp", "--sparse=always", image, image+".cut")
	}
	for _, n := range c.Ingesters {
		n.Kill()
	}
	for i, image := range d.images {
		unmount(c.t, d.mounts[i])
		if err := os.Rename(image+".cut", image); err != nil {
			c.t.Fatal(err)
		}
		command(c.t, "mount", "-o", "loop", image, d.mounts[i])
	}
	for _, n := range c.Ingesters {
		n.Start()
	}
	c.back(nil)
}

// figures is what happened.
type figures struct {
	injected map[string]int
	outage   map[string]time.Duration // longest, by fault
	p99      map[string]time.Duration // of pushes, the most of any fault of its kind
	verdict  checker.Verdict
	reads    int
	refused  int // queries that were not answered
}

// TestChaos does things to a cluster under load, at random, one after the other, for
// WEIR_CHAOS (a duration). WEIR_CHAOS_FAULTS names those to choose from; the default is
// all. After each, what was acknowledged lately, and a range of what was before, are read
// in both directions and counted; at the end, everything.
func TestChaos(t *testing.T) {
	t.Parallel()
	lasts := 8 * time.Second
	if s := os.Getenv("WEIR_CHAOS"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("WEIR_CHAOS: %v", err)
		}
		lasts = d
	}
	seed := rand.Uint64() >> 1
	if s := os.Getenv("WEIR_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
		seed = v
	}
	t.Logf("WEIR_SEED=%d", seed)
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 5)), freeze: 3 * time.Second, since: time.Now().Add(-checker.FarthestBack - time.Minute).UnixNano()}
	if lasts > time.Minute {
		c.freeze = time.Minute
	}
	c.scenario = startWith(t, &checker.Load{Batch: 10, Pause: 25 * time.Millisecond, Seed: seed, Resend: true}, func(cl *harness.Cluster) {
		c.disks = newDisks(t, cl)
		for _, n := range cl.Ingesters {
			n.Args = append(n.Args, "--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=10s", "--ingester.upload-interval=30s", "--ingester.keep-uploaded=10s")
		}
		cl.Front.Args = append(cl.Front.Args, "--target=gateway,distributor,querier,compactor", "--compactor.interval=10s", "--compactor.max-wait=30s")
	})
	among := chosen(t, c.disks != nil)
	f := figures{injected: map[string]int{}, outage: map[string]time.Duration{}, p99: map[string]time.Duration{}}
	tail := harness.StartTail(t, c.client, c.load.History)
	began := time.Now()
	var order []fault
	for time.Since(began) < lasts && !t.Failed() {
		if len(order) == 0 { // each in turn, in an order of its own
			order = slices.Clone(among)
			c.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		x := order[0]
		order = order[1:]
		c.load.ResetGap()
		x.inject(c)
		f.injected[x.name]++
		c.stored(3)
		p := c.load.Pushes()
		f.outage[x.name] = max(f.outage[x.name], p.LongestGap).Round(time.Millisecond)
		f.p99[x.name] = max(f.p99[x.name], p.Took(0.99)).Round(time.Millisecond)
		c.verify(&f, x)
	}
	c.stop()
	if err := c.load.Err(); err != nil {
		t.Error(err)
	}
	for _, n := range c.Ingesters {
		n.AwaitReady()
	}
	all := c.verifyAll(&f)
	exact := []string{"kill", "restart", "freeze"}
	if slices.ContainsFunc(among, func(x fault) bool { return !slices.Contains(exact, x.name) }) {
		c.tailed(tail)
	} else {
		tail.Check(t)
	}
	p := c.load.Pushes()
	t.Logf("%s, faults %v, %d requests stored, %d failed, %d sent again; %d ranges read while it went on (%d queries refused): %s",
		time.Since(began).Round(time.Second), f.injected, p.Stored, p.Failed, p.Resent, f.reads, f.refused, f.verdict)
	t.Logf("longest time without a stored request: %v; 99th percentile of pushes, at its worst: %v", f.outage, f.p99)
	t.Logf("at the end: %s", all)
	for _, x := range among {
		if x.single && f.outage[x.name] > maxGap(t) {
			t.Errorf("%s: no request was stored for %s", x.name, f.outage[x.name])
		}
	}
}

// tailed checks a tail that went through faults after which it may repeat entries, where
// its own server was killed, or has to say that it left some out, where an ingester's disk
// was lost: nothing is missing without a word.
func (c *chaos) tailed(tail *harness.Tail) {
	c.t.Helper()
	due := tail.Due()
	var v checker.Verdict
	harness.Until(c.t, func() error {
		err := tail.Missing(due)
		tail.Judge(&v, c.load.History)
		if v.TailGap > 0 {
			c.t.Logf("%v", err)
			return nil
		}
		return err
	})
	if v.Corrupt > 0 {
		c.t.Error(v)
	}
	c.t.Logf("a tail of %d entries: it said %d times that it left some out, and repeated %d", tail.Len(), v.TailGap, v.TailTwice)
}

// chosen returns the faults to choose from.
func chosen(t *testing.T, power bool) []fault {
	t.Helper()
	names := strings.FieldsFunc(os.Getenv("WEIR_CHAOS_FAULTS"), func(r rune) bool { return r == ',' || r == ' ' })
	var out []fault
	for _, f := range faults {
		if len(names) > 0 && !slices.Contains(names, f.name) || f.name == "power-cut" && !power {
			continue
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		t.Skipf("none of %v can be done here", names)
	}
	return out
}

// verify reads what was written in the last half minute, and some minute before.
func (c *chaos) verify(f *figures, x fault) {
	c.t.Helper()
	v := checker.Verifier{Client: c.client, History: c.load.History}
	now := time.Now().UnixNano()
	minute := int64(time.Minute)
	old := c.since + c.rng.Int64N(max(1, now-c.since))
	for _, span := range []checker.Span{{From: now - minute/2, To: now + minute}, {From: old, To: old + minute}} {
		var w checker.Verdict
		harness.Until(c.t, func() (err error) {
			w, err = v.Verify(harness.Context(c.t), span, uint32(200+c.rng.IntN(4800)))
			if reason := client.Reason(err); err != nil {
				f.refused++
				if x.single && reason != "INCOMPLETE" && reason != "" {
					c.t.Errorf("after %s: %v", x.name, err)
				}
			}
			return err
		})
		f.reads++
		f.verdict.Add(w)
		if err := w.Err(); err != nil {
			c.t.Errorf("after %s: %v", x.name, err)
		}
	}
}

// verifyAll reads everything, five minutes at a time.
func (c *chaos) verifyAll(f *figures) checker.Verdict {
	c.t.Helper()
	v := checker.Verifier{Client: c.client, History: c.load.History}
	var all checker.Verdict
	const step = int64(5 * time.Minute)
	for from := c.since; from < time.Now().Add(2*time.Hour).UnixNano(); from += step {
		w, err := v.Verify(harness.Context(c.t), checker.Span{From: from, To: from + step}, 5000)
		if err != nil {
			c.t.Fatal(err)
		}
		all.Add(w)
	}
	if err := all.Err(); err != nil {
		c.t.Error(err)
	}
	return all
}
