package pipeline

import "bytes"

// Classes of bytes in terminal control sequences.
const (
	ansiPrefix = 1 << iota // [ ] ( ) # ; ?
	ansiText               // letters, digits and ;
	ansiFinal              // ends a sequence
)

var ansiClass = func() (t [256]uint8) {
	for _, c := range []byte("[]()#;?") {
		t[c] |= ansiPrefix
	}
	for c := range 256 {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ';' {
			t[c] |= ansiText
		}
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'P' || c >= 'f' && c <= 'n' {
			t[c] |= ansiFinal
		}
	}
	for _, c := range []byte("RZctqry=><~") {
		t[c] |= ansiFinal
	}
	return t
}()

// decolorize returns line without terminal control sequences.
func (a *arena) decolorize(line []byte) []byte {
	i := nextIntroducer(line, 0)
	if i == len(line) {
		return line
	}
	from, kept := len(a.buf), 0
	for i < len(line) {
		n := ansiLen(line[i:])
		if n == 0 {
			i = nextIntroducer(line, i+1)
			continue
		}
		a.buf = append(a.buf, line[kept:i]...)
		kept = i + n
		i = nextIntroducer(line, kept)
	}
	a.buf = append(a.buf, line[kept:]...)
	return a.buf[from:len(a.buf):len(a.buf)]
}

// nextIntroducer returns the index of the first ESC or U+009B at or behind i, or len(line).
func nextIntroducer(line []byte, i int) int {
	rest := line[i:]
	n := bytes.IndexByte(rest, 0x1b)
	if n < 0 {
		n = len(rest)
	}
	if m := bytes.Index(rest[:n], []byte("\u009b")); m >= 0 {
		n = m
	}
	return i + n
}

// ansiLen returns the length of the control sequence that starts with the
// introducer at b[0], or 0 if it is none.
func ansiLen(b []byte) int {
	i := 1
	if b[0] != 0x1b {
		i = 2 // U+009B
	}
	for i < len(b) && ansiClass[b[i]]&ansiPrefix != 0 {
		i++
	}
	// Text up to BEL. Semicolons of the prefix may belong to it, which changes nothing.
	j := i
	for j < len(b) && ansiClass[b[j]]&ansiText != 0 {
		j++
	}
	if j < len(b) && b[j] == 0x07 {
		return j + 1
	}
	// Numbers of up to four digits between semicolons, then a final byte, which may
	// be a digit: the longest such sequence counts.
	j = i
	for digits := 0; j < len(b); j++ {
		if b[j] >= '0' && b[j] <= '9' && digits < 4 {
			digits++
		} else if b[j] == ';' && j > i {
			digits = 0
		} else {
			break
		}
	}
	for ; j >= i; j-- {
		if j < len(b) && ansiClass[b[j]]&ansiFinal != 0 {
			return j + 1
		}
	}
	return 0
}
