package harness

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/client"
)

// Cluster is ingesters at replication factor 3 and a front, each a process.
type Cluster struct {
	Ingesters []*Node
	Front     *Node    // gateway, distributor and querier
	Others    []string // more addresses to join by

	t testing.TB
}

// NewCluster returns a cluster of n ingesters that is not started.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for i := range n {
		c.Ingesters = append(c.Ingesters, New(t, fmt.Sprintf("ingester-%d", i), ""))
	}
	c.Front = New(t, "front", "")
	objects := t.TempDir()
	for _, n := range c.nodes() {
		target := "ingester"
		if n == c.Front {
			target = "gateway,distributor,querier"
		}
		n.Args = []string{
			"--target=" + target, "--cluster.name=" + n.Name,
			"--storage.directory=" + objects, "--storage.shared"}
	}
	return c
}

// Start starts all processes and waits until they know each other.
func (c *Cluster) Start() {
	c.t.Helper()
	c.StartSome(c.Ingesters...)
}

// StartSome starts some ingesters and the front and waits until they know each other. All
// join by the addresses of all.
func (c *Cluster) StartSome(some ...*Node) {
	c.t.Helper()
	var join []string
	for _, n := range c.nodes() {
		join = append(join, n.Gossip)
	}
	for _, n := range c.nodes() {
		n.Args = append(n.Args, "--join="+strings.Join(append(join, c.Others...), ","))
	}
	nodes := append(slices.Clone(some), c.Front)
	for _, n := range nodes {
		n.Start()
		// The next meets it at once, and need not try again later.
		Until(c.t, func() error {
			conn, err := net.Dial("tcp", n.Gossip)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	for _, n := range nodes {
		n.AwaitReady()
	}
	c.AwaitHealthy(len(some))
}

func (c *Cluster) nodes() []*Node { return append(append([]*Node{}, c.Ingesters...), c.Front) }

// Client returns a client of the front.
func (c *Cluster) Client() *client.Client { return c.Front.Client() }

// AwaitHealthy waits until the front knows n healthy and active ingesters, exactly.
func (c *Cluster) AwaitHealthy(n int) {
	c.t.Helper()
	admin := c.Client().Admin()
	Until(c.t, func() error {
		resp, err := admin.Members(c.t.Context(), &adminv1.MembersRequest{})
		if err != nil {
			return err
		}
		healthy := 0
		for _, m := range resp.GetMembers() {
			for _, r := range m.GetRoles() {
				if r == "ingester" && m.GetHealthy() && m.GetState() == "active" {
					healthy++
				}
			}
		}
		if healthy != n {
			return fmt.Errorf("the front knows %d healthy ingesters, not %d", healthy, n)
		}
		return nil
	})
}
