package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weir-logs/weir/libs/ring"
)

var (
	// ErrHealthy says that a member cannot be forgotten because it is alive.
	ErrHealthy = errors.New("gossip: the member is healthy; stop it or let it leave first")
	// ErrNotRunning says that the Node is not started, or stopped.
	ErrNotRunning = errors.New("gossip: not running")
)

// peer is another process that memberlist holds alive. Its node is a copy.
type peer struct {
	node     memberlist.Node
	since    time.Time // by the local clock, as lastSeen
	lastSeen time.Time
}

func (p *peer) addr() string { return p.node.Address() }

// core is the state that Node and Static share: the table, who is alive, and
// the view made of them. It does no networking.
type core struct {
	listeners
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	path    string // "": not kept
	alone   bool   // other names are not looked at
	absent  time.Duration
	// spread tells the others of a changed record. It must not block.
	spread func(ring.Member)

	// view is nil only before start.
	view atomic.Pointer[ring.View]
	// dirty has an element when table or alive changed since the last refresh.
	dirty     chan struct{}
	forgotten chan struct{} // closed once, under mu
	taken     chan error    // has room for one

	// mu guards what follows. It may be taken inside memberlist's locks, so no
	// method of memberlist is called while it is held.
	mu    sync.Mutex
	self  ring.Member // as this process wants it to be
	table ring.Table
	alive map[string]peer
	// quiet is since when members that store nothing are away, or tombstones.
	quiet map[string]time.Time
	subs  map[chan *ring.View]struct{}
	given bool // the data directory was forgotten
	// yields is whether a record of another data directory under the own name is left to
	// stand, until insist is called.
	yields bool
	// kept are the factors of the own record that View and the file have; set under mu.
	kept  atomic.Uint32
	ended bool

	// refreshMu serialises refresh and guards saved.
	refreshMu sync.Mutex
	saved     uint64 // digest of the table in the file
}

func newCore(self ring.Member, cfg ring.Config, d Deps) *core {
	d.fill()
	self.ReplicationFactor = uint32(cfg.ReplicationFactor)
	if self.Stores() {
		self.Factors |= ring.FactorsOf(cfg.ReplicationFactor)
	}
	c := &core{
		log: d.Log, now: d.Now, metrics: newMetrics(d.Reg),
		spread:    func(ring.Member) {},
		dirty:     make(chan struct{}, 1),
		forgotten: make(chan struct{}),
		taken:     make(chan error, 1),
		self:      self,
		alive:     map[string]peer{},
		quiet:     map[string]time.Time{},
		subs:      map[chan *ring.View]struct{}{},
	}
	c.view.Store(ring.NewView(ring.Table{}, nil, cfg))
	return c
}

// open loads the table and puts the process's own record into it.
func (c *core) open() error {
	if c.path != "" {
		t, err := loadTable(c.path)
		switch {
		case errors.Is(err, errDamaged):
			// The others have the table, too; what only this file knew is lost,
			// which is why it is kept aside and said aloud.
			c.log.Error("member table file is damaged, starting from the other members' tables", "err", err, "kept_as", c.path+".damaged")
			if err := keepAside(c.path); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("gossip: load member table: %w", err)
		}
		if c.alone {
			t = t.Only(c.self.Name)
		}
		c.table = t
	}
	c.mu.Lock()
	old, ok := c.table.Get(c.self.Name)
	if ok && old.Incarnation == c.self.Incarnation && c.self.Stores() && c.self.State == ring.Joining &&
		(old.State == ring.Active || old.State == ring.Leaving) {
		c.self.State = ring.Active
	}
	c.keepFactors(old)
	if ok && old.Incarnation == c.self.Incarnation {
		c.kept.Store(uint32(old.Factors)) // should the disk be full
	}
	err := c.assert()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = c.refresh()
	if errors.Is(err, syscall.ENOSPC) {
		// Whoever frees the disk has to start, too. The older file is as after a crash, and
		// the next change is saved.
		c.log.Warn("cannot save the member table", "err", err)
		return nil
	}
	return err
}

// assert makes self the newest record of its name. mu is held.
func (c *core) assert() error {
	c.self.ChangedMillis = c.now().UnixMilli()
	self, replaced, err := c.table.Assert(c.self)
	if err != nil {
		return err
	}
	t, _, err := c.table.Put(self)
	if err != nil {
		return err
	}
	c.self, c.table = self, t
	if replaced != nil && replaced.Stores() {
		c.metrics.conflicts.Inc()
		c.log.Warn("another data directory was known under this name; what it held counts as missing until the other ingesters have flushed",
			"member", self.Name, "incarnation", self.Incarnation, "replaced", replaced.Incarnation)
	}
	return nil
}

// View returns the current view. It never changes; a later one replaces it.
func (c *core) View() *ring.View { return c.view.Load() }

// Self returns the process's own record.
func (c *core) Self() ring.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.self
}

// Forgotten returns a channel that is closed when the cluster has forgotten
// this ingester's data directory. It must then accept no more writes.
func (c *core) Forgotten() <-chan struct{} { return c.forgotten }

// Watch returns a channel that carries the current view and then each new one.
// A receiver that is slow misses views, never the last. The channel is closed
// when ctx is done or the Node stops.
func (c *core) Watch(ctx context.Context) <-chan *ring.View {
	ch := make(chan *ring.View, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	ch <- c.view.Load()
	if c.ended {
		close(ch)
		return ch
	}
	c.subs[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, ok := c.subs[ch]; ok {
			delete(c.subs, ch)
			close(ch)
		}
	})
	return ch
}

// SetState makes Joining, Active or Leaving the process's own state. When it
// returns nil, View shows it, the file has it, and the others are being told.
func (c *core) SetState(s ring.State) error {
	if s.Gone() {
		return fmt.Errorf("gossip: state %s is not set but reached by leaving", s)
	}
	return c.setState(s)
}

func (c *core) setState(s ring.State) error {
	c.mu.Lock()
	if c.self.State == s {
		c.mu.Unlock()
		return nil
	}
	before := c.self.State
	c.self.State = s
	if err := c.assert(); err != nil {
		c.self.State = before
		c.mu.Unlock()
		return err
	}
	self := c.self
	c.mu.Unlock()
	c.spread(self)
	return c.refresh()
}

// Forget makes another member a tombstone: its data is given up. It refuses a
// member that is healthy here, with ErrHealthy. Whether its co-owners have
// flushed and a majority agrees is for the caller to make sure.
func (c *core) Forget(name string) error {
	c.mu.Lock()
	if _, ok := c.alive[name]; ok || name == c.self.Name {
		c.mu.Unlock()
		return fmt.Errorf("%w: %q", ErrHealthy, name)
	}
	t, m, err := c.table.Forget(name, c.now().UnixMilli())
	if err != nil {
		c.mu.Unlock()
		return err
	}
	c.table = t
	c.mu.Unlock()
	c.log.Info("member forgotten", "member", name, "incarnation", m.Incarnation)
	c.spread(m)
	return c.refresh()
}

// Merge takes in another table, such as one that came with an answer. It
// returns ring.ErrFull, and changes nothing, where there is no room.
func (c *core) Merge(t ring.Table) error {
	_, err := c.merge(t)
	return err
}

// merge reports whether the table had anything new.
func (c *core) merge(t ring.Table) (news bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.given {
		return false, nil
	}
	merged, changed, err := c.table.Merge(c.withoutOldTombstones(t))
	if err != nil {
		return false, err
	}
	if len(changed) == 0 {
		return false, nil
	}
	c.table = merged
	for _, m := range changed {
		if m.Name != c.self.Name || m.Incarnation != c.self.Incarnation {
			c.spread(m)
		}
	}
	own, _ := merged.Incarnation(c.self.Name, c.self.Incarnation)
	if current, _ := merged.Get(c.self.Name); current != c.self || own != c.self {
		if err := c.defend(current); err != nil {
			return true, err
		}
	}
	c.touch()
	return true, nil
}

// withoutOldTombstones drops the tombstones of members that store nothing and
// that this process does not know, or it would bring back those that have been
// dropped elsewhere already.
func (c *core) withoutOldTombstones(t ring.Table) ring.Table {
	var drop []string
	for m := range t.All() {
		if m.State.Gone() && !m.Stores() {
			if _, ok := c.table.Get(m.Name); !ok {
				drop = append(drop, m.Name)
			}
		}
	}
	for _, name := range drop {
		t = t.Without(name)
	}
	return t
}

// defend answers a record of this process's own name that is newer than what
// it wants. mu is held.
func (c *core) defend(heard ring.Member) error {
	if c.yields && heard.Incarnation != c.self.Incarnation {
		return nil
	}
	c.keepFactors(heard)
	err := c.assert()
	if errors.Is(err, ring.ErrForgotten) {
		c.given = true
		close(c.forgotten)
		c.log.Error("this ingester was forgotten by the cluster", "member", c.self.Name, "incarnation", c.self.Incarnation)
		return nil
	}
	if err != nil {
		return err
	}
	c.log.Debug("asserted own record", "heard_version", heard.Version, "heard_state", heard.State, "version", c.self.Version)
	c.spread(c.self)
	return nil
}

// touch asks for a refresh.
func (c *core) touch() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

// refresh makes a view of the present state, publishes it where it differs
// from the last, and saves the table. The error is that of saving.
func (c *core) refresh() error {
	c.refreshMu.Lock()
	defer c.refreshMu.Unlock()

	c.mu.Lock()
	c.holdAgreed()
	table := c.table
	healthy := make(map[string]bool, len(c.alive)+1)
	for name := range c.alive {
		healthy[name] = true
	}
	healthy[c.self.Name] = !c.ended
	c.mu.Unlock()

	last := c.view.Load()
	if table.Digest() != last.Table().Digest() || !sameHealth(table, last, healthy) {
		next := last.Next(table, healthy)
		c.view.Store(next)
		c.metrics.views.Inc()
		encoded, _ := table.AppendBinary(nil)
		c.metrics.show(next, len(encoded))
		c.compareFactors(last, next)
		c.publish(next)
	}
	if c.path == "" || table.Digest() == c.saved {
		c.keptFactors(table)
		return nil
	}
	if err := saveTable(c.path, table); err != nil {
		c.metrics.saves.WithLabelValues("error").Inc()
		return fmt.Errorf("gossip: save member table: %w", err)
	}
	c.metrics.saves.WithLabelValues("ok").Inc()
	c.saved = table.Digest()
	c.keptFactors(table)
	return nil
}

func sameHealth(t ring.Table, v *ring.View, healthy map[string]bool) bool {
	for m := range t.All() {
		if v.Healthy(m.Name) != healthy[m.Name] {
			return false
		}
	}
	return true
}

// publish gives v to all watchers. Only publish and Watch send, both under mu,
// so that after the drain there is room.
func (c *core) publish(v *ring.View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.subs {
		select {
		case <-ch:
		default:
		}
		ch <- v
	}
}

// end closes all watchers' channels.
func (c *core) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for ch := range c.subs {
		close(ch)
	}
	clear(c.subs)
}

// sweep forgets members that store nothing and have been away for long, and
// drops their tombstones once everyone has had the time to hear of them.
func (c *core) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, quiet := c.now(), map[string]time.Time{}
	var forget, drop []string
	for m := range c.table.All() {
		if _, ok := c.alive[m.Name]; ok || m.Stores() || m.Name == c.self.Name {
			continue
		}
		since, ok := c.quiet[m.Name]
		if !ok {
			since = now
		}
		switch {
		case now.Sub(since) < c.absent:
			quiet[m.Name] = since
		case m.State.Gone():
			drop = append(drop, m.Name)
		default:
			forget = append(forget, m.Name)
			quiet[m.Name] = now
		}
	}
	c.quiet = quiet
	for _, name := range drop {
		c.table = c.table.Without(name)
	}
	for _, name := range forget {
		t, m, err := c.table.Forget(name, now.UnixMilli())
		if err != nil {
			continue // it is in the table and no tombstone, so this cannot be
		}
		c.table = t
		c.log.Info("forgot a member that stores nothing and was away for long", "member", name)
		c.spread(m)
	}
	if len(drop)+len(forget) > 0 {
		c.touch()
	}
}

// ingesters returns who View().Ingesters() are once View shows the present table, behind
// which it may be: who counts them must not miss those that were just heard of.
func (c *core) ingesters() (names []string) {
	c.mu.Lock()
	table := c.table
	c.mu.Unlock()
	for m := range table.All() {
		if m.Stores() && !m.State.Gone() {
			names = append(names, m.Name)
		}
	}
	return names
}

// peers returns a copy of alive.
func (c *core) peers() map[string]peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.alive)
}
