package blockstore

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// chunkRows is how many rows of a row group are decoded at once. The rows of many small
// streams lie in one chunk, and are decoded once for all of them.
const chunkRows = 2048

// Rows of a chunk are decoded without the others while that costs less than to decode the
// chunk: aloneRows of them, each time counting aloneMore rows more. Where what a query wants
// of a row group is a chunk or two, it is likely to want all of it, and soonRows is enough.
const (
	aloneRows = 384
	aloneMore = 12
	soonRows  = 64
)

// selected is the rows of a snapshot that a query needs.
type selected struct {
	snapshot *snapshot
	store    *Store
	ctx      context.Context // of the query
	need     engine.Need
	lines    filters         // which all rows match that are wanted
	hints    filters         // which they match besides, but the fields say more
	values   []filters       // of need.Values, of the lines of rows without the metadata
	texts    []string        // of the fields: they tell plans of them apart
	analyses sync.Map        // analysesKey → *analyses
	none     []atomic.Uint64 // bits of row groups of which no row is wanted, as far as that is known
	err      error           // of the filters

	groupsOnce sync.Once
	groups     []int // wanted, once it was asked for

	mu    sync.Mutex
	asked map[int]int // what was decoded of each chunk without the others
}

func newSelected(ctx context.Context, sn *snapshot, n *engine.Need) *selected {
	s := &selected{snapshot: sn, store: sn.store, ctx: ctx, need: engine.Need{Lines: true, Meta: true}}
	if n == nil {
		return s
	}
	s.need = *n
	s.none = make([]atomic.Uint64, (sn.store.block.RowGroups()+63)/64)
	if n.Hashes {
		s.need.Lines, s.need.Meta = true, true // which they are of
	}
	for i := range n.Parsed {
		s.texts = append(s.texts, parsedText(&n.Parsed[i]))
	}
	lines, hints := translate(n)
	if s.err = s.lines.compile(lines); s.err == nil {
		s.err = s.hints.compile(hints)
	}
	s.values = make([]filters, len(n.Values))
	for i, m := range n.Values {
		if s.err == nil {
			s.err = s.values[i].compile([]match.Filter{{Any: []match.Term{{Literal: m.Value}, {Literal: `\`}}}})
		}
	}
	return s
}

// selects reports whether some rows may not be wanted.
func (s *selected) selects() bool {
	return s.lines.program != nil || s.hints.program != nil || len(s.need.Metadata) > 0 || len(s.need.Parsed) > 0 || len(s.need.Values) > 0
}

// filters is a conjunction of filters of lines.
type filters struct {
	program  *match.Program // nil: every line matches
	text     string         // tells programs apart
	sections sync.Map       // section → *match.SectionProgram
	left     sync.Map       // section → grams.Set, what its grams leave
}

func (f *filters) compile(list []match.Filter) (err error) {
	if len(list) > 0 {
		f.program, err = match.Compile(list)
		f.text = fmt.Sprintf("%#v", list)
	}
	return err
}

// translate returns the filters of a need, and those that fields say more than.
func translate(n *engine.Need) (out, hints []match.Filter) {
	for _, f := range n.Filters {
		m := match.Filter{Negate: f.Op.Negated()}
		for _, a := range f.Alternatives {
			t := match.Term{Literal: a.Text}
			if f.Op == syntax.LineRegexp || f.Op == syntax.LineNotRegexp {
				t = match.Term{Regexp: a.Text}
			}
			m.Any = append(m.Any, t)
		}
		out = append(out, m)
	}
	for i, list := range n.Any {
		if implied(n.Filters, list) {
			continue
		}
		m := match.Filter{}
		for _, text := range list {
			m.Any = append(m.Any, match.Term{Literal: text})
		}
		if slices.ContainsFunc(n.Parsed, func(f engine.FieldEquals) bool { return f.Any == i }) {
			hints = append(hints, m)
		} else {
			out = append(out, m)
		}
	}
	return out, hints
}

// implied reports whether all lines that match filters hold a text of a list.
func implied(all []*syntax.LineFilter, list []string) bool {
	return slices.ContainsFunc(all, func(f *syntax.LineFilter) bool {
		return f.Op == syntax.LineContains && len(f.Alternatives) == 1 &&
			slices.ContainsFunc(list, func(text string) bool { return strings.Contains(f.Alternatives[0].Text, text) })
	})
}

// Streams implements engine.Snapshot.
func (s *selected) Streams() []engine.Stream { return s.snapshot.Streams() }

// Close does nothing: the snapshot is closed.
func (s *selected) Close() {}

func (s *selected) key(k kind, n int) key {
	return key{block: s.store.block, kind: k, n: n, query: s}
}

// pick returns which rows of a row group are wanted.
func (s *selected) pick(group int) (*picked, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.none != nil && s.none[group>>6].Load()>>(group&63)&1 == 1 {
		return nothing, nil
	}
	if !s.selects() {
		if first, end := s.streamsOf(group); end-first == 1 {
			// The times of one stream tell at once, so nothing need be kept.
			p, err := s.makePick(group)
			if err == nil && p.len() > 0 {
				s.snapshot.grew(group)
			}
			return p, err
		}
	}
	k := s.key(kindPicked, group)
	p, err := get(s.ctx, s.store.cache, k, func() (*picked, error) {
		p, err := s.makePick(group)
		if err == nil && p.len() > 0 {
			s.snapshot.own(k, group)
		}
		return p, err
	})
	if err == nil && p.len() == 0 {
		// As a rule most row groups have nothing: a bit says it for less than the cache.
		if s.none != nil {
			s.none[group>>6].Or(1 << (group & 63))
		}
		s.store.cache.forget([]key{k})
	}
	return p, err
}

func (s *selected) makePick(group int) (*picked, error) {
	program, skip, err := s.decide(group)
	if err != nil || skip {
		return nothing, err
	}
	return s.pickOf(group, program)
}

// asksFields reports whether metadata or fields of lines tell which rows are wanted.
func (s *selected) asksFields() bool { return len(s.need.Metadata) > 0 || len(s.need.Parsed) > 0 }

// pickOf is makePick for a row group of which decide returned a program.
func (s *selected) pickOf(group int, program *match.SectionProgram) (*picked, error) {
	_, index := s.store.block.Place(group)
	rest := program != nil || s.asksFields() // that tells rows apart
	if !rest && s.whole(group) {
		rows, _ := s.store.block.GroupSize(group)
		return &picked{n: rows}, nil
	}
	body, err := s.store.body(s.ctx, group)
	if err != nil {
		return nil, err
	}
	had := body.MemorySize()
	defer func() {
		if body.MemorySize() > had {
			s.snapshot.grew(group)
		}
	}()
	var fields []fieldRows
	var meta *block.Metadata
	if s.asksFields() {
		if meta, err = s.store.metadata(s.ctx, body, group); err != nil {
			return nil, err
		}
		// What is in columns tells of most row groups that they have nothing.
		var none bool
		if fields, none, err = s.findFields(group, body, meta, program); err != nil {
			return nil, s.named(group, err)
		}
		if none {
			return nothing, nil
		}
	}
	var spans []block.Span
	if s.whole(group) {
		spans = []block.Span{{Group: group, To: body.Info().Rows}}
	} else {
		times := body.Times()
		spans = s.spans(group, times)
		if err := times.Err(); err != nil {
			return nil, s.named(group, err)
		}
	}
	if len(spans) == 0 {
		return nothing, nil
	}
	if !rest && len(spans) == 1 {
		return &picked{from: spans[0].From, n: spans[0].To - spans[0].From}, nil
	}
	rows := &match.Bitmap{}
	rows.Reset(body.Info().Rows)
	for _, sp := range spans {
		rows.SetRange(sp.From, sp.To)
	}
	if err := s.narrow(group, body, meta, fields, rows); err != nil {
		return nil, err
	}
	n := rows.Count()
	if n > 0 && program != nil {
		if err := program.Narrow(s.ctx.Err, index, body, rows); err != nil {
			if s.ctx.Err() != nil {
				return nil, s.ctx.Err()
			}
			return nil, s.named(group, err)
		}
		n = rows.Count()
	}
	if n > 0 {
		return &picked{rows: rows.AppendRows(make([]uint32, 0, n))}, nil
	}
	return nothing, nil
}

// narrow leaves the rows that have the metadata and may have the fields that are wanted.
func (s *selected) narrow(group int, body *lines.Body, meta *block.Metadata, fields []fieldRows, rows *match.Bitmap) error {
	for _, m := range s.need.Metadata {
		set := &match.Bitmap{}
		set.Reset(rows.Len())
		if err := meta.Mark(m.Name, m.Value, set.Set); err != nil {
			return s.named(group, err)
		}
		rows.And(set)
	}
	for i := range fields {
		if err := fields[i].narrow(body, rows); err != nil {
			return s.named(group, err)
		}
	}
	return nil
}

// whole reports whether all rows of a row group are of the snapshot.
func (s *selected) whole(group int) bool {
	least, greatest := s.store.block.GroupTimes(group)
	if least < s.snapshot.start || greatest >= s.snapshot.end {
		return false
	}
	from, to := s.store.block.StreamsOf(group)
	first, end := s.streamsOf(group)
	return end-first == to-from
}

// decide returns what tells the rows of a row group whose lines match from the others;
// nil: all match. skip: none is wanted.
func (s *selected) decide(group int) (_ *match.SectionProgram, skip bool, err error) {
	if s.err != nil || !s.selects() {
		return nil, false, s.err
	}
	number, index := s.store.block.Place(group)
	foot, err := s.store.footer(s.ctx, number)
	if err != nil {
		return nil, false, err
	}
	lacks := func(m engine.MetaEquals) bool { // no row has it
		return !s.store.block.HasMetadata(group) || foot.Grams != nil && !foot.Grams.HasValue(index, []byte(m.Name), []byte(m.Value))
	}
	if slices.ContainsFunc(s.need.Metadata, lacks) || s.ruledOut(number, foot, index, &s.lines, &s.hints) {
		return nil, true, nil
	}
	var ask []*filters // of values that rows may have in their lines only
	for i, m := range s.need.Values {
		if lacks(m) {
			ask = append(ask, &s.values[i])
		}
	}
	if s.ruledOut(number, foot, index, ask...) {
		return nil, true, nil
	}
	sec, err := s.store.open(foot, number)
	if err != nil {
		return nil, false, err
	}
	for _, f := range append(ask, &s.hints) {
		p, err := s.sectionProgram(f, number, sec)
		if err != nil || p != nil && p.Skip(index) {
			return nil, err == nil, err
		}
	}
	program, err := s.sectionProgram(&s.lines, number, sec)
	switch {
	case err != nil:
		return nil, false, err
	case program == nil:
	case program.Skip(index):
		return nil, true, nil
	case program.All(index):
		return nil, false, nil
	}
	return program, false, nil
}

func (s *selected) named(group int, err error) error {
	if engine.IsQueryError(err) {
		return err // it is not about the block
	}
	return s.store.block.Error(group, s.store.damaged(group, err))
}

// sectionProgram returns the program of filters for a section; nil: every line matches.
func (s *selected) sectionProgram(f *filters, number int, sec *block.Section) (*match.SectionProgram, error) {
	if f.program == nil {
		return nil, nil
	}
	if p, ok := f.sections.Load(number); ok {
		return p.(*match.SectionProgram), nil
	}
	// Other queries with the same filters have the same use for it.
	k := key{block: s.store.block, kind: kindProgram, n: number, text: f.text}
	p, err := get(s.ctx, s.store.cache, k, func() (*match.SectionProgram, error) { return f.program.Section(sec.Section, sec.Grams), nil })
	if err == nil {
		f.sections.Store(number, p)
		s.snapshot.use(k)
	}
	return p, err
}

// spans returns the rows of a row group that are of the snapshot's streams and times.
func (s *selected) spans(group int, times *lines.Times) []block.Span {
	var out []block.Span
	first, end := s.store.block.StreamsOf(group)
	if end-first > manyStreams {
		times.All()
	}
	k := sort.Search(len(s.snapshot.ascending), func(i int) bool { return int(s.snapshot.ascending[i]) >= first })
	for ; k < len(s.snapshot.ascending) && int(s.snapshot.ascending[k]) < end; k++ {
		from, to := s.store.block.RowsOf(int(s.snapshot.ascending[k]), group)
		from, to = times.Within(from, to, s.snapshot.start, s.snapshot.end)
		switch n := len(out); {
		case from == to:
		case n > 0 && out[n-1].To == from:
			out[n-1].To = to
		default:
			out = append(out, block.Span{Group: group, From: from, To: to})
		}
	}
	return out
}

// manyStreams is how many streams of a row group make up most of its times.
const manyStreams = 8

// within narrows rows of ascending times to those with start <= time < end.
func within(times []int64, from, to int, start, end int64) (int, int) {
	t := times[from:to]
	a := sort.Search(len(t), func(i int) bool { return t[i] >= start })
	b := a + sort.Search(len(t)-a, func(i int) bool { return t[a+i] >= end })
	return from + a, from + b
}

// chunk is some of the rows that a query wants, decoded.
type chunk struct{ model.Rows }

// MemorySize implements part.
func (c *chunk) MemorySize() int {
	n := 256 + 32*len(c.Times) + cap(c.Lines.Slab)
	for _, set := range [][]model.Column{c.Metadata, c.Derived} {
		for i := range set {
			n += 96 + 4*cap(set[i].Rows) + 4*cap(set[i].Values.Ends) + cap(set[i].Values.Slab)
		}
	}
	return n
}

// chunk returns rows [n * chunkRows, …) of those picked of a row group.
func (s *selected) chunk(group int, p *picked, n int) (*chunk, error) {
	k := s.key(kindRows, group<<8|n)
	return get(s.ctx, s.store.cache, k, func() (*chunk, error) {
		c, err := s.decode(group, p.list(n*chunkRows, min((n+1)*chunkRows, p.len())))
		if err == nil {
			s.snapshot.own(k, group)
		}
		return c, err
	})
}

// alone reports whether few rows of a chunk are better decoded alone than with the
// others of the chunk: until it is asked for often.
func (s *selected) alone(group int, p *picked, n, rows int) bool {
	if rows > chunkRows/8 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[int]int{}
	}
	k := group<<8 | n
	most := aloneRows
	if p.len() <= 2*chunkRows {
		most = soonRows
	}
	if s.asked[k] >= most {
		return false
	}
	s.asked[k] += rows + aloneMore
	return true
}

// decode returns rows of a row group.
func (s *selected) decode(group int, list []uint32) (*chunk, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	g := &block.RowGroup{Number: group}
	var err error
	if g.Body, err = s.store.body(s.ctx, group); err != nil {
		return nil, err
	}
	if g.Order, err = s.store.order(s.ctx, g.Body, group); err != nil {
		return nil, err
	}
	if s.need.Meta {
		if g.Metadata, err = s.store.metadata(s.ctx, g.Body, group); err != nil {
			return nil, err
		}
	}
	c := &chunk{}
	lengths := s.need.Lines && s.need.Lengths && !s.need.Hashes
	if err := s.store.block.Append(&c.Rows, g, list, s.need.Lines && !lengths, s.need.Meta); err != nil {
		return nil, s.store.damaged(group, err)
	}
	if lengths {
		if c.Lines, err = linesOfLengths(g.Body, list); err != nil {
			return nil, s.named(group, err)
		}
	}
	if s.need.Hashes {
		c.Hashes = make([]uint64, len(list))
		for i := range c.Hashes {
			c.Hashes[i] = c.Hash(i)
		}
	}
	return c, nil
}
