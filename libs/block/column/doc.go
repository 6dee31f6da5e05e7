// Package column encodes columns of values: byte strings in the narrowest form
// that gives back the same bytes (numbers, hexadecimal digits, addresses,
// dictionaries, plain strings), integers, and entries' times. It also frames
// payloads: compressed, with a version and a checksum.
//
// The package is pure: no I/O, no clock, no goroutines. What it writes is laid
// down in docs/format/block.md.
//
// Decoders take bytes from anywhere: whatever they are given, they return an
// error that wraps ErrCorrupt or the values, never panic, and allocate no more
// than a small multiple of the payload and of the number of values asked for.
package column

import (
	"errors"
	"fmt"
)

// ErrCorrupt is wrapped by the errors of decoders that were given bytes that no
// encoder wrote.
var ErrCorrupt = errors.New("corrupt block data")

// Corrupt returns an error that wraps ErrCorrupt and says what is wrong.
func Corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// Ref is a value within a slab: offset in the upper, length in the lower 32 bits.
type Ref uint64

// MakeRef returns the reference to slab[off:off+n].
func MakeRef(off, n uint32) Ref { return Ref(off)<<32 | Ref(n) }

// Of returns the value.
func (r Ref) Of(slab []byte) []byte {
	off := uint64(r >> 32)
	return slab[off : off+uint64(uint32(r))]
}

// Offset returns where the value begins.
func (r Ref) Offset() uint32 { return uint32(r >> 32) }

// Len returns the value's length.
func (r Ref) Len() int { return int(uint32(r)) }
