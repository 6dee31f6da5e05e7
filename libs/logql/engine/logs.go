package engine

import (
	"context"
	"slices"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// intervalPage is how many rows a log query with an interval takes at a time.
var intervalPage = 1000 // smaller in tests

// logs runs a log query.
func (q *query) logs(ctx context.Context, sel *syntax.LogSelector, in *RangeQuery) (*Result, error) {
	sel, err := resolved(ctx, q, sel, in.Start, in.End)
	if err != nil {
		return nil, err
	}
	if err := checkStages(sel.Stages); err != nil {
		return nil, err
	}
	if headEnd(sel.Stages) < len(sel.Stages) {
		return q.stagedLogs(ctx, sel, in)
	}
	c := &collector{q: q, in: in}
	start, end := in.Start, in.End
	if in.Cursor != "" {
		if c.begin, err = decodeCursor(in.Cursor, in.identity()); err != nil {
			return nil, err
		}
		if t := c.begin.Key.Time; in.Backward {
			end = max(start, min(end, t+1))
		} else {
			start = min(end, max(start, t))
		}
	}
	c.reset()
	parts := []TimeRange{{start, end}}
	if in.Limit > 0 && q.splits(sel) {
		parts = logParts(start, end, int64(q.Split), in.Backward)
	}
	cover := &coverage{}
	for _, part := range parts {
		if err := q.logPart(ctx, sel, c, part, cover); err != nil {
			return nil, err
		}
		if c.more {
			break
		}
	}
	if err := c.emit(); err != nil {
		return nil, err
	}
	return c.result(), nil
}

// logPart collects the entries of a part of the query's range.
func (q *query) logPart(ctx context.Context, sel *syntax.LogSelector, c *collector, part TimeRange, cover *coverage) error {
	in := c.in
	o, err := q.openPlanned(ctx, sel.Matchers, part.Start, part.End, false, cover)
	if err != nil {
		return err
	}
	defer o.close()
	c.o = o
	defer c.settle()
	within := func(a *After) *After { // what to go on behind
		if a != nil && part.Start <= a.Key.Time && a.Key.Time < part.End {
			return a
		}
		return nil
	}
	// One row more than asked for tells whether there is a next page.
	page := in.Limit + 1 - c.n
	if in.Limit == 0 {
		page = 0
	}
	if in.Interval > 0 {
		page = max(page, intervalPage)
	}
	c.page = page
	at := within(c.begin)
	for {
		c.turn()
		failed, stats, err := o.scanOnce(ctx, scanSpec{
			query: forSources(sel), tasks: o.tasks, which: single | tangled, start: part.Start, end: part.End, limit: page,
			backward: in.Backward, after: at, drop: o.dropTo(at, in.Backward),
		}, c.add)
		q.addStats(stats)
		if failed >= 0 {
			if err := o.fail(failed, err); err != nil {
				return err
			}
			c.reset()
			at = within(c.begin) // what was emitted is not read again
			continue
		}
		if err != nil {
			return err
		}
		if c.more || page == 0 || c.seen < page {
			return c.emit()
		}
		at = c.lastSeen()
	}
}

// emitRows is how many entries are emitted at once.
const emitRows = 256

// collector gathers the entries of a log query.
type collector struct {
	q     *query
	in    *RangeQuery
	o     *opened
	begin *After
	page  int // most rows of a scan; 0: all

	streams map[string]*LogStream
	// ordered: streams are given out in the order of their first entries, which order has.
	ordered bool
	order   []*LogStream
	sets    map[setKey]*collected
	key     []byte
	n       int // entries, those emitted included
	emitted int
	held    int
	more    bool
	seen    int // rows of this scan
	last    row // given out
	any     bool
	place   row // seen
	// What was collected of the parts of the range before this one.
	settled struct {
		n, held int
		any     bool
		last    row
		stream  model.Labels       // of last
		entries map[*LogStream]int // how many of each
	}
}

type setKey struct {
	feed int
	set  uint32
}

type collected struct {
	stream           *LogStream
	metadata, parsed model.Labels
}

// reset forgets what was collected of this part and not emitted.
func (c *collector) reset() {
	before := &c.settled
	c.q.mem.Release(c.held - before.held)
	c.order, c.sets = nil, map[setKey]*collected{}
	if c.streams == nil {
		c.streams = map[string]*LogStream{}
	}
	for key, st := range c.streams {
		if n := before.entries[st]; n > 0 {
			st.Entries = st.Entries[:n]
		} else {
			delete(c.streams, key)
		}
	}
	c.n, c.held, c.more, c.any = c.emitted+before.n, before.held, false, before.any
	c.last = before.last
	if !before.any && c.begin != nil {
		c.last.key, c.any = c.begin.Key, true
	}
}

// settle keeps what was collected of this part, of which no session is held any more.
func (c *collector) settle() {
	before := &c.settled
	if c.n > c.emitted+before.n {
		before.stream = c.o.labelsOf(c.last.stream)
	}
	before.n, before.held, before.any, before.last = c.n-c.emitted, c.held, c.any, c.last
	before.entries = make(map[*LogStream]int, len(c.streams))
	for _, st := range c.streams {
		before.entries[st] = len(st.Entries)
	}
	c.o = nil
}

// lastPlace is the place of the entry given out last.
func (c *collector) lastPlace() *After {
	switch c.n {
	case c.emitted:
		return c.begin
	case c.emitted + c.settled.n: // it is of a part before
		return &After{Stream: c.settled.stream, Key: c.last.key}
	}
	return &After{Stream: c.o.labelsOf(c.last.stream), Key: c.last.key}
}

// turn begins a page.
func (c *collector) turn() {
	c.seen = 0
	clear(c.sets) // each scan numbers sets anew
}

func (c *collector) lastSeen() *After {
	return &After{Stream: c.o.labelsOf(c.place.stream), Key: c.place.key}
}

func (c *collector) add(r *row) error {
	if c.page > 0 && c.seen == c.page {
		return errStop // behind the limit a scan may have holes
	}
	c.seen++
	c.place.stream, c.place.key = r.stream, r.key
	if i := int64(c.in.Interval); i > 0 && c.any {
		d := r.key.Time - c.last.key.Time
		if c.in.Backward {
			d = -d
		}
		if d < i {
			return nil
		}
	}
	if c.in.Limit > 0 && c.n == c.in.Limit {
		c.more = true
		return errStop
	}
	set, err := c.set(r)
	if err != nil {
		return err
	}
	size := len(r.line) + 80
	if err := c.q.mem.Reserve(size); err != nil {
		return err
	}
	c.held += size
	set.stream.Entries = append(set.stream.Entries, Entry{
		Time: r.key.Time, Line: slices.Clone(r.line), Metadata: set.metadata, Parsed: set.parsed,
	})
	c.n++
	c.last.stream, c.last.key, c.any = r.stream, r.key, true
	if c.in.Emit != nil && (c.n-c.emitted >= emitRows || r.lastOfBatch) {
		return c.emit()
	}
	return nil
}

// emit hands out what is there, if the query wants that.
func (c *collector) emit() error {
	if c.in.Emit == nil || c.n == c.emitted {
		return nil
	}
	last := c.lastPlace()
	if err := c.in.Emit(c.take()); err != nil {
		return err
	}
	c.emitted, c.begin = c.n, last
	c.settled.n, c.settled.held, c.settled.any, c.settled.entries = 0, 0, false, nil
	return nil
}

// take returns the entries that are held, and forgets them.
func (c *collector) take() []LogStream {
	var out []LogStream
	for _, st := range c.streams {
		if len(st.Entries) > 0 {
			out = append(out, *st)
		}
	}
	if c.ordered {
		out = out[:0]
		for _, st := range c.order {
			out = append(out, *st)
		}
		c.order = nil
	} else {
		slices.SortFunc(out, func(a, b LogStream) int { return a.Labels.Compare(b.Labels) })
	}
	clear(c.streams)
	clear(c.sets)
	c.q.mem.Release(c.held)
	c.held = 0
	return out
}

// set returns where rows of a label set go.
func (c *collector) set(r *row) (*collected, error) {
	k := setKey{r.feed, r.set}
	if s, ok := c.sets[k]; ok {
		return s, nil
	}
	size := 256 + 32*(len(r.labels.Labels)+len(r.labels.Metadata)+len(r.labels.Parsed))
	if err := c.q.mem.Reserve(size); err != nil {
		return nil, err
	}
	c.held += size
	c.key = pipeline.AppendKey(c.key[:0], r.labels.Labels)
	st := c.streams[string(c.key)]
	if st == nil {
		st = &LogStream{Labels: r.labels.Labels}
		c.streams[string(c.key)] = st
		if c.ordered {
			c.order = append(c.order, st)
		}
	}
	s := &collected{st, r.labels.Metadata, r.labels.Parsed}
	c.sets[k] = s
	return s, nil
}

func (c *collector) result() *Result {
	res := &Result{Type: TypeStreams, Streams: c.take()}
	res.Statistics.EntriesReturned = uint64(c.n)
	if c.more {
		res.NextCursor = encodeCursor(c.lastPlace(), c.in.identity())
	}
	return res
}
