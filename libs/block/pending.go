package block

import (
	"slices"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// pending is the rows of a row group that is not encoded yet.
type pending struct {
	times      []int64
	parts      []lines.Part  // of all rows
	lines      model.Strings // of those that are text
	carried    int           // bytes of the others' lines
	runEnds    []uint32      // of streams
	kinds      []uint64      // of these runs' lines
	kind       uint64        // of the lines that come
	batchTimes []int64       // nil: not kept
	positions  []uint32
	copyRows   []uint32
	copies     []uint32
	base       uint32 // see group

	columns   map[tableKey]*tableColumn
	recent    []*tableColumn // by place
	metaBytes int64
}

func (p *pending) len() int   { return len(p.times) }
func (p *pending) bytes() int { return p.lineBytes() + int(p.metaBytes) }

func (p *pending) lineBytes() int { return len(p.lines.Slab) + p.carried }

// endRun says that the rows that follow are another stream's.
func (p *pending) endRun() {
	n := uint32(p.len())
	if n > 0 && (len(p.runEnds) == 0 || p.runEnds[len(p.runEnds)-1] < n) {
		p.runEnds = append(p.runEnds, n)
		p.kinds = append(p.kinds, p.kind)
	}
}

// add adds rows [from, to).
func (p *pending) add(rows *model.Rows, from, to int, ordered bool) {
	begin := uint32(0)
	if from > 0 {
		begin = rows.Lines.Ends[from-1]
	}
	at := uint32(len(p.lines.Slab)) - begin // modulo 2^32
	p.lines.Slab = append(p.lines.Slab, rows.Lines.Slab[begin:rows.Lines.Ends[to-1]]...)
	for _, end := range rows.Lines.Ends[from:to] {
		p.lines.Ends = append(p.lines.Ends, end+at)
	}
	if n := len(p.parts); n > 0 && p.parts[n-1].Body == nil {
		p.parts[n-1].To += to - from
	} else {
		p.parts = append(p.parts, lines.Part{To: to - from})
	}
	p.addRest(rows, from, to, ordered)
}

// carry adds the lines of rows [from, to) of a body, of so many bytes.
func (p *pending) carry(b *lines.Body, from, to, bytes int) {
	p.carried += bytes
	if n := len(p.parts); n > 0 && p.parts[n-1].Body == b && p.parts[n-1].To == from {
		p.parts[n-1].To = to
		return
	}
	p.parts = append(p.parts, lines.Part{Body: b, From: from, To: to})
}

// addRest adds all of rows [from, to) but the lines.
func (p *pending) addRest(rows *model.Rows, from, to int, ordered bool) {
	n := p.len()
	p.times = append(p.times, rows.Times[from:to]...)
	for i := from; i < to && rows.Copies != nil; i++ {
		if rows.Copies[i] != 0 {
			p.copyRows = append(p.copyRows, uint32(n+i-from))
			p.copies = append(p.copies, rows.Copies[i])
		}
	}
	if !ordered {
		if rows.BatchTimes != nil {
			p.batchTimes = append(p.batchTimes, rows.BatchTimes[from:to]...)
		} else {
			p.batchTimes = append(p.batchTimes, make([]int64, to-from)...)
		}
		if rows.Positions != nil {
			p.positions = append(p.positions, rows.Positions[from:to]...)
		} else {
			p.positions = append(p.positions, make([]uint32, to-from)...)
		}
	}
	for i := range rows.Metadata {
		p.addColumn(i, &rows.Metadata[i], classSent, from, to, n)
	}
	for i := range rows.Derived {
		p.addColumn(len(rows.Metadata)+i, &rows.Derived[i], classDerived, from, to, n)
	}
}

// addColumn adds rows of a column, the i-th of theirs.
func (p *pending) addColumn(i int, c *model.Column, class uint8, from, to, n int) {
	var dst *tableColumn
	add := func(row int, v []byte) {
		if len(v) == 0 {
			return
		}
		if dst == nil {
			dst = p.column(i, c, class)
		}
		dst.add(uint32(n+row-from), v)
		p.metaBytes += int64(len(v) + len(c.Name))
	}
	if c.Rows == nil {
		for row := from; row < to; row++ {
			add(row, c.Values.At(row))
		}
		return
	}
	for k, _ := slices.BinarySearch(c.Rows, uint32(from)); k < len(c.Rows) && int(c.Rows[k]) < to; k++ {
		add(int(c.Rows[k]), c.Values.At(k))
	}
}

// column returns where values of a column go, the i-th of some rows. Streams mostly have
// the same ones in the same places.
func (p *pending) column(i int, c *model.Column, class uint8) *tableColumn {
	key := tableKey{class: class, name: c.Name, version: c.Version}
	if class == classSent {
		key.version = 0
	}
	if i < len(p.recent) && p.recent[i] != nil && p.recent[i].tableKey == key {
		return p.recent[i]
	}
	dst := p.columns[key]
	if dst == nil {
		if p.columns == nil {
			p.columns = map[tableKey]*tableColumn{}
		}
		dst = &tableColumn{tableKey: key}
		p.columns[key] = dst
	}
	if i < recentColumns {
		for len(p.recent) <= i {
			p.recent = append(p.recent, nil)
		}
		p.recent[i] = dst
	}
	return dst
}

// recentColumns is how many columns of the last stream's rows are known by their place.
const recentColumns = 64

// table returns the columns that have values.
func (p *pending) table() []*tableColumn {
	var cols []*tableColumn
	for _, c := range p.columns {
		if len(c.rows) > 0 {
			cols = append(cols, c)
		}
	}
	return cols
}

// reset forgets the rows and keeps their memory.
func (p *pending) reset() {
	columns := p.columns
	if len(columns) > groupNames/4 {
		columns = nil
	}
	for k, c := range columns {
		if len(c.rows) == 0 {
			delete(columns, k) // of no use for a while
			continue
		}
		c.rows, c.refs, c.slab = c.rows[:0], c.refs[:0], c.slab[:0]
	}
	clear(p.parts)
	clear(p.recent) // some are no longer among the columns
	*p = pending{times: p.times[:0], parts: p.parts[:0], lines: model.Strings{Ends: p.lines.Ends[:0], Slab: p.lines.Slab[:0]},
		runEnds: p.runEnds[:0], kinds: p.kinds[:0], kind: p.kind, batchTimes: p.batchTimes[:0], positions: p.positions[:0],
		copyRows: p.copyRows[:0], copies: p.copies[:0], columns: columns, recent: p.recent[:0]}
}
