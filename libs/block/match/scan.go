package match

import (
	"sort"

	"github.com/weir-logs/weir/libs/block/column"
)

type scanKey struct {
	column int
	way    way
	fold   bool
	text   string
}

type frameKey struct {
	frame uint32
	fold  bool
	text  string
}

// scan finds the values of a column that meet a want; nil if none does.
func (e *evaluation) scan(c int, w *want, fold bool) (found, error) {
	if f, ok := e.scanned[scanKey{c, w.way, fold, string(w.text)}]; ok { // no copy of the text
		return f, nil
	}
	f, err := e.scanColumn(c, w, fold)
	if err != nil {
		return nil, err
	}
	if e.scanned == nil {
		e.scanned = map[scanKey]found{}
	}
	e.scanned[scanKey{c, w.way, fold, string(w.text)}] = f
	return f, nil
}

func (e *evaluation) scanColumn(c int, w *want, fold bool) (found, error) {
	info := &e.body.Columns()[c]
	n := &needle{text: w.text, fold: fold}
	if info.Kind == column.Signed {
		return e.scanTimes(c, w, fold)
	}
	if isText(info) {
		// Columns of text share frames: most have the text nowhere.
		if in, err := e.inFrame(c, n); err != nil || !in {
			return nil, err
		}
		text, err := e.body.Text(c)
		if err != nil || e.search(text, n) < 0 {
			return nil, err
		}
	}
	if x := e.body.Windows(c); x != nil && !x.May(w.text) {
		return nil, nil
	}
	often, read := worthWindows(info), false
	if len(w.text) < column.WindowDigits {
		often = 0
	}
	if often > 0 {
		if read = !e.body.Here(c); !read && info.N < minWindowed {
			often = 0
		}
	}
	v, err := e.body.Values(c)
	if err != nil {
		return nil, err
	}
	f := e.scanValues(v, w.way, n)
	if often > 0 {
		e.body.Searched(c, often, read, v.Windows)
	}
	return f, nil
}

// minWindowed is how many values a column has that windows are made of, but where it had to be
// read: to look at fewer takes no longer than to ask.
const minWindowed = 32

// worthWindows returns after how many searches of a column the time to make its windows is
// not more than they took; 0: there is no use in them.
func worthWindows(c *column.Info) int {
	if c.Values != nil {
		c = c.Values
	}
	switch c.Kind {
	case column.Int, column.Delta, column.Pad:
		return 4
	case column.UUID:
		return 8
	case column.Hex:
		return 16
	}
	return 0
}

func isText(c *column.Info) bool {
	return c.Kind == column.Bytes || c.Kind == column.Dict && c.Values != nil && c.Values.Kind == column.Bytes
}

// isApart reports whether columns of the frame of one are searched one by one.
func (e *evaluation) isApart(c *column.Info) bool {
	return int64(c.Frame) < int64(len(e.apart)) && e.apart[c.Frame] > 0
}

// maxApart is how many frames are known in which columns are searched one by one.
const maxApart = 4096

// searchApart has the columns in a list searched one by one that are text and take little of
// their frames.
func (e *evaluation) searchApart(list []int) error {
	columns := e.body.Columns()
	clear(e.apart)
	for _, i := range list {
		c := &columns[i]
		if !isText(c) || c.Frame >= maxApart {
			continue
		}
		for len(e.apart) <= int(c.Frame) {
			e.apart = append(e.apart, 0)
		}
		if n := int(c.Size); c.Kind == column.Dict {
			e.apart[c.Frame] += min(n, c.IndexAt)
		} else {
			e.apart[c.Frame] += n - min(n, c.N*int(c.Width))
		}
	}
	for _, i := range list {
		if c := &columns[i]; isText(c) && e.isApart(c) {
			size, err := e.body.FrameSize(i)
			if err != nil {
				return err
			}
			if e.apart[c.Frame] > size*3/4 {
				e.apart[c.Frame] = 0
			}
		}
	}
	return nil
}

func (e *evaluation) inFrame(c int, n *needle) (bool, error) {
	frame := e.body.Columns()[c].Frame
	if in, ok := e.frames[frameKey{frame, n.fold, string(n.text)}]; ok { // no copy of the text
		return in, nil
	}
	in := true
	if !n.fold {
		var err error
		if in, err = e.body.FrameMay(c, n.text, &e.number); err != nil {
			return false, err
		}
	}
	if in && !e.few && !e.isApart(&e.body.Columns()[c]) { // few columns are searched one by one
		text, err := e.body.Frame(c)
		if err != nil {
			return false, err
		}
		in = e.search(text, n) >= 0
	}
	if e.frames == nil {
		e.frames = map[frameKey]bool{}
	}
	e.frames[frameKey{frame, n.fold, string(n.text)}] = in
	return in, nil
}

// search finds a needle in long text.
func (e *evaluation) search(s []byte, n *needle) int {
	if n.fold {
		e.folded = foldWide(e.folded, s)
		s = e.folded
	}
	search := newSearcher(n.text, len(s))
	return search.index(s)
}

// holds reports whether a value holds the needle so.
func holds(s []byte, w way, n *needle) bool {
	k := len(s) - len(n.text)
	if k < 0 {
		return false
	}
	switch w {
	case exact:
		return k == 0 && n.equal(s, n.text)
	case prefix:
		return n.equal(s[:len(n.text)], n.text)
	case suffix:
		return n.equal(s[k:], n.text)
	}
	return n.in(s)
}

func (e *evaluation) scanValues(v *column.Values, w way, n *needle) found {
	info := v.Info()
	h := hits{n: info.N}
	switch info.Kind {
	case column.Const:
		if holds(info.Prefix, w, n) {
			return allOf(info.N)
		}
		return nil
	case column.Dict:
		return e.scanDict(v, w, n)
	case column.Bytes:
		slab, ends, size := v.Packed()
		e.scanText(slab, ends, size, w, n, h.add)
		return h.bits
	case column.Hex:
		b, _, size := v.Packed()
		if e.scanHex(b, size, info.MinLen, w, n.text, &h) {
			return h.bits
		}
	case column.UUID:
		b, _, _ := v.Packed()
		if e.scanUUID(b, w, n.text, &h) {
			return h.bits
		}
	case column.IPv4:
		scanIPv4(v.Numbers(), w, n.text, &h)
		return h.bits
	case column.Int, column.Delta, column.Pad:
		if e.scanNumbers(v, w, n, &h) {
			return h.bits
		}
	}
	// Anything else is printed.
	for i := range info.N {
		e.scratch = v.Append(e.scratch[:0], i)
		if holds(e.scratch, w, n) {
			h.add(i)
		}
	}
	return h.bits
}

// scanDict searches the distinct values, and finds rows by their indexes only if one
// of them meets the want.
func (e *evaluation) scanDict(v *column.Values, w way, n *needle) found {
	d := hits{n: v.Distinct()}
	count, last := 0, 0
	if values := v.Dictionary(); values != nil {
		d.bits = e.scanValues(values, w, n)
		for i := range d.n {
			if d.bits != nil && d.bits.has(i) {
				count, last = count+1, i
			}
		}
	} else {
		slab, ends, size := v.Packed()
		e.scanText(slab, ends, size, w, n, func(i int) {
			d.add(i)
			count, last = count+1, i
		})
	}
	switch count {
	case 0:
		return nil
	case d.n:
		return allOf(v.Info().N)
	}
	h := hits{n: v.Info().N}
	if count == 1 {
		for i, x := range v.Numbers() {
			if x == uint64(last) {
				h.add(i)
			}
		}
		return h.bits
	}
	for i, x := range v.Numbers() {
		if d.bits.has(int(x)) {
			h.add(i)
		}
	}
	return h.bits
}

// scanText finds the values, which lie end to end, that meet a want.
func (e *evaluation) scanText(slab []byte, ends []uint32, size int, w way, n *needle, hit func(int)) {
	if n.fold {
		e.folded = foldWide(e.folded, slab)
		slab = e.folded
	}
	search := newSearcher(n.text, len(slab))
	for p := 0; ; {
		i := search.index(slab[p:])
		if i < 0 {
			return
		}
		p += i
		var value, from, to int
		if ends != nil {
			value = sort.Search(len(ends), func(k int) bool { return int(ends[k]) > p })
			if to = int(ends[value]); value > 0 {
				from = int(ends[value-1])
			}
		} else {
			value = p / size
			from, to = value*size, value*size+size
		}
		end := p + len(n.text)
		if end <= to && (w == contains || w == prefix && p == from || w == suffix && end == to || w == exact && p == from && end == to) {
			hit(value)
			p = to
			continue
		}
		p++
	}
}
