package match

import (
	"bytes"
	"slices"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// timesBegin returns what all in-line times of a column begin with, as the times of the
// block's rows and the summary of the column tell.
func (e *evaluation) timesBegin(c *column.Info) []byte {
	if text, ok := e.begins[c.ID]; ok {
		return text
	}
	var text []byte
	layout := e.sp.section.Table.Columns[c.ID].Layout
	// Values are how far the times are from the rows' own: from least on.
	least := int64(c.Min)
	if most := int64(1) << 50; c.Width <= 6 && least > -most && least < most {
		lo := layout.Floor(e.info.MinTime) - least - (1<<(8*c.Width) - 1)
		hi := layout.Floor(e.info.MaxTime) - least
		if layout.InRange(lo) && layout.InRange(hi) {
			t, n := layout.Alike(nil, lo, hi)
			text = t[:n]
		}
	}
	if e.begins == nil {
		e.begins = map[uint32][]byte{}
	}
	e.begins[c.ID] = text
	return text
}

// rowsOfColumn returns the row of each value of a column of in-line times; nil if every row
// has one.
func (e *evaluation) rowsOfColumn(c int) ([]uint32, error) {
	if e.rowsOf == nil {
		if err := e.rowTemplates(); err != nil {
			return nil, err
		}
		e.rowsOf = e.rowsOfTimes()
	}
	return e.rowsOf[c], nil
}

// rowsOfTimes returns the rows of the values of all columns of in-line times.
func (e *evaluation) rowsOfTimes() [][]uint32 {
	columns := e.body.Columns()
	total := 0
	for i := range columns {
		if columns[i].Kind == column.Signed {
			total += columns[i].N
		}
	}
	if cap(e.rows32) < total {
		e.rows32 = make([]uint32, total+total/4)
	}
	slab := e.rows32[:total]
	rows, once := make([][]uint32, len(columns)), make([]int, len(columns))
	shown := make([]int, len(columns)) // how often by rows of a template
	for i := range columns {
		if c := &columns[i]; c.Kind == column.Signed {
			rows[i], slab = slab[:0:c.N], slab[c.N:]
		}
	}
	times := make([][]int, len(e.info.Templates)) // that rows of each template show, one after the other
	for i, t := range e.info.Templates {
		for _, id := range e.sp.section.Table.Templates[t.Template].Columns {
			if c := e.body.Number(id); columns[c].Kind == column.Signed {
				times[i] = append(times[i], c)
				shown[c]++
			}
		}
		for _, c := range times[i] {
			if shown[c] == 1 {
				once[c]++
			}
			shown[c] = 0
		}
	}
	all := func(c int) bool { return once[c] == len(times) } // every row has one value
	for i := range times {
		times[i] = slices.DeleteFunc(times[i], all)
	}
	for r, t := range e.tids {
		for _, c := range times[t] {
			rows[c] = append(rows[c], uint32(r))
		}
	}
	for c := range rows {
		if all(c) {
			rows[c] = nil
		}
	}
	return rows
}

// scanTimes finds in-line times whose text meets a want. Rows in order mostly show the
// same second, so all but the fraction is printed once a second.
func (e *evaluation) scanTimes(c int, w *want, fold bool) (found, error) {
	info := &e.body.Columns()[c]
	layout := e.sp.section.Table.Columns[info.ID].Layout
	if x := e.body.Windows(c); x != nil && !x.May(w.text) {
		return nil, nil
	}
	often, read := timesWorthWindows, false
	if len(w.text) < column.WindowDigits {
		often = 0
	} else if read = !e.body.Here(c); !read && info.N < minWindowed {
		often = 0
	}
	rows, err := e.rowsOfColumn(c)
	if err != nil {
		return nil, err
	}
	times, err := e.body.SharedTimes()
	if err != nil {
		return nil, err
	}
	v, err := e.body.Values(c)
	if err != nil {
		return nil, err
	}
	p := newClock(layout, e.timesBegin(info), w, fold)
	h := hits{n: info.N}
	unit := layout.Unit()
	for i := range info.N {
		r := i
		if rows != nil {
			r = int(rows[i])
		}
		t := floor(times[r], unit) - v.Signed(i)
		if !layout.InRange(t) {
			return nil, column.Corrupt("in-line time %d of row %d", t, r)
		}
		if p.holds(t) {
			h.add(i)
		}
	}
	if often > 0 {
		e.body.Searched(c, often, read, func() *column.Windows { return timeWindows(layout, v, times, rows) })
	}
	return h.bits, nil
}

// timesWorthWindows is worthWindows of in-line times.
const timesWorthWindows = 2

// timeWindows returns the windows of a column's times; nil if there is no use in them. The
// times of rows are as in scanTimes.
func timeWindows(layout template.Layout, v *column.Values, times []int64, rows []uint32) *column.Windows {
	shape, unit := layout.Shape(), layout.Unit()
	last := 0 // how many digits of a number of units are told of; 0: those of the text are
	at, digits := layout.Fraction()
	switch {
	case mostDigits(shape) < column.WindowDigits:
		return nil
	case allDigits(shape):
		last = len(shape)
	case digits >= column.WindowDigits:
		if last = digits; mostDigits(shape[:at]) >= column.WindowDigits || mostDigits(shape[at+digits:]) >= column.WindowDigits || shape[at-1] == '9' {
			return nil // no layout has these
		}
	}
	perSecond := 1e9 / unit
	// each calls f with the times, or, of those that follow each other in a second, with the first.
	each := func(f func(t int64)) {
		from, to := int64(0), int64(0)
		for i := range v.Len() {
			r := i
			if rows != nil {
				r = int(rows[i])
			}
			t := floor(times[r], unit) - v.Signed(i)
			if last == 0 {
				if t >= from && t < to {
					continue
				}
				from = t - t%perSecond
				to = from + perSecond
			}
			f(t)
		}
	}
	n := v.Len()
	if last == 0 {
		n = 0
		each(func(int64) { n++ })
	}
	w := column.NewWindows(n, max(last, mostDigits(shape)))
	if w == nil {
		return nil
	}
	var text []byte
	each(func(t int64) {
		if last > 0 {
			w.Add(uint64(t)%powers[last], last)
		} else {
			text = layout.Append(text[:0], t)
			w.AddText(text)
		}
	})
	return w
}

func allDigits(shape []byte) bool { return len(bytes.Trim(shape, "9")) == 0 }

// mostDigits returns how many digits follow each other in times of a shape, at most.
func mostDigits(shape []byte) (most int) {
	n := 0
	for _, c := range shape {
		if n++; c != '9' && c != '_' {
			n = 0
		}
		most = max(most, n)
	}
	return most
}

// floor is template.Layout's, of times of a unit: the compiler knows how to divide by each.
func floor(t, unit int64) (q int64) {
	switch unit {
	case 1:
		return t
	case 1e3:
		q = t / 1e3
	case 1e6:
		q = t / 1e6
	case 1e9:
		q = t / 1e9
	default:
		q = t / unit
	}
	if q*unit > t {
		q--
	}
	return q
}

// clock tests times, mostly of one second after the other.
type clock struct {
	layout     template.Layout
	needle     needle
	perSecond  int64
	fractionAt int
	digits     int            // of the fraction
	places     []int          // in the text, where the needle could be and seconds differ
	always     bool           // every time has it
	tests      []fractionTest // of all seconds, and of the one that text is of
	fixed      int            // tests of all seconds

	text     []byte
	from, to int64 // the second that text is of
	result   bool  // of all its times
}

// fractionTest is met by the fractions of a second that show some digits at some place.
type fractionTest struct{ div, mod, value int64 }

// newClock returns a clock for times that all begin with the same text.
func newClock(layout template.Layout, begin []byte, w *want, fold bool) *clock {
	p := &clock{layout: layout, needle: needle{text: w.text, fold: fold}, perSecond: 1e9 / layout.Unit()}
	if p.fractionAt, p.digits = layout.Fraction(); p.digits == 0 {
		// Milliseconds since the epoch end in what is no field of its own.
		for x := p.perSecond; x > 1; x /= 10 {
			p.digits++
		}
		p.fractionAt = layout.Len() - p.digits
	}
	if n := layout.Len(); n < len(powers)-1 && allDigits(layout.Shape()) {
		p.fractionAt, p.digits, p.perSecond = 0, n, int64(powers[n]) // all of it is counted
	}
	from, to := 0, layout.Len()-len(w.text)
	switch w.way {
	case exact:
		from = to
		if to > 0 {
			to = -1
		}
	case prefix:
		to = min(to, 0)
	case suffix:
		from = to
	}
	for o := max(from, 0); o <= to; o++ {
		if !fitsAt(begin, layout.Shape(), o, w.text, fold) {
			continue
		}
		if p.known(o, len(begin)) {
			test, ok := p.test(begin, o)
			p.always = p.always || ok && test.mod == 1
			if ok {
				p.tests = append(p.tests, test)
			}
		} else {
			p.places = append(p.places, o)
		}
	}
	p.fixed = len(p.tests)
	return p
}

// known reports whether the needle at a place of the text lies in its first n bytes and in
// the fraction.
func (p *clock) known(place, n int) bool {
	end := place + len(p.needle.text)
	return end <= n || (place >= p.fractionAt || n >= p.fractionAt) && end <= p.fractionAt+p.digits
}

func (p *clock) holds(t int64) bool {
	if len(p.places) > 0 && (t < p.from || t >= p.to) {
		p.second(t)
	}
	if p.always || p.result {
		return true
	}
	// Times are not negative, and seconds have a power of ten of units.
	for i := range p.tests {
		switch x := &p.tests[i]; {
		case x.div == 1:
			if t%x.mod == x.value {
				return true
			}
		case t/x.div%x.mod == x.value:
			return true
		}
	}
	return false
}

// second works out what the needle asks of the times of a second.
func (p *clock) second(t int64) {
	p.from = t - t%p.perSecond
	p.to = p.from + p.perSecond
	p.text = p.layout.Append(p.text[:0], t)
	p.result, p.tests = false, p.tests[:p.fixed]
	for _, place := range p.places {
		if test, ok := p.test(p.text, place); ok {
			p.result = p.result || test.mod == 1
			p.tests = append(p.tests, test)
		}
	}
}

// test returns what the needle asks of the fraction if it is at a place of the text; false
// if what is outside of the fraction differs. The modulus is 1 if it asks nothing.
func (p *clock) test(text []byte, place int) (test fractionTest, ok bool) {
	test = fractionTest{div: 1, mod: 1}
	for k, c := range p.needle.text {
		at := place + k
		switch inside := at >= p.fractionAt && at < p.fractionAt+p.digits; {
		case !inside && !p.needle.equal(text[at:at+1], p.needle.text[k:k+1]), inside && c-'0' > 9:
			return test, false
		case inside:
			test.mod *= 10
			test.value = test.value*10 + int64(c-'0')
		}
	}
	if test.mod > 1 {
		for range p.fractionAt + p.digits - place - len(p.needle.text) {
			test.div *= 10
		}
	}
	return test, true
}
