package querier

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// work is what a query asks for, as far as its cost depends on it.
type work struct {
	text       string
	expr       syntax.Expr // nil: a question about streams, which reads no lines
	start, end int64
	limit      int // entries of a log query
}

// What parts of a query cost besides the bytes of lines that it reads.
const (
	blockCost = 64 << 10 // to open a block
	entryCost = 1 << 10  // an entry of an answer
)

// Shares of the bytes of lines that are read, or cost as much as reading.
const (
	noLines = 1.0 / 32 // no stage looks at a line: counts, mostly by runs
	needles = 1.0 / 8  // a text that blocks tell to be absent mostly
)

// An estimate is made before a query has its turn, so it is bounded itself.
const (
	maxLeaves  = 32 // selectors that are looked at
	maxRefined = 64 // blocks, of one selector, whose indexes are looked at
)

// leaf is one selector of a query with the range that is read of it.
type leaf struct {
	selector   *syntax.LogSelector
	start, end int64
	share      float64
	most       float64 // whatever it covers
}

// leaves returns what a query reads.
func (w *work) leaves() (out []leaf) {
	if w.expr == nil {
		return nil
	}
	syntax.Subqueries(w.expr, func(c *syntax.InCond) {
		out = append(out, leaf{c.Query, w.start, w.end, shareOf(c.Query.Stages), math.Inf(1)})
	})
	if sel, ok := w.expr.(*syntax.LogSelector); ok {
		l := leaf{sel, w.start, w.end, shareOf(sel.Stages), math.Inf(1)}
		if n := entriesOf(sel.Stages, w.limit); n > 0 { // it stops soon
			l.most = float64(n) * entryCost * 4
		}
		l.share += again(sel.Stages)
		return append(out, l)
	}
	syntax.Walk(w.expr, func(e syntax.Expr) bool {
		if agg, ok := e.(*syntax.RangeAggregation); ok {
			share := shareOf(agg.Range.Selector.Stages)
			if len(agg.Range.Selector.Stages) == 0 && agg.Range.Unwrap == nil && counts(agg) {
				share = noLines
			}
			off := int64(agg.Range.Offset)
			out = append(out, leaf{agg.Range.Selector, w.start - off - int64(agg.Range.Interval), w.end - off, share, math.Inf(1)})
		}
		return true
	})
	return out
}

// counts reports whether an aggregation is by the number or size of lines.
func counts(agg *syntax.RangeAggregation) bool {
	switch agg.Op {
	case syntax.OpCountOverTime, syntax.OpRate, syntax.OpBytesOverTime, syntax.OpBytesRate, syntax.OpAbsentOverTime:
		return true
	}
	return false
}

// shareOf is which share of the lines stages make read.
func shareOf(stages []syntax.Stage) float64 {
	for _, s := range stages {
		f, ok := s.(*syntax.LineFilter)
		if !ok {
			return 1
		}
		if f.Op == syntax.LineContains && len(f.Alternatives) == 1 && !f.Alternatives[0].IP && len(f.Alternatives[0].Text) >= 4 {
			return needles
		}
	}
	return 1
}

// entriesOf is how many entries a log query reads at most, if its stages let it stop as
// soon as it has so many; 0: they do not.
func entriesOf(stages []syntax.Stage, limit int) int {
	if len(stages) == 0 {
		return limit
	}
	if l, ok := stages[0].(*syntax.Limit); ok {
		return l.N
	}
	return 0
}

// again is which share of the lines is read besides, for a log query that reads twice: a
// top stage right behind those that sources run first has its values counted.
func again(stages []syntax.Stage) float64 {
	i := slices.IndexFunc(stages, syntax.Extended)
	if i < 0 {
		return 0
	}
	if _, ok := stages[i].(*syntax.Top); !ok {
		return 0
	}
	if i == 0 {
		return noLines // of a label of streams, or of metadata
	}
	return shareOf(stages[:i])
}

// cost estimates what a query costs, in bytes of lines to read, without opening
// anything: by the blocks that are known, their indexes where they are open, and by
// what ingesters had for the same selector the last time.
func (s *Service) cost(ctx context.Context, sc scope, w *work) (cost int64, inBlocks float64, blocks int) {
	total := 0.0
	leaves := w.leaves()
	looked := leaves[:min(len(leaves), maxLeaves)]
	for _, l := range looked {
		stored, opens := 0.0, 0
		for _, id := range sc.tenants() {
			bytes, blocks := s.blocks.covered(ctx, id, l)
			stored, opens = stored+bytes, opens+blocks
		}
		inBlocks += stored
		blocks += opens
		head := s.heads.of(headKey(sc.tenant, l.selector), l.end-l.start)
		total += min((stored+head)*l.share, l.most) + float64(opens*blockCost)
	}
	if n := len(looked); n > 0 { // the others are taken to be like those
		total *= float64(len(leaves)) / float64(n)
	}
	if w.expr == nil {
		for _, id := range sc.tenants() {
			_, opens := s.blocks.covered(ctx, id, leaf{start: w.start, end: w.end})
			blocks += opens
			total += float64(opens * blockCost)
		}
	}
	return int64(min(total, math.MaxInt64/2048)), inBlocks, blocks
}

// revised is the cost of a query that is known to cover that many bytes.
func (w *work) revised(covered uint64) int64 {
	share, most := 0.0, 0.0
	for _, l := range w.leaves() {
		share, most = max(share, l.share), most+l.most
	}
	return int64(min(float64(covered)*share, most, math.MaxInt64/2048))
}

// covered estimates the bytes of lines in blocks that a leaf covers, and counts the
// blocks. b may be nil.
func (b *blocks) covered(ctx context.Context, tenant string, l leaf) (bytes float64, opens int) {
	if b == nil {
		return 0, 0
	}
	snap, err := b.store.Loader.Snapshot(tenant)
	if err != nil {
		return 0, 0 // the query will say so
	}
	live := snap.Live(tenant, l.start, l.end)
	parts := make([]float64, len(live))
	for i, m := range live {
		parts[i] = float64(m.RawBytes)
		if length := float64(m.MaxTime-m.MinTime) + 1; length > 1 {
			in := float64(min(m.MaxTime, l.end)-max(m.MinTime, l.start)) + 1
			parts[i] *= min(max(in/length, 0), 1)
		}
		bytes += parts[i]
	}
	if l.selector == nil || bytes <= leastCost {
		return bytes, len(live)
	}
	readers := make([]*block.Reader, min(len(live), maxRefined))
	b.mu.Lock()
	for i, m := range live[:len(readers)] {
		if o := b.open[m.ID]; o != nil {
			readers[i] = o.reader
		}
	}
	b.mu.Unlock()
	for i, r := range readers {
		if r == nil {
			continue
		}
		snap, err := blockstore.NewStore(r, b.store.Cache).Open(ctx, l.selector.Matchers, l.start, l.end)
		if err != nil {
			break
		}
		if x, ok := snap.(engine.Indexed); ok {
			bytes += min(float64(x.Extent().Bytes), parts[i]) - parts[i]
		}
		snap.Close()
	}
	return max(bytes, 0), len(live)
}

// Identities implements engine.Identified: a block never changes.
func (s blockSession) Identities(yield func(name string, least, greatest int64)) {
	yield(string(s.of.block.ID), s.of.block.MinTime, s.of.block.MaxTime)
}

// Identities implements engine.Identified.
func (s groupSession) Identities(yield func(name string, least, greatest int64)) {
	for _, key := range s.group.keys {
		b, err := catalog.ParseKey(key)
		if err != nil { // it was made from a block
			panic(err)
		}
		yield(string(b.ID), b.MinTime, b.MaxTime)
	}
}

// heads remembers what ingesters had for selectors. It is bounded: what it forgets is
// learnt again.
type heads struct {
	mu sync.Mutex
	by map[string]headBytes
}

// headBytes is bytes within a length of time.
type headBytes struct {
	bytes  float64
	length int64
}

const maxHeads = 4096

// maxHeadKey is the longest text that is remembered.
const maxHeadKey = 1 << 10

func headKey(tenant string, sel *syntax.LogSelector) string {
	return tenant + (&syntax.LogSelector{Matchers: sel.Matchers}).String()
}

func (h *heads) of(key string, length int64) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	known, ok := h.by[key]
	if !ok || known.length <= 0 || length < 0 {
		return 0
	}
	return known.bytes * min(1, float64(length)/float64(known.length))
}

func (h *heads) learn(key string, length int64, bytes float64) {
	if length < int64(time.Second) || len(key) > maxHeadKey {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[string]headBytes{}
	}
	if _, known := h.by[key]; !known && len(h.by) >= maxHeads {
		for k := range h.by { // any
			delete(h.by, k)
			break
		}
	}
	h.by[key] = headBytes{bytes, length}
}
