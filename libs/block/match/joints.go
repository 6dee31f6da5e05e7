package match

import (
	"encoding/binary"
	"hash/maphash"
)

// lists is lists of numbers, end to end.
type lists struct {
	all  []uint32
	ends []uint32
}

func (l *lists) of(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = l.ends[i-1]
	}
	return l.all[from:l.ends[i]]
}

func (l *lists) size() int { return 4 * (len(l.all) + len(l.ends)) }

// invert returns which of things have each of n numbers: each of them once, ascending. of
// returns the numbers of a thing, of which the result is used until the next call.
func invert(n, things int, of func(thing int) []uint32) lists {
	l := lists{ends: make([]uint32, n)}
	last := make([]uint32, n) // thing that had the number last, plus 1
	for t := range things {
		for _, i := range of(t) {
			if last[i] != uint32(t)+1 {
				last[i] = uint32(t) + 1
				l.ends[i]++
			}
		}
	}
	sum := uint32(0)
	for i, k := range l.ends {
		l.ends[i] = sum // where it begins, until it is filled
		sum += k
	}
	l.all = make([]uint32, sum)
	clear(last)
	for t := range things {
		for _, i := range of(t) {
			if last[i] != uint32(t)+1 {
				last[i] = uint32(t) + 1
				l.all[l.ends[i]] = uint32(t)
				l.ends[i]++
			}
		}
	}
	return l
}

// jointer numbers joints.
type jointer struct {
	text   []byte
	where  []jointPlace
	joints numbers[jointKey]
}

// jointPlace is where a joint was seen first: where its tail ends and its head begins.
type jointPlace struct{ tail, head int32 }

type jointKey struct {
	tail, head         uint64
	column             uint32
	tailBytes, headLen uint8
}

type edgeKey struct {
	bytes uint64
	n     uint8
}

func newJointer(text []byte) *jointer {
	return &jointer{text: text, joints: newNumbers[jointKey]()}
}

// add returns the number of the joint of a column whose tail is the so many bytes before a
// place of the text, and whose head those from another one on.
func (j *jointer) add(column uint32, tail, tailBytes, head, headLen int) uint32 {
	k := jointKey{wordBefore(j.text, tail, tailBytes), wordAt(j.text, head, headLen), column, uint8(tailBytes), uint8(headLen)}
	n, is := j.joints.number(k)
	if !is {
		j.where = append(j.where, jointPlace{int32(tail), int32(head)})
	}
	return n
}

func (j *jointer) finish() (list []joint, tails, heads edges) {
	keys := j.joints.keys
	list = make([]joint, len(keys))
	before, behind := newNumbers[edgeKey](), newNumbers[edgeKey]()
	for i := range keys {
		k := &keys[i]
		list[i] = joint{k.column, -1, -1}
		if k.tailBytes > 0 {
			n, is := before.number(edgeKey{k.tail, k.tailBytes})
			if !is {
				tails.list = append(tails.list, edge{j.where[i].tail - int32(k.tailBytes), int32(k.tailBytes)})
			}
			list[i].tail = int32(n)
		}
		if k.headLen > 0 {
			n, is := behind.number(edgeKey{k.head, k.headLen})
			if !is {
				heads.list = append(heads.list, edge{j.where[i].head, int32(k.headLen)})
			}
			list[i].head = int32(n)
		}
	}
	var one [1]uint32
	tails.joints = invert(len(tails.list), len(list), func(i int) []uint32 { return edgeOf(&one, list[i].tail) })
	heads.joints = invert(len(heads.list), len(list), func(i int) []uint32 { return edgeOf(&one, list[i].head) })
	return list, tails, heads
}

func edgeOf(one *[1]uint32, edge int32) []uint32 {
	if edge < 0 {
		return nil
	}
	one[0] = uint32(edge)
	return one[:]
}

// wordAt returns up to eight bytes from a place on.
func wordAt(b []byte, at, n int) uint64 {
	if at+8 <= len(b) {
		return binary.LittleEndian.Uint64(b[at:]) & (1<<(8*n) - 1)
	}
	var w [8]byte
	copy(w[:n], b[at:])
	return binary.LittleEndian.Uint64(w[:])
}

// wordBefore returns up to eight bytes before a place.
func wordBefore(b []byte, at, n int) uint64 {
	if at >= 8 {
		return binary.LittleEndian.Uint64(b[at-8:]) >> (8 * (8 - n))
	}
	return wordAt(b, at-n, n)
}

// numbers numbers keys in the order in which they come first. Whoever sends lines chooses the
// texts that keys are made of: where keys are in the table nobody else can tell, so that none
// are made to meet there.
type numbers[K comparable] struct {
	keys  []K
	seed  maphash.Seed
	table []uint32 // by hash, or behind: numbers, plus 1
	shift uint     // of hashes
}

func newNumbers[K comparable]() numbers[K] {
	const bits = 8
	return numbers[K]{seed: maphash.MakeSeed(), table: make([]uint32, 1<<bits), shift: 64 - bits}
}

// number returns a key's number, and whether it was there.
func (n *numbers[K]) number(k K) (_ uint32, is bool) {
	mask := uint64(len(n.table) - 1)
	for i := maphash.Comparable(n.seed, k) >> n.shift; ; i = (i + 1) & mask {
		at := n.table[i]
		if at == 0 {
			n.keys = append(n.keys, k)
			n.table[i] = uint32(len(n.keys))
			if 2*len(n.keys) > len(n.table) {
				n.grow()
			}
			return uint32(len(n.keys)) - 1, false
		}
		if n.keys[at-1] == k {
			return at - 1, true
		}
	}
}

func (n *numbers[K]) grow() {
	n.table = make([]uint32, 4*len(n.table))
	n.shift -= 2
	mask := uint64(len(n.table) - 1)
	for at, k := range n.keys {
		i := maphash.Comparable(n.seed, k) >> n.shift
		for n.table[i] != 0 {
			i = (i + 1) & mask
		}
		n.table[i] = uint32(at) + 1
	}
}
