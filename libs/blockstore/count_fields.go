package blockstore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// CountFields implements engine.FieldCounter.
func (s *selected) CountFields(group int, f *engine.Fields, c engine.FieldCounts) (rows, bytes uint64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, 0, err
	}
	b := s.store.block
	first, end := s.streamsOf(group)
	least, greatest := b.GroupTimes(group)
	if first == end || least >= s.snapshot.end || greatest < s.snapshot.start {
		return 0, 0, nil
	}
	p, err := s.makePick(group)
	if err != nil {
		return 0, 0, err
	}
	for k := first; k < end; k++ {
		from, to := b.RowsOf(int(s.snapshot.ascending[k]), group)
		rows += uint64(to - from)
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
	w := fieldCounter{body: body, counts: c}
	w.read = w.readLine
	if err := w.prepare(plan); err != nil {
		return 0, 0, s.named(group, err)
	}
	at := 0
	for k := first; k < end && at < p.len(); k++ {
		from, to := b.RowsOf(int(s.snapshot.ascending[k]), group)
		for at < p.len() && p.at(at) < from {
			at++
		}
		w.begin(s.snapshot.place(k))
		for ; at < p.len() && p.at(at) < to; at++ {
			if err := w.row(p.at(at)); err != nil {
				return 0, 0, s.named(group, err)
			}
		}
	}
	return rows, bytes, w.flush()
}

// fieldCounter counts rows of a row group by what a pipeline makes of their lines. It
// runs it once for all rows of a stream that have the same template and the same values
// in the slots that matter.
type fieldCounter struct {
	body   *lines.Body
	counts engine.FieldCounts

	times     []int64
	tids      []uint16
	templates []fieldTemplate
	values    []*column.Values // of the columns of slots that matter
	cursors   []int            // of each column, its next value
	next      int              // the row that the cursors are at

	printer *lines.Printer
	line    []byte
	key     []byte
	at      int // the row that is run
	read    func() ([]byte, error)

	stream int
	epoch  int // of the stream

	// What is not counted yet.
	series, bucket, n int
	last              int64 // time that is in bucket
	timed             bool
}

// fieldTemplate is a template of the row group. Results are one more than the number of
// a series; 1: the row does not count.
type fieldTemplate struct {
	*templatePlan

	epoch int // of what follows
	one   int
	few   []int // by the number of the slot's value
}

// fieldPlan is what is known of the templates of a row group, for queries that look at
// the same fields.
type fieldPlan struct {
	templates []templatePlan
	used      []int // columns of slots that matter
	memory    int
}

// MemorySize implements part.
func (p *fieldPlan) MemorySize() int { return p.memory }

type templatePlan struct {
	known bool // slots tell all that matters
	text  []byte
	slots []fieldSlot
	steps []fieldStep
}

type fieldSlot struct{ column, nth int }

type fieldStep struct{ column, n int }

func (s *selected) fieldPlan(group int, body *lines.Body, f *engine.Fields) (*fieldPlan, error) {
	k := key{block: s.store.block, kind: kindFields, n: group, text: fmt.Sprintf("%v%q%q%v", f.JSON, f.Names, f.Paths, f.Paths == nil)}
	return get(s.ctx, s.store.cache, k, func() (*fieldPlan, error) {
		number, _ := s.store.block.Place(group)
		sec, err := s.store.section(s.ctx, number)
		if err != nil {
			return nil, err
		}
		return planFields(sec, body, f)
	})
}

func planFields(sec *block.Section, body *lines.Body, f *engine.Fields) (*fieldPlan, error) {
	info := body.Info()
	p := &fieldPlan{templates: make([]templatePlan, len(info.Templates)), memory: 256 + 64*len(info.Templates)}
	used := make([]bool, len(body.Columns()))
	uses := map[int]slotUse{}
	for i := range p.templates {
		t, m := &p.templates[i], &sec.Table.Templates[info.Templates[i].Template]
		slots, text, ok, err := slotsThatMatter(m, body, f, uses)
		if err != nil {
			return nil, err
		}
		t.known, t.slots, t.text = ok, slots, text
		for _, s := range slots {
			if !used[s.column] {
				used[s.column] = true
				p.used = append(p.used, s.column)
			}
		}
		p.memory += 16*len(slots) + cap(text)
	}
	for i := range p.templates {
		steps := &p.templates[i].steps
		for _, id := range sec.Table.Templates[info.Templates[i].Template].Columns {
			c := body.Number(id)
			if !used[c] {
				continue
			}
			k := slices.IndexFunc(*steps, func(s fieldStep) bool { return s.column == c })
			if k < 0 {
				k = len(*steps)
				*steps = append(*steps, fieldStep{column: c})
			}
			(*steps)[k].n++
		}
		p.memory += 16 * len(*steps)
	}
	return p, nil
}

// slotsThatMatter returns the slots of a template whose values decide what its lines
// are to fields, and the text of these; ok is false if more decides. uses are those of columns, as far as known.
func slotsThatMatter(m *template.Template, body *lines.Body, f *engine.Fields, uses map[int]slotUse) (slots []fieldSlot, text []byte, ok bool, err error) {
	a := analyzeFields(m, f)
	if !a.ok {
		return nil, nil, false, nil
	}
	pieces := m.Pieces()
	columns := make([]int, len(a.use))
	for i, use := range a.use {
		p := &pieces[i]
		c := body.Number(p.Column)
		columns[i] = c
		have, known := uses[c]
		if !known {
			var layout *template.Layout
			if p.IsTime {
				layout = &p.Layout
			}
			if have, err = usesOf(body, c, layout); err != nil {
				return nil, nil, false, err
			}
			uses[c] = have
		}
		if have&use != use || a.matters[i] && p.IsTime {
			return nil, nil, false, nil // times are not told by their values
		}
		if a.matters[i] {
			nth := 0
			for _, o := range columns[:i] {
				if o == c {
					nth++
				}
			}
			slots = append(slots, fieldSlot{c, nth})
		}
	}
	return slots, a.text, true, nil
}

func (w *fieldCounter) prepare(p *fieldPlan) error {
	var err error
	if w.times, err = w.body.SharedTimes(); err != nil {
		return err
	}
	if w.tids, err = w.body.RowTemplates(); err != nil {
		return err
	}
	w.templates = make([]fieldTemplate, len(p.templates))
	for i := range w.templates {
		w.templates[i].templatePlan = &p.templates[i]
	}
	w.values = make([]*column.Values, len(w.body.Columns()))
	w.cursors = make([]int, len(w.values))
	for _, c := range p.used {
		if w.values[c], err = w.body.Values(c); err != nil {
			return err
		}
	}
	return nil
}

func (w *fieldCounter) begin(stream int) {
	w.stream = stream
	w.epoch++
	w.timed = false
}

func (w *fieldCounter) row(row int) error {
	for ; w.next < row; w.next++ {
		for _, s := range w.templates[w.tids[w.next]].steps {
			w.cursors[s.column] += s.n
		}
	}
	t := &w.templates[w.tids[row]]
	result, err := w.result(t, row)
	if err != nil || result == 1 {
		return err
	}
	if at := w.times[row]; !w.timed || at > w.last {
		if err := w.flush(); err != nil {
			return err
		}
		w.bucket, w.last = w.counts.Bucket(at)
		w.timed = true
	}
	if w.bucket < 0 {
		return nil
	}
	if w.n > 0 && w.series != result-2 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.series = result - 2
	w.n++
	return nil
}

func (w *fieldCounter) flush() error {
	n := w.n
	if w.n = 0; n == 0 {
		return nil
	}
	return w.counts.Add(w.series, w.bucket, n)
}

// maxFew is how many numbers are looked up in an array.
const maxFew = 4096

// result returns what the pipeline makes of a row.
func (w *fieldCounter) result(t *fieldTemplate, row int) (int, error) {
	if !t.known {
		return w.run(nil, row)
	}
	if t.epoch != w.epoch {
		t.epoch, t.one = w.epoch, 0
		clear(t.few)
	}
	switch len(t.slots) {
	case 0:
		return w.keep(&t.one, t, row)
	case 1:
		s := t.slots[0]
		v := w.values[s.column]
		if v.Info().Kind == column.Const {
			return w.keep(&t.one, t, row)
		}
		nums := v.Numbers()
		if nums == nil {
			break
		}
		if t.few == nil {
			if n := distinct(v); n <= maxFew {
				t.few = make([]int, n)
			}
		}
		if x := nums[w.cursors[s.column]+s.nth]; x < uint64(len(t.few)) {
			return w.keep(&t.few[x], t, row)
		}
	}
	return w.run(t, row)
}

// distinct returns how many numbers the values of a column may have.
func distinct(v *column.Values) int {
	switch info := v.Info(); {
	case info.Kind == column.Dict:
		return v.Distinct()
	case info.Max < maxFew:
		return int(info.Max) + 1
	}
	return maxFew + 1
}

func (w *fieldCounter) keep(known *int, t *fieldTemplate, row int) (int, error) {
	if *known != 0 {
		return *known, nil
	}
	r, err := w.run(t, row)
	*known = r
	return r, err
}

// run runs the pipeline on a row, unless that was done for an equal one.
func (w *fieldCounter) run(t *fieldTemplate, row int) (int, error) {
	var key []byte
	if t != nil {
		key = append(append(w.key[:0], t.text...), 0)
		for _, s := range t.slots {
			at := len(key)
			key = w.values[s.column].Append(append(key, 0, 0, 0, 0), w.cursors[s.column]+s.nth)
			binary.LittleEndian.PutUint32(key[at:], uint32(len(key)-at-4))
		}
		w.key = key
	}
	w.at = row
	series, err := w.counts.Series(w.stream, w.times[row], key, w.read)
	return series + 2, err
}

// readLine returns the line of the row that is run.
func (w *fieldCounter) readLine() ([]byte, error) {
	var err error
	if w.printer == nil {
		if w.printer, err = w.body.Printer(); err != nil {
			return nil, err
		}
	}
	w.line, err = w.printer.Append(w.line[:0], w.at)
	return w.line, err
}
