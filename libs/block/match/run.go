package match

import "math/bits"

// run finds out which templates a needle can run through that begins in the text before a
// slot, or in a slot, and goes on behind it.
//
// Places are bytes of the needle at which the value of a slot can begin, as bits of a
// word. What is said of them errs on the side of too many.
type run struct {
	index  *index
	needle *needle
	before []uint64          // by joint: places to which the needle can begin in the text before
	behind []uint64          // by joint: places for the next slot if the needle begins in this one
	known  map[uint64]uint64 // by joint and place: places for the next slot
}

const (
	through     = 1 << 63 // it can end before the next slot, or more than is known here
	placesKnown = 63
)

// begins calls yield once for every template that has a joint at which the needle can begin.
func (r *run) begins(yield func(template uint32)) {
	x, n := r.index, r.needle
	var first, last [256]bool // bytes that the needle has behind, or before, another one
	for i, c := range n.text {
		first[c] = first[c] || i > 0
		last[c] = last[c] || i < len(n.text)-1
	}
	var joints []uint32
	found := func(j uint32, set *[]uint64, places uint64) {
		if r.before == nil {
			both := make([]uint64, 2*len(x.joints))
			r.before, r.behind = both[:len(x.joints)], both[len(x.joints):]
		}
		if r.before[j]|r.behind[j] == 0 {
			joints = append(joints, j)
		}
		(*set)[j] |= places
	}
	text := x.in(n.fold)
	for i, e := range x.tails.list {
		b := e.of(text)
		if !last[b[len(b)-1]] {
			continue
		}
		for p := 1; p < len(n.text); p++ {
			if !tailFits(b, n.text, p) {
				continue
			}
			for _, j := range x.tails.joints.of(i) {
				switch {
				case r.next(j, p) == 0:
				case p < placesKnown:
					found(j, &r.before, 1<<p)
				default:
					found(j, &r.behind, through)
				}
			}
		}
	}
	for i, e := range x.heads.list {
		b := e.of(text)
		if !first[b[0]] {
			continue
		}
		for p := 1; p < len(n.text); p++ {
			if !headFits(b, n.text, p) {
				continue
			}
			for _, j := range x.heads.joints.of(i) {
				if x.possible(x.joints[j].column, suffix, n.text[:p], n.fold) {
					found(j, &r.behind, r.after(b, p))
				}
			}
		}
	}
	if joints == nil {
		return
	}
	yielded := make([]bool, len(x.ends))
	for _, j := range joints {
		for _, t := range x.jointed.of(int(j)) {
			if !yielded[t] {
				yielded[t] = true
				yield(t)
			}
		}
	}
}

// through reports whether the needle can run over slots of a template.
func (r *run) through(template uint32) bool {
	x := r.index
	places := uint64(0) // of the slot
	for _, j := range x.slots[x.begin[template]:x.begin[template+1]] {
		places |= r.before[j]
		next := r.behind[j]
		for ; places != 0; places &= places - 1 {
			next |= r.next(j, bits.TrailingZeros64(places))
		}
		if next&through != 0 {
			return true
		}
		places = next
	}
	return false
}

// next returns the places for the slot behind a joint whose value begins at byte p of the
// needle.
func (r *run) next(joint uint32, p int) uint64 {
	key := uint64(joint)<<32 | uint64(p)
	if places, ok := r.known[key]; ok {
		return places
	}
	x, n := r.index, r.needle
	j := &x.joints[joint]
	rest := n.text[p:]
	places := uint64(0)
	switch {
	case x.possible(j.column, prefix, rest, n.fold):
		places = through
	case j.head >= 0: // of templates with slots side by side is spoken elsewhere
		head := x.heads.list[j.head].of(x.in(n.fold))
		for e := 1; e < len(rest); e++ {
			if headFits(head, rest, e) && x.possible(j.column, exact, rest[:e], n.fold) {
				places |= r.after(head, p+e)
			}
		}
	}
	if r.known == nil {
		r.known = map[uint64]uint64{}
	}
	r.known[key] = places
	return places
}

// after returns the place behind text, which begins with head, at byte p of the needle.
func (r *run) after(head []byte, p int) uint64 {
	if p += len(head); p >= min(len(r.needle.text), placesKnown) || len(head) == edgeLen {
		return through
	}
	return 1 << p
}

// tailFits reports whether a needle's bytes before p can be the end of the text before a
// slot, which ends in b.
func tailFits(b, needle []byte, p int) bool {
	if needle[p-1] != b[len(b)-1] || p > len(b) && len(b) < edgeLen {
		return false
	}
	m := min(p, len(b))
	return string(b[len(b)-m:]) == string(needle[p-m:p])
}

// headFits reports whether a needle's bytes from p on can be the begin of the text behind a
// slot, which begins with b.
func headFits(b, needle []byte, p int) bool {
	if needle[p] != b[0] {
		return false
	}
	m := min(len(needle)-p, len(b))
	return string(b[:m]) == string(needle[p:p+m])
}
