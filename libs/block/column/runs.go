package column

import "slices"

// Run is values that follow each other: values From … To-1 of a column, or, without a
// column, of a text. There are many, so they are small.
type Run struct {
	Values   *Values
	From, To int
	Text     *Text
}

// Text is texts in a slab, or integers.
type Text struct {
	Slab []byte
	Refs []Ref
	Ints []int64
}

func (r *Run) len() int {
	if r.Values != nil {
		return r.To - r.From
	}
	return len(r.Text.Refs) + len(r.Text.Ints)
}

// EncodeRuns is Encode, or EncodeSigned, of the values of runs, one behind the other.
// What is known of values by their columns is not found out again. There is at least
// one value, and no run is empty.
func (e *Encoder) EncodeRuns(dst []byte, runs []Run) (Info, []byte) {
	n := 0
	for i := range runs {
		n += runs[i].len()
	}
	if r := &runs[0]; r.Values == nil && r.Text.Ints != nil || r.Values != nil && r.Values.kind == Signed {
		return e.signedRuns(dst, runs, n)
	}
	ok := false
	var c Info
	at := len(dst)
	switch kindOf(runs) {
	case Dict:
		c, dst, ok = e.dictRuns(dst, runs, n)
	case Int:
		c, dst, ok = e.intRuns(dst, runs, n)
	case Hex:
		c, dst, ok = e.hexRuns(dst, runs, n)
	case IPv4:
		c, dst, ok = e.ipRuns(dst, runs, n)
	}
	if ok {
		return c, dst
	}
	e.text(runs, n)
	return e.Encode(dst[:at], e.slab, e.refs)
}

func (e *Encoder) signedRuns(dst []byte, runs []Run, n int) (Info, []byte) {
	e.ints = slices.Grow(e.ints[:0], n)
	for i := range runs {
		r := &runs[i]
		if r.Values == nil {
			e.ints = append(e.ints, r.Text.Ints...)
			continue
		}
		for k := r.From; k < r.To; k++ {
			e.ints = append(e.ints, r.Values.Signed(k))
		}
	}
	return e.EncodeSigned(dst, e.ints)
}

// kindOf returns what runs have in common: Dict, if each has few distinct values; Int,
// if they seem to be numbers; Hex, for UUIDs too; IPv4; otherwise Bytes.
func kindOf(runs []Run) Kind {
	few, numbers, packed, addresses := true, true, true, true
	first := runs[0].Values
	for i := range runs {
		v := runs[i].Values
		if v == nil {
			return Bytes
		}
		few = few && (v.kind == Const || v.kind == Dict && v.values == nil)
		kind := v.kind
		packed = packed && (kind == Hex || kind == UUID) && kind == first.kind && v.info.MinLen == first.info.MinLen && v.info.Upper == first.info.Upper
		addresses = addresses && kind == IPv4
		if kind == Dict {
			kind = v.info.Values.Kind
		}
		numbers = numbers && (kind == Const || kind == Int || kind == Delta || kind == Pad)
	}
	switch {
	case few:
		return Dict
	case numbers:
		return Int
	case packed:
		return Hex
	case addresses:
		return IPv4
	}
	return Bytes
}

// text lays the values of runs out as text.
func (e *Encoder) text(runs []Run, n int) {
	e.slab, e.refs = e.slab[:0], slices.Grow(e.refs[:0], n)
	for i := range runs {
		r := &runs[i]
		v := r.Values
		at := uint32(len(e.slab))
		switch {
		case v == nil:
			for _, ref := range r.Text.Refs {
				e.add(ref.Of(r.Text.Slab))
			}
		case v.kind == Bytes && v.ends == nil:
			e.slab = append(e.slab, v.bytes[r.From*v.size:r.To*v.size]...)
			for k := range r.To - r.From {
				e.refs = append(e.refs, MakeRef(at+uint32(k*v.size), uint32(v.size)))
			}
		case v.kind == Bytes:
			from := uint32(0)
			if r.From > 0 {
				from = v.ends[r.From-1]
			}
			e.slab = append(e.slab, v.bytes[from:v.ends[r.To-1]]...)
			shift := at - from
			for _, end := range v.ends[r.From:r.To] {
				e.refs = append(e.refs, MakeRef(from+shift, end-from))
				from = end
			}
		default:
			for k := r.From; k < r.To; k++ {
				at := uint32(len(e.slab))
				e.slab = v.Append(e.slab, k)
				e.refs = append(e.refs, MakeRef(at, uint32(len(e.slab))-at))
			}
		}
	}
}

func (e *Encoder) add(text []byte) {
	e.refs = append(e.refs, MakeRef(uint32(len(e.slab)), uint32(len(text))))
	e.slab = append(e.slab, text...)
}

// constant returns the description of a column of equal values.
func constant(value []byte, n int) Info {
	c := Info{Kind: Const, N: n, MinLen: len(value), MaxLen: len(value), Prefix: append([]byte(nil), value...)}
	for _, b := range value {
		c.Classes |= classes[b]
	}
	return c
}

// withDict appends a dictionary whose distinct values are the refs, in e.slab, and whose
// indexes are in e.dict.
func (e *Encoder) withDict(dst []byte, refs []Ref, n int) (Info, []byte) {
	start := len(dst)
	values, dst := e.direct(dst, e.slab, refs)
	c := Info{Kind: Dict, N: n, Values: &values, IndexAt: len(dst) - start}
	c.MinLen, c.MaxLen, c.Classes = values.MinLen, values.MaxLen, values.Classes
	c.Width = max(1, width(uint64(len(refs)-1)))
	return c, appendPlanes(dst, e.dict.index, c.Width)
}

// dictRuns encodes runs of which each has few distinct values.
func (e *Encoder) dictRuns(dst []byte, runs []Run, n int) (Info, []byte, bool) {
	limit := e.dictLimit(n)
	d := &e.dict
	d.begin(n, max(limit, 1))
	e.slab = e.slab[:0]
	at := 0
	for i := range runs {
		r := &runs[i]
		v := r.Values
		count := 1
		if v.kind == Dict {
			count = v.info.Values.N
		}
		e.known = slices.Grow(e.known[:0], count)[:count]
		clear(e.known)
		for k := r.From; k < r.To; k++ {
			which := 0
			if v.kind == Dict {
				which = int(v.nums[k])
			}
			if at == 1024 && len(d.distinct) > 700 {
				return Info{}, dst, false
			}
			id := e.known[which]
			if id == 0 {
				from := uint32(len(e.slab))
				if v.kind == Dict {
					e.slab = append(e.slab, v.span(which)...)
				} else {
					e.slab = append(e.slab, v.info.Prefix...)
				}
				ref := MakeRef(from, uint32(len(e.slab))-from)
				var fresh bool
				if id, fresh = d.find(e.slab, ref); !fresh {
					e.slab = e.slab[:from]
				} else if len(d.distinct) > max(limit, 1) {
					return Info{}, dst, false
				}
				e.known[which] = id
			}
			d.index[at] = id - 1
			at++
		}
	}
	if len(d.distinct) == 1 {
		return constant(d.distinct[0].Of(e.slab), n), dst, true
	}
	if limit == 0 {
		return Info{}, dst, false
	}
	c, dst := e.withDict(dst, d.distinct, n)
	return c, dst, true
}

// begin begins a dictionary of n values, limit distinct ones at most.
func (d *dictBuilder) begin(n, limit int) {
	size := 64
	for size < 2*min(limit+1, n) {
		size *= 2
	}
	if cap(d.table) < size {
		d.table = make([]uint32, size)
	}
	d.table = d.table[:size]
	clear(d.table)
	d.distinct, d.hashes = d.distinct[:0], d.hashes[:0]
	if cap(d.index) < n {
		d.index = make([]uint32, n+n/4)
	}
	d.index = d.index[:n]
}

// find returns the number plus one of a value, which is made known if it is not.
func (d *dictBuilder) find(slab []byte, r Ref) (id uint32, fresh bool) {
	h := hashRef(slab, r)
	mask := uint64(len(d.table) - 1)
	for j := h & mask; ; j = (j + 1) & mask {
		k := d.table[j]
		if k == 0 {
			d.distinct = append(d.distinct, r)
			d.hashes = append(d.hashes, h)
			d.table[j] = uint32(len(d.distinct))
			return d.table[j], true
		}
		if o := d.distinct[k-1]; d.hashes[k-1] == h && string(o.Of(slab)) == string(r.Of(slab)) {
			return k, false
		}
	}
}

// number finds numbers among those seen: fresh if it is a new one.
func (d *dictBuilder) number(x uint64) (id uint32, fresh bool) {
	h := hashNumber(x)
	mask := uint64(len(d.table) - 1)
	for j := h & mask; ; j = (j + 1) & mask {
		k := d.table[j]
		if k == 0 {
			d.hashes = append(d.hashes, x)
			d.table[j] = uint32(len(d.hashes))
			return d.table[j], true
		}
		if d.hashes[k-1] == x {
			return k, false
		}
	}
}

// numbers tries a dictionary of numbers, and leaves the distinct ones in hashes.
func (d *dictBuilder) numbers(nums []uint64, limit int) bool {
	d.begin(len(nums), max(limit, 1))
	for i, x := range nums {
		if i == 1024 && len(d.hashes) > 700 {
			return false
		}
		id, fresh := d.number(x)
		if fresh && len(d.hashes) > max(limit, 1) {
			return false
		}
		d.index[i] = id - 1
	}
	return limit > 0 || len(d.hashes) == 1
}
