// Package checker proves that a log database keeps its promise: what it
// acknowledged is there, once, in order and unchanged, and nothing else is.
//
// A Load pushes lines that describe themselves and writes down in a History what
// became of each. A Read collects what a query answers. Judge compares the two.
// Since every line is unique and nothing is ever taken back, each entry can be
// judged by itself; no search for an order of events is needed.
package checker

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// ID names an entry: the Seq-th that a writer made, from 0.
type ID struct {
	Writer, Seq uint32
}

// Entry is what a line says of itself.
type Entry struct {
	ID
	Stream int
	Time   int64 // nanoseconds since the Unix epoch
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const crcBytes = len("crc=01234567 ")

// Line returns the entry's line, which is about size bytes long.
func (e Entry) Line(size int) []byte {
	line := make([]byte, crcBytes, max(size, 80))
	line = fmt.Appendf(line, "w=%d q=%d st=%d t=%d ", e.Writer, e.Seq, e.Stream, e.Time)
	for x := e.Seq*2654435761 + e.Writer; len(line) < size; x = x*1664525 + 1013904223 {
		line = append(line, "abcdefghijklmnopqrstuvwxyz0123456789 =\"{}"[x>>16%41])
	}
	copy(line, fmt.Sprintf("crc=%08x ", crc32.Checksum(line[crcBytes:], castagnoli)))
	return line
}

// ParseLine returns what a line says of itself, or why it is not a line as Entry.Line
// makes it.
func ParseLine(line []byte) (Entry, error) {
	if len(line) < crcBytes || !bytes.HasPrefix(line, []byte("crc=")) || line[crcBytes-1] != ' ' {
		return Entry{}, fmt.Errorf("not a line of a writer: %.80q", line)
	}
	sum, err := strconv.ParseUint(string(line[4:12]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[crcBytes:], castagnoli) {
		return Entry{}, fmt.Errorf("checksum does not match: %.80q", line)
	}
	var e Entry
	if _, err := fmt.Sscanf(string(line[crcBytes:min(len(line), 120)]), "w=%d q=%d st=%d t=%d ", &e.Writer, &e.Seq, &e.Stream, &e.Time); err != nil {
		return Entry{}, fmt.Errorf("fields do not parse: %.80q", line)
	}
	return e, nil
}
