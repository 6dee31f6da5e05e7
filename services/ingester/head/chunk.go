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
	streamCost = 512 // its chunks apart
	labelCost  = 64
	chunkCost  = 512
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
		Lines: model.Strings{Ends: make([]uint32, 0, n), Slab: make([]byte, 0, len(full.rows.Lines.Slab)/2)},
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

// fit returns a copy without room to grow.
func fit[T any](s []T) []T {
	if len(s) == cap(s) {
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
