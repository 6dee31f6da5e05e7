// Package head is the memory of an ingester: the rows that are not in blocks, by
// tenant and stream. It is a store for the query engine and the origin of live
// tails.
//
// Within the head an entry occurs once: a row that is newer than its stream's
// newest is appended, any other is looked up first and dropped if it is there.
// Appends carry a sequence number, that of their write-ahead log record, by which
// tails go on.
package head

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Block is rows of one stream to append. Rows must have positions and hashes.
type Block struct {
	Labels model.Labels
	Text   string // canonical text of Labels
	Rows   model.Rows

	in *stream // of a head, once it was found there
}

// Note reports whether a block that was appended is to be noted with a number other than that
// of its stream's block before. It may say so again in another head.
func (b *Block) Note(number uint64) bool { return b.in.noted.Swap(number) != number }

func (b *Block) streamCost() int64 {
	return int64(streamCost + labelCost*len(b.Labels) + 2*len(b.Text))
}

// MaxCost is the most that Size can grow by when blocks are appended next, and about that
// if several of them are of one stream.
func (h *Head) MaxCost(tenantID string, blocks []Block) int64 {
	t := h.tenant(tenantID, false)
	if t == nil {
		t = &tenant{head: h}
	}
	size := int64(runCost)
	var seen map[string]bool
	for i := range blocks {
		b := &blocks[i]
		few := t.few(b)
		// A stream that comes again may be in chunks by then, where each name costs anew.
		if few && len(b.Rows.Metadata) > 0 {
			if seen == nil {
				seen = map[string]bool{}
			}
			few, seen[b.Text] = !seen[b.Text], true
		}
		if few {
			size += b.streamCost() + t.arena.maxCost(&b.Rows)
		} else {
			size += b.maxCost()
		}
	}
	return size
}

// few reports whether a stream has no chunks, and needs none for the rows of a block.
func (t *tenant) few(b *Block) bool {
	s := t.find(b)
	if s == nil {
		return new(firstRows).takes(&b.Rows, t.head.few)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.many == nil && s.few.takes(&b.Rows, t.head.few)
}

// maxCost is the most that a block takes in chunks.
func (b *Block) maxCost() int64 {
	rows, values, columns := b.Rows.Len(), 0, 0
	size := len(b.Rows.Lines.Slab) + rows*(rowCost+indexCost)
	name := 0
	for _, set := range [][]model.Column{b.Rows.Metadata, b.Rows.Derived} {
		for i := range set {
			values += set[i].Values.Len()
			size += len(set[i].Values.Slab)
			name = max(name, len(set[i].Name))
			columns++
		}
	}
	// A row may begin a chunk among those in order, another among the late ones.
	chunks := 4 + rows/chunkRows + len(b.Rows.Lines.Slab)/chunkBytes + values/chunkColumns
	size += values*valueCost + min(values, columns*chunks)*(columnCost+name) + min(rows, chunks)*(chunkCost+runCost)
	// The group of rows of one time that is indexed when it has become large.
	return b.streamCost() + chunksCost + int64(size) + (groupScan+1)*indexCost
}

// Head holds rows in memory. It may be used by several goroutines, but appends
// come one after the other, their sequence numbers ascending.
type Head struct {
	mu      sync.RWMutex // guards tenants
	tenants map[string]*tenant

	size    atomic.Int64
	own     atomic.Int64 // of size: what streams take without a row
	streams atomic.Int64
	rows    atomic.Int64
	dups    atomic.Int64

	few   int // see arena.most
	tails tails
	clock *clock
}

// tenant is the streams of one tenant.
type tenant struct {
	arena arena
	head  *Head

	// least and most are the bounds of the times of all rows: they are told before a row is
	// there, and never narrow.
	least, most atomic.Int64

	mu      sync.RWMutex // guards everything below; streams guard themselves
	streams map[string]*stream
	all     []*stream // in order of creation
	// values has the places in all of streams by label name and value, ascending. It is
	// made when it is asked for, of the first indexed of them.
	values  map[string]map[string][]uint32
	indexed int
	// ordered has all streams, ascending by labels; nil: to be made anew.
	ordered []*stream
}

// New returns an empty head.
func New() *Head {
	return &Head{tenants: map[string]*tenant{}, few: fewRowsMax, clock: &clock{moved: make(chan struct{})}}
}

// Next returns an empty head for the appends that follow those to h, which is to get
// no more. Whoever waits on one of them is woken by appends to the other.
func (h *Head) Next() *Head { return &Head{tenants: map[string]*tenant{}, few: h.few, clock: h.clock} }

// Stats is how full a head is.
type Stats struct {
	Bytes, Streams, Rows int64
	Duplicates           int64 // rows that were there already, since the start
}

// Stats returns how full the head is.
func (h *Head) Stats() Stats {
	return Stats{h.size.Load(), h.streams.Load(), h.rows.Load(), h.dups.Load()}
}

// Size returns the bytes that the head takes.
func (h *Head) Size() int64 { return h.size.Load() }

// RowsSize returns the bytes that rows take, of those that Size says.
func (h *Head) RowsSize() int64 { return h.size.Load() - h.own.Load() }

// Append adds blocks of one request, and returns how many rows were not there
// before.
func (h *Head) Append(tenantID string, blocks []Block, batchTime int64, seq uint64) int {
	t := h.tenant(tenantID, true)
	total, rows, size, own := 0, 0, int64(0), int64(0)
	for i := range blocks {
		b := &blocks[i]
		s, created := t.stream(b)
		b.in = s
		if created {
			h.streams.Add(1)
			own += b.streamCost()
		}
		t.cover(b.Rows.Times)
		added, cost := s.add(&b.Rows, batchTime, seq)
		if added > 0 {
			h.tails.dirty(s, seq)
		}
		size += int64(cost)
		rows, total = rows+b.Rows.Len(), total+added
	}
	h.size.Add(size + own)
	h.own.Add(own)
	h.dups.Add(int64(rows - total))
	h.rows.Add(int64(total))
	h.clock.advance(seq)
	return total
}

// Advance says that append seq is done although it brought nothing.
func (h *Head) Advance(seq uint64) { h.clock.advance(seq) }

func (h *Head) tenant(id string, create bool) *tenant {
	h.mu.RLock()
	t := h.tenants[id]
	h.mu.RUnlock()
	if t != nil || !create {
		return t
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t = h.tenants[id]; t == nil {
		t = &tenant{arena: arena{most: h.few}, head: h, streams: map[string]*stream{}, values: map[string]map[string][]uint32{}}
		t.least.Store(math.MaxInt64)
		t.most.Store(math.MinInt64)
		h.tenants[id] = t
	}
	return t
}

// StreamCount returns how many streams a tenant has.
func (h *Head) StreamCount(tenantID string) int {
	t := h.tenant(tenantID, false)
	if t == nil {
		return 0
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.streams)
}

// find returns the stream of a block, or nil.
func (t *tenant) find(b *Block) *stream {
	if s := b.in; s != nil && s.few.arena == &t.arena {
		return s // of this head
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.streams[b.Text]
}

func (t *tenant) stream(b *Block) (s *stream, created bool) {
	if s = t.find(b); s != nil {
		return s, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.streams[b.Text]; s != nil {
		return s, false
	}
	s = &stream{labels: b.Labels, text: b.Text, few: firstRows{arena: &t.arena}}
	if b.in != nil { // of an earlier head
		s.text = b.in.text
		s.noted.Store(b.in.noted.Load())
	}
	t.streams[s.text] = s
	t.all = append(t.all, s)
	t.ordered = nil
	return s, true
}

// list returns all streams in order of creation.
func (t *tenant) list() []*stream {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.all
}

// index brings values up to date.
func (t *tenant) index() {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := int64(0)
	for ; t.indexed < len(t.all); t.indexed++ {
		for _, l := range t.all[t.indexed].labels {
			byValue := t.values[l.Name]
			if byValue == nil {
				byValue = map[string][]uint32{}
				t.values[l.Name] = byValue
			}
			list := byValue[l.Value]
			if size += entryCost; list == nil {
				size += uniqueCost
			}
			byValue[l.Value] = append(list, uint32(t.indexed))
		}
	}
	t.head.size.Add(size)
	t.head.own.Add(size)
}

// match returns the streams that all matchers match, ascending by labels.
func (t *tenant) match(matchers []*syntax.Matcher) []*stream {
	byValue := slices.ContainsFunc(matchers, selects)
	t.mu.RLock()
	if byValue && t.indexed < len(t.all) {
		t.mu.RUnlock()
		t.index()
		t.mu.RLock()
	}
	var some []*stream
	for _, i := range t.smallest(matchers) {
		some = append(some, t.all[i])
	}
	all := t.ordered
	t.mu.RUnlock()
	if byValue {
		out := filter(some, matchers)
		sortStreams(out)
		return out
	}
	if all == nil {
		all = t.order()
	}
	return filter(all, matchers)
}

// selects reports whether a matcher names one value that streams must have.
func selects(m *syntax.Matcher) bool { return m.Type == syntax.Eq && m.Value != "" }

// order sorts all streams and remembers the result until there is a new one.
func (t *tenant) order() []*stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ordered == nil {
		t.ordered = slices.Clone(t.all)
		sortStreams(t.ordered)
	}
	return t.ordered
}

func sortStreams(list []*stream) {
	slices.SortFunc(list, func(a, b *stream) int { return a.labels.Compare(b.labels) })
}

// filter returns those of list that all matchers match, as a new slice.
func filter(list []*stream, matchers []*syntax.Matcher) []*stream {
	out := make([]*stream, 0, len(list))
	for _, s := range list {
		if Matches(matchers, s.labels) {
			out = append(out, s)
		}
	}
	return out
}

// smallest returns the smallest list of streams that an equality matcher allows.
func (t *tenant) smallest(matchers []*syntax.Matcher) (best []uint32) {
	found := false
	for _, m := range matchers {
		if !selects(m) {
			continue
		}
		list := t.values[m.Name][m.Value]
		if !found || len(list) < len(best) {
			best, found = list, true
		}
	}
	return best
}

// Matches reports whether all matchers match the labels.
func Matches(matchers []*syntax.Matcher, ls model.Labels) bool {
	for _, m := range matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Tenants returns the tenants that have streams, ascending.
func (h *Head) Tenants() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]string, 0, len(h.tenants))
	for id := range h.tenants {
		out = append(out, id)
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

// Find gives those of a tenant's blocks whose labels are not known yet the labels of the
// stream with that text, if there is one, and returns how many are left. What it has found
// the head need not look up again when they are appended to it.
func (h *Head) Find(tenantID string, blocks []Block) (left int) {
	t := h.tenant(tenantID, false)
	if t == nil {
		t = &tenant{}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range blocks {
		b := &blocks[i]
		if b.Labels != nil {
			continue
		}
		if s := t.streams[b.Text]; s != nil {
			b.in, b.Labels = s, s.labels
		} else {
			left++
		}
	}
	return left
}

const day = int64(24 * time.Hour)

// Span is times t with Start <= t < End.
type Span struct{ Start, End int64 }

// Days counts a tenant's rows by UTC day: keys are days since the Unix epoch.
func (h *Head) Days(tenantID string) map[int64]int {
	out := map[int64]int{}
	t := h.tenant(tenantID, false)
	if t == nil {
		return out
	}
	for _, s := range t.list() {
		s.days(out)
	}
	return out
}

// days adds the stream's rows to a count by day.
func (s *stream) days(out map[int64]int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.few.eachTime(func(tm int64) { out[dayOf(tm)]++ })
	if s.many == nil {
		return
	}
	for _, chunks := range [][]*chunk{s.many.sorted, s.many.late} {
		for _, c := range chunks {
			if first := dayOf(c.minTime); first == dayOf(c.maxTime) {
				out[first] += c.rows.Len()
				continue
			}
			for _, tm := range c.rows.Times {
				out[dayOf(tm)]++
			}
		}
	}
}

func dayOf(t int64) int64 {
	d := t / day
	if t%day < 0 {
		d--
	}
	return d
}
