package block

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"unsafe"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// The index of streams is a table of labels and columns of runs:
//
//	index := u32 bytes of the table | table | frame of runs
//
// There is none if there are no streams.

const indexVersion = 1

// indexBuilder gathers streams in the order of the block.
type indexBuilder struct {
	streams int
	labels  map[string]*labelBuilder
	recent  []*labelBuilder // of the newest stream's labels, in their order
	counts  []int64         // runs of each stream
	runs    []Run

	values  []int64 // scratch
	payload []byte
	idle    map[string]*labelBuilder // of the last block with streams
}

// idleLabels is of how many labels memory is kept for another block.
const idleLabels = 32

// reset returns an empty one that has the memory of x.
func (x *indexBuilder) reset() indexBuilder {
	clear(x.recent)
	idle := x.labels
	if len(idle) > idleLabels {
		idle = nil
	} else if len(idle) == 0 {
		idle = x.idle // no stream came since the last reset
	}
	for name, b := range idle {
		seen := b.seen
		clear(seen)
		idle[name] = &labelBuilder{tableColumn: tableColumn{tableKey: b.tableKey, rows: b.rows[:0], refs: b.refs[:0], slab: b.slab[:0]}, seen: seen}
	}
	return indexBuilder{recent: x.recent[:0], counts: x.counts[:0], runs: x.runs[:0], values: x.values, payload: x.payload, idle: idle}
}

type labelBuilder struct {
	tableColumn
	last  string                // the newest value: streams that follow each other share most
	at    column.Ref            // of it
	seen  map[string]column.Ref // nil: most streams have values of their own
	total int                   // bytes of the values of all streams
}

// seenValues is after how many different values of a label it is asked whether most are.
const seenValues = 1024

func (x *indexBuilder) add(ls model.Labels, runs []Run) error {
	for i, l := range ls {
		var b *labelBuilder
		if i < len(x.recent) && x.recent[i].name == l.Name {
			b = x.recent[i]
		} else {
			b = x.labels[l.Name]
		}
		if b == nil {
			if len(x.labels) == MaxNames {
				return fmt.Errorf("more than %d names of labels", MaxNames)
			}
			if b = x.idle[l.Name]; b != nil {
				delete(x.idle, l.Name)
			} else {
				b = &labelBuilder{tableColumn: tableColumn{tableKey: tableKey{name: l.Name}}}
			}
			if b.seen == nil {
				b.seen = map[string]column.Ref{}
			}
			if x.labels == nil {
				x.labels = map[string]*labelBuilder{}
			}
			x.labels[l.Name] = b
		}
		if i < len(x.recent) {
			x.recent[i] = b
		} else {
			x.recent = append(x.recent, b)
		}
		ref, ok := b.at, b.last == l.Value && l.Value != ""
		if !ok {
			ref, ok = b.seen[l.Value]
		}
		if !ok {
			ref = column.MakeRef(uint32(len(b.slab)), uint32(len(l.Value)))
			b.slab = append(b.slab, l.Value...)
			if b.seen != nil {
				b.seen[l.Value] = ref
				if len(b.seen) >= seenValues && len(b.seen) > len(b.rows)/2 {
					b.seen = nil
				}
			}
		}
		b.last, b.at = l.Value, ref
		if b.total += len(l.Value) + 8; b.total > maxIndex/2 {
			return fmt.Errorf("the streams' values of label %q take more than %d bytes", l.Name, maxIndex/2)
		}
		b.refs = append(b.refs, ref)
		b.rows = append(b.rows, uint32(x.streams))
	}
	if x.streams == MaxStreams || len(x.runs)+len(runs) > MaxRuns {
		return fmt.Errorf("more than %d streams or %d runs", MaxStreams, MaxRuns)
	}
	if x.streams++; x.streams*len(x.labels) > maxCells {
		return fmt.Errorf("%d streams with labels of %d names: together more than %d", x.streams, len(x.labels), maxCells)
	}
	x.counts = append(x.counts, int64(len(runs)))
	x.runs = append(x.runs, runs...)
	return nil
}

// append appends the index. limit is maxLabels.
func (x *indexBuilder) append(dst []byte, e *tableEncoder, limit int64) ([]byte, error) {
	if x.streams == 0 {
		return dst, nil
	}
	cols := make([]*tableColumn, 0, len(x.labels))
	for _, b := range x.labels {
		cols = append(cols, &b.tableColumn)
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = e.append(dst, x.streams, cols, nil)
	if e.total > limit {
		return dst, fmt.Errorf("the streams' values of all labels take %d bytes, more than %d", e.total, limit)
	}
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))

	fields := [6]func(r *Run) int64{
		1: func(r *Run) int64 { return r.MinTime }, 2: func(r *Run) int64 { return r.MaxTime - r.MinTime }, 3: func(r *Run) int64 { return int64(r.Rows) },
		4: func(r *Run) int64 { return int64(r.Bytes) }, 5: func(r *Run) int64 { return int64(r.Digest) },
	}
	var infos [len(fields)]column.Info
	payload := x.payload[:0]
	for i, field := range fields {
		values := x.counts
		if i > 0 {
			x.values = slices.Grow(x.values[:0], len(x.runs))
			for k := range x.runs {
				x.values = append(x.values, field(&x.runs[k]))
			}
			values = x.values
		}
		at := len(payload)
		infos[i], payload = e.columns.EncodeSigned(payload, values)
		infos[i].ID, infos[i].Offset, infos[i].Size = uint32(i), uint32(at), uint32(len(payload)-at)
	}
	b := column.AppendInfos([]byte{indexVersion}, infos[:])
	x.payload = payload
	return e.compress.AppendFrame(dst, append(b, payload...)), nil
}

// index is the streams of a block, ascending by Compare. Read-only.
type index struct {
	streams  int
	labels   []label
	firstRun []uint32 // of each stream, and how many runs there are
	firstRow []int64  // likewise, of all rows of the block
	runs     []Run
	runRow   []int64 // the first row of each run, and how many rows there are
	memory   int
}

// label is a name and its values over the streams.
type label struct {
	name   string
	values []string // equal ones may be there several times, where nearly all differ
	of     []uint32 // of each stream: 0 none, otherwise one more than the value's number
	found  *finder  // nil: there are few values
}

// openIndex opens the index of the streams and rows that the footer says there are.
func openIndex(b []byte, info *Info) (*index, error) {
	x := &index{streams: int(info.Streams)}
	if x.streams == 0 && len(b) == 0 {
		x.firstRun, x.firstRow, x.runRow = make([]uint32, 1), make([]int64, 1), make([]int64, 1)
		return x, nil
	}
	if len(b) < 4 {
		return nil, corrupt("index of %d bytes", len(b))
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if b = b[4:]; size > int64(len(b)) {
		return nil, corrupt("labels of %d bytes in an index of %d", size, len(b))
	}
	t, err := openTable(b[:size], x.streams, 0, maxIndex, maxLabels)
	if err != nil {
		return nil, err
	}
	if int64(len(t.keys))*info.Streams > maxCells {
		return nil, corrupt("%d labels of %d streams", len(t.keys), info.Streams)
	}
	for i := range t.keys {
		if t.keys[i].class != classSent || t.keys[i].version != 0 {
			return nil, corrupt("label %q with a version", t.keys[i].name)
		}
		v, err := t.open(i) // and not kept
		if err != nil {
			return nil, fmt.Errorf("label %q: %w", t.keys[i].name, err)
		}
		x.labels = append(x.labels, makeLabel(t.keys[i].name, v, x.streams))
		l := &x.labels[i]
		x.memory += 4*len(l.of) + 16*len(l.values) + l.found.memorySize()
		for _, s := range l.values {
			x.memory += len(s)
		}
	}
	p, err := column.ReadFrame(b[size:], maxIndex)
	if err != nil {
		return nil, err
	}
	d := decoder{b: p}
	if v := d.byte(); v != indexVersion {
		return nil, corrupt("index of version %d, this is a reader of version %d", v, indexVersion)
	}
	infos, payload, err := column.ParseInfos(d.b)
	if err != nil {
		return nil, err
	}
	if len(infos) < 2 || int64(infos[1].N) > min(info.Rows, MaxRuns) {
		return nil, corrupt("columns of runs")
	}
	runs := infos[1].N
	cols, err := signedColumns(infos, payload, 6, func(i int) int {
		if i == 0 {
			return x.streams
		}
		return runs
	})
	if err != nil {
		return nil, err
	}
	return x, x.setRuns(cols, runs, info)
}

func (x *index) setRuns(cols []*column.Values, runs int, info *Info) error {
	x.firstRun, x.firstRow = make([]uint32, x.streams+1), make([]int64, x.streams+1)
	x.runs, x.runRow = make([]Run, runs), make([]int64, runs+1)
	x.memory += 12*x.streams + 48*runs
	at, row, bytes := 0, int64(0), uint64(0)
	for i := range x.streams {
		n := cols[0].Signed(i)
		if n < 1 || n > int64(runs-at) {
			return corrupt("stream %d has %d runs of %d", i, n, runs-at)
		}
		for k := range int(n) {
			r := &x.runs[at]
			r.MinTime = cols[1].Signed(at)
			r.MaxTime = r.MinTime + cols[2].Signed(at)
			r.Rows, r.Bytes, r.Digest = cols[3].Number(at), cols[4].Number(at), cols[5].Number(at)
			if r.MaxTime < r.MinTime || k > 0 && x.runs[at-1].MaxTime >= r.MinTime || r.MinTime < info.MinTime || r.MaxTime > info.MaxTime ||
				r.Rows < 1 || r.Rows > uint64(info.Rows-row) || r.Bytes > uint64(info.RawBytes)-bytes {
				return corrupt("run %d of stream %d: %d rows from %d to %d", k, i, r.Rows, r.MinTime, r.MaxTime)
			}
			row += int64(r.Rows)
			bytes += r.Bytes
			at++
			x.runRow[at] = row
		}
		x.firstRun[i+1], x.firstRow[i+1] = uint32(at), row
	}
	if at != runs || row != info.Rows || bytes != uint64(info.RawBytes) {
		return corrupt("runs of %d rows and %d bytes, the block has %d and %d", row, bytes, info.Rows, info.RawBytes)
	}
	return nil
}

func makeLabel(name string, v *tableValues, streams int) label {
	l := label{name: name, of: make([]uint32, streams)}
	info := v.values.Info()
	var slab []byte
	var ends []int
	var number []uint32 // of the dictionary
	if info.Kind == column.Dict {
		number = make([]uint32, v.values.Distinct())
	}
	for i := range v.values.Len() {
		at := uint32(0)
		switch info.Kind {
		case column.Const:
			at = min(uint32(len(ends)), 1)
		case column.Dict:
			at = number[v.values.Number(i)]
		}
		if at == 0 {
			slab = v.values.Append(slab, i)
			ends = append(ends, len(slab))
			at = uint32(len(ends))
			if info.Kind == column.Dict {
				number[v.values.Number(i)] = at
			}
		}
		row := i
		if v.rows != nil {
			row = int(v.rows[i])
		}
		l.of[row] = at
	}
	l.values = make([]string, len(ends))
	text := unsafe.String(unsafe.SliceData(slab), len(slab)) // not changed any more
	from := 0
	for i, end := range ends {
		l.values[i] = text[from:end]
		from = end
	}
	l.found = newFinder(len(l.values))
	return l
}

// stream returns the labels of a stream.
func (x *index) stream(i int) model.Labels {
	n := 0
	for k := range x.labels {
		if x.labels[k].of[i] != 0 {
			n++
		}
	}
	return x.appendStream(make(model.Labels, 0, n), i)
}

// appendStream appends the labels of a stream to ls.
func (x *index) appendStream(ls model.Labels, i int) model.Labels {
	for k := range x.labels {
		if v := x.labels[k].of[i]; v != 0 {
			ls = append(ls, model.Label{Name: x.labels[k].name, Value: x.labels[k].values[v-1]})
		}
	}
	return ls
}

// check checks that the streams ascend, which takes a walk over all their labels.
func (x *index) check() error {
	var prev model.Labels
	for i := range x.streams {
		ls := x.stream(i)
		for k := range ls {
			if ls[k].Value == "" {
				return corrupt("stream %d: label %q without a value", i, ls[k].Name)
			}
		}
		if i > 0 && Compare(prev, ls) >= 0 {
			return corrupt("stream %d %s does not come after %s", i, ls, prev)
		}
		prev = ls
	}
	return nil
}

// match returns the streams that all matchers match, ascending; nil, true if that is
// all of them.
func (x *index) match(matchers []*syntax.Matcher) (streams []uint32, all bool) {
	if x.streams == 0 {
		return nil, false
	}
	all = true
	for _, m := range matchers {
		k := slices.IndexFunc(x.labels, func(l label) bool { return l.name == m.Name })
		if k < 0 {
			if !m.Matches("") {
				return nil, false
			}
			continue
		}
		l := &x.labels[k]
		if m.Type == syntax.Eq && m.Value != "" && l.found != nil {
			if at, ok := l.found.find(l.values, l.of, m.Value); ok {
				streams, all = l.found.narrowTo(streams, all, l.of, at), false
				if len(streams) == 0 {
					return nil, false
				}
				continue
			}
		}
		ok := make([]bool, len(l.values)+1)
		ok[0] = m.Matches("")
		for i, v := range l.values {
			ok[i+1] = m.Matches(v)
		}
		if all {
			for i, v := range l.of {
				if ok[v] {
					streams = append(streams, uint32(i))
				}
			}
			all = false
		} else {
			n := 0
			for _, s := range streams {
				if ok[l.of[s]] {
					streams[n] = s
					n++
				}
			}
			streams = streams[:n]
		}
		if len(streams) == 0 {
			return nil, false
		}
	}
	return streams, all
}

// runsWithin returns the runs [from, to) of a stream that have times in [start, end).
func (x *index) runsWithin(stream int, start, end int64) (from, to int) {
	lo, hi := int(x.firstRun[stream]), int(x.firstRun[stream+1])
	from = lo + sort.Search(hi-lo, func(i int) bool { return x.runs[lo+i].MaxTime >= start })
	to = from + sort.Search(hi-from, func(i int) bool { return x.runs[from+i].MinTime >= end })
	return from, to
}
