// Package grams tells which blocks of a section cannot hold a needle: a matrix of
// bits with a column for every block and rows that short windows of text (grams) of
// the blocks' lines are hashed to. Whole values of structured metadata are in it too.
// See docs/format/block.md, "Gram matrix".
//
// A block that is ruled out holds no line with the needle; one that is not may hold
// none either. The package is pure.
package grams

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/block/column"
)

// class is a kind of gram. Each has a level: grams whose hash has fewer trailing
// zeros are left out.
type class int8

const (
	word  class = iota // 4 bytes, not all hexadecimal digits; and 8 bytes of digits and two dots or more
	short              // 6 bytes that begin with 4 hexadecimal digits, in a run of at most 11
	mid                // in a run of 12 to 19
	long               // in a longer run
	classes

	// Of classes that have them, those that are chosen are one more each.
	besides = classes - mid
	kinds   = long + besides + 1

	maxLevel = 8
)

func runClass(n int) class {
	switch {
	case n <= ShortRun:
		return short
	case n <= MidRun:
		return mid
	}
	return long
}

const (
	mask4 = 1<<32 - 1
	mask6 = 1<<48 - 1

	dottedSalt = 0x5555

	golden = 0x9E3779B97F4A7C15
)

// hash is the hash of a gram: the upper half chooses the row, the lower bits the level.
func hash(gram uint64) uint64 {
	gram *= golden
	return gram ^ gram>>32
}

// hashAt is the hash of the six bytes that begin at s[i].
func hashAt(s []byte, i int) uint64 { return hash(binary.LittleEndian.Uint64(s[i:]) & mask6) }

func row(h uint64, rows uint32) uint32 { return uint32(h >> 32 * uint64(rows) >> 32) }

func kept(h uint64, level uint8) bool { return bits.TrailingZeros64(h) >= int(level) }

// valueRows is how many rows stand for a value.
const valueRows = 4

func hashValue(name, value []byte) uint64 {
	return xxhash.Sum64(value) ^ xxhash.Sum64(name)*0x9E3779B97F4A7C15
}

// valueRow returns row k of the value with a hash.
func valueRow(h uint64, k int, rows uint32) uint32 {
	return row(hash(h+uint64(k)*0xD6E8FEB86659FD93), rows)
}

// fold returns the text with A-Z in lower case, and 8 bytes more.
func fold(dst, s []byte) []byte {
	dst = append(dst, s...)
	for i, c := range dst {
		if c-'A' < 26 {
			dst[i] = c | 0x20
		}
	}
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
}

// isHex and isDotted are about folded text.
func isHex(c byte) bool { return c-'0' < 10 || c-'a' < 6 }

func isDotted(c byte) bool { return c-'0' < 10 || c == '.' }

// gram is a gram of a text.
type gram struct {
	from, to int // where it is
	hash     uint64
	class    class
	open     bool // the run of digits that it is in touches an end of the text
	chosen   bool
}

// each calls f with every gram of s[:n], folded text with 8 bytes behind it, and again with
// those that are chosen. This is the definition; what builds matrices gets the same quicker.
func each(s []byte, n int, f func(gram)) {
	first, run := 0, 0 // where the run of hexadecimal digits begins, and where it ends
	for i := 0; i+4 <= n; i++ {
		if i >= run {
			for first, run = i, i; run < n && isHex(s[run]); run++ {
			}
			for k := first; k+chosenRun <= run; k++ {
				least := k
				for x := k + 1; x < k+among; x++ {
					if order(hashAt(s, x)) < order(hashAt(s, least)) {
						least = x
					}
				}
				f(gram{least, least + 6, hashAt(s, least), runClass(run - first), first == 0 || run == n, true})
			}
		}
		w := binary.LittleEndian.Uint64(s[i:])
		if run-i < 4 {
			f(gram{i, i + 4, hash(w & mask4), word, false, false})
		} else if i+6 <= n {
			f(gram{i, i + 6, hash(w & mask6), runClass(run - first), first == 0 || run == n, false})
		}
		if i+8 <= n && twoDots(s[i:i+8]) {
			f(gram{i, i + 8, hash(w ^ dottedSalt), word, false, false})
		}
	}
}

// twoDots reports whether s is digits and at least two dots.
func twoDots(s []byte) bool {
	dots := 0
	for _, c := range s {
		if !isDotted(c) {
			return false
		}
		if c == '.' {
			dots++
		}
	}
	return dots >= 2
}

func corrupt(format string, args ...any) error {
	return column.Corrupt("gram matrix: "+format, args...)
}
