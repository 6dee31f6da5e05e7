package blockstore

import (
	"io"
	"sort"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// Rows implements engine.Snapshot. The reader is an engine.Examiner.
func (s *selected) Rows(stream int, start, end int64, backward bool) engine.RowReader {
	r := &rowReader{s: s, start: max(start, s.snapshot.start), end: min(end, s.snapshot.end), backward: backward}
	if r.start < r.end {
		r.stream = int(s.snapshot.numbers[stream])
		r.spans = s.store.block.Spans(r.stream, r.start, r.end)
	}
	return r
}

// rowReader reads rows of a stream, chunk by chunk.
type rowReader struct {
	s          *selected
	stream     int // in the block
	start, end int64
	backward   bool
	spans      []block.Span // those not begun

	// What is left of the row group that was begun: rows [from, to) of those picked.
	picked   *picked
	group    int
	from, to int

	step        int    // how many rows are decoded at once, while they are few
	rows, bytes uint64 // examined
}

// A reader decodes firstRows rows at first, or leastRows if the caller says that so few may
// do, then more, up to manyRows; then chunks.
const (
	leastRows = 4
	firstRows = 32
	manyRows  = 512
)

// First implements engine.Sparing.
func (r *rowReader) First(n int) { r.step = min(max(2*n, leastRows), firstRows) }

// Examined implements engine.Examiner. The bytes are the share of the row groups.
func (r *rowReader) Examined() (rows, bytes uint64) { return r.rows, r.bytes }

// Next implements engine.RowReader.
func (r *rowReader) Next() (*model.Rows, int, int, error) {
	for r.from >= r.to {
		if len(r.spans) == 0 {
			return nil, 0, 0, io.EOF
		}
		if err := r.begin(); err != nil {
			return nil, 0, 0, err
		}
	}
	// Rows of one chunk, which may hold other streams' as well.
	n := r.from / chunkRows
	from, to := r.from, min(r.to, (n+1)*chunkRows)
	if r.backward {
		n = (r.to - 1) / chunkRows
		from, to = max(r.from, n*chunkRows), r.to
	}
	// A scan with a limit may need no more than a few rows of each stream.
	if r.step == 0 {
		r.step = firstRows
	}
	few := r.step <= manyRows && to-from > 2*r.step
	if few && r.backward {
		from = to - r.step
	} else if few {
		to = from + r.step
	}
	r.step = min(4*r.step, 2*manyRows)
	var c *chunk
	var err error
	first := n * chunkRows
	if few || r.s.alone(r.group, r.picked, n, to-from) {
		first = from
		c, err = r.s.decode(r.group, r.picked.list(from, to))
	} else {
		c, err = r.s.chunk(r.group, r.picked, n)
	}
	if err != nil {
		return nil, 0, 0, err
	}
	if r.backward {
		r.to = from
	} else {
		r.from = to
	}
	return &c.Rows, from - first, to - first, nil
}

// begin goes to the next row group.
func (r *rowReader) begin() error {
	if err := r.s.ctx.Err(); err != nil {
		return err
	}
	i := 0
	if r.backward {
		i = len(r.spans) - 1
	}
	sp := r.spans[i]
	if r.backward {
		r.spans = r.spans[:i]
	} else {
		r.spans = r.spans[1:]
	}
	p, err := r.s.pick(sp.Group)
	if err != nil {
		return err
	}
	r.group, r.picked = sp.Group, p
	r.from, r.to = p.search(sp.From), p.search(sp.To)
	if r.from < r.to && (r.start > r.s.snapshot.start || r.end < r.s.snapshot.end) {
		if err := r.narrow(); err != nil {
			return err
		}
	}
	examined := uint64(r.to - r.from)
	if r.s.selects() {
		examined = max(examined, r.s.examined(r.stream, sp.Group, r.start, r.end))
	}
	rows, bytes := r.s.store.block.GroupSize(sp.Group)
	r.rows += examined
	r.bytes += uint64(bytes) * examined / uint64(rows)
	return nil
}

// narrow leaves the rows that are in the reader's range.
func (r *rowReader) narrow() error {
	body, err := r.s.store.body(r.s.ctx, r.group)
	if err != nil {
		return err
	}
	times := body.Times()
	if r.picked.rows == nil {
		first := r.picked.at(r.from)
		from, to := times.Within(first, first+r.to-r.from, r.start, r.end)
		r.from, r.to = r.from+from-first, r.from+to-first
		return r.failed(times.Err())
	}
	at := func(i int) int64 { return times.At(r.picked.at(r.from + i)) }
	n := r.to - r.from
	from := sort.Search(n, func(i int) bool { return at(i) >= r.start })
	to := from + sort.Search(n-from, func(i int) bool { return at(from+i) >= r.end })
	r.from, r.to = r.from+from, r.from+to
	return r.failed(times.Err())
}

func (r *rowReader) failed(err error) error {
	if err == nil {
		return nil
	}
	return r.s.named(r.group, err)
}

// linesOfLengths returns lines that are as long as those of rows.
func linesOfLengths(body *lines.Body, rows []uint32) (out model.Strings, err error) {
	lengths, err := body.SharedLengths()
	if err != nil {
		return out, err
	}
	out.Ends = make([]uint32, len(rows))
	sum := uint32(0)
	for i, row := range rows {
		sum += lengths[row]
		out.Ends[i] = sum
	}
	if int(sum) > len(blank) {
		out.Slab = make([]byte, sum) // one long line
	} else {
		out.Slab = blank[:sum:sum]
	}
	return out, nil
}

// blank is the bytes of lines that nobody looks at.
var blank = make([]byte, 2<<20)
