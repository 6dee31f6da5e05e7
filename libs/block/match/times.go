package match

import (
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// rowsOfColumn returns the row of each value of a column.
func (e *evaluation) rowsOfColumn(c int) ([]uint32, error) {
	if rows, ok := e.rowsOf[c]; ok {
		return rows, nil
	}
	if e.tids == nil {
		var err error
		if e.tids, err = e.body.RowTemplates(); err != nil {
			return nil, err
		}
	}
	uses := make([]int, len(e.info.Templates))
	for i, t := range e.info.Templates {
		for _, id := range e.sp.section.Table.Templates[t.Template].Columns {
			if e.body.Number(id) == c {
				uses[i]++
			}
		}
	}
	rows := make([]uint32, 0, e.body.Columns()[c].N)
	for r, t := range e.tids {
		for range uses[t] {
			rows = append(rows, uint32(r))
		}
	}
	if e.rowsOf == nil {
		e.rowsOf = map[int][]uint32{}
	}
	e.rowsOf[c] = rows
	return rows, nil
}

// scanTimes finds in-line times whose text meets a want. Rows in order mostly show the
// same second, so all but the fraction is printed once a second.
func (e *evaluation) scanTimes(c int, w *want, fold bool) (found, error) {
	info := &e.body.Columns()[c]
	layout := e.sp.section.Table.Columns[info.ID].Layout
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
	p := clock{layout: layout, way: w.way, needle: needle{text: w.text, fold: fold}, perSecond: 1e9 / layout.Unit()}
	p.fractionAt, p.digits = layout.Fraction()
	h := hits{n: info.N}
	for i, r := range rows {
		t := layout.Floor(times[r]) - v.Signed(i)
		if !layout.InRange(t) {
			return nil, column.Corrupt("in-line time %d of row %d", t, r)
		}
		if p.holds(t) {
			h.add(i)
		}
	}
	return h.bits, nil
}

// clock tests times, mostly of one second after the other.
type clock struct {
	layout     template.Layout
	way        way
	needle     needle
	perSecond  int64
	fractionAt int
	digits     int // of the fraction

	text     []byte
	from, to int64 // the second that text is of
	settled  bool  // it does not depend on the fraction
	result   bool
}

func (p *clock) holds(t int64) bool {
	if t < p.from || t >= p.to || p.text == nil {
		p.from = t - t%p.perSecond // times are not negative
		p.to = p.from + p.perSecond
		p.text = p.layout.Append(p.text[:0], t)
		if p.perSecond == 1 || p.digits == 0 {
			// Milliseconds since the epoch have no fraction of their own.
			p.settled = p.perSecond == 1
			p.result = holds(p.text, p.way, &p.needle)
			return p.result
		}
		// With other digits in the fraction, could it hold the text?
		p.settled, p.result = !p.could(), false
		if p.settled {
			return false
		}
		return holds(p.text, p.way, &p.needle)
	}
	if p.settled {
		return p.result
	}
	if p.digits == 0 {
		p.text = p.layout.Append(p.text[:0], t)
	} else {
		x := t - p.from
		for k := p.fractionAt + p.digits - 1; k >= p.fractionAt; k-- {
			p.text[k] = byte('0' + x%10)
			x /= 10
		}
	}
	return holds(p.text, p.way, &p.needle)
}

// could reports whether the text with any digits as fraction could hold the needle.
func (p *clock) could() bool {
	from, to := 0, len(p.text)-len(p.needle.text)
	switch p.way {
	case exact:
		if to != 0 {
			return false
		}
	case prefix:
		to = min(to, 0)
	case suffix:
		from = to
	}
next:
	for o := max(from, 0); o <= to; o++ {
		for k, c := range p.needle.text {
			at := o + k
			if at >= p.fractionAt && at < p.fractionAt+p.digits {
				if c-'0' > 9 {
					continue next
				}
			} else if !p.needle.equal(p.text[at:at+1], p.needle.text[k:k+1]) {
				continue next
			}
		}
		return true
	}
	return false
}
