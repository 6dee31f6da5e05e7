package column

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
)

// Columns of more or fewer values are not worth an index.
const (
	minIndexed = 256
	maxIndexed = math.MaxUint16
)

// keyIndex finds packed keys by their hash: it takes a look at a few places of memory
// where a look at all values takes one at each.
type keyIndex struct {
	shift  int
	starts []uint16 // of each bucket in values, and the end of the last one
	values []uint16 // their numbers, ascending in each bucket
}

// Index makes Find quicker for columns of long identifiers, from the second call on: to
// find once is quicker without. It returns how many bytes of memory it took, 0 if it was
// done before or has no use. One call at a time.
func (v *Values) Index() int {
	if v.kind != Hex && v.kind != UUID || v.size < 8 || v.n < minIndexed || v.n > maxIndexed || v.index.Load() != nil {
		return 0
	}
	if !v.wanted {
		v.wanted = true
		return 0
	}
	width := bits.Len(uint(v.n)) - 1 // one to two values a bucket
	x := &keyIndex{shift: 64 - width, starts: make([]uint16, 1<<width+1), values: make([]uint16, v.n)}
	key := func(i int) []byte { return v.bytes[i*v.size : (i+1)*v.size] }
	for i := range v.n {
		x.starts[x.bucket(key(i))+1]++
	}
	for i := range 1 << width {
		x.starts[i+1] += x.starts[i]
	}
	for i := v.n - 1; i >= 0; i-- { // from behind, with the ends of buckets in the place of their begins
		at := &x.starts[x.bucket(key(i))+1]
		*at--
		x.values[*at] = uint16(i)
	}
	copy(x.starts, x.starts[1:])
	x.starts[1<<width] = uint16(v.n)
	v.index.Store(x)
	return x.size()
}

func (x *keyIndex) size() int { return 2 * (len(x.starts) + len(x.values)) }

// bucket returns the bucket of a key of eight bytes or more. Who knows the values does not
// know which share one: each word has a random factor, and longer keys, whose middle would
// count for nothing, a seeded hash.
func (x *keyIndex) bucket(key []byte) int {
	if len(key) > 16 {
		return int(maphash.Bytes(seed, key) >> x.shift)
	}
	return int((binary.LittleEndian.Uint64(key)*odd1 + binary.LittleEndian.Uint64(key[len(key)-8:])*odd2) >> x.shift)
}

// findKey finds a packed key, of the size of the values.
func (v *Values) findKey(key []byte, hit func(i int)) {
	x := v.index.Load()
	if x == nil {
		FindPacked(v.bytes, key, hit)
		return
	}
	b := x.bucket(key)
	for _, i := range x.values[x.starts[b]:x.starts[b+1]] {
		if at := int(i) * v.size; string(v.bytes[at:at+v.size]) == string(key) {
			hit(int(i))
		}
	}
}
