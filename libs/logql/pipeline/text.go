package pipeline

import (
	"bytes"
	"unicode/utf8"
	"unsafe"
)

// arena holds what a row's stages made. Strings given out stay valid until
// reset: growing moves the arena but never touches the old memory again.
type arena struct{ buf []byte }

// keepArena is how much memory a stream holds on to between rows.
const keepArena = 1 << 20

func (a *arena) reset() {
	if cap(a.buf) > keepArena {
		a.buf = nil
	}
	a.buf = a.buf[:0]
}

// str is the string over b's memory.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// raw is the bytes of s, only to be read.
func raw(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// sound reports whether b is UTF-8 without U+FFFD.
func sound(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return utf8.Valid(b) && !bytes.Contains(b, replacement)
		}
	}
	return true
}

var replacement = []byte("\uFFFD")

// sanitize returns b with bytes that are not UTF-8, and U+FFFD, made blanks.
func (a *arena) sanitize(b []byte) []byte {
	if sound(b) {
		return b
	}
	from := len(a.buf)
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError {
			a.buf = append(a.buf, ' ')
		} else {
			a.buf = append(a.buf, b[i:i+size]...)
		}
		i += size
	}
	return a.buf[from:len(a.buf):len(a.buf)]
}
