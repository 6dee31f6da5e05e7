package engine

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// resume is the last entry that was given out. Several may have its place, as unroll
// makes of one: nth tells which of them it was, from 1 on.
type resume struct {
	After
	nth int
}

// The cursor of a query with extended stages is that of any, with nth in front.

func encodeResume(r *resume, query uint64) string {
	return strconv.Itoa(r.nth) + "." + encodeCursor(&r.After, query)
}

func decodeResume(text string, query uint64) (*resume, error) {
	n, rest, ok := strings.Cut(text, ".")
	nth, err := strconv.Atoi(n)
	if !ok || err != nil || nth < 1 {
		return nil, errCursor
	}
	after, err := decodeCursor(rest, query)
	if err != nil {
		return nil, err
	}
	return &resume{*after, nth}, nil
}

// checkStages refuses stages that do not compile.
func checkStages(stages []syntax.Stage) error {
	for len(stages) > 0 {
		n := extendedFrom(stages)
		if _, err := pipeline.Compile(stages[:n], pipeline.Hints{}); err != nil {
			return err
		}
		for n < len(stages) && syntax.Extended(stages[n]) {
			n++
		}
		stages = stages[n:]
	}
	return nil
}

// stagedLogs runs a log query with extended stages. A page other than the first runs the
// query anew and leaves out what was given out, as what comes of an entry may depend on
// all that were before it.
func (q *query) stagedLogs(ctx context.Context, sel *syntax.LogSelector, in *RangeQuery) (*Result, error) {
	var begin *resume
	if in.Cursor != "" {
		r, err := decodeResume(in.Cursor, in.identity())
		if err != nil {
			return nil, err
		}
		begin = r
	}
	head, rest := headOf(sel), sel.Stages[headEnd(sel.Stages):]
	start, end := in.Start, in.End
	if begin != nil && stateless(rest) {
		if in.Backward {
			end = min(end, begin.Key.Time+1)
		} else {
			start = max(start, begin.Key.Time)
		}
		if start >= end {
			return nil, errCursor
		}
	}
	o, err := q.open(ctx, sel.Matchers, start, end)
	if err != nil {
		return nil, err
	}
	defer o.close()
	c := &collector{q: q, in: in, o: o}
	s := &sink{c: c, begin: begin}
	spec := scanSpec{query: head, start: start, end: end, backward: in.Backward}
	counts, err := q.topCounts(ctx, o, head, rest[0], start, end)
	if err != nil {
		return nil, err
	}
	spec.pushed(rest, counts != nil)
	for {
		most := in.Limit + 1
		if in.Limit == 0 || s.begin != nil || in.Interval > 0 {
			most = 0
		}
		ch, err := newChain(rest, q.mem, most, s)
		if err != nil {
			return nil, err
		}
		s.reset(ch)
		if t, ok := ch.first.(*top); ok {
			t.known = counts
		}
		failed, err := q.runChain(ctx, o, ch, spec)
		if err == nil && failed >= 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if s.begin != nil && ordersEntries(rest) && !s.found {
		return nil, Errorf(ErrUser, "the answer has changed since the page before: its last entry is gone; ask anew")
	}
	if err := c.emit(); err != nil {
		return nil, err
	}
	more := c.more
	c.more = false // its cursor is no good
	res := c.result()
	if more {
		res.NextCursor = encodeResume(&resume{After{Stream: o.labelsOf(c.last.stream), Key: c.last.key}, s.nth}, in.identity())
	}
	return res, nil
}

// runChain sends the rows of a scan through a chain. If a session failed that can be done
// without, it returns which: all rows have to come again.
func (q *query) runChain(ctx context.Context, o *opened, c *chain, spec scanSpec) (failed int, err error) {
	defer c.release()
	spec.tasks, spec.which, spec.lazy = o.tasks, single|tangled, true
	failed, stats, err := o.scanOnce(ctx, spec, c.first.take)
	q.addStats(stats)
	if failed >= 0 {
		return failed, o.fail(failed, err)
	}
	if err != nil {
		return -1, err
	}
	if err := c.first.end(); err != nil && !errors.Is(err, errStop) {
		return -1, err
	}
	return -1, nil
}

// ordersEntries reports whether stages change the order of entries.
func ordersEntries(stages []syntax.Stage) bool {
	for _, s := range stages {
		switch s.(type) {
		case *syntax.Sort, *syntax.Top:
			return true
		}
	}
	return false
}

// sink is the last step of a log query: it leaves out what was given out and collects the
// rest.
type sink struct {
	c     *collector
	begin *resume // the last that was given out, by pages before or to Emit; nil: none

	ordered bool
	passed  int  // rows at the place of begin that came by
	found   bool // begin came by
	nth     int  // of the last row given out among those of its place
	labels  model.Labels
	chain   *chain
	// Rows that came by, by origin, where those of one may be apart; else nil.
	places map[origin]int
}

// origin is the entry that a row was made from.
type origin struct {
	stream int
	key    model.OrderKey
}

func (s *sink) reset(ch *chain) {
	s.c.reset()
	s.passed, s.found, s.ordered, s.nth = 0, false, ch.ordered, 0
	s.chain, s.places = ch, nil
	if ch.ordered && ch.unrolls {
		s.places = map[origin]int{}
	}
	s.c.ordered = ch.ordered
	if s.begin != nil {
		s.c.last.key, s.c.any = s.begin.Key, true
		s.nth = s.begin.nth
	}
}

// old reports whether a row was given out before.
func (s *sink) old(r *row) bool {
	if s.begin == nil || s.found {
		return false
	}
	c := r.key.Compare(s.begin.Key)
	if r.key.Time == s.begin.Key.Time {
		if d := s.c.o.labelsOf(r.stream).Compare(s.begin.Stream); d != 0 {
			c = d
		}
	}
	if s.c.in.Backward {
		c = -c
	}
	switch {
	case c == 0:
		s.passed++
		s.found = s.passed == s.begin.nth
		return true
	case s.ordered:
		return true
	}
	s.found = c > 0
	return c < 0
}

func (s *sink) take(r *row) error {
	apart := 0 // which one of its origin it is
	if s.places != nil {
		p := origin{r.stream, r.key}
		if apart = s.places[p] + 1; apart == 1 {
			if err := s.chain.reserve(128); err != nil {
				return err
			}
		}
		s.places[p] = apart
	}
	if s.old(r) {
		return nil
	}
	c := s.c
	if s.ordered && c.in.Emit != nil && !s.labels.Equal(r.labels.Labels) {
		// One call has entries of a stream together.
		if err := s.emit(); err != nil {
			return err
		}
	}
	s.labels = r.labels.Labels
	nth := max(1, apart)
	if s.places == nil && c.any && r.key == c.last.key && c.n+s.before() > 0 && s.samePlace(r) {
		nth = s.nth + 1
	}
	n, emitted := c.n, c.emitted
	last := s.nth
	s.nth = nth
	err := c.add(r)
	if c.n == n {
		s.nth = last // it was not given out
	}
	if c.emitted != emitted {
		s.begin = &resume{*c.begin, s.nth}
		s.found = true
	}
	return err
}

// before is how many entries are known to have been given out by pages before.
func (s *sink) before() int {
	if s.begin != nil {
		return 1
	}
	return 0
}

// samePlace reports whether the row is of the stream of the last one given out.
func (s *sink) samePlace(r *row) bool {
	if s.c.n > 0 {
		return r.stream == s.c.last.stream
	}
	return s.c.o.labelsOf(r.stream).Equal(s.begin.Stream)
}

func (s *sink) emit() error {
	emitted := s.c.emitted
	if err := s.c.emit(); err != nil {
		return err
	}
	if s.c.emitted != emitted {
		s.begin, s.found = &resume{*s.c.begin, s.nth}, true
	}
	return nil
}

func (s *sink) end() error { return nil }
