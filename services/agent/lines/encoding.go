package lines

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

// Encoding is how a file's bytes are text. nil takes them as they are. Not safe
// for concurrent use.
type Encoding struct {
	dec  *encoding.Decoder
	unit int // bytes of the smallest character: 1 or 2
	// Where the bytes of a newline have the first byte last (of two).
	little bool
	auto   bool // a byte order mark may say otherwise
}

// NewEncoding gives the encoding of an IANA name; nil for UTF-8 and the empty
// name. An error names one that is not known or cannot be read.
func NewEncoding(name string) (*Encoding, error) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return nil, nil
	case "utf-16", "utf16":
		return &Encoding{unit: 2, little: true, auto: true}, nil
	case "utf-16le":
		return &Encoding{unit: 2, little: true}, nil
	case "utf-16be":
		return &Encoding{unit: 2}, nil
	}
	e, err := ianaindex.IANA.Encoding(name)
	if err != nil || e == nil {
		return nil, fmt.Errorf("encoding %q is not supported", name)
	}
	// Lines are cut before they are decoded, so a newline must be one byte that
	// is no part of another character.
	if b, err := e.NewEncoder().Bytes([]byte("a\nb")); err != nil || string(b) != "a\nb" {
		return nil, fmt.Errorf("encoding %q is not supported: its line ends are not those of ASCII", name)
	}
	if strings.HasPrefix(strings.ToLower(name), "iso-2022") || strings.EqualFold(name, "hz-gb-2312") {
		return nil, fmt.Errorf("encoding %q is not supported: it has states that go over lines", name)
	}
	return &Encoding{unit: 1, dec: e.NewDecoder()}, nil
}

// Clone gives an Encoding for one file, which begins with head.
func (e *Encoding) Clone(head []byte) *Encoding {
	if e == nil {
		return nil
	}
	c := *e
	if c.auto && len(head) >= 2 {
		c.little = head[0] != 0xfe || head[1] != 0xff
	}
	return &c
}

// Next is the function Next for text of this encoding. data lies at offset in the
// file. Line is still encoded.
func (e *Encoding) Next(data []byte, offset int64, st State, limit int, flush bool) Result {
	if e == nil || e.unit == 1 {
		return Next(data, st, limit, flush)
	}
	if offset == 0 && len(data) >= 2 {
		le, be := data[0] == 0xff && data[1] == 0xfe, data[0] == 0xfe && data[1] == 0xff
		if le || be {
			if e.auto {
				e.little = le
			}
			return Result{N: 2, State: Start}
		}
	}
	limit &^= 1
	head := data[:min(len(data), limit+4)&^1]
	end := -1
	for i := 0; i < len(head); {
		k := bytes.IndexByte(head[i:], '\n')
		if k < 0 {
			break
		}
		i += k
		if at := i &^ 1; e.is(head[at:], '\n') {
			end = at
			break
		}
		i++
	}
	switch {
	case st == Skip && end >= 0:
		return Result{N: end + 2, State: Start}
	case st == Skip:
		return Result{N: len(head), State: Skip}
	case end < 0 && len(head) >= limit+4, end > limit+2:
		return Result{N: limit, Line: head[:limit], Emit: true, Cut: true, State: Skip}
	case end < 0 && !flush, end < 0 && len(head) == 0:
		return Result{State: st}
	}
	line, n, next := head, len(head), Middle
	if end >= 0 {
		line, n, next = head[:end], end+2, Start
	}
	if k := len(line); k >= 2 && e.is(line[k-2:], '\r') {
		line = line[:k-2]
		if end < 0 {
			n -= 2
		}
	}
	if n == 0 {
		return Result{State: st}
	}
	return Result{N: n, Line: line, Emit: st == Start || len(line) > 0, State: next}
}

func (e *Encoding) is(b []byte, c byte) bool {
	if e.little {
		return b[0] == c && b[1] == 0
	}
	return b[0] == 0 && b[1] == c
}

// Append appends a line as UTF-8.
func (e *Encoding) Append(dst, line []byte) []byte {
	switch {
	case e == nil:
		return append(dst, line...)
	case e.unit == 2:
		order := unicode.BigEndian
		if e.little {
			order = unicode.LittleEndian
		}
		out, err := unicode.UTF16(order, unicode.IgnoreBOM).NewDecoder().Bytes(line)
		if err != nil {
			return append(dst, line...)
		}
		return append(dst, out...)
	}
	out, err := e.dec.Bytes(line)
	if err != nil {
		return append(dst, line...)
	}
	return append(dst, out...)
}
