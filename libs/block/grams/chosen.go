package grams

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Where levels leave grams of long runs out, an id may keep none, and each block be asked
// for it. So of every few grams that follow each other within a run one is kept besides:
// the same in any text that has all of them.
const (
	// among is how many grams follow each other of which one is chosen, and chosenRun how
	// long a run of hexadecimal digits must be to have as many.
	among     = 10
	chosenRun = among + 5
	// chosenLevel is the greatest level of a class of which grams are chosen.
	chosenLevel = 4
)

// order is by what grams are chosen: the least one is. Those that the greatest levels keep
// come first, so that few are kept besides; a gram's row has no part in it.
func order(h uint64) uint32 { return bits.RotateLeft32(uint32(h), -chosenLevel) }

// chosen gathers the grams that are chosen of text, in the runs of digits that begin before a
// limit and are whole in it. Bit i%64 of word i/64 says that byte i is a digit; there is a
// word more.
func (k *sink) chosen(text []byte, hex []uint64, limit int) {
	end := 0 // of the run before
	for w := 0; w*64 < limit; w++ {
		// Where as many digits follow each other, beginning in this word.
		lo, hi := hex[w], hex[w+1]
		lo, hi = both(lo, hi, 1)
		lo, hi = both(lo, hi, 2)
		lo, hi = both(lo, hi, 4)
		lo, _ = both(lo, hi, chosenRun-8)
		for {
			if end > w*64 {
				lo &= ^uint64(0) << (end - w*64)
			}
			if lo == 0 {
				break
			}
			from := w*64 + bits.TrailingZeros64(lo)
			end = runEnd(hex, from)
			k.run(text[from:], end-from)
		}
	}
}

// both leaves the bits of two words that are set and of which that n further on is, too.
func both(lo, hi uint64, n int) (uint64, uint64) {
	return lo & (lo>>n | hi<<(64-n)), hi & (hi >> n)
}

// runEnd returns where the bits that are set from one on end.
func runEnd(words []uint64, from int) int {
	w := from >> 6
	x := ^words[w] &^ (1<<(from&63) - 1)
	for ; x == 0; x = ^words[w] {
		w++
	}
	return w<<6 + bits.TrailingZeros64(x)
}

// run gathers the grams that are chosen of s[:n], a run of digits.
func (k *sink) run(s []byte, n int) {
	c := runClass(n)
	gather := len(k.marks) == 0
	if !gather && !k.chooses[c] {
		return
	}
	// All that some grams are chosen of, and then those that the last ones need.
	for n -= 5; ; s, n = s[64-among+1:], n-(64-among+1) {
		hashes := k.choices(s, min(n, 64))
		if gather {
			k.list(c+besides, hashes)
		} else {
			k.putAll(hashes)
		}
		if n <= 64 {
			return
		}
	}
}

// choices returns the hashes of the grams that are chosen of the first n, 64 at most, of a
// text with 72 bytes.
func (k *sink) choices(s []byte, n int) []uint64 {
	text := (*[72]byte)(s)
	// Of the gram at a place, and of the two and the four from there on, the least order, with
	// the place: of some that are equal it is the first one.
	hashes, two, four := &k.hashes, &k.two, &k.four
	out := &k.scratch[word]
	count, before, last := 0, int64(math.MaxInt64), int64(-1)
	for i := range n {
		h := hash(binary.LittleEndian.Uint64(text[i&63:]) & mask6)
		hashes[i&63] = h
		own := int64(order(h))<<6 | int64(i&63)
		pair := lesser(before, own)
		before = own
		two[(i-1)&63] = pair
		quad := lesser(two[(i-3)&63], pair)
		four[(i-3)&63] = quad
		if i < among-1 {
			continue
		}
		least := lesser(lesser(four[(i-9)&63], four[(i-5)&63]), pair)
		out[count&63] = hashes[least&63]
		count += int(one(least != last))
		last = least
	}
	return out[:count]
}

// lesser is min of numbers that are not negative, without a branch: which is less cannot be
// foretold.
func lesser(a, b int64) int64 {
	d := a - b
	return b + d&(d>>63)
}
