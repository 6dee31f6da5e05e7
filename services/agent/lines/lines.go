// Package lines cuts the bytes of a growing file into lines.
package lines

import (
	"bytes"
	"unicode/utf8"
)

// State is where in a line a position in a file is.
type State uint8

// The states.
const (
	// Start: at the beginning of a line.
	Start State = iota
	// Middle: behind the first part of a line, which was given out because its
	// end did not come in time. What follows is given out as a line of its own,
	// unless it is empty.
	Middle
	// Skip: behind the kept part of a line that was too long. What follows up
	// to the line's end is left out.
	Skip
)

// Mark ends a line that was cut.
const Mark = "...[cut]"

// MinLimit is the smallest limit that Next takes.
const MinLimit = len(Mark) + utf8.UTFMax

// Result is one step of cutting.
type Result struct {
	// N is how many bytes were used. 0: more are needed.
	N int
	// Line is what to give out, a part of the data, if Emit. Where Cut, Mark has
	// to be added.
	Line      []byte
	Emit, Cut bool
	// State is the state behind the N bytes.
	State State
}

// Next takes one step in data, which begins in state st. Lines end with \n or
// \r\n, which are not part of them. A line longer than limit bytes, which must be
// at least MinLimit, is cut so that with Mark it has at most limit, at a
// character's boundary if the part kept is UTF-8.
//
// The lines do not depend on how the bytes come in pieces, provided that data
// has limit+2 bytes wherever the file has them. flush gives out an unfinished
// line; a \r at its end is left, for its \n may follow.
func Next(data []byte, st State, limit int, flush bool) Result {
	if st == Skip {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return Result{N: i + 1, State: Start}
		}
		return Result{N: len(data), State: Skip}
	}
	head := data
	if len(head) > limit+2 {
		head = head[:limit+2]
	}
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		line := head[:i]
		if i > 0 && line[i-1] == '\r' {
			line = line[:i-1]
		}
		if len(line) > limit {
			return cut(data, limit)
		}
		return Result{N: i + 1, Line: line, Emit: st == Start || len(line) > 0, State: Start}
	}
	if len(head) == limit+2 {
		return cut(data, limit)
	}
	if !flush {
		return Result{State: st}
	}
	line := head
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) > limit {
		return cut(data, limit)
	}
	if len(line) == 0 {
		return Result{State: st}
	}
	return Result{N: len(line), Line: line, Emit: true, State: Middle}
}

func cut(data []byte, limit int) Result {
	n := limit - len(Mark)
	for back := 0; back < utf8.UTFMax && n-back > 0; back++ {
		if !utf8.Valid(data[:n-back]) {
			continue
		}
		// The character behind it would be split, or there is none to split.
		if _, size := utf8.DecodeRune(data[n-back:]); size > back {
			n -= back
		}
		break
	}
	return Result{N: n, Line: data[:n], Emit: true, Cut: true, State: Skip}
}
