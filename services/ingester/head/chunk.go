package head

import (
	"math"
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

const (
	chunkRows  = 4096
	chunkBytes = 1 << 20
	// chunkColumns bounds the names of metadata in a chunk: what a row costs to
	// append and to read grows with them.
	chunkColumns = 256
)

// What things take in memory beside the bytes of lines, names and values, slack of
// growing slices included. TestSizeIsWhatIsTaken measures it.
const (
	streamCost = 200 // its rows apart
	labelCost  = 32
	// Of the index of labels, where there is one: a stream, and a value.
	entryCost  = 8
	uniqueCost = 104
	chunkCost  = 512
	chunksCost = 192
	rowCost    = 8 + 8 + 8 + 4 + 4 + 8 // time, hash, batch time, position, line end
	runCost    = 16
	columnCost = 208
	valueCost  = 10
	indexCost  = 48 // of a row that an index holds
)

// chunk is a piece of a stream's rows. Rows are only appended; whoever holds a
// copy of the column headers may read the rows that were there when it was made.
// The stream's mutex guards everything until the chunk is sealed; from then on
// nothing changes but the two columns that lower rewrites as a whole.
type chunk struct {
	rows   model.Rows // with hashes, batch times and positions
	seqs   []seqRun   // ascending by row; which append brought which rows
	sealed bool

	minTime, maxTime int64
	bytes            uint64 // of lines
	digest           uint64
	parts            []engine.Run // of a sealed chunk, by slot; nil where they are too many
}

// seqRun says that the rows from row on came with append seq.
type seqRun struct {
	row uint32
	seq uint64
}

func (c *chunk) full() bool {
	return c.rows.Len() >= chunkRows || len(c.rows.Lines.Slab) >= chunkBytes || len(c.rows.Metadata) >= chunkColumns
}

// append adds row i of src and returns the bytes that it takes.
func (c *chunk) append(src *model.Rows, i int, key model.OrderKey, seq uint64) int {
	r := &c.rows
	n := r.Len()
	if n == 0 {
		c.minTime, c.maxTime = key.Time, key.Time
	}
	c.minTime, c.maxTime = min(c.minTime, key.Time), max(c.maxTime, key.Time)
	line := src.Lines.At(i)
	r.Times = append(r.Times, key.Time)
	r.Lines.Slab = room(r.Lines.Slab, len(line))
	r.Lines.Append(line)
	r.Hashes = append(r.Hashes, key.Hash)
	r.BatchTimes = append(r.BatchTimes, key.BatchTime)
	r.Positions = append(r.Positions, key.Position)
	if copyNo := src.Copy(i); copyNo != 0 || r.Copies != nil {
		for len(r.Copies) < n {
			r.Copies = append(r.Copies, 0)
		}
		r.Copies = append(r.Copies, copyNo)
	}
	size := len(line) + rowCost
	var s int
	r.Metadata, s = appendMeta(r.Metadata, src.Metadata, i, n)
	size += s
	r.Derived, s = appendMeta(r.Derived, src.Derived, i, n)
	size += s
	c.bytes += uint64(len(line))
	c.digest += key.Hash
	if k := len(c.seqs); k == 0 || c.seqs[k-1].seq != seq {
		c.seqs = append(c.seqs, seqRun{uint32(n), seq})
		size += runCost
	}
	return size
}

// appendRun is append of up to n rows of src, which is plain, from row i on, of ascending
// times, a column at a time. It returns how many were taken, and the bytes that they take:
// none where the chunk has other columns.
func (c *chunk) appendRun(src *model.Rows, i, n int, batchTime int64, seq uint64) (taken, size int) {
	r := &c.rows
	had := r.Len()
	if r.Copies != nil || len(r.Metadata) > 0 || had > 0 && !sameDense(r.Derived, src.Derived, had) {
		return 0, 0
	}
	begin := uint32(0)
	if i > 0 {
		begin = src.Lines.Ends[i-1]
	}
	// No more than until the chunk is full.
	for taken < n && len(r.Lines.Slab)+int(src.Lines.Ends[i+taken]-begin) < chunkBytes {
		taken++
	}
	if taken = min(n, taken+1); taken < 2 {
		return 0, 0
	}
	to := i + taken
	if had == 0 {
		c.minTime, c.maxTime = src.Times[i], src.Times[i]
	}
	c.minTime, c.maxTime = min(c.minTime, src.Times[i]), max(c.maxTime, src.Times[to-1])
	r.Times = append(r.Times, src.Times[i:to]...)
	r.Hashes = append(r.Hashes, src.Hashes[i:to]...)
	r.Positions = append(r.Positions, src.Positions[i:to]...)
	for range taken {
		r.BatchTimes = append(r.BatchTimes, batchTime)
	}
	bytes := int(src.Lines.Ends[to-1] - begin)
	r.Lines.Slab = room(r.Lines.Slab, bytes)
	appendStrings(&r.Lines, &src.Lines, i, to)
	size = bytes + taken*rowCost
	if len(src.Derived) > 0 {
		d := &src.Derived[0]
		if len(r.Derived) == 0 {
			r.Derived = []model.Column{{Name: d.Name, Version: d.Version}}
			size += len(d.Name) + columnCost
		}
		before := len(r.Derived[0].Values.Slab)
		appendStrings(&r.Derived[0].Values, &d.Values, i, to)
		r.Derived[0].Version = max(r.Derived[0].Version, d.Version)
		size += len(r.Derived[0].Values.Slab) - before + taken*valueCost
	}
	c.bytes += uint64(bytes)
	for _, h := range src.Hashes[i:to] {
		c.digest += h
	}
	if k := len(c.seqs); k == 0 || c.seqs[k-1].seq != seq {
		c.seqs = append(c.seqs, seqRun{uint32(had), seq})
		size += runCost
	}
	return taken, size
}

// plain reports whether rows have nothing besides times and lines but, all of them, a value
// of one derived column, as most have.
func plain(src *model.Rows) bool {
	if src.Copies != nil || len(src.Metadata) > 0 || len(src.Derived) > 1 {
		return false
	}
	if len(src.Derived) == 0 {
		return true
	}
	d := &src.Derived[0]
	if d.Rows != nil || d.Values.Len() != src.Len() {
		return false
	}
	from := uint32(0)
	for _, end := range d.Values.Ends {
		if end == from { // no value
			return false
		}
		from = end
	}
	return true
}

// sameDense reports whether the columns of n rows are those that src has, dense.
func sameDense(dst, src []model.Column, n int) bool {
	if len(dst) != len(src) {
		return false
	}
	return len(dst) == 0 || dst[0].Name == src[0].Name && dst[0].Rows == nil && dst[0].Values.Len() == n
}

// appendStrings appends strings [from, to) of src.
func appendStrings(dst, src *model.Strings, from, to int) {
	begin := uint32(0)
	if from > 0 {
		begin = src.Ends[from-1]
	}
	at := uint32(len(dst.Slab)) - begin // modulo 2^32
	dst.Slab = append(dst.Slab, src.Slab[begin:src.Ends[to-1]]...)
	for _, end := range src.Ends[from:to] {
		dst.Ends = append(dst.Ends, end+at)
	}
}

// room returns b with space for n more bytes. It doubles: append alone would grow
// a large slice by a quarter at a time, and copy it four times over.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, max(2*cap(b), len(b)+n)), b...)
}

// after returns an empty chunk that has room for about as much as a full one has.
func after(full *chunk) *chunk {
	n := full.rows.Len()
	return &chunk{rows: model.Rows{
		Times: make([]int64, 0, n), Hashes: make([]uint64, 0, n),
		BatchTimes: make([]int64, 0, n), Positions: make([]uint32, 0, n),
		Lines: model.Strings{Ends: make([]uint32, 0, n), Slab: make([]byte, 0, len(full.rows.Lines.Slab)*17/32)},
	}}
}

// appendMeta appends the values that row i of src has to dst as those of row n.
func appendMeta(dst, src []model.Column, i, n int) ([]model.Column, int) {
	size, at := 0, 0
	for k := range src {
		v := src[k].At(i)
		if len(v) == 0 {
			continue
		}
		for at < len(dst) && dst[at].Name < src[k].Name {
			at++
		}
		if at == len(dst) || dst[at].Name != src[k].Name {
			// A new array, since snapshots share the old one.
			dst = slices.Insert(slices.Clone(dst), at, model.Column{Name: src[k].Name, Version: src[k].Version})
			size += len(src[k].Name) + columnCost
		}
		dst[at].Append(n, v)
		dst[at].Version = max(dst[at].Version, src[k].Version)
		size += len(v) + valueCost
	}
	for k := range dst {
		dst[k].Finish(n + 1)
	}
	return dst, size
}

// view returns the rows of the chunk as they are now.
func (c *chunk) view() *model.Rows {
	r := c.rows
	r.Metadata = slices.Clone(r.Metadata)
	r.Derived = slices.Clone(r.Derived)
	return &r
}

// seal fixes the chunk, and gives back what growing left over.
func (c *chunk) seal() {
	c.sealed = true
	set := newRunSet(slotWidth)
	c.scan(set, 0, c.rows.Len(), math.MinInt64, math.MaxInt64)
	if len(set.runs) <= maxParts {
		c.parts = set.runs
	}
	r := &c.rows
	r.Times, r.Hashes, r.BatchTimes, r.Positions = fit(r.Times), fit(r.Hashes), fit(r.BatchTimes), fit(r.Positions)
	r.Lines.Ends, r.Lines.Slab = fit(r.Lines.Ends), fit(r.Lines.Slab)
	c.seqs = fit(c.seqs)
}

// fit returns a copy without room to grow, unless that would save little.
func fit[T any](s []T) []T {
	if cap(s)-len(s) <= len(s)/16 {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

// lower gives a row the smaller of its place and (batchTime, position), as a copy
// of an entry does, unless that would break the order of rows.
func (c *chunk) lower(row int, key model.OrderKey, sorted bool) {
	old := c.rows.Key(row)
	key.Hash = old.Hash
	if key.Compare(old) >= 0 || sorted && row > 0 && c.rows.Key(row-1).Compare(key) >= 0 {
		return
	}
	if sorted && row == 0 {
		return // the row before is in another chunk
	}
	// New arrays, since snapshots share the old ones.
	c.rows.BatchTimes = slices.Clone(c.rows.BatchTimes)
	c.rows.Positions = slices.Clone(c.rows.Positions)
	c.rows.BatchTimes[row], c.rows.Positions[row] = key.BatchTime, key.Position
}

// between returns the rows [from, to) of ascending rows with start <= time < end.
func between(r *model.Rows, start, end int64) (from, to int) {
	from = sort.Search(r.Len(), func(i int) bool { return r.Times[i] >= start })
	to = from + sort.Search(r.Len()-from, func(i int) bool { return r.Times[from+i] >= end })
	return from, to
}

// ascending returns the numbers of the rows in the order of their keys.
func ascending(r *model.Rows) []uint32 {
	order := make([]uint32, r.Len())
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return r.Key(int(a)).Compare(r.Key(int(b))) })
	return order
}

// appendRow appends row i of src as row n of dst, all columns.
func appendRow(dst, src *model.Rows, i, n int) {
	dst.Times = append(dst.Times, src.Times[i])
	dst.Lines.Append(src.Lines.At(i))
	dst.Hashes = append(dst.Hashes, src.Hashes[i])
	dst.BatchTimes = append(dst.BatchTimes, src.BatchTimes[i])
	dst.Positions = append(dst.Positions, src.Positions[i])
	if copyNo := src.Copy(i); copyNo != 0 || dst.Copies != nil {
		for len(dst.Copies) < n {
			dst.Copies = append(dst.Copies, 0)
		}
		dst.Copies = append(dst.Copies, copyNo)
	}
	dst.Metadata, _ = appendMeta(dst.Metadata, src.Metadata, i, n)
	dst.Derived, _ = appendMeta(dst.Derived, src.Derived, i, n)
}
