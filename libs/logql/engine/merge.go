package engine

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/stack"
)

// row is a row of the union. It is valid during the call that gets it.
type row struct {
	stream int // in the union
	labels *RowLabels
	set    uint32 // labels' number within the feed
	feed   int
	key    model.OrderKey
	line   []byte
	value  float64
	// lastOfBatch: the session has not sent more so far.
	lastOfBatch bool
}

// scanSpec is a scan over the union.
type scanSpec struct {
	query      syntax.Expr
	tasks      []task
	which      which
	start, end int64
	limit      int // 0: none; more rows than that may come
	backward   bool
	after      *After
	// identity asks all sessions for it, so that each row has its hash.
	identity bool
	// drop tells which rows were given out before: of the group of after at most.
	drop func(*row) bool
	// skip tells which sessions to leave out; nil: none.
	skip func(session int) bool
	// distinct is ScanRequest.Distinct, of rows that one session alone has.
	distinct []string
	// lazy begins with the sessions that come first in the asked direction, as
	// the others may not be needed.
	lazy bool
	// reset is called when a session failed and all rows come again.
	reset func()
}

// scan calls yield with the rows of the union by time, then by the stream's
// labels, then by the rest of the key; backward in the reverse order. An error
// of yield ends it; errStop does without being returned.
func (o *opened) scan(ctx context.Context, spec scanSpec, yield func(*row) error) error {
	for {
		spec.tasks = o.tasks
		failed, stats, err := o.scanOnce(ctx, spec, yield)
		o.q.addStats(stats)
		if failed < 0 {
			return err
		}
		if err := o.fail(failed, err); err != nil {
			return err
		}
		spec.reset()
	}
}

// feed is the rows that come from one session.
type feed struct {
	number  int
	share   share
	unionOf []int32 // nil: share is a link
	bound   int64   // time that no row is before
	started bool
	batches chan *ScanRows
	release chan struct{}
	rows    *ScanRows
	at      int
	err     error     // set before batches is closed
	stats   ScanStats // likewise
	done    bool
}

// next goes to the next row.
func (f *feed) next() {
	if f.rows != nil {
		if f.at++; f.at < len(f.rows.Times) {
			return
		}
		f.rows = nil
		f.release <- struct{}{}
	}
	f.at = 0
	f.rows = <-f.batches
	f.done = f.rows == nil
}

// place returns where the feed stands.
func (f *feed) place() (time int64, stream int) {
	return f.rows.Times[f.at], f.stream(f.rows.Labels[f.rows.Sets[f.at]].Stream)
}

// stream returns the number in the union of a stream of the session.
func (f *feed) stream(n int) int {
	if f.share.link != nil {
		return f.share.link.first + n
	}
	return int(f.unionOf[n])
}

func (f *feed) row(r *row) {
	i := f.at
	r.feed, r.set, r.lastOfBatch = f.number, f.rows.Sets[i], i == len(f.rows.Times)-1
	r.labels = &f.rows.Labels[r.set]
	r.stream = f.stream(r.labels.Stream)
	r.key = model.OrderKey{Time: f.rows.Times[i], BatchTime: f.rows.BatchTimes[i], Position: f.rows.Positions[i]}
	if len(f.rows.Hashes) > 0 {
		r.key.Hash = f.rows.Hashes[i]
	}
	if len(f.rows.Values) > 0 {
		r.value = f.rows.Values[i]
	} else {
		r.line = f.rows.Lines.At(i)
	}
}

// maxReadAhead is how many sessions, at most, a lazy scan has at work before their
// rows are needed.
const maxReadAhead = 8

// scanOnce is scan; if a session fails, it returns which.
func (u *united) scanOnce(ctx context.Context, spec scanSpec, yield func(*row) error) (failed int, stats ScanStats, err error) {
	shares := u.shares(spec.which, spec.tasks)
	if spec.skip != nil {
		shares = slices.DeleteFunc(shares, func(s share) bool { return spec.skip(s.session) })
	}
	held := holder{mem: memoryOf(ctx)}
	defer held.release()
	if err := held.reserve(sharesSize(shares)); err != nil {
		return -1, stats, err
	}
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	m := merger{u: u, ctx: ctx, spec: &spec, mem: held.mem, yield: yield, window: len(shares)}
	for i, sh := range shares {
		f := &feed{number: i, share: sh, batches: make(chan *ScanRows), release: make(chan struct{}, 1)}
		if sh.link == nil {
			f.unionOf = u.of[sh.session]
		}
		m.feeds = append(m.feeds, f)
		f.bound = sh.first(spec.backward)
	}
	m.waiting = slices.Clone(m.feeds)
	if spec.lazy {
		m.window = 1
		slices.SortStableFunc(m.waiting, func(a, b *feed) int {
			if spec.backward {
				a, b = b, a
			}
			return cmp.Compare(a.bound, b.bound)
		})
	} else {
		m.readAhead()
		for _, f := range m.feeds {
			f.bound = math.MinInt64 // they are needed at once
			if spec.backward {
				f.bound = math.MaxInt64
			}
		}
	}
	// The sessions are used by one goroutine at a time: wait for all.
	defer func() {
		cancel()
		for _, f := range m.feeds {
			if f.started {
				for range f.batches {
				}
				stats.Add(f.stats)
			}
		}
		m.feeding.Wait()
	}()
	for {
		stop, f, err := m.step()
		switch {
		case f != nil:
			failed, err = m.failure(parent, f)
			return failed, stats, err
		case errors.Is(err, errStop):
			return -1, stats, nil
		case err != nil:
			return -1, stats, err
		case parent.Err() != nil:
			return -1, stats, context.Cause(parent)
		case stop:
			return -1, stats, nil
		}
	}
}

// first is the time that no row of the share is before, in the asked direction.
func (sh *share) first(backward bool) int64 {
	if sh.link != nil {
		if backward {
			return sh.link.MaxTime
		}
		return sh.link.MinTime
	}
	at := sh.ranges[0].Start
	if backward {
		at = sh.ranges[0].End - 1
	}
	for _, r := range sh.ranges[1:] {
		if backward {
			at = max(at, r.End-1)
		} else {
			at = min(at, r.Start)
		}
	}
	return at
}

// start has the feed's session scan.
func (m *merger) start(f *feed) {
	f.started = true
	spec := m.spec
	req := ScanRequest{
		Query: spec.query, Streams: f.share.streams, Ranges: f.share.ranges, Start: spec.start, End: spec.end,
		Limit: spec.limit, Backward: spec.backward, Identity: f.share.identity || spec.identity, After: spec.after,
	}
	if !req.Identity { // what is united with others may have other labels there
		req.Distinct = spec.distinct
	}
	session, ctx, mem := m.u.sessions[f.share.session], m.ctx, m.mem
	m.feeding.Go(func() {
		defer close(f.batches)
		stack.Grow()
		f.err = errPanic // unless it returns
		f.stats, f.err = session.Scan(ctx, req, func(rows *ScanRows) error {
			size := len(rows.Lines.Slab) + 40*len(rows.Times)
			if err := mem.Reserve(size); err != nil {
				return err
			}
			defer mem.Release(size)
			select {
			case f.batches <- rows:
			case <-ctx.Done():
				return errStop
			}
			select {
			case <-f.release:
				return nil
			case <-ctx.Done():
				return errStop
			}
		})
	})
}

// errPanic is the error of a feed whose session panics: what it gave is not all.
var errPanic = errors.New("panic in a goroutine")

// merger merges feeds.
type merger struct {
	u       *united
	ctx     context.Context
	spec    *scanSpec
	mem     *Memory
	feeds   []*feed
	waiting []*feed // whose first row is not there yet, the next first
	heap    []*feed // by the place of the row that they stand before
	feeding Group
	window  int // how many of waiting are to be at work
	yield   func(*row) error

	row   row
	group []row
	slab  []byte
}

func (m *merger) readAhead() {
	for _, f := range m.waiting[:min(m.window, len(m.waiting))] {
		if !f.started {
			m.start(f)
		}
	}
}

func (m *merger) failure(parent context.Context, f *feed) (int, error) {
	if parent.Err() != nil {
		return -1, context.Cause(parent)
	}
	if IsQueryError(f.err) {
		return -1, f.err
	}
	return f.share.session, f.err
}

// before orders feeds by where they stand, in the asked direction.
func (m *merger) before(a, b *feed) bool {
	ta, sa := a.place()
	tb, sb := b.place()
	switch {
	case ta != tb:
		return (ta < tb) != m.spec.backward
	case sa != sb && m.u.mixed:
		if c := m.u.labelsOf(sa).Compare(m.u.labelsOf(sb)); c != 0 {
			return (c < 0) != m.spec.backward
		}
	case sa != sb:
		return (sa < sb) != m.spec.backward
	}
	return a.number < b.number
}

// begin takes the first row of those waiting whose rows may come next.
func (m *merger) begin() (failed *feed) {
	for len(m.waiting) > 0 {
		f := m.waiting[0]
		if len(m.heap) > 0 {
			if t, _ := m.heap[0].place(); t != f.bound && (t < f.bound) != m.spec.backward {
				return nil
			}
		}
		m.readAhead()
		m.window = min(2*m.window, max(maxReadAhead, m.window))
		m.waiting = m.waiting[1:]
		f.next()
		if f.done && f.err != nil {
			return f
		}
		if !f.done {
			m.heap = append(m.heap, f)
			heapUp(m.heap, m.before)
		}
	}
	return nil
}

// advance moves the first feed on; failed is it, if it failed.
func (m *merger) advance() (failed *feed) {
	f := m.heap[0]
	f.next()
	if f.done {
		n := len(m.heap) - 1
		m.heap[0] = m.heap[n]
		m.heap = m.heap[:n]
	}
	heapDown(m.heap, 0, m.before)
	if f.done && f.err != nil {
		return f
	}
	return nil
}

// step gives out the next row, or all rows of the next time and stream if
// several feeds have some.
func (m *merger) step() (stop bool, failed *feed, err error) {
	if failed := m.begin(); failed != nil {
		return false, failed, nil
	}
	if len(m.heap) == 0 {
		return true, nil, nil
	}
	f := m.heap[0]
	time, stream := f.place()
	// The second is a child of the first.
	for i := 1; i < min(3, len(m.heap)); i++ {
		if t, s := m.heap[i].place(); t == time && s == stream {
			return m.unite(time, stream)
		}
	}
	f.row(&m.row)
	if err := m.give(&m.row); err != nil {
		return false, nil, err
	}
	return false, m.advance(), nil
}

// unite gives out the rows that several feeds have at one time of a stream, each
// entry once, under its smallest key.
func (m *merger) unite(time int64, stream int) (stop bool, failed *feed, err error) {
	m.group, m.slab = m.group[:0], m.slab[:0]
	held := 0
	defer func() { m.mem.Release(held) }()
	for len(m.heap) > 0 {
		f := m.heap[0]
		if t, s := f.place(); t != time || s != stream {
			break
		}
		var r row
		f.row(&r)
		size := len(r.line) + 128
		if err := m.mem.Reserve(size); err != nil {
			return false, nil, err
		}
		held += size
		from := len(m.slab)
		m.slab = append(m.slab, r.line...)
		r.line = m.slab[from:]
		m.group = append(m.group, r)
		if failed := m.advance(); failed != nil {
			return false, failed, nil
		}
	}
	// Copies have equal hashes; among them the smallest key comes first.
	slices.SortFunc(m.group, func(a, b row) int {
		if a.key.Hash != b.key.Hash {
			if a.key.Hash < b.key.Hash {
				return -1
			}
			return 1
		}
		return a.key.Compare(b.key)
	})
	kept := m.group[:0]
	for _, r := range m.group {
		copied := false
		for i := len(kept) - 1; i >= 0 && kept[i].key.Hash == r.key.Hash && !copied; i-- {
			// Labels need not agree: what servers derived is no part of an entry.
			copied = kept[i].feed != r.feed && string(kept[i].line) == string(r.line) &&
				math.Float64bits(kept[i].value) == math.Float64bits(r.value)
		}
		if !copied {
			kept = append(kept, r)
		}
	}
	slices.SortStableFunc(kept, func(a, b row) int {
		c := a.key.Compare(b.key)
		if m.spec.backward {
			return -c
		}
		return c
	})
	for i := range kept {
		if err := m.give(&kept[i]); err != nil {
			return false, nil, err
		}
	}
	return false, nil, nil
}

// give passes a row on unless it was given out before.
func (m *merger) give(r *row) error {
	if m.spec.drop != nil && m.spec.drop(r) {
		return nil
	}
	return m.yield(r)
}

// dropTo returns a scanSpec.drop of the rows up to a, in the asked direction.
func (u *united) dropTo(a *After, backward bool) func(*row) bool {
	if a == nil {
		return nil
	}
	return func(r *row) bool {
		if r.key.Time != a.Key.Time {
			return false
		}
		c := u.labelsOf(r.stream).Compare(a.Stream)
		if c == 0 {
			c = r.key.Compare(a.Key)
		}
		if backward {
			c = -c
		}
		return c <= 0
	}
}
