package blockstore

import (
	"unsafe"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// CountFields implements engine.FieldCounter.
func (s *selected) CountFields(part int, f *engine.Fields, c engine.FieldCounts) (rows, bytes uint64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, 0, err
	}
	b, group := s.store.block, s.wanted()[part]
	first, end := s.streamsOf(group)
	least, greatest := b.GroupTimes(group)
	p, err := s.makePick(group)
	if err != nil {
		return 0, 0, err
	}
	rows = uint64(p.len())
	if s.selects() {
		rows = max(rows, s.allExamined(group, first, end))
	}
	size, all := b.GroupSize(group)
	bytes = uint64(all) * rows / uint64(size)
	if p.len() == 0 {
		return rows, bytes, nil
	}
	body, err := s.store.body(s.ctx, group)
	if err != nil {
		return 0, 0, err
	}
	if b.HasMetadata(group) {
		meta, err := s.store.metadata(s.ctx, body, group)
		if err != nil {
			return 0, 0, err
		}
		if hasNamed(meta.Names(), f) {
			return 0, 0, engine.ErrFields
		}
	}
	plan, err := s.fieldPlan(group, body, f)
	if err != nil {
		return 0, 0, s.named(group, err)
	}
	w := fieldCounter{body: body, lonely: lonely{of: p}, counts: c, plan: plan, fields: f, group: group, least: least, greatest: greatest}
	w.room = rooms.Get().(*fieldRoom)
	w.results, w.of, w.counted = w.room.results[:0], w.room.of[:0], w.room.counted[:0]
	defer func() {
		w.room.results, w.room.of, w.room.counted, w.room.used = w.results, w.of, w.counted, 0
		clear(w.quicks) // which hold on to the row group
		rooms.Put(w.room)
		m := s.store.cache.metrics
		m.byColumns.Add(float64(w.rows - w.run))
		m.byPipeline.Add(float64(w.run))
	}()
	if err := w.prepare(); err != nil {
		return 0, 0, s.named(group, err)
	}
	at := 0
	for k := first; k < end && at < p.len(); k++ {
		from, to := b.RowsOf(int(s.snapshot.ascending[k]), group)
		for at < p.len() && p.at(at) < from {
			at++
		}
		if at == p.len() || p.at(at) >= to {
			continue
		}
		if err := w.begin(s.snapshot.place(k)); err != nil {
			return 0, 0, err
		}
		if p.rows == nil && !w.valued {
			row := p.at(at)
			n := min(to-row, p.len()-at)
			if err := w.span(row, row+n); err != nil {
				return 0, 0, s.named(group, err)
			}
			at += n
			continue
		}
		for ; at < p.len() && p.at(at) < to; at++ {
			if err := w.row(p.at(at)); err != nil {
				return 0, 0, s.named(group, err)
			}
		}
	}
	return rows, bytes, w.flush()
}

// fieldCounter counts rows of a row group by what a pipeline makes of their lines. It
// runs it once for all rows of a stream whose fields that matter are the same text.
type fieldCounter struct {
	body            *lines.Body
	counts          engine.FieldCounts
	plan            *fieldPlan
	fields          *engine.Fields
	group           int
	least, greatest int64 // times of the row group

	times   []int64
	tids    []uint16
	values  []slotValues // of the plan's columns
	cursors []int        // of each, its next value
	next    int          // the row that the cursors are at
	shapes  []shapeState
	texts   []valueState
	direct  []int32 // by template: as in shapeState, if all its rows have one result
	quicks  []quickTemplate

	lonely  lonely
	printer *lines.Printer
	line    []byte
	key     []byte
	at      int // the row that is run
	shape   *fieldShape
	print   func() ([]byte, error)
	render  func() ([]byte, error)

	valued    bool // of the stream
	unordered bool

	// Results of rows, those before first are of other streams.
	results []fieldResult
	first   int32
	of      []int32 // by series, from -1 on: as in shapeState

	cells int // of tables
	room  *fieldRoom

	// What is not counted yet.
	counted []int32 // results with rows
	heaps   []heap
	piled   int // rows of heaps have so many places
	heaped  []heaped
	bucket  int
	last    int64 // time that is in bucket
	timed   bool

	rows, run uint64 // that were seen; that were run through the pipeline
}

func (w *fieldCounter) prepare() error {
	var err error
	w.print, w.render = w.readLine, w.renderLine
	w.unordered = w.counts.Unordered()
	if bucket, last := w.counts.Bucket(w.least); last >= w.greatest {
		w.bucket, w.last = bucket, last // nothing else will be asked for
	} else if w.times, err = w.body.SharedTimes(); err != nil {
		return err
	}
	if w.tids, err = w.body.RowTemplates(); err != nil {
		return err
	}
	n := len(w.plan.used)
	w.values, w.cursors = make([]slotValues, n), make([]int, n)
	if err = w.body.Take(w.plan.used); err != nil {
		return err
	}
	for i, c := range w.plan.used {
		if w.values[i], err = valuesOf(w.body, c); err != nil {
			return err
		}
	}
	w.shapes, w.texts = make([]shapeState, len(w.plan.shapes)), make([]valueState, len(w.plan.values))
	w.direct = make([]int32, len(w.plan.templates))
	return nil
}

// timeOf returns the time of a row, or one that is in the same bucket.
func (w *fieldCounter) timeOf(row int) int64 {
	if w.times == nil {
		return w.least
	}
	return w.times[row]
}

func (w *fieldCounter) begin(stream int) error {
	if err := w.flush(); err != nil {
		return err
	}
	var same bool
	if same, w.valued = w.counts.Begin(stream); !same || len(w.results) == 0 {
		w.first = int32(len(w.results))
	}
	w.timed = w.times == nil
	return nil
}

func (w *fieldCounter) row(row int) error {
	for ; w.next < row; w.next++ {
		w.pass(w.tids[w.next])
	}
	if !w.timed || w.times != nil && w.times[row] > w.last {
		if err := w.flush(); err != nil {
			return err
		}
		w.bucket, w.last = w.counts.Bucket(w.times[row])
		w.timed = true
	}
	w.rows++
	tid := w.tids[row]
	var err error
	if e := w.direct[tid]; e > w.first {
		w.count(e - 1)
	} else if e := w.quick(tid); e > w.first {
		w.count(e - 1)
	} else {
		err = w.lookup(int(tid), row)
	}
	w.pass(tid)
	w.next = row + 1
	return err
}

// pass moves the cursors over a row.
func (w *fieldCounter) pass(tid uint16) {
	t := &w.plan.templates[tid]
	for _, s := range w.plan.steps[t.from:t.to] {
		w.cursors[s.column] += int(s.n)
	}
}

// count adds a row to a result.
func (w *fieldCounter) count(result int32) {
	r := &w.results[result]
	if r.series < 0 || w.bucket < 0 {
		return
	}
	if r.rows == 0 {
		w.counted = append(w.counted, result)
	}
	r.rows++
}

func (w *fieldCounter) flush() error {
	for _, n := range w.counted {
		r := &w.results[n]
		rows := r.rows
		r.rows = 0
		if err := w.counts.Add(r.series, w.bucket, rows); err != nil {
			return err
		}
	}
	w.counted = w.counted[:0]
	for _, h := range w.heaped {
		heap := &w.heaps[h.heap]
		rows := heap.rows[h.code]
		heap.rows[h.code] = 0
		series := w.results[int(h.heap)/len(w.texts)].series
		if err := w.counts.AddValue(series, w.bucket, w.texts[heap.value].values[h.code], int(rows)); err != nil {
			return err
		}
	}
	w.heaped = w.heaped[:0]
	return nil
}

// maxCells is how many codes all tables have at most, and how many all heaps; maxHeaps
// is how many of these there are.
const (
	maxCells = 1 << 21
	maxHeaps = 1 << 18
)

// fits reports whether codes are looked up in an array, which it makes room for.
func (w *fieldCounter) fits(codes uint64) bool {
	if codes > uint64(2*len(w.tids)+64) || codes > uint64(maxCells-w.cells) {
		return false
	}
	w.cells += int(codes)
	return true
}

// lookup counts a row.
func (w *fieldCounter) lookup(tid, row int) error {
	t := &w.plan.templates[tid]
	if t.full < 0 {
		return w.alone(row)
	}
	if !w.valued || t.value < 0 {
		result, err := w.resultOf(t, t.full, row)
		if err != nil {
			return err
		}
		if len(w.plan.shapes[t.full].slots) == 0 {
			w.direct[tid] = result + 1
		}
		w.count(result)
		return nil
	}
	// The value first: rows that have none must not tell of those that have.
	shape, state := &w.plan.values[t.value], &w.texts[t.value]
	code, ok := w.codeOf(shape)
	tabled := ok && (state.values != nil || w.fits(shape.codes))
	var value float64
	if tabled {
		if state.values == nil {
			state.values, state.known = make([]float64, shape.codes), make([]valueKnown, shape.codes)
		}
		switch state.known[code] {
		case unknown:
			var err error
			if value, ok, err = w.parse(shape); err != nil {
				return err
			} else if !ok {
				state.known[code] = noValue
				return w.alone(row)
			}
			state.known[code], state.values[code] = aValue, value
		case aValue:
			value = state.values[code]
		default:
			return w.alone(row)
		}
	} else {
		var err error
		if value, ok, err = w.parse(shape); err != nil {
			return err
		} else if !ok {
			return w.alone(row)
		}
	}
	result, err := w.resultOf(t, t.key, row)
	if err != nil {
		return err
	}
	r := &w.results[result]
	switch {
	case r.series < 0 || w.bucket < 0:
		return nil
	case !tabled || !w.unordered:
		return w.counts.AddValue(r.series, w.bucket, value, 1)
	}
	n := int(result)*len(w.texts) + int(t.value)
	if n >= maxHeaps {
		return w.counts.AddValue(r.series, w.bucket, value, 1)
	}
	for n >= len(w.heaps) {
		w.heaps = append(w.heaps, heap{value: int32(len(w.heaps) % len(w.texts))})
	}
	h := &w.heaps[n]
	if h.rows == nil {
		if w.piled+int(shape.codes) > maxCells {
			return w.counts.AddValue(r.series, w.bucket, value, 1)
		}
		w.piled += int(shape.codes)
		h.rows = make([]uint32, shape.codes)
	}
	if h.rows[code]++; h.rows[code] == 1 {
		w.heaped = append(w.heaped, heaped{int32(n), int32(code)})
	}
	return nil
}

// parse returns the value of the row that the cursors are at.
func (w *fieldCounter) parse(shape *fieldShape) (_ float64, ok bool, err error) {
	if w.key, err = w.append(w.key[:0], shape); err != nil || len(w.key) == 0 {
		return 0, false, err
	}
	v, err := w.fields.Value.Parse(unsafe.String(unsafe.SliceData(w.key), len(w.key)))
	return v, err == nil, nil
}

// append appends the text of a shape of the row that the cursors are at.
func (w *fieldCounter) append(dst []byte, shape *fieldShape) (_ []byte, err error) {
	for i, l := range shape.literals {
		dst = append(dst, l...)
		if i < len(shape.slots) {
			s := &shape.slots[i]
			if dst, err = w.values[s.column].view.Append(dst, w.cursors[s.column]+s.nth); err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}

// resultOf returns the number of the result of a row, by a shape of its template.
func (w *fieldCounter) resultOf(t *templatePlan, n int32, row int) (int32, error) {
	shape, state := &w.plan.shapes[n], &w.shapes[n]
	if len(shape.slots) == 0 {
		return w.keep(&state.one, t, shape, row)
	}
	code, ok := w.codeOf(shape)
	switch {
	case !ok:
		return w.runShape(t, shape, row)
	case state.table != nil || w.fits(shape.codes):
		if state.table == nil {
			state.table = w.room.table(int(shape.codes))
		}
		return w.keep(&state.table[code], t, shape, row)
	}
	if state.many == nil {
		state.many = map[uint64]int32{}
	}
	e := state.many[code]
	before := e
	r, err := w.keep(&e, t, shape, row)
	if e != before {
		state.many[code] = e
	}
	return r, err
}

func (w *fieldCounter) keep(known *int32, t *templatePlan, shape *fieldShape, row int) (int32, error) {
	if *known > w.first {
		return *known - 1, nil
	}
	r, err := w.runShape(t, shape, row)
	if err == nil {
		*known = r + 1
	}
	return r, err
}

// runShape runs the pipeline on a row, unless that was done for an equal one.
func (w *fieldCounter) runShape(t *templatePlan, shape *fieldShape, row int) (int32, error) {
	var err error
	if w.key, err = w.append(append(w.key[:0], shape.mark), shape); err != nil {
		return 0, err
	}
	line := w.print
	if full := &w.plan.shapes[t.full]; full.line {
		w.shape, line = full, w.render
	}
	w.at = row
	series, err := w.counts.Series(w.timeOf(row), w.key, line)
	if err != nil {
		return 0, err
	}
	return w.result(series), nil
}

// result returns the number of the result of rows of a series.
func (w *fieldCounter) result(series int) int32 {
	at := series + 1
	if at >= len(w.of) {
		w.of = append(w.of, make([]int32, max(at+1-len(w.of), len(w.of)))...)
	}
	if w.of[at] <= w.first {
		w.results = append(w.results, fieldResult{series: series})
		w.of[at] = int32(len(w.results))
	}
	return w.of[at] - 1
}
