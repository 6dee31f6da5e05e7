package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func member(name string) ring.Member {
	return ring.Member{Name: name, Incarnation: "inc-" + name, Roles: ring.Ingester, GRPCAddr: "127.0.0.1:9095",
		State: ring.Active, MinVersion: 1, MaxVersion: 1}
}

// config is the default one with quick intervals, on a free port.
func config(name string, join ...string) Config {
	c := DefaultConfig()
	c.Self, c.Bind, c.Join, c.Label = member(name), "127.0.0.1:0", join, "test"
	c.Timing.Probe, c.Timing.ProbeTimeout = 100*time.Millisecond, 80*time.Millisecond
	c.Timing.Gossip, c.Timing.PushPull = 20*time.Millisecond, 500*time.Millisecond
	c.Timing.Rejoin, c.Timing.Reclaim, c.Timing.Stream = 100*time.Millisecond, 200*time.Millisecond, 2*time.Second
	return c
}

func start(t *testing.T, c Config) *Node {
	t.Helper()
	return startWith(t, c, Deps{})
}

func startWith(t *testing.T, c Config, d Deps) *Node {
	t.Helper()
	d.Reg = prometheus.NewPedanticRegistry()
	n, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// await waits for a view of m that ok accepts.
func await(t *testing.T, m Membership, what string, ok func(*ring.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for v := range m.Watch(ctx) {
		if ok(v) {
			return
		}
	}
	t.Fatalf("%s: waited in vain for: %s\n%+v", m.Self().Name, what, m.RingStatus())
}

// poll waits for what no view shows.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

// shows reports on one member.
func shows(name string, s ring.State, healthy bool) func(*ring.View) bool {
	return func(v *ring.View) bool {
		m, ok := v.Table().Get(name)
		return ok && m.State == s && v.Healthy(name) == healthy
	}
}

func TestThreeNodes(t *testing.T) {
	a := start(t, config("a"))
	b := start(t, config("b", a.GossipAddr()))
	cc := config("c", a.GossipAddr())
	cc.TablePath = filepath.Join(t.TempDir(), "ring")
	c := start(t, cc)
	all := func(v *ring.View) bool {
		return len(v.With(ring.Ingester)) == 3 && len(v.Replicas(1)) == 3
	}
	for _, n := range []*Node{a, b, c} {
		await(t, n, "three healthy ingesters", all)
		poll(t, "readiness", func() bool { return n.Ready() == nil })
	}
	if x, y := a.View().Owners(7), c.View().Owners(7); x[0].Name != y[0].Name || x[2].Name != y[2].Name {
		t.Fatal("two nodes place a token differently")
	}
	poll(t, "equal tables", func() bool {
		x, y, z := a.View().Table().Digest(), b.View().Table().Digest(), c.View().Table().Digest()
		return x == y && y == z
	})

	// It dies: no farewell.
	old := c.GossipAddr()
	before := c.Self().Version
	if err := c.stop(false); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} {
		await(t, n, "c is away and keeps its place", shows("c", ring.Active, false))
		if v := n.View(); len(v.Holders(1)) != 3 || len(v.Replicas(1)) != 2 || v.Quorum() != 2 {
			t.Fatalf("holders %v, replicas %v", v.Holders(1), v.Replicas(1))
		}
	}

	// It comes back under its name, elsewhere.
	occupied, err := net.Listen("tcp", old)
	if err == nil {
		defer occupied.Close()
	}
	cc.Self.State, cc.Self.GRPCAddr = ring.Joining, "127.0.0.1:9999"
	c = start(t, cc)
	if c.GossipAddr() == old || c.Self().State != ring.Active || c.Self().Version <= before {
		t.Fatalf("came back as %+v at %s", c.Self(), c.GossipAddr())
	}
	for _, n := range []*Node{a, b, c} {
		await(t, n, "three healthy ingesters again", all)
		await(t, n, "c's new address", func(v *ring.View) bool {
			m, _ := v.Table().Get("c")
			return m.GRPCAddr == "127.0.0.1:9999"
		})
	}
	poll(t, "everyone to know everyone", func() bool {
		for _, n := range []*Node{a, b, c} {
			s := n.GossipStatus()
			if len(s.Nodes) != 2 {
				return false
			}
			for _, p := range s.Nodes {
				if !p.Acknowledged {
					return false
				}
			}
		}
		return true
	})

	// A polite stop is seen without probing, and the place is kept.
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b is away", shows("b", ring.Active, false))
	start(t, config("b", a.GossipAddr()))
	await(t, a, "b is back", shows("b", ring.Active, true))
}

// A peer that the join addresses name may come up long after.
func TestJoinIsTriedAgain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.3:0") // where nobody else is given the port meanwhile
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	a := start(t, config("a", addr))
	poll(t, "a first attempt", func() bool { return len(a.GossipStatus().Join) > 0 })
	if s := a.GossipStatus().Join[0]; s.Result != "error" || a.Ready() == nil {
		t.Fatalf("nobody is there: %+v, ready: %v", s, a.Ready())
	}
	c := config("b", addr) // itself
	c.Bind = addr
	b := start(t, c)
	await(t, a, "b", shows("b", ring.Active, true))
	poll(t, "readiness of both", func() bool { return a.Ready() == nil && b.Ready() == nil })
	if s := b.GossipStatus().Join[0]; s.Result != "self" {
		t.Fatalf("%+v", s)
	}
}

type hosts map[string][]string

func (h hosts) LookupHost(_ context.Context, name string) ([]string, error) {
	if ips, ok := h[name]; ok {
		return ips, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func TestNameWithSeveralAddresses(t *testing.T) {
	a := start(t, config("a"))
	_, port, _ := net.SplitHostPort(a.GossipAddr())
	c := config("b")
	c.Bind = "127.0.0.2:" + port
	if l, err := net.Listen("tcp", c.Bind); err != nil {
		t.Skipf("no second loopback address: %v", err)
	} else {
		l.Close()
	}
	start(t, c)
	// a and b do not know each other; c finds both behind one name.
	n := startWith(t, config("c", "ingesters:"+port, "nowhere:1"), Deps{Resolver: hosts{"ingesters": {"127.0.0.1", "127.0.0.2"}}})
	for _, name := range []string{"a", "b"} {
		await(t, n, name, shows(name, ring.Active, true))
	}
	await(t, a, "b through c", shows("b", ring.Active, true))
	s := n.GossipStatus().Join
	if len(s) != 3 || s[2].Result != "error" || s[2].Err == "" {
		t.Fatalf("%+v", s)
	}
}

func TestStrangersStayOut(t *testing.T) {
	key := []byte("0123456789abcdef")
	home := config("a")
	home.SecretKey = key
	a := start(t, home)
	for name, change := range map[string]func(*Config){
		"label":  func(c *Config) { c.Label = "other" },
		"key":    func(c *Config) { c.SecretKey = []byte("fedcba9876543210") },
		"no key": func(c *Config) { c.SecretKey = nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := config("stranger", a.GossipAddr())
			c.SecretKey = key
			c.Timing.Stream = 300 * time.Millisecond
			change(&c)
			x := start(t, c)
			poll(t, "a refused attempt", func() bool {
				s := x.GossipStatus().Join
				return len(s) == 1 && s[0].Result == "error"
			})
			if x.Ready() == nil || x.View().Table().Len() != 1 {
				t.Error("the stranger has met someone")
			}
		})
	}
	friend := config("friend", a.GossipAddr())
	friend.SecretKey = key
	start(t, friend)
	await(t, a, "the friend", shows("friend", ring.Active, true))
	if _, ok := a.View().Table().Get("stranger"); ok {
		t.Fatal("a knows the stranger")
	}
}

func TestLeaveAndForget(t *testing.T) {
	ac := config("a")
	ac.TablePath = filepath.Join(t.TempDir(), "ring")
	a := start(t, ac)
	bc := config("b", a.GossipAddr())
	bc.TablePath = filepath.Join(t.TempDir(), "ring")
	b := start(t, bc)
	c := start(t, config("c", a.GossipAddr()))
	for _, name := range []string{"b", "c"} {
		await(t, a, name, shows(name, ring.Active, true))
	}
	await(t, c, "b", shows("b", ring.Active, true))

	if err := c.SetState(ring.Leaving); err != nil {
		t.Fatal(err)
	}
	await(t, a, "c is leaving", shows("c", ring.Leaving, true))
	if err := c.SetState(ring.Left); err == nil {
		t.Fatal("left without leaving")
	}
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, a, "c has left", shows("c", ring.Left, true))
	await(t, b, "c has left", shows("c", ring.Left, true))

	if err := a.Forget("b"); !errors.Is(err, ErrHealthy) {
		t.Fatalf("b is healthy: %v", err)
	}
	if err := a.Forget("a"); !errors.Is(err, ErrHealthy) {
		t.Fatalf("a itself: %v", err)
	}
	if err := a.Forget("x"); !errors.Is(err, ring.ErrUnknownMember) {
		t.Fatal(err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b is away", shows("b", ring.Active, false))
	if err := a.Forget("b"); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b is forgotten", shows("b", ring.Forgotten, false))

	// b has not heard of it: it learns when it meets the others.
	b = start(t, bc)
	select {
	case <-b.Forgotten():
	case <-time.After(patience):
		t.Fatal("b was not told that it is forgotten")
	}
	await(t, b, "b is forgotten", shows("b", ring.Forgotten, true))
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	n, err := New(bc, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); !errors.Is(err, ring.ErrForgotten) {
		t.Fatalf("now b knows: %v", err)
	}
	n.Stop()
	// A new data directory may take the name.
	bc.Self.Incarnation, bc.TablePath = "another", filepath.Join(t.TempDir(), "ring")
	start(t, bc)
	await(t, a, "a new b", shows("b", ring.Active, true))
}

func TestStatelessMembersLeaveWhenStopped(t *testing.T) {
	a := start(t, config("a"))
	c := config("q", a.GossipAddr())
	c.Self.Roles = ring.Querier
	q := start(t, c)
	await(t, a, "q", shows("q", ring.Active, true))
	if err := q.Stop(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "q has left", shows("q", ring.Left, false))
	c.Self.Incarnation = "later"
	start(t, c)
	await(t, a, "q is back", shows("q", ring.Active, true))
}

func TestTableOutlivesThePeers(t *testing.T) {
	c := config("a")
	c.TablePath = filepath.Join(t.TempDir(), "ring")
	a := start(t, c)
	b := start(t, config("b", a.GossipAddr()))
	await(t, a, "b", shows("b", ring.Active, true))
	if err := b.stop(false); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a = start(t, c)
	if !shows("b", ring.Active, false)(a.View()) || !shows("a", ring.Active, true)(a.View()) {
		t.Fatalf("%+v", a.RingStatus())
	}
	if ok, missing := a.View().Complete(func(m *ring.Member) bool { return m.Name == "a" }); !ok || len(missing) != 0 {
		t.Fatal("one of two holders is enough where the quorum is two")
	}
}

func TestWatch(t *testing.T) {
	a := start(t, config("a"))
	ctx, cancel := context.WithCancel(t.Context())
	ch := a.Watch(ctx)
	if v := <-ch; !v.Healthy("a") {
		t.Fatal("the first view is the current one")
	}
	for range 3 { // nobody reads: the last one stays
		for _, s := range []ring.State{ring.Leaving, ring.Active, ring.Leaving} {
			if err := a.SetState(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v := <-ch; !shows("a", ring.Leaving, true)(v) {
		t.Fatal("a slow watcher missed the last view")
	}
	cancel()
	for range ch {
	}
	b := a.Watch(t.Context())
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	for range b {
	}
	late := a.Watch(t.Context())
	<-late
	if _, open := <-late; open {
		t.Fatal("watching a stopped node")
	}
}

func TestStatic(t *testing.T) {
	s, err := NewStatic(member("only"), ring.Config{ReplicationFactor: 1}, "", Deps{Reg: prometheus.NewPedanticRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready() == nil {
		t.Fatal("ready before start")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := s.View().Replicas(42); s.Ready() != nil || len(r) != 1 || r[0].Member.Name != "only" {
		t.Fatalf("replicas %v", r)
	}
	if err := s.SetState(ring.Leaving); err != nil {
		t.Fatal(err)
	}
	if r := s.View().Replicas(42); len(r) != 0 || len(s.View().Holders(42)) != 1 {
		t.Fatalf("a leaving member is read-only: %v", r)
	}
	if got := s.RingStatus(); len(got.Warnings) == 0 || !got.Members[0].Self || s.GossipStatus().Enabled {
		t.Fatalf("%+v", got)
	}
	ch := s.Watch(t.Context())
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for range ch {
	}
}

func TestStartFails(t *testing.T) {
	a := start(t, config("a"))
	c := config("b")
	c.Bind = a.GossipAddr()
	n, err := New(c, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err == nil {
		t.Fatal("the port is taken")
	}
	if n.Ready() == nil || n.Leave(t.Context()) == nil {
		t.Fatal("it is not running")
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRingStatus(t *testing.T) {
	a := start(t, config("a"))
	c := config("b", a.GossipAddr())
	c.Self.Zone = "z2"
	start(t, c)
	await(t, a, "b", shows("b", ring.Active, true))
	s := a.RingStatus()
	if len(s.Members) != 2 || s.Quorum != 2 || s.TableDigest != fmt.Sprintf("%016x", a.View().Table().Digest()) {
		t.Fatalf("%+v", s)
	}
	if m := s.Members[1]; m.Since == nil || m.LastSeen == nil || m.Share < 0.99 || m.Share > 1.01 || m.Self {
		t.Fatalf("%+v", m)
	}
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return w == "2 zones for a replication factor of 3: some replicas share a zone" }) {
		t.Fatalf("%q", s.Warnings)
	}
}
