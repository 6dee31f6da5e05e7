package block

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

const orderVersion = 1

// Order is what a row group knows about the order and the number of equal rows: copy
// numbers, and batch times and positions where they are kept. Read-only.
type Order struct {
	rows       int
	copyRows   []uint32
	copies     []uint32
	runEnds    []uint32 // rows of one batch, one after the other in their request
	batchTimes []int64
	positions  []uint32 // of the runs' first rows
	ordered    bool
}

// MemorySize returns about how many bytes of memory it takes.
func (o *Order) MemorySize() int { return 128 + 8*len(o.copies) + 16*len(o.runEnds) }

// orderEncoder encodes the order of row groups; it keeps scratch memory between them.
type orderEncoder struct {
	distinct             []int64
	lens, offsets, first []int64 // of runs
	frame, payload       []byte
}

// append appends the frame of rows; nothing if there is nothing to tell.
func (o *orderEncoder) append(dst []byte, compress *column.Compressor, enc *column.Encoder, times, batchTimes []int64, positions, copyRows, copies []uint32) []byte {
	if len(copies) == 0 && batchTimes == nil {
		return dst
	}
	b := append(o.frame[:0], orderVersion)
	b = binary.AppendUvarint(b, uint64(len(copies)))
	prev := uint32(0)
	for i, row := range copyRows {
		b = binary.AppendUvarint(b, uint64(row-prev))
		b = binary.AppendUvarint(b, uint64(copies[i]))
		prev = row
	}
	if batchTimes == nil {
		b = binary.AppendUvarint(b, 0)
		o.frame = b
		return compress.AppendFrame(dst, b)
	}
	o.distinct = appendDistinct(o.distinct[:0], batchTimes)
	distinct := o.distinct
	b = binary.AppendUvarint(b, uint64(len(distinct)))
	last := int64(0)
	for _, t := range distinct {
		b = binary.AppendUvarint(b, uint64(t)-uint64(last)) // modulo 2^64
		last = t
	}
	// A batch is mostly made soon after its first row's time, so that its place
	// among the batches is near that time's.
	o.lens, o.offsets, o.first = o.lens[:0], o.offsets[:0], o.first[:0]
	for from := 0; from < len(times); {
		to := from + 1
		for to < len(times) && batchTimes[to] == batchTimes[from] && positions[to] == positions[to-1]+1 {
			to++
		}
		o.lens = append(o.lens, int64(to-from))
		o.offsets = append(o.offsets, int64(near(distinct, batchTimes[from])-near(distinct, times[from])))
		o.first = append(o.first, int64(positions[from]))
		from = to
	}
	var infos [3]column.Info
	payload := o.payload[:0]
	for i, values := range [...][]int64{o.lens, o.offsets, o.first} {
		at := len(payload)
		infos[i], payload = enc.EncodeSigned(payload, values)
		infos[i].ID, infos[i].Offset, infos[i].Size = uint32(i), uint32(at), uint32(len(payload)-at)
	}
	b = append(column.AppendInfos(b, infos[:]), payload...)
	o.frame, o.payload = b, payload
	return compress.AppendFrame(dst, b)
}

// fewBatches is how many distinct times are put in their places one by one.
const fewBatches = 256

// appendDistinct appends the distinct ones of some times, ascending, to dst, which is
// empty.
func appendDistinct(dst, times []int64) []int64 {
	for i, t := range times {
		if i > 0 && t == times[i-1] {
			continue
		}
		k := near(dst, t)
		if k < len(dst) && dst[k] == t {
			continue
		}
		if len(dst) >= fewBatches && k < len(dst) {
			dst = append(dst, times[i:]...)
			slices.Sort(dst)
			return slices.Compact(dst)
		}
		dst = slices.Insert(dst, k, t)
	}
	return dst
}

// near returns how many of some times, which ascend, are before another.
func near(distinct []int64, t int64) int {
	lo, hi := 0, len(distinct)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); distinct[mid] < t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// openOrder opens the frame of rows with these times, which need not be given without one. There is none, b is empty, if
// all copy numbers are 0 and no batch time is kept.
func openOrder(b []byte, rows int, times []int64, ordered bool) (*Order, error) {
	o := &Order{rows: rows, ordered: ordered}
	if len(b) == 0 {
		if !ordered {
			return nil, corrupt("no batch times")
		}
		return o, nil
	}
	p, err := column.ReadFrame(b, maxSideData)
	if err != nil {
		return nil, err
	}
	d := decoder{b: p}
	if v := d.byte(); v != orderVersion {
		return nil, corrupt("order of version %d, this is a reader of version %d", v, orderVersion)
	}
	n := d.count(int64(o.rows))
	o.copyRows, o.copies = make([]uint32, n), make([]uint32, n)
	row := int64(0)
	for i := range o.copies {
		gap := d.int(int64(o.rows))
		row += gap
		o.copyRows[i], o.copies[i] = uint32(row), uint32(d.int(1<<32-1))
		if i > 0 && gap == 0 || row >= int64(o.rows) {
			d.bad = true
		}
	}
	distinct := make([]int64, d.count(int64(o.rows)))
	last := uint64(0)
	for i := range distinct {
		last += d.uvarint()
		distinct[i] = int64(last)
		if i > 0 && distinct[i] <= distinct[i-1] {
			d.bad = true
		}
	}
	if d.bad || (len(distinct) == 0) != ordered {
		return nil, corrupt("copy numbers or batch times")
	}
	if len(distinct) == 0 {
		if len(d.b) > 0 {
			return nil, corrupt("%d bytes behind the copy numbers", len(d.b))
		}
		return o, nil
	}
	infos, payload, err := column.ParseInfos(d.b)
	if err != nil {
		return nil, err
	}
	cols, err := signedColumns(infos, payload, 3, func(int) int { return infos[0].N })
	if err != nil {
		return nil, err
	}
	runs := infos[0].N
	if runs > o.rows {
		return nil, corrupt("%d runs of %d rows", runs, o.rows)
	}
	o.runEnds, o.batchTimes, o.positions = make([]uint32, runs), make([]int64, runs), make([]uint32, runs)
	at := int64(0)
	for i := range runs {
		size, first := cols[0].Signed(i), cols[2].Signed(i)
		if size < 1 || size > int64(o.rows)-at || first < 0 || first+size > 1<<32 {
			return nil, corrupt("run of %d rows at %d of %d, position %d", size, at, o.rows, first)
		}
		is := int64(near(distinct, times[at])) + cols[1].Signed(i)
		if is < 0 || is >= int64(len(distinct)) {
			return nil, corrupt("batch %d of %d", is, len(distinct))
		}
		at += size
		o.runEnds[i], o.batchTimes[i], o.positions[i] = uint32(at), distinct[is], uint32(first)
	}
	if at != int64(o.rows) {
		return nil, corrupt("batches of %d rows of %d", at, o.rows)
	}
	return o, nil
}

// signedColumns opens want columns of integers, whose payloads lie end to end and
// fill b. n says how many values a column has.
func signedColumns(infos []column.Info, b []byte, want int, n func(i int) int) ([]*column.Values, error) {
	if len(infos) != want {
		return nil, corrupt("%d columns of %d", len(infos), want)
	}
	out := make([]*column.Values, want)
	at := uint32(0)
	for i := range infos {
		c := &infos[i]
		if c.ID != uint32(i) || c.Kind != column.Signed || c.Offset != at || c.N != n(i) || uint64(c.Size) > uint64(len(b)) {
			return nil, corrupt("column %d of %v: %d values, %d bytes at %d", c.ID, c.Kind, c.N, c.Size, c.Offset)
		}
		var err error
		if out[i], err = column.Open(c, b[:c.Size]); err != nil {
			return nil, err
		}
		b = b[c.Size:]
		at += c.Size
	}
	if len(b) > 0 {
		return nil, corrupt("%d bytes behind the columns", len(b))
	}
	return out, nil
}

// append appends what rows have to dst, which has n rows. The rows ascend. If the order
// is fixed, the rows of a stream that have equal times are numbered: streams says which
// rows are one's, base how many come before those equal to the first one of all.
func (o *Order) append(dst *model.Rows, rows []uint32, n int, times *lines.Times, streams func(row int) (first, end int), base uint32) {
	if k := sort.Search(len(o.copyRows), func(i int) bool { return o.copyRows[i] >= rows[0] }); dst.Copies != nil || k < len(o.copyRows) && o.copyRows[k] <= rows[len(rows)-1] {
		dst.Copies = append(dst.Copies, make([]uint32, n+len(rows)-len(dst.Copies))...)
		for i, row := range rows {
			for k < len(o.copyRows) && o.copyRows[k] < row {
				k++
			}
			if k < len(o.copyRows) && o.copyRows[k] == row {
				dst.Copies[n+i] = o.copies[k]
			}
		}
	}
	dst.Positions = slices.Grow(dst.Positions, len(rows))
	if o.ordered {
		first, end, prev := 0, 0, -1
		p := uint32(0)
		for _, r := range rows {
			row := int(r)
			if row >= end {
				first, end = streams(row)
				prev = -1
			}
			if prev >= 0 && times.At(prev) == times.At(row) {
				p += uint32(row - prev)
			} else {
				at := row
				for at > first && times.At(at-1) == times.At(row) {
					at--
				}
				if p = uint32(row - at); at == 0 {
					p += base
				}
			}
			dst.Positions = append(dst.Positions, p)
			prev = row
		}
		return
	}
	dst.BatchTimes = slices.Grow(dst.BatchTimes, len(rows))
	k := sort.Search(len(o.runEnds), func(i int) bool { return o.runEnds[i] > rows[0] })
	for _, row := range rows {
		for row >= o.runEnds[k] {
			k++
		}
		begin := uint32(0)
		if k > 0 {
			begin = o.runEnds[k-1]
		}
		dst.BatchTimes = append(dst.BatchTimes, o.batchTimes[k])
		dst.Positions = append(dst.Positions, o.positions[k]+row-begin)
	}
}
