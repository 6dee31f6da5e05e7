// Package template cuts log lines into templates (their literal text) and the
// values of typed slots, so that the lines of one service become few templates and
// columns of alike values.
//
// An Analyzer learns the templates of one section as its blocks come in; a Table is
// what readers need of them. Lines are given back byte for byte, whatever their
// bytes: what has no template is kept whole, as the one value of the template Raw.
//
// The package is pure. The rules that readers rely on are in docs/format/block.md;
// which templates and columns are made is the encoder's choice.
package template

import (
	"hash/maphash"
	"math/bits"

	"github.com/weir-logs/weir/libs/block/column"
)

// Tables find texts and contexts by hashes that nobody can foretell, lest lines are made
// to be found slowly. What is made of lines does not depend on them.
var (
	seed       = maphash.MakeSeed()
	salt, odds = maphash.String(seed, "salt"), maphash.String(seed, "odds") | 1
)

// salted returns a hash of a number.
func salted(x uint64) uint64 {
	hi, lo := bits.Mul64(x^salt, odds)
	return hi ^ lo
}

// Marks in the text of templates. Lines that hold these bytes are raw.
const (
	markSlot = 0x00 // a value
	markTime = 0x01 // an in-line time; the layout follows as layoutBase + layout
	markRaw  = 0x02 // all of the template Raw: the whole line is one value

	layoutBase = 0x80 // keeps layouts apart from marks, digits and delimiters
)

// Limits of the encoder.
const (
	MaxTokenized = 64 << 10 // longer lines are raw
	MaxSlots     = 4096     // lines with more are raw

	maxRaws   = 32 << 10 // raw templates in a section
	maxText   = 4 << 20  // bytes of their text
	maxFinals = 64 << 10 // merged templates in a section; then raw ones stay as they are

	maxFinalText = 4 * maxText // bytes of their text, likewise
)

func alnum(b byte) bool { return column.ClassOf(b) != column.Other }

var isAlnum = func() (t [256]bool) {
	for b := range t {
		t[b] = alnum(byte(b))
	}
	return t
}()

func isDigit(b byte) bool { return b-'0' < 10 }

func mix(a, b uint64) uint64 {
	a ^= b * 0x9E3779B97F4A7C15
	a ^= a >> 32
	a *= 0xD6E8FEB86659FD93
	return a ^ a>>29
}
