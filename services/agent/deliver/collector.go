package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/queue"
)

const (
	// maxAhead is how far ahead of the clock the times of entries may run: less
	// than what servers accept (10 min).
	maxAhead = 5 * time.Minute
	// maxSpare is how much memory of streams is kept for the next batch.
	maxSpare = 256
)

// Limits are what entries may be. Zeros mean no limit.
type Limits struct {
	// MaxLine is the longest line in bytes. Truncate cuts longer ones; else they
	// are dropped and counted.
	MaxLine  int
	Truncate bool
	// MaxStreams is how many streams a batch may have; entries of others are
	// dropped and counted.
	MaxStreams int
}

// collector makes batches of entries. Its methods may be called by any goroutine.
type collector struct {
	maxBytes int
	external []model.Label
	limits   Limits
	dropped  func(reason string, n int)
	now      func() time.Time

	mu      sync.Mutex
	seq     uint64 // of the last batch that was taken
	last    int64  // newest time given to an entry
	tenants map[string]*tenant
	lastTen *tenant // the one used last, and its stream
	lastSet *entry.Set
	lastStr *stream
	entries int
	bytes   int
	streams int
	since   time.Time // when the first came
	after   positions.Snapshot
	files   map[positions.Key]positions.Position
	urgent  bool // someone waits for what is in it
	ended   bool

	ready   chan struct{} // something for the writer
	space   chan struct{} // closed when there is room again
	durable chan struct{} // closed when a batch has become durable
	done    uint64        // newest durable batch

	spare  []*stream
	bodies [][]byte
}

var open = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func newCollector(maxBytes int, seq uint64, last int64) *collector {
	c := &collector{
		maxBytes: maxBytes, now: time.Now, seq: seq, last: last, done: seq,
		tenants: map[string]*tenant{}, files: map[positions.Key]positions.Position{},
		ready: make(chan struct{}, 1), space: make(chan struct{}), durable: make(chan struct{}),
		dropped: func(string, int) {},
	}
	return c
}

// full says whether nothing is to be added now. The caller holds mu.
func (c *collector) fullLocked() bool {
	return c.bytes >= max(c.maxBytes, min(2*c.maxBytes, 3<<20))
}

// room is closed while there is room.
func (c *collector) room() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fullLocked() {
		return open
	}
	return c.space
}

func (c *collector) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fullLocked()
}

// add takes entries, and where their sources go on behind them, whatever room
// there is. It keeps nothing of them.
func (c *collector) add(ents []entry.Entry, files []positions.Position, cursor, at string) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == 0 && len(c.files) == 0 && len(c.after.Cursors) == 0 {
		c.since = now
	}
	for _, p := range files {
		c.files[p.Key()] = p
	}
	if cursor != "" {
		if c.after.Cursors == nil {
			c.after.Cursors = map[string]string{}
		}
		c.after.Cursors[cursor] = at
	}
	nano := now.UnixNano()
	for i := range ents {
		c.entry(&ents[i], nano)
	}
	if c.bytes >= c.maxBytes || len(ents) > 0 && c.entries == len(ents) {
		c.signal()
	}
}

func (c *collector) entry(e *entry.Entry, now int64) {
	if n := c.limits.MaxLine; n > 0 && len(e.Line) > n {
		if !c.limits.Truncate {
			c.dropped("line_too_long", 1)
			return
		}
		e.Line = e.Line[:n]
	}
	s := c.stream(e)
	if s == nil {
		c.dropped("stream_limited", 1)
		return
	}
	t := e.Time
	if !e.OwnTime {
		t = c.stamp(now)
	}
	before := len(s.buf)
	s.buf = appendEntry(s.buf, t, e.Line, e.Metadata)
	s.entries++
	c.lastTen.entries++
	c.entries++
	c.bytes += len(s.buf) - before
}

// stamp gives a time for an entry: now, and more than any before.
func (c *collector) stamp(t int64) int64 {
	if t <= c.last && c.last-t < int64(maxAhead) {
		t = c.last + 1
	}
	c.last = t
	return t
}

// stream gives where an entry belongs; nil: one too many.
func (c *collector) stream(e *entry.Entry) *stream {
	if c.lastStr != nil && c.lastSet == e.Labels && c.lastTen.name == e.Tenant {
		return c.lastStr
	}
	t := c.tenants[e.Tenant]
	if t == nil {
		t = &tenant{name: e.Tenant, bySet: map[*entry.Set]*stream{}, byKey: map[string]*stream{}}
		c.tenants[e.Tenant] = t
	}
	s := t.bySet[e.Labels]
	if s == nil {
		key := e.Labels.Key()
		if s = t.byKey[key]; s == nil {
			if n := c.limits.MaxStreams; n > 0 && c.streams >= n {
				return nil
			}
			if n := len(c.spare); n > 0 {
				s, c.spare = c.spare[n-1], c.spare[:n-1]
			} else {
				s = &stream{}
			}
			s.buf = appendLabels(s.buf[:0], e.Labels.Labels(), c.external)
			c.bytes += len(s.buf) + 8
			c.streams++
			t.byKey[key] = s
			t.streams = append(t.streams, s)
		}
		t.bySet[e.Labels] = s
	}
	c.lastTen, c.lastSet, c.lastStr = t, e.Labels, s
	return s
}

func (c *collector) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// due says whether there is a batch to be taken, or how long it is until then.
func (c *collector) due(maxWait time.Duration) (now bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == 0 && len(c.files) == 0 && len(c.after.Cursors) == 0 {
		return c.urgent, time.Hour
	}
	wait = c.since.Add(maxWait).Sub(c.now())
	return c.bytes >= c.maxBytes || c.urgent || c.ended || wait <= 0, wait
}

// take gives what has been collected as a batch, nil if there is nothing.
func (c *collector) take() *queue.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.urgent = false
	if c.entries == 0 && len(c.files) == 0 && len(c.after.Cursors) == 0 {
		return nil
	}
	c.seq++
	b := &queue.Batch{Seq: c.seq, Time: c.now().UnixNano(), After: c.after}
	batchTime := c.stamp(b.Time)
	for _, t := range c.tenants {
		if t.entries > 0 {
			b.Requests = append(b.Requests, queue.Request{Tenant: t.name, Entries: t.entries, Body: t.body(c.body(), batchTime)})
		}
		for _, s := range t.streams {
			if len(c.spare) < maxSpare && cap(s.buf) <= 8<<20 {
				s.entries = 0
				c.spare = append(c.spare, s)
			}
		}
	}
	for _, p := range c.files {
		b.After.Files = append(b.After.Files, p)
	}
	b.After.Seq, b.After.Last = c.seq, c.last
	clear(c.files)
	clear(c.tenants)
	c.lastTen, c.lastSet, c.lastStr = nil, nil, nil
	c.after = positions.Snapshot{}
	c.entries, c.bytes, c.streams = 0, 0, 0
	close(c.space)
	c.space = make(chan struct{})
	return b
}

func (c *collector) body() []byte {
	if n := len(c.bodies); n > 0 {
		b := c.bodies[n-1]
		c.bodies = c.bodies[:n-1]
		return b[:0]
	}
	return nil
}

// release notes that a batch is durable, and takes its memory back.
func (c *collector) release(b *queue.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = b.Seq
	close(c.durable)
	c.durable = make(chan struct{})
	for _, r := range b.Requests {
		if len(c.bodies) < 4 && cap(r.Body) <= 8<<20 {
			c.bodies = append(c.bodies, r.Body)
		}
	}
}

// sync waits until all that was added is durable.
func (c *collector) sync(ctx context.Context) error {
	c.mu.Lock()
	want := c.seq
	if c.entries > 0 || len(c.files) > 0 || len(c.after.Cursors) > 0 {
		want++
		c.urgent = true
		c.signal()
	}
	for c.done < want {
		wait := c.durable
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
	}
	c.mu.Unlock()
	return nil
}

// end makes due say yes as long as there is something.
func (c *collector) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.signal()
}
