package discover

// names are the beginnings of levels' names. There is one for each first letter.
var names = [...]string{"tr", "de", "fa", "cr", "in", "wa", "er"}

// What letters is made of: bits of the beginnings that a byte is a part of.
const (
	behind = 0  // all of them: it may stand before a name
	first  = 8  // those that it is the first letter of
	second = 16 // those that it is the second letter of
)

var (
	letters [256]uint32
	right   [256]bool // may stand behind a name
	lower   [256]byte
)

func init() {
	for i := range lower {
		lower[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	for _, c := range []byte(" \t\n[({\"'=|") {
		letters[c] |= (1<<len(names) - 1) << behind
	}
	for _, c := range []byte(" \t\n\r[](){}:,!\"'=|") {
		right[c] = true
	}
	for c := range letters {
		for i, name := range names {
			if lower[c] == name[0] {
				letters[c] |= 1 << i << first
			}
			if lower[c] == name[1] {
				letters[c] |= 1 << i << second
			}
		}
	}
}

// textLevel returns the level that the first word of that kind names.
func textLevel(line []byte) string {
	if len(line) < 2 {
		return LevelUnknown
	}
	// Most words do not begin as a name does. That a word begins is not asked for by itself:
	// it is as often so as not, and a processor does not foresee it.
	left, this := uint32(1<<len(names)-1)<<behind, letters[line[0]]
	for i, c := range line[1:] {
		next := letters[c]
		if left>>behind&(this>>first)&(next>>second)&(1<<len(names)-1) != 0 {
			if l := wordAt(line[i:]); l != "" {
				return l
			}
		}
		left, this = this, next
	}
	return LevelUnknown
}

// wordAt returns the level whose name the text starts with, the right bound included, or "".
func wordAt(s []byte) string {
	switch lower[s[0]] {
	case 't':
		return word(s, "trace", LevelTrace)
	case 'd':
		return word(s, "debug", LevelDebug)
	case 'f':
		return word(s, "fatal", LevelFatal)
	case 'c':
		return word(s, "critical", LevelCritical)
	case 'i':
		return word(s, "info", LevelInfo)
	case 'w':
		if l := word(s, "warning", LevelWarn); l != "" {
			return l
		}
		return word(s, "warn", LevelWarn)
	case 'e':
		if l := word(s, "error", LevelError); l != "" {
			return l
		}
		return word(s, "err", LevelError)
	}
	return ""
}

func word(s []byte, name, level string) string {
	if len(s) < len(name) {
		return ""
	}
	for i := range len(name) {
		if lower[s[i]] != name[i] {
			return ""
		}
	}
	if len(s) > len(name) && !right[s[len(name)]] {
		return ""
	}
	return level
}
