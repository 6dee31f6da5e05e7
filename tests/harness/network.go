package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// swept is done once the networks of processes that were killed are gone.
var swept sync.Once

// ownName is a name that NewNetwork gives to interfaces and namespaces: the number of the
// network, the process, and the node.
var ownName = regexp.MustCompile(`^wt[0-9]+p([0-9]+)(-[0-9]+)?$`)

// sweepNetworks removes what earlier runs of tests left behind that were killed: networks
// that they named, whose process is gone, and with no process in them.
func sweepNetworks() {
	namespaces, err := os.ReadDir("/run/netns")
	if err != nil {
		return // there are none
	}
	for _, ns := range namespaces {
		name := ns.Name()
		m := ownName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if _, err := os.Stat("/proc/" + m[1]); err == nil {
			continue
		}
		if pids, err := exec.Command("ip", "netns", "pids", name).Output(); err != nil || len(pids) > 0 {
			continue
		}
		_ = ip("netns", "del", name) // with the links in it; another process may be at it, too
	}
}

// taken says whether there is a network of a number.
func taken(number int) bool {
	namespaces, err := filepath.Glob(fmt.Sprintf("/run/netns/wt%dp*", number))
	return err != nil || len(namespaces) > 0
}

// Network is a bridge to which nodes are attached, each in a network namespace of its
// own, so that packets between them can be dropped. This process is attached too.
type Network struct {
	t     testing.TB
	id    string // of its interfaces and namespaces
	net   string // its addresses without the last number
	nodes int
}

// NewNetwork makes a network that lasts as long as the test. It skips the test where
// that is not possible.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, tool := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("network namespaces need %s", tool)
		}
	}
	swept.Do(sweepNetworks)
	for range 20 { // until a number is free
		x := rand.IntN(200 * 250)
		if taken(x) {
			continue
		}
		n := &Network{t: t, id: fmt.Sprintf("wt%dp%d", x, os.Getpid()), net: fmt.Sprintf("10.%d.%d.", 30+x/250, x%250)}
		// The bridge has a namespace of its own too, in which nobody else filters packets.
		if err := ip("netns", "add", n.id); err != nil {
			if strings.Contains(err.Error(), "exists") {
				continue
			}
			t.Skipf("this machine has no network namespaces: %v", err)
		}
		t.Cleanup(func() { _ = ip("netns", "del", n.id) })
		if err := ip("-n", n.id, "link", "add", "bridge", "type", "bridge"); err != nil {
			t.Skipf("this machine has no bridges: %v", err)
		}
		n.must(ip("-n", n.id, "link", "set", "bridge", "up"))
		if err := ip("link", "add", n.id, "type", "veth", "peer", "name", "test", "netns", n.id); err != nil {
			t.Skipf("this machine has no virtual links: %v", err)
		}
		t.Cleanup(func() { _ = ip("link", "del", n.id) })
		n.must(ip("-n", n.id, "link", "set", "test", "master", "bridge", "up"))
		n.must(ip("addr", "add", n.net+"1/24", "dev", n.id))
		n.must(ip("link", "set", n.id, "up"))
		return n
	}
	t.Fatal("no network is free")
	return nil
}

func ip(args ...string) error { return try("ip", args...) }

func try(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

func (n *Network) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// Attach puts a node that was not started into a namespace of the network.
func (n *Network) Attach(node *Node) {
	n.t.Helper()
	i := n.nodes
	n.nodes++
	ns, outer, inner := fmt.Sprint(n.id, "-", i), fmt.Sprint("port", i), "eth0"
	addr := fmt.Sprint(n.net, 10+i)
	if err := ip("netns", "add", ns); err != nil {
		n.t.Skipf("this machine has no network namespaces: %v", err)
	}
	n.t.Cleanup(func() {
		node.Kill()
		_ = ip("netns", "del", ns)
	})
	n.must(ip("-n", n.id, "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", ns))
	n.must(ip("-n", n.id, "link", "set", outer, "master", "bridge", "up"))
	n.must(ip("-n", ns, "addr", "add", addr+"/24", "dev", inner))
	n.must(ip("-n", ns, "link", "set", inner, "up"))
	n.must(ip("-n", ns, "link", "set", "lo", "up"))
	node.netns, node.ip = ns, addr
	for _, a := range []*string{&node.HTTP, &node.GRPC, &node.Gossip} {
		_, port, err := net.SplitHostPort(*a)
		n.must(err)
		*a = net.JoinHostPort(addr, port)
	}
	node.Args = append(node.Args, "--insecure-network")
	for _, match := range [][]string{ // what tests use
		{"-s", addr}, {"-p", "tcp", "--dport", "1"}, {"-p", "udp", "--dport", "1"}, {"-m", "statistic", "--mode", "random", "--probability", "0.05"},
	} {
		if err := node.drop(match); err != nil {
			n.t.Skipf("this machine does not filter packets by %v: %v", match, err)
		}
	}
	node.Heal()
}

// Proxy is NewProxy for nodes of the network.
func (n *Network) Proxy(target string) *Proxy {
	n.t.Helper()
	return newProxy(n.t, n.net+"1:0", target)
}

// Deaf makes a node drop packets that match, by the arguments of iptables: those from
// given nodes, for example. Heal ends it.
func (n *Node) Deaf(match ...string) {
	n.t.Helper()
	if err := n.drop(match); err != nil {
		n.t.Fatal(err)
	}
}

// drop waits for the lock that some versions of iptables share with all other processes.
func (n *Node) drop(match []string) error {
	return try("ip", slices.Concat([]string{"netns", "exec", n.netns, "iptables", "-w", "-A", "INPUT"}, match, []string{"-j", "DROP"})...)
}

// Cut drops all packets from others to n.
func (n *Node) Cut(others ...*Node) {
	n.t.Helper()
	for _, o := range others {
		n.Deaf("-s", o.ip)
	}
}

// Heal lets a node receive everything again.
func (n *Node) Heal() {
	n.t.Helper()
	if err := try("ip", "netns", "exec", n.netns, "iptables", "-w", "-F", "INPUT"); err != nil {
		n.t.Fatal(err)
	}
}
