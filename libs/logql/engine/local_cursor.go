package engine

import (
	"context"

	"github.com/weir-logs/weir/libs/model"
)

// cursor stands before a row of a stream that passed the pipeline, or before
// rows that are not examined yet. It is used by one goroutine at a time.
type cursor struct {
	ctx    context.Context
	turns  int // rows that were examined
	src    rowSource
	stream int
	proc   *processor
	after  *model.OrderKey // rows up to it are dropped, or, whole, not counted

	rows     *model.Rows
	counted  *model.Rows // what rows were when scan.hold saw them last
	from, to int         // rows of the batch that are not chosen from
	sel      []int32     // rows that were chosen and are not examined, ascending
	selBuf   []int32
	block    int

	bound int64 // time of the row it stands before, or the nearest it can be
	ready bool  // row passed
	done  bool
	row   int
	line  []byte
	value float64

	meta  metaReader
	key   []byte
	sets  map[string]uint32 // of a plain pipeline, by metadata
	stats ScanStats
	err   error
}

// advance examines rows until one passes, or about scanBudget did not.
func (c *cursor) advance() {
	c.ready = false
	for n := 0; n < scanBudget; {
		if len(c.sel) == 0 {
			if c.from == c.to {
				c.rows, c.from, c.to, c.err = c.src.next(&c.stats)
				if c.err != nil || c.rows == nil {
					c.done = true
					return
				}
			}
			n += c.choose()
			continue
		}
		i := 0
		if c.src.backward {
			i = len(c.sel) - 1
		}
		row := int(c.sel[i])
		if c.src.backward {
			c.sel = c.sel[:i]
		} else {
			c.sel = c.sel[1:]
		}
		c.bound = c.rows.Times[row]
		if c.turns++; c.turns%atOnce == 0 && c.ctx.Err() != nil {
			c.err, c.done = context.Cause(c.ctx), true
			return
		}
		if c.examine(row) {
			c.row, c.ready = row, true
			return
		}
	}
}

// choose takes the next rows of the batch and selects those that may match.
func (c *cursor) choose() int {
	n := 1
	if len(c.proc.prog.needle) > 0 {
		// Few at first, as the scan may need no more.
		c.block = min(max(2*c.block, 32), 4096, c.to-c.from)
		n = c.block
	}
	lo := c.from
	if c.src.backward {
		c.to -= n
		lo = c.to
		c.bound = c.rows.Times[lo]
	} else {
		c.from += n
		c.bound = c.rows.Times[lo+n-1]
	}
	c.selBuf = c.proc.prog.candidates(c.selBuf[:0], c.rows, lo, lo+n)
	c.sel = c.selBuf
	c.src.read(&c.stats, c.rows, lo, lo+n, true)
	return n
}

// lineBytes is the bytes of the lines of rows [from, to).
func lineBytes(rows *model.Rows, from, to int) uint64 {
	if from == to || rows.Lines.Ends == nil {
		return 0
	}
	begin := uint32(0)
	if from > 0 {
		begin = rows.Lines.Ends[from-1]
	}
	return uint64(rows.Lines.Ends[to-1] - begin)
}

func (c *cursor) examine(row int) bool {
	line := lineOf(c.rows, row)
	if !c.proc.matches(line) {
		return false
	}
	c.stats.RowsFiltered++
	if c.after != nil && c.bound == c.after.Time {
		cmp := c.rows.Key(row)
		if c.rows.Hashes == nil {
			cmp.Hash = c.rows.Hash(row)
		}
		if d := cmp.Compare(*c.after); d == 0 || (d < 0) != c.src.backward {
			return false
		}
	}
	if share := c.proc.prog.share; share > 0 && !sampled(c.rows.Hash(row), share) {
		return false
	}
	meta, size := c.meta.at(c.rows, row)
	c.stats.BytesRead += uint64(size)
	c.stats.MetadataBytesRead += uint64(size)
	var ok bool
	c.line, c.value, ok = c.proc.process(c.bound, line, meta)
	return ok
}
