package engine

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
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
	which      which
	start, end int64
	limit      int // 0: none; more rows than that may come
	backward   bool
	after      *After
	// reset is called when a session failed and all rows come again.
	reset func()
}

// scan calls yield with the rows of the union by time, then by the stream's
// labels, then by the rest of the key; backward in the reverse order. An error
// of yield ends it; errStop does without being returned.
func (o *opened) scan(ctx context.Context, spec scanSpec, yield func(*row) error) error {
	for {
		failed, err := o.scanOnce(ctx, spec, yield)
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
	session int
	unionOf []int
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
	return f.rows.Times[f.at], f.unionOf[f.rows.Labels[f.rows.Sets[f.at]].Stream]
}

func (f *feed) row(r *row) {
	i := f.at
	r.feed, r.set, r.lastOfBatch = f.number, f.rows.Sets[i], i == len(f.rows.Times)-1
	r.labels = &f.rows.Labels[r.set]
	r.stream = f.unionOf[r.labels.Stream]
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

// scanOnce is scan; if a session fails, it returns which.
func (o *opened) scanOnce(ctx context.Context, spec scanSpec, yield func(*row) error) (failed int, err error) {
	shares := o.shares(spec.which)
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	feeds := make([]*feed, len(shares))
	for i, sh := range shares {
		f := &feed{number: i, session: sh.session, unionOf: o.unionOf(sh.session), batches: make(chan *ScanRows), release: make(chan struct{}, 1)}
		feeds[i] = f
		req := ScanRequest{
			Query: spec.query, Streams: sh.streams, Ranges: sh.ranges, Start: spec.start, End: spec.end,
			Limit: spec.limit, Backward: spec.backward, Identity: sh.identity, After: spec.after,
		}
		session := o.sessions[sh.session]
		go func() {
			defer close(f.batches)
			f.stats, f.err = session.Scan(ctx, req, func(rows *ScanRows) error {
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
		}()
	}
	// The sessions are used by one goroutine at a time: wait for all.
	defer func() {
		cancel()
		for _, f := range feeds {
			for range f.batches {
			}
			o.q.addStats(f.stats)
		}
	}()
	m := merger{o: o, spec: &spec, feeds: feeds, yield: yield}
	for _, f := range feeds {
		f.next()
		if f.done && f.err != nil {
			return m.failure(parent, f)
		}
	}
	for {
		stop, f, err := m.step()
		switch {
		case f != nil:
			return m.failure(parent, f)
		case errors.Is(err, errStop):
			return -1, nil
		case err != nil:
			return -1, err
		case parent.Err() != nil:
			return -1, context.Cause(parent)
		case stop:
			return -1, nil
		}
	}
}

// merger merges feeds.
type merger struct {
	o     *opened
	spec  *scanSpec
	feeds []*feed
	yield func(*row) error

	row   row
	group []row
	slab  []byte
	same  []*feed
}

func (m *merger) failure(parent context.Context, f *feed) (int, error) {
	if parent.Err() != nil {
		return -1, context.Cause(parent)
	}
	if isQueryError(f.err) {
		return -1, f.err
	}
	return f.session, f.err
}

// advance moves a feed on; failed is it, if it failed.
func (m *merger) advance(f *feed) (failed *feed) {
	f.next()
	if f.done && f.err != nil {
		return f
	}
	return nil
}

// step gives out the next row, or all rows of the next time and stream if
// several feeds have some.
func (m *merger) step() (stop bool, failed *feed, err error) {
	m.same = m.same[:0]
	var time int64
	var stream int
	for _, f := range m.feeds {
		if f.done {
			continue
		}
		t, s := f.place()
		switch {
		case len(m.same) > 0 && t == time && s == stream:
			m.same = append(m.same, f)
		case len(m.same) == 0 || (t != time && (t < time) != m.spec.backward) || (t == time && (s < stream) != m.spec.backward):
			m.same = append(m.same[:0], f)
			time, stream = t, s
		}
	}
	switch len(m.same) {
	case 0:
		return true, nil, nil
	case 1:
		f := m.same[0]
		f.row(&m.row)
		if err := m.give(&m.row); err != nil {
			return false, nil, err
		}
		return false, m.advance(f), nil
	}
	return m.unite(time, stream)
}

// unite gives out the rows that several feeds have at one time of a stream, each
// entry once, under its smallest key.
func (m *merger) unite(time int64, stream int) (stop bool, failed *feed, err error) {
	m.group, m.slab = m.group[:0], m.slab[:0]
	held := 0
	defer func() { m.o.q.mem.Release(held) }()
	for _, f := range m.same {
		for !f.done {
			if t, s := f.place(); t != time || s != stream {
				break
			}
			var r row
			f.row(&r)
			size := len(r.line) + 128
			if err := m.o.q.mem.Reserve(size); err != nil {
				return false, nil, err
			}
			held += size
			from := len(m.slab)
			m.slab = append(m.slab, r.line...)
			r.line = m.slab[from:]
			m.group = append(m.group, r)
			if failed := m.advance(f); failed != nil {
				return false, failed, nil
			}
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
	if a := m.spec.after; a != nil && r.key.Time == a.Key.Time {
		c := m.o.union[r.stream].labels.Compare(a.Stream)
		if c == 0 {
			c = r.key.Compare(a.Key)
		}
		if m.spec.backward {
			c = -c
		}
		if c <= 0 {
			return nil
		}
	}
	return m.yield(r)
}
