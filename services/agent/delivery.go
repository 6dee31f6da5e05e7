package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/journal"
	"github.com/weir-logs/weir/services/agent/positions"
)

// delivery brings sealed batches to the server, in order, and keeps the positions
// of what was acknowledged. offer and what belongs to it is for the follower's
// goroutine, run for another.
type delivery struct {
	cfg    Config
	log    *slog.Logger
	m      *metrics
	pusher *client.Pusher
	waits  client.Backoff

	queue    chan *sealed
	slots    chan struct{}
	spaceCh  chan struct{}
	recovery []journal.Batch // to be sent before all else
	failures int             // of offer, in a row
	nextTry  time.Time
	fresh    bool // files were found that the saved positions do not have
	noted    time.Time

	trouble atomic.Pointer[string] // why nothing goes out; nil: all is well

	mu      sync.Mutex // guards what follows
	journal *journal.Journal
	store   *positions.Store // nil: nothing is remembered
	acked   map[positions.ID]positions.Position
	seq     uint64 // newest batch acknowledged
	last    int64  // newest time in it
	saved   uint64 // seq of the newest positions on disk
	before  uint64 // seq of the generation before
	dirty   bool
}

// openDelivery loads what was remembered. resume is where to go on reading.
func openDelivery(cfg Config, c *client.Client, log *slog.Logger, m *metrics) (d *delivery, resume positions.Snapshot, err error) {
	d = &delivery{
		cfg: cfg, log: log, m: m,
		waits:   client.Backoff{Min: cfg.Server.MinBackoff, Max: cfg.Server.MaxBackoff},
		queue:   make(chan *sealed, cfg.Batch.MaxPending),
		slots:   make(chan struct{}, cfg.Batch.MaxPending),
		spaceCh: make(chan struct{}, 1),
		acked:   map[positions.ID]positions.Position{},
	}
	var lastLog time.Time
	d.pusher = c.NewPusher(client.PusherOptions{
		Timeout: cfg.Server.Timeout, Backoff: d.waits,
		OnRetry: func(e *client.Error, wait time.Duration) {
			m.retries.WithLabelValues(e.Code.String()).Inc()
			d.setTrouble(e.Error())
			if now := time.Now(); now.Sub(lastLog) >= 10*time.Second {
				lastLog = now
				log.Warn("cannot push; trying again", "err", e, "wait", wait)
			}
		},
	})
	if cfg.Positions.File == "" {
		return d, resume, nil
	}

	d.store = positions.NewStore(cfg.Positions.File)
	snap, err := d.store.Load()
	if err != nil {
		m.damaged.Inc()
		log.Error("the positions file is damaged; using what is left", "err", err, "files", len(snap.Files))
	}
	j, rec, err := journal.Open(cfg.Positions.File+".journal", snap.Seq)
	if err != nil {
		return nil, resume, fmt.Errorf("journal: %w", err)
	}
	d.journal = j
	d.recovery = rec.Pending
	if rec.Damaged > 0 {
		m.damaged.Add(float64(rec.Damaged))
		log.Error("the journal is damaged; lines may be sent again", "records", rec.Damaged)
	}
	d.seq, d.last = snap.Seq, snap.Last
	for _, p := range snap.Files {
		d.acked[p.ID] = p
	}
	for _, b := range rec.Acked {
		d.apply(b.After)
	}
	d.saved, d.before = snap.Seq, snap.Seq

	// Reading goes on behind the last batch, acknowledged or not.
	resume = positions.Snapshot{Seq: d.seq, Last: d.last}
	ahead := map[positions.ID]positions.Position{}
	for id, p := range d.acked {
		ahead[id] = p
	}
	for _, b := range rec.Pending {
		resume.Seq, resume.Last = b.Seq, max(resume.Last, b.After.Last)
		for _, p := range b.After.Files {
			ahead[p.ID] = p
		}
	}
	for _, p := range ahead {
		resume.Files = append(resume.Files, p)
	}
	log.Info("positions loaded", "file", cfg.Positions.File, "files", len(resume.Files), "unacknowledged batches", len(rec.Pending))
	return d, resume, nil
}

// apply takes the positions behind a batch over. The caller holds mu, or is alone.
func (d *delivery) apply(after positions.Snapshot) {
	d.seq, d.last, d.dirty = after.Seq, max(d.last, after.Last), true
	for _, p := range after.Files {
		d.acked[p.ID] = p
	}
}

func (d *delivery) room() bool             { return len(d.slots) < cap(d.slots) }
func (d *delivery) retryAt() time.Time     { return d.nextTry }
func (d *delivery) space() <-chan struct{} { return d.spaceCh }

// offer makes a batch durable and queues it. After false it is to be offered
// again as it is.
func (d *delivery) offer(b *sealed) bool {
	if !d.room() || time.Now().Before(d.nextTry) {
		return false
	}
	if err := d.append(b); err != nil {
		d.m.journalErrors.Inc()
		wait := d.waits.Wait(d.failures, 0)
		if d.failures == 0 {
			d.log.Error("cannot write the journal; not reading on until it can be written", "err", err)
		}
		d.failures++
		d.nextTry = time.Now().Add(wait)
		d.setTrouble("journal: " + err.Error())
		return false
	}
	if d.failures > 0 {
		d.log.Info("the journal can be written again")
		d.failures = 0
		d.setTrouble("")
	}
	d.slots <- struct{}{}
	d.queue <- b
	d.m.pending.Set(float64(len(d.slots)))
	return true
}

func (d *delivery) append(b *sealed) error {
	if d.journal == nil {
		b.encoded = nil
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.journal.Append(journal.Batch{Seq: b.after.Seq, After: b.after, Request: b.encoded}); err != nil {
		return err
	}
	b.encoded = nil
	d.m.journalBytes.Set(float64(d.journal.Size()))
	return nil
}

func (d *delivery) start(p positions.Position) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acked[p.ID] = p
	d.dirty, d.fresh = true, true
}

// tick saves the positions soon after files were found, so that a crash cannot
// make one of them unknown that is renamed before the next start.
func (d *delivery) tick(now time.Time) {
	if d.fresh && now.Sub(d.noted) >= time.Second {
		d.fresh, d.noted = false, now
		d.save(false)
	}
}

func (d *delivery) forget(id positions.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.acked, id)
	d.dirty = true
}

// run sends until the queue is closed and empty, or ctx ends, and saves the
// positions. It returns how many entries it leaves unacknowledged.
func (d *delivery) run(ctx context.Context) (left int) {
	tick := time.NewTicker(d.cfg.Positions.SaveInterval)
	defer tick.Stop()
	for i, b := range d.recovery {
		req := &pushv1.PushRequest{}
		if err := proto.Unmarshal(b.Request, req); err != nil {
			// Its checksum was right, so another program wrote it.
			d.log.Error("a batch of the journal cannot be read", "seq", b.Seq, "err", err)
			continue
		}
		n := 0
		for _, s := range req.GetStreams() {
			n += len(s.GetEntries())
		}
		d.recovery[i].Request = nil
		if !d.deliver(ctx, &sealed{req: req, after: b.After, entries: n}) {
			left += n
		}
	}
	d.recovery = nil
	for {
		select {
		case b, ok := <-d.queue:
			if !ok {
				d.save(true)
				return left
			}
			if !d.deliver(ctx, b) {
				left += b.entries
			}
			<-d.slots
			d.m.pending.Set(float64(len(d.slots)))
			select {
			case d.spaceCh <- struct{}{}:
			default:
			}
		case <-tick.C:
			d.save(false)
		}
	}
}

// deliver sends a batch until the server has taken it. false: ctx has ended
// before.
func (d *delivery) deliver(ctx context.Context, b *sealed) bool {
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return false
		}
		resp, err := d.pusher.Push(ctx, b.req)
		if err == nil {
			d.setTrouble("")
			d.account(b, resp)
			break
		}
		if ctx.Err() != nil {
			return false
		}
		// Not the batch's fault, nor one that passes by itself: credentials, the
		// tenant, another kind of server. Someone will put it right.
		e := client.AsError(err)
		wait := d.waits.Wait(attempt, e.RetryAfter)
		d.m.retries.WithLabelValues(e.Code.String()).Inc()
		d.setTrouble(e.Error())
		d.log.Error("the server refuses this agent; trying again", "err", e, "wait", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
	d.mu.Lock()
	d.apply(b.after)
	many := false
	if d.journal != nil {
		d.journal.Ack(b.after.Seq)
		many = d.journal.Segments() > 2 && d.seq > d.saved
	}
	d.mu.Unlock()
	if many {
		d.save(false)
	}
	return true
}

// account counts what became of a batch, and reports what was refused.
func (d *delivery) account(b *sealed, resp *pushv1.PushResponse) {
	d.m.batches.Inc()
	d.m.accepted.Add(float64(resp.GetAcceptedEntries()))
	refused := resp.GetRejectedEntries()
	if refused == 0 {
		return
	}
	type about struct {
		entries uint64
		example string
		labels  map[string]string
	}
	by := map[string]*about{}
	note := func(reason string, n uint64, example string, labels map[string]string) {
		if by[reason] == nil {
			by[reason] = &about{example: example, labels: labels}
		}
		by[reason].entries += n
		refused -= min(n, refused)
	}
	for _, r := range resp.GetRejections() {
		var labels map[string]string
		if i := int(r.GetStream()); i < len(b.req.GetStreams()) {
			labels = b.req.GetStreams()[i].GetLabels()
		}
		note(reasonName(r.GetReason()), uint64(r.GetCount()), r.GetMessage(), labels)
	}
	if refused > 0 { // more than the answer lists
		note("unlisted", refused, "", nil)
	}
	for reason, a := range by {
		d.m.refused.WithLabelValues(reason).Add(float64(a.entries))
		d.log.Warn("the server refused lines", "reason", reason, "lines", a.entries, "message", a.example, "stream", a.labels)
	}
}

// save writes the positions if they have changed.
func (d *delivery) save(last bool) {
	if d.store == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty && !last {
		return
	}
	snap := positions.Snapshot{Seq: d.seq, Last: d.last}
	for _, p := range d.acked {
		snap.Files = append(snap.Files, p)
	}
	if err := d.store.Save(snap); err != nil {
		d.m.saveErrors.Inc()
		d.log.Error("cannot save the positions", "err", err)
		return
	}
	d.dirty = false
	// The journal must reach back to the older of the two generations.
	d.before, d.saved = d.saved, snap.Seq
	if err := d.journal.Trim(d.before); err != nil {
		d.log.Error("cannot trim the journal", "err", err)
	}
	d.m.journalBytes.Set(float64(d.journal.Size()))
}

func (d *delivery) close() error {
	if d.journal == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.journal.Close()
}

func (d *delivery) setTrouble(s string) {
	if s == "" {
		d.trouble.Store(nil)
		return
	}
	d.trouble.Store(&s)
}

// errTrouble gives why nothing goes out.
func (d *delivery) errTrouble() error {
	if s := d.trouble.Load(); s != nil {
		return errors.New(*s)
	}
	return nil
}
