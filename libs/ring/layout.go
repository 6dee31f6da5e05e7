package ring

import (
	"cmp"
	"math/bits"
	"slices"
)

// none marks an unused place in a row of member indexes.
const none = ^uint16(0)

// layout is what placement is made of and what health has no part in: for
// every token of the ring its owners and their next members. It is immutable
// and shared by views of the same members.
type layout struct {
	members []place // by name
	rf      int
	zoned   bool

	tokens []uint64 // ascending
	// start[h] is the first index in tokens whose token has at least h as its
	// top bits, so that a look-up scans about one token.
	start []int32
	shift uint

	// width is the number of owners: rf, or fewer where there are fewer members.
	width  int
	owners []uint16 // width per token, in ring order
	nexts  []uint16 // width per token, in ring order, padded with none
}

// place is a member as far as placement knows it.
type place struct{ name, zone string }

func newLayout(members []place, cfg Config) *layout {
	l := &layout{members: members, rf: cfg.ReplicationFactor, zoned: cfg.ZoneAware}
	l.width = min(l.rf, len(members))

	type point struct {
		token uint64
		owner uint16
	}
	points := make([]point, 0, len(members)*TokensPerMember)
	var tokens []uint64
	for i, m := range members {
		tokens = AppendTokens(tokens[:0], m.name)
		for _, t := range tokens {
			points = append(points, point{t, uint16(i)})
		}
	}
	// Members are sorted by name, so equal tokens of two members have an order.
	slices.SortFunc(points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.token, b.token), cmp.Compare(a.owner, b.owner))
	})

	l.tokens = make([]uint64, len(points))
	for i, p := range points {
		l.tokens[i] = p.token
	}
	l.index()

	zone, sizes := l.zones()
	level, extras := quota(sizes, l.width)
	w := walk{
		zone: zone, sizes: sizes, level: level, extras: extras,
		seen:   make([]int32, len(members)),
		owners: make([]int, len(sizes)), nexts: make([]int, len(sizes)),
	}
	l.owners = make([]uint16, len(points)*l.width)
	l.nexts = make([]uint16, len(points)*l.width)
	for i := range points {
		row := i * l.width
		w.start(l.owners[row:row:row+l.width], l.nexts[row:row:row+l.width])
		for j := i; !w.step(points[j].owner, int32(i+1)); {
			if j++; j == len(points) {
				j = 0
			}
		}
		for k := len(w.nextRow); k < l.width; k++ {
			l.nexts[row+k] = none
		}
	}
	return l
}

// index builds start.
func (l *layout) index() {
	b := uint(bits.Len(uint(len(l.tokens))))
	l.shift = 64 - b
	l.start = make([]int32, 1<<b)
	i := 0
	for h := range l.start {
		for i < len(l.tokens) && l.tokens[i]>>l.shift < uint64(h) {
			i++
		}
		l.start[h] = int32(i)
	}
}

// position returns the index of the first ring token that is not below token,
// around the circle. The layout must have members.
func (l *layout) position(token uint64) int {
	i := int(l.start[token>>l.shift])
	for i < len(l.tokens) && l.tokens[i] < token {
		i++
	}
	if i == len(l.tokens) {
		return 0
	}
	return i
}

// zones numbers the members' zones and counts their members. Without zone
// awareness all members are in one.
func (l *layout) zones() (zone []uint16, sizes []int) {
	zone = make([]uint16, len(l.members))
	ids := map[string]uint16{}
	for i, m := range l.members {
		name := ""
		if l.zoned {
			name = m.zone
		}
		id, ok := ids[name]
		if !ok {
			id = uint16(len(sizes))
			ids[name] = id
			sizes = append(sizes, 0)
		}
		zone[i] = id
		sizes[id]++
	}
	return zone, sizes
}

// quota spreads width owners over zones as evenly as their sizes allow: each
// zone gets up to level-1 and extras of them one more.
func quota(sizes []int, width int) (level, extras int) {
	for extras = width; ; level++ {
		sum := 0
		for _, n := range sizes {
			sum += min(n, level+1)
		}
		if sum >= width {
			break
		}
		extras = width - sum
	}
	return level + 1, extras
}

// walk collects the owners and next members of one position.
type walk struct {
	zone          []uint16 // by member
	sizes         []int    // by zone
	level, extras int

	seen          []int32 // by member: the last position that met it
	owners, nexts []int   // by zone: how many are chosen
	ownerRow      []uint16
	nextRow       []uint16
	extrasLeft    int
	wanted        int // next members still to be found, once the owners are complete
}

func (w *walk) start(ownerRow, nextRow []uint16) {
	w.ownerRow, w.nextRow = ownerRow, nextRow
	w.extrasLeft, w.wanted = w.extras, -1
	clear(w.owners)
	clear(w.nexts)
}

// step looks at the next member on the ring and reports whether the position
// is complete. A zone that refuses an owner refuses all further ones, so what
// it refuses is in the right order for its next members.
func (w *walk) step(m uint16, position int32) bool {
	if w.seen[m] == position {
		return w.wanted == 0
	}
	w.seen[m] = position
	z := w.zone[m]
	switch n := w.owners[z]; {
	case len(w.ownerRow) < cap(w.ownerRow) && (n < w.level-1 || n == w.level-1 && w.extrasLeft > 0):
		if n == w.level-1 {
			w.extrasLeft--
		}
		w.owners[z]++
		w.ownerRow = append(w.ownerRow, m)
	case w.nexts[z] < n:
		w.nexts[z]++
		w.nextRow = append(w.nextRow, m)
	}
	if len(w.ownerRow) < cap(w.ownerRow) {
		return false
	}
	wanted := 0
	for _, m := range w.ownerRow {
		z := w.zone[m]
		// Summed per owner, each with its share of the zone's rest.
		if w.nexts[z] < min(w.owners[z], w.sizes[z]-w.owners[z]) {
			wanted++
		}
	}
	w.wanted = wanted
	return wanted == 0
}
