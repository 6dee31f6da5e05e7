package head

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/model"
)

// groupScan is how many rows of one timestamp are searched one by one; larger
// groups get an index.
const groupScan = 16

// stream is the rows of one stream.
type stream struct {
	labels model.Labels
	text   string
	noted  atomic.Uint64 // see Block.Note

	mu   sync.RWMutex // guards everything below
	few  firstRows    // the first ones
	many *chunks      // those that came after, if any did
	seq  uint64       // of the newest append that added a row
}

// add appends the rows of src that the stream does not hold yet and returns how
// many, and the bytes they take. src has hashes.
func (s *stream) add(src *model.Rows, batchTime int64, seq uint64) (added, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.many == nil && s.few.takes(src, s.few.arena.most) {
		var ok bool
		if added, size, ok = s.few.add(src, batchTime, seq); ok {
			if added > 0 {
				s.seq = seq
			}
			return added, size
		}
	}
	if s.many == nil {
		s.many = &chunks{few: &s.few}
		if s.few.n > 0 {
			s.many.last = s.few.max()
		}
		size += chunksCost
	}
	added, cost := s.many.add(src, batchTime, seq)
	if added > 0 {
		s.seq = seq
	}
	return added, size + cost
}

// chunks is rows in chunks. Rows that come in order go to sorted, whose chunks ascend by
// order key and come behind the few first ones of the stream; all others go to late, and
// are put in order by whoever reads.
type chunks struct {
	few    *firstRows
	sorted []*chunk
	late   []*chunk
	last   model.OrderKey // of the last row of sorted
	lateAt index          // all late rows
	group  index          // rows of sorted whose timestamp has many
	groups map[int64]bool // those timestamps

	indexed int // bytes that indexes grew by and that are not counted yet
}

// ref is a row of a chunk.
type ref struct {
	c   *chunk
	row uint32
}

// index finds rows by hash. The rare rows with equal hashes are in more.
type index struct {
	first map[uint64]ref
	more  map[uint64][]ref
}

func (x *index) add(hash uint64, at ref) {
	if x.first == nil {
		x.first = map[uint64]ref{}
	}
	if _, ok := x.first[hash]; !ok {
		x.first[hash] = at
		return
	}
	if x.more == nil {
		x.more = map[uint64][]ref{}
	}
	x.more[hash] = append(x.more[hash], at)
}

func (x *index) find(hash uint64, src *model.Rows, i int) (ref, bool) {
	at, ok := x.first[hash]
	if !ok {
		return ref{}, false
	}
	if at.c.rows.SameEntry(int(at.row), src, i) {
		return at, true
	}
	for _, at := range x.more[hash] {
		if at.c.rows.SameEntry(int(at.row), src, i) {
			return at, true
		}
	}
	return ref{}, false
}

// add appends the rows of src that the stream does not hold yet and returns how
// many, and the bytes they take. src has hashes.
func (s *chunks) add(src *model.Rows, batchTime int64, seq uint64) (added, size int) {
	alone := 0 // rows before this one are appended one by one
	if !plain(src) {
		alone = len(src.Times)
	}
	for i := 0; i < len(src.Times); i++ {
		if i >= alone {
			n := s.fresh(src, i)
			alone = i + n
			if n > 1 {
				c, cost := tip(&s.sorted)
				size += cost
				if taken, taking := c.appendRun(src, i, min(n, chunkRows-c.rows.Len()), batchTime, seq); taken > 0 {
					added += taken
					size += taking
					alone = i + taken
					i += taken - 1
					s.last = c.rows.Key(c.rows.Len() - 1)
					continue
				}
			}
		}
		key := model.OrderKey{Time: src.Times[i], BatchTime: batchTime, Position: src.Positions[i], Hash: src.Hashes[i]}
		fresh := s.first() || key.Time > s.last.Time
		if !fresh {
			if s.few != nil {
				if cost, ok := s.few.lower(key, src, i); ok {
					size += cost
					continue
				}
			}
			if at, sorted, ok := s.find(key, src, i); ok {
				at.c.lower(int(at.row), key, sorted)
				continue
			}
		}
		added++
		if fresh || key.Compare(s.last) > 0 {
			c, cost := tip(&s.sorted)
			size += cost + c.append(src, i, key, seq)
			s.last = key
			if s.groups[key.Time] {
				s.group.add(key.Hash, ref{c, uint32(c.rows.Len() - 1)})
				s.indexed += indexCost
			}
			continue
		}
		c, cost := tip(&s.late)
		size += cost + c.append(src, i, key, seq)
		s.lateAt.add(key.Hash, ref{c, uint32(c.rows.Len() - 1)})
		s.indexed += indexCost
	}
	size += s.indexed
	s.indexed = 0
	return added, size
}

// first reports whether there is no row yet that others may be behind.
func (s *chunks) first() bool { return len(s.sorted) == 0 && (s.few == nil || s.few.n == 0) }

// fresh returns how many rows of src from row i on are each later than all before.
func (s *chunks) fresh(src *model.Rows, i int) int {
	if !s.first() && src.Times[i] <= s.last.Time {
		return 0
	}
	n := 1
	for i+n < len(src.Times) && src.Times[i+n] > src.Times[i+n-1] {
		n++
	}
	return n
}

// tip returns the chunk to append to, and what that takes if it is new.
func tip(chunks *[]*chunk) (_ *chunk, cost int) {
	n := len(*chunks)
	if n > 0 && !(*chunks)[n-1].full() {
		return (*chunks)[n-1], 0
	}
	if n == 0 {
		*chunks = append(*chunks, &chunk{})
	} else {
		*chunks = append(*chunks, after((*chunks)[n-1]))
		(*chunks)[n-1].seal()
	}
	return (*chunks)[n], chunkCost
}

// find looks for row i of src among the rows that are there, and tells whether
// it is in sorted.
func (s *chunks) find(key model.OrderKey, src *model.Rows, i int) (at ref, sorted, ok bool) {
	if s.groups[key.Time] {
		if at, ok := s.group.find(key.Hash, src, i); ok {
			return at, true, true
		}
	} else if at, ok := s.scan(key, src, i); ok {
		return at, true, true
	}
	at, ok = s.lateAt.find(key.Hash, src, i)
	return at, false, ok
}

// scan looks for row i of src in sorted, and indexes its timestamp if that has
// many rows.
func (s *chunks) scan(key model.OrderKey, src *model.Rows, i int) (ref, bool) {
	k := sort.Search(len(s.sorted), func(k int) bool { return s.sorted[k].maxTime >= key.Time })
	seen := 0
	for ; k < len(s.sorted) && s.sorted[k].minTime <= key.Time; k++ {
		c := s.sorted[k]
		from, to := between(&c.rows, key.Time, key.Time+1)
		for row := from; row < to; row++ {
			if c.rows.Hashes[row] == key.Hash && c.rows.SameEntry(row, src, i) {
				return ref{c, uint32(row)}, true
			}
		}
		seen += to - from
	}
	if seen > groupScan {
		s.indexGroup(key.Time)
	}
	return ref{}, false
}

func (s *chunks) indexGroup(t int64) {
	if s.groups == nil {
		s.groups = map[int64]bool{}
	}
	s.groups[t] = true
	k := sort.Search(len(s.sorted), func(k int) bool { return s.sorted[k].maxTime >= t })
	for ; k < len(s.sorted) && s.sorted[k].minTime <= t; k++ {
		c := s.sorted[k]
		from, to := between(&c.rows, t, t+1)
		for row := from; row < to; row++ {
			s.group.add(c.rows.Hashes[row], ref{c, uint32(row)})
		}
		s.indexed += indexCost * (to - from)
	}
}
