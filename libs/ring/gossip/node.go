package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weir-logs/weir/libs/ring"
)

// Membership is what Node and Static have in common.
type Membership interface {
	Start(ctx context.Context) error
	Stop() error
	Ready() error

	View() *ring.View
	Watch(ctx context.Context) <-chan *ring.View
	Self() ring.Member
	SetState(s ring.State) error
	Leave(ctx context.Context) error
	Forget(name string) error
	Forgotten() <-chan struct{}
	Taken() <-chan error
	Tell(roles ring.Role, topic Topic, message []byte)
	Hear(topic Topic, f func(sender string, message []byte))
	GiveUp(name string) error
	Agree(ctx context.Context, name string) (votes, needed int)
	Learn(ctx context.Context, name string, digest uint64) bool
	NoteGap(what string) error
	Settle(name, incarnation string, s ring.State) error
	Merge(t ring.Table) error
	HoldFactor(rf int) error
	DropFactors(keep ring.Factors) error

	RingStatus() RingStatus
	GossipStatus() GossipStatus
}

var (
	_ Membership = (*Node)(nil)
	_ Membership = (*Static)(nil)
)

// Node is a process's membership of a cluster. Its methods may be called by
// several goroutines. Start and Stop each do their work once.
type Node struct {
	*core
	cfg  Config
	deps Deps

	queue  *memberlist.TransmitLimitedQueue
	others atomic.Int64 // len(alive)

	// list is set by Start, before it returns, and not changed any more.
	list   *memberlist.Memberlist
	cancel context.CancelFunc
	wg     sync.WaitGroup // loop and joinLoop

	startOnce, stopOnce sync.Once
	startErr, stopErr   error

	// joinMu guards what follows.
	joinMu   sync.Mutex
	selfAddr string
	// knownAt holds peers that told us that they have us alive at selfAddr.
	knownAt  map[string]bool
	words    map[string]word // what peers said last
	stopping bool
	joined   bool         // some table was merged, or there is nobody to have one from
	doubts   int          // looks at such addresses that go on
	refused  bool         // Taken has said so
	doubted  string       // address that had the own name when this member was new
	tries    []JoinStatus // of the last round
}

// New returns a Node that is not started. It opens nothing. The error says
// everything that is wrong with cfg.
func New(cfg Config, d Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d.fill()
	n := &Node{core: newCore(cfg.Self, cfg.Ring, d), cfg: cfg, deps: d, knownAt: map[string]bool{}, words: map[string]word{}}
	n.path, n.absent = cfg.TablePath, cfg.Timing.Absent
	n.queue = &memberlist.TransmitLimitedQueue{
		RetransmitMult: retransmits,
		// Called inside the queue's lock, which is taken inside core.mu.
		NumNodes: func() int { return int(n.others.Load()) + 1 },
	}
	n.spread = func(m ring.Member) { n.queue.QueueBroadcast(broadcast{m.Name + " " + m.Incarnation, encodePacket(m)}) }
	return n, nil
}

// Start loads the table, begins to listen, and joins in the background. ctx
// bounds nothing after Start has returned. A member whose data directory was
// forgotten gets ring.ErrForgotten. A Node that failed to start is of no use.
func (n *Node) Start(ctx context.Context) error {
	n.startOnce.Do(func() { n.startErr = n.start(ctx) })
	return n.startErr
}

func (n *Node) start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.open(); err != nil {
		return err
	}
	n.mu.Lock()
	n.yields = n.self.Stores() && n.self.State == ring.Joining
	n.mu.Unlock()
	cfg, err := n.listConfig()
	if err != nil {
		return err
	}
	list, err := memberlist.Create(cfg)
	if err != nil {
		return fmt.Errorf("gossip: listen on %s: %w", n.cfg.Bind, err)
	}
	n.list = list
	n.joinMu.Lock()
	n.selfAddr = list.LocalNode().Address()
	n.joinMu.Unlock()
	n.log.Info("gossip is listening", "member", n.cfg.Self.Name, "addr", n.selfAddr, "label", n.cfg.Label, "encrypted", len(n.cfg.SecretKey) > 0)

	run, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.wg.Go(func() { n.loop(run) })
	n.wg.Go(func() { n.joinLoop(run) })
	n.wg.Go(func() { n.confirmLoop(run) })
	return nil
}

// retransmits times log(members) is how often a record is sent in packets.
const retransmits = 4

func (n *Node) listConfig() (*memberlist.Config, error) {
	ip, port, err := splitIP(n.cfg.Bind)
	if err != nil {
		return nil, err
	}
	t := n.cfg.Timing
	c := memberlist.DefaultLANConfig()
	c.Name = n.cfg.Self.Name
	c.BindAddr, c.BindPort = ip.String(), port
	c.AdvertisePort = port
	if n.cfg.Advertise != "" {
		ip, port, err := n.cfg.advertise()
		if err != nil {
			return nil, err
		}
		c.AdvertiseAddr = ip.String()
		if port != 0 {
			c.AdvertisePort = port
		}
	}
	c.Label = n.cfg.Label
	c.SecretKey = n.cfg.SecretKey
	c.ProbeInterval, c.ProbeTimeout = t.Probe, t.ProbeTimeout
	c.GossipInterval, c.PushPullInterval = t.Gossip, t.PushPull
	c.TCPTimeout, c.DeadNodeReclaimTime = t.Stream, t.Reclaim
	c.RetransmitMult = retransmits
	d := &delegate{n}
	c.Delegate, c.Events, c.Conflict, c.Ping = d, d, d, d
	c.Logger = log.New(logWriter{n.log}, "", 0)
	return c, nil
}

// loop refreshes the view when something changed.
func (n *Node) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.dirty:
		}
		if err := n.refresh(); err != nil {
			// It is tried again with the next change, and in joinLoop's rhythm.
			n.log.Warn("cannot save the member table", "err", err)
		}
	}
}

// Ready is nil once the node has met another member, or has no one to meet, and
// enough ingesters know of it.
func (n *Node) Ready() error {
	switch {
	case n.GossipAddr() == "":
		return ErrNotRunning
	case !n.met():
		return fmt.Errorf("gossip: no member table of a join address could be merged yet: %v", n.cfg.Join)
	}
	return n.pending()
}

// GossipAddr returns the address that the node advertises, "" before Start.
func (n *Node) GossipAddr() string {
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	return n.selfAddr
}

// Leave makes this member a tombstone for good and tells the others. It fails
// if there are others and none could be told before ctx was done; the record
// then still spreads while the node runs. It does not stop the node.
func (n *Node) Leave(ctx context.Context) error {
	if n.GossipAddr() == "" {
		return ErrNotRunning
	}
	if err := n.setState(ring.Left); err != nil {
		return err
	}
	return n.tell(ctx, n.Self())
}

// tell sends a record over TCP to some of the others, who pass it on.
func (n *Node) tell(ctx context.Context, m ring.Member) error {
	const enough = 3
	peers, told := n.peers(), 0
	var last error
	for _, p := range peers {
		if told == enough || ctx.Err() != nil {
			break
		}
		if err := n.list.SendReliable(&p.node, encodePacket(m)); err != nil {
			last = err
			continue
		}
		told++
	}
	if len(peers) == 0 || told > 0 {
		return nil
	}
	if last == nil {
		last = ctx.Err()
	}
	return fmt.Errorf("gossip: none of %d members could be told: %w", len(peers), last)
}

// Stop tells the others that the member is away, keeps its place, and returns
// when all goroutines have ended and the table is saved. Members that store
// nothing leave. The Node cannot be started again.
func (n *Node) Stop() error { return n.stop(true) }

// Abandon ends the member as a crash would: nobody is told, and the others find out by
// themselves. In all else it is like Stop.
func (n *Node) Abandon() error { return n.stop(false) }

func (n *Node) stop(polite bool) error {
	n.stopOnce.Do(func() {
		if n.list == nil {
			n.end()
			return
		}
		// A join under way ends first, so that who has met us is told below.
		n.joinMu.Lock()
		n.stopping = true
		polite = polite && !n.refused // it is not this member that is away
		n.joinMu.Unlock()
		n.cancel()
		n.wg.Wait()
		if polite {
			ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Timing.Stream)
			defer cancel()
			if self := n.Self(); !self.Stores() && !self.State.Gone() {
				if err := n.Leave(ctx); err != nil {
					n.log.Warn("stopping without having told anyone", "err", err)
				}
			}
			// Being told spares the others the wait until probes have failed.
			if err := n.list.Leave(5 * n.cfg.Timing.Gossip); err != nil {
				n.log.Debug("leaving memberlist", "err", err)
			}
		}
		if err := n.list.Shutdown(); err != nil {
			n.log.Warn("stopping memberlist", "err", err)
		}
		n.stopErr = n.refresh()
		n.end()
	})
	return n.stopErr
}

// joinLoop tries the join addresses that are no members, until ctx is done.
func (n *Node) joinLoop(ctx context.Context) {
	tick := time.NewTicker(n.cfg.Timing.Rejoin)
	defer tick.Stop()
	for {
		n.join(ctx)
		n.sweep()
		n.touch()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const (
	// maxJoinAddrs bounds what names resolve to, in all.
	maxJoinAddrs = 256
	// joinWorkers is how many are tried at a time.
	joinWorkers = 8
)

// join makes one round.
func (n *Node) join(ctx context.Context) {
	if len(n.cfg.Join) == 0 {
		return
	}
	known := map[string]bool{} // addresses that need no joining
	self := n.GossipAddr()
	peers := n.peers()
	n.joinMu.Lock()
	for name, p := range peers {
		if n.knownAt[name] {
			known[p.addr()] = true
		}
	}
	n.joinMu.Unlock()

	tries := n.resolve(ctx)
	onlySelf := true
	gate := make(chan struct{}, joinWorkers)
	var wg sync.WaitGroup
	for i := range tries {
		t := &tries[i]
		switch {
		case t.Addr == self:
			t.Result = "self"
		case t.Err != "":
			onlySelf = false
		case known[t.Addr]:
			onlySelf = false
			t.Result = "member"
		case ctx.Err() != nil:
			return
		default:
			onlySelf = false
			gate <- struct{}{}
			wg.Go(func() {
				defer func() { <-gate }()
				if _, err := n.list.Join([]string{t.Addr}); err != nil {
					t.Result, t.Err = "error", err.Error()
					n.metrics.joins.WithLabelValues("error").Inc()
					return
				}
				t.Result = "joined"
				n.metrics.joins.WithLabelValues("ok").Inc()
			})
		}
	}
	wg.Wait()

	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	n.tries = tries
	if onlySelf && len(tries) > 0 {
		n.joined = true
	}
}

// resolve returns one entry per address of each join name, or one with an error.
func (n *Node) resolve(ctx context.Context) (out []JoinStatus) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timing.Stream)
	defer cancel()
	for _, name := range n.cfg.Join {
		host, port, err := net.SplitHostPort(name)
		var ips []string
		switch {
		case err != nil: // Validate has seen to it
		case net.ParseIP(host) != nil:
			ips = []string{net.ParseIP(host).String()}
		default:
			ips, err = n.deps.Resolver.LookupHost(ctx, host)
			if err != nil {
				n.metrics.joins.WithLabelValues("unresolved").Inc()
			}
		}
		if err != nil {
			out = append(out, JoinStatus{Name: name, Result: "error", Err: err.Error()})
			continue
		}
		for _, ip := range ips {
			if len(out) == maxJoinAddrs {
				n.log.Warn("too many join addresses, ignoring the rest", "limit", maxJoinAddrs)
				return out
			}
			out = append(out, JoinStatus{Name: name, Addr: net.JoinHostPort(ip, portNumber(port))})
		}
	}
	return out
}

// portNumber drops leading zeros, so that addresses compare.
func portNumber(port string) string {
	n, err := strconv.Atoi(port)
	if err != nil {
		return port
	}
	return strconv.Itoa(n)
}
