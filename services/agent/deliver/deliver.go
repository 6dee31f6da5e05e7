// Package deliver brings entries to the clients' servers: each once, in order, by
// a queue on disk.
//
//	entries ─► collector ─► queue (fsync) ─┬─► sender of client 1 ─► server
//	           batches, times              └─► sender of client 2 ─► server
//
// A batch has its times, its batch time and the places behind it of its sources
// when it is written to the queue, and never changes again. Every client reads the
// queue at its own pace and sends each batch until its server has taken it; a
// batch is kept until all have.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/queue"
	"github.com/weir-logs/weir/services/agent/status"
)

// Config is how entries are delivered.
type Config struct {
	// Positions is the positions file. Beside it lie FILE.old, the folder
	// FILE.queue and FILE.refused. Empty: all is forgotten when the process ends.
	Positions string
	// Dir is where the queue lies, if not beside the positions.
	Dir string
	// SaveInterval is how often it is written.
	SaveInterval time.Duration
	// IgnoreInvalid starts anew where the file is none that was ever written.
	IgnoreInvalid bool
	// MaxBytes and MaxWait are when a batch is complete.
	MaxBytes int
	MaxWait  time.Duration
	// Limits are what entries may be.
	Limits Limits
	// External are labels that every stream gets that lacks them.
	External []model.Label
	// Clients are where to send to; at least one.
	Clients []ClientConfig
	// UserAgent names the program to the servers.
	UserAgent string
}

// Delivery is the way of entries to the servers.
type Delivery struct {
	cfg     Config
	log     *slog.Logger
	m       *Metrics
	c       *collector
	q       *queue.Queue
	store   *positions.Store // nil: nothing is remembered
	temp    string           // folder to be removed at the end
	senders []*sender
	trouble atomic.Pointer[string] // of the queue; nil: all is well
	fresh   atomic.Bool            // sources were found that the saved positions lack
	saving  sync.Mutex             // guards what follows, and the store
	saved   uint64                 // Seq that was saved, and of the clients together
	savedAt time.Time
}

// Open loads what was remembered. log and m may be nil.
func Open(cfg Config, log *slog.Logger, m *Metrics) (_ *Delivery, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Clients) == 0 {
		return nil, errors.New("no client: there is nowhere to send to")
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	d := &Delivery{cfg: cfg, log: log, m: m}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	var snap positions.Snapshot
	dir := QueueDir(cfg.Positions)
	if cfg.Dir != "" {
		dir = cfg.Dir
	}
	if cfg.Positions == "" {
		// Forgotten at the end, whatever happens.
		if d.temp, err = os.MkdirTemp("", "weir-agent-"); err != nil {
			return nil, fmt.Errorf("a place for the queue: %w", err)
		}
		dir = d.temp
	} else {
		d.store = positions.NewStore(cfg.Positions)
		var bad error
		if old, skipped, err := positions.ImportPromtail(cfg.Positions); err == nil {
			snap = old
			if err := keepCopy(cfg.Positions, cfg.Positions+".promtail"); err != nil {
				return nil, fmt.Errorf("a copy of Promtail's positions: %w", err)
			}
			log.Info("took over Promtail's positions", "file", cfg.Positions, "files", len(snap.Files), "cursors", len(snap.Cursors), "not", skipped)
		} else if snap, bad = d.store.Load(); bad != nil {
			d.m.damaged.Inc()
			log.Error("the positions file is damaged; using what is left", "err", bad, "files", len(snap.Files))
		}
	}
	o := queue.Options{
		NoSync: cfg.Positions == "", Clients: map[string]queue.Bound{},
		OnDrop: func(name string, n int) {
			d.m.dropped.WithLabelValues(name, "queue_full").Add(float64(n))
			for _, s := range d.senders {
				if s.cfg.Name == name {
					s.dropped.Add(uint64(n))
				}
			}
			log.Error("the client is too far behind; dropped its oldest entries", "client", name, "entries", n)
		},
		OnTrouble: func(err error, first bool) {
			d.m.queueErrors.Inc()
			if first {
				log.Error("cannot read the queue; trying again", "err", err)
			}
		},
		OnDamage: func(err error) {
			d.m.damaged.Inc()
			log.Error("the queue is damaged", "err", err)
		},
	}
	for i := range cfg.Clients {
		c := &cfg.Clients[i]
		if c.Queue.MaxBytes <= 0 {
			c.Queue.MaxBytes = 1 << 30
		}
		o.Clients[c.Name] = c.Queue
	}
	if d.q, err = queue.Open(dir, snap, o); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	st := d.q.State()
	d.c = newCollector(cfg.MaxBytes, st.Seq, st.Last)
	d.c.external, d.c.limits = cfg.External, cfg.Limits
	d.c.dropped = func(reason string, n int) { d.m.dropped.WithLabelValues("", reason).Add(float64(n)) }
	for _, cc := range cfg.Clients {
		s, err := newSender(cc, d)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", cc.Name, err)
		}
		d.senders = append(d.senders, s)
		if n := s.r.Behind(); n > 0 {
			log.Info("batches are left from before", "client", cc.Name, "batches", n)
		}
	}
	return d, nil
}

// keepCopy copies a small file.
func keepCopy(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// Check says what is wrong with the clients of a configuration.
func Check(cfg Config) error {
	for _, c := range cfg.Clients {
		t, err := newTransport(c, cfg.UserAgent, func(string, string, time.Duration) {})
		if err != nil {
			return fmt.Errorf("client %s: %w", c.Name, err)
		}
		_ = t.close()
	}
	return nil
}

// Resume gives where the sources go on.
func (d *Delivery) Resume() positions.Snapshot { return d.q.State() }

// Full says that nothing should be added now.
func (d *Delivery) Full() bool { return d.c.full() }

// Room is closed while, or once, there is room.
func (d *Delivery) Room() <-chan struct{} { return d.c.room() }

// Add takes entries and where their source goes on behind them: files, or at for
// the source cursor. It takes them whatever room there is, and keeps nothing of
// what they point to.
func (d *Delivery) Add(ents []entry.Entry, files []positions.Position, cursor, at string) {
	d.c.add(ents, files, cursor, at)
}

// Sync waits until what was added before is durable.
func (d *Delivery) Sync(ctx context.Context) error { return d.c.sync(ctx) }

// Found notes a file that was not followed before, until SaveFound in memory only.
func (d *Delivery) Found(p positions.Position) {
	d.q.Change(func(st *positions.State) { st.Files[p.Key()] = p })
	d.fresh.Store(true)
}

// SaveFound makes durable what Found has noted, so that a crash cannot make a file
// unknown that is renamed before the next start.
func (d *Delivery) SaveFound() {
	if d.fresh.Load() {
		d.save()
	}
}

// Forget notes that a position is of no use any more.
func (d *Delivery) Forget(k positions.Key) {
	d.q.Change(func(st *positions.State) { delete(st.Files, k) })
}

// ForgetCursor notes that a source's cursor is of no use any more.
func (d *Delivery) ForgetCursor(key string) {
	d.q.Change(func(st *positions.State) { delete(st.Cursors, key) })
}

// Run delivers. When ctx ends, it takes what was added until then, and goes on
// until all is sent or hard ends; then it saves the positions. It returns how many
// batches are left.
func (d *Delivery) Run(ctx, hard context.Context) (left uint64) {
	sending, stop := context.WithCancel(hard)
	defer stop()
	done := make(chan struct{})
	for _, s := range d.senders {
		go func() { s.run(sending); done <- struct{}{} }()
	}
	saver := make(chan struct{})
	go func() { d.saveNowAndThen(sending); close(saver) }()

	d.write(ctx, hard)
	d.awaitSent(hard)
	stop()
	for range d.senders {
		<-done
	}
	<-saver
	d.save()
	for _, s := range d.senders {
		left = max(left, s.r.Behind())
	}
	return left
}

func (d *Delivery) awaitSent(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for {
		behind := uint64(0)
		for _, s := range d.senders {
			behind += s.r.Behind()
		}
		if behind == 0 {
			return
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// write puts batches into the queue until ctx has ended and none is left.
func (d *Delivery) write(ctx, hard context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping := ctx.Done()
	for {
		now, wait := d.c.due(d.cfg.MaxWait)
		if now {
			b := d.c.take()
			switch {
			case b != nil:
				if !d.append(hard, b) {
					return
				}
				d.c.release(b)
				continue
			case stopping == nil:
				return
			}
			wait = time.Hour
		} else if stopping == nil {
			return
		}
		timer.Reset(wait)
		select {
		case <-d.c.ready:
		case <-timer.C:
		case <-stopping:
			stopping = nil
			d.c.end()
		case <-hard.Done():
			return
		}
	}
}

// append writes a batch until it is durable. false: ctx has ended before.
func (d *Delivery) append(ctx context.Context, b *queue.Batch) bool {
	waits := client.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
	for attempt := 0; ; attempt++ {
		err := d.q.Append([]*queue.Batch{b})
		d.m.queueBytes.Set(float64(d.q.Size()))
		if err == nil {
			if attempt > 0 {
				d.trouble.Store(nil)
				d.log.Info("the queue takes batches again")
			}
			return true
		}
		wait := waits.Wait(attempt, 0)
		s := err.Error()
		d.trouble.Store(&s)
		if errors.Is(err, queue.ErrFull) {
			wait = min(wait, 200*time.Millisecond)
			d.m.full.Inc()
		} else {
			d.m.queueErrors.Inc()
		}
		if attempt == 0 {
			d.log.Error("the queue takes nothing; not reading on until it does", "err", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// saveNowAndThen saves the positions at intervals, and again soon where that failed.
func (d *Delivery) saveNowAndThen(ctx context.Context) {
	tick := time.NewTicker(min(d.cfg.SaveInterval, time.Second))
	defer tick.Stop()
	d.save()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.saving.Lock()
			due := d.fresh.Load() || now.Sub(d.savedAt) >= d.cfg.SaveInterval
			d.saving.Unlock()
			if due {
				d.save()
			}
		}
	}
}

func (d *Delivery) save() {
	if d.store == nil {
		return
	}
	d.saving.Lock()
	defer d.saving.Unlock()
	fresh := d.fresh.Swap(false)
	snap := d.q.State()
	sum := snap.Seq
	for _, n := range snap.Clients {
		sum += n
	}
	d.savedAt = time.Now()
	if !fresh && sum == d.saved && sum != 0 {
		return
	}
	if err := d.store.Save(snap); err != nil {
		d.fresh.Store(true)
		d.m.saveErrors.Inc()
		d.log.Error("cannot save the positions", "err", err)
		return
	}
	d.saved = sum
}

// Trouble says why nothing goes out: nil if all is well.
func (d *Delivery) Trouble() error {
	if s := d.trouble.Load(); s != nil {
		return errors.New("queue: " + *s)
	}
	for _, s := range d.senders {
		if t := s.trouble.Load(); t != nil {
			return fmt.Errorf("client %s: %s", s.cfg.Name, *t)
		}
	}
	return nil
}

// QueueDir is where the queue of a positions file lies.
func QueueDir(positionsFile string) string { return positionsFile + ".queue" }

// refusedDir is where refused entries are set aside.
func (d *Delivery) refusedFile(name string) string {
	if d.cfg.Positions == "" {
		return ""
	}
	return filepath.Join(d.cfg.Positions+".refused", name+".jsonl")
}

// Close gives back what Open has opened.
func (d *Delivery) Close() error {
	var errs []error
	for _, s := range d.senders {
		errs = append(errs, s.close())
	}
	if d.q != nil {
		errs = append(errs, d.q.Close())
	}
	if d.temp != "" {
		errs = append(errs, os.RemoveAll(d.temp))
	}
	return errors.Join(errs...)
}

// Acked is up to which offset every client's server has a file.
func (d *Delivery) Acked(k positions.Key) int64 {
	least := int64(-1)
	for _, s := range d.senders {
		s.mu.Lock()
		at, ok := s.acked[k]
		s.mu.Unlock()
		if !ok {
			at = 0
		}
		if least < 0 || at < least {
			least = at
		}
	}
	return max(least, 0)
}

// Clients says how far each client is.
func (d *Delivery) Clients() (out []status.Client) {
	for _, s := range d.senders {
		c := status.Client{
			Name: s.cfg.Name, URL: s.cfg.URL, State: "ok", QueueBytes: s.r.BytesBehind(), QueueLimit: s.cfg.Queue.MaxBytes,
			Sent: s.sent.Load(), Refused: s.refused.Load(), Dropped: s.dropped.Load(),
		}
		if t := s.trouble.Load(); t != nil {
			c.State, c.Error = "retrying", *t
		}
		if t := d.trouble.Load(); t != nil {
			c.State, c.Error = "full", *t
		}
		if at := s.oldest.Load(); at > 0 {
			c.OldestSeconds = time.Since(time.Unix(0, at)).Seconds()
		}
		out = append(out, c)
	}
	return out
}
