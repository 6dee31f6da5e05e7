package discover

// Classes of bytes in plain text.
const (
	classLeft  = 1 << iota // may stand before a level's name
	classRight             // may stand behind one
	classFirst             // starts one
)

var (
	class [256]uint8
	lower [256]byte
)

func init() {
	for i := range lower {
		lower[i] = byte(i)
		if i >= 'A' && i <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	for _, c := range []byte(" \t\n[({\"'=|") {
		class[c] |= classLeft
	}
	for _, c := range []byte(" \t\n\r[](){}:,!\"'=|") {
		class[c] |= classRight
	}
	for _, c := range []byte("tdfceiwTDFCEIW") {
		class[c] |= classFirst
	}
}

// textLevel returns the level that the first word of that kind names.
func textLevel(line []byte) string {
	left := uint8(classLeft)
	for i, c := range line {
		k := class[c]
		if left&classLeft != 0 && k&classFirst != 0 && i+1 < len(line) && lower[line[i+1]] == second[c] {
			if l := wordAt(line[i:]); l != "" {
				return l
			}
		}
		left = k
	}
	return LevelUnknown
}

// second is the second letter of the names that begin with a letter, in either case: there
// is only one.
var second = [256]byte{'t': 'r', 'd': 'e', 'f': 'a', 'c': 'r', 'i': 'n', 'w': 'a', 'e': 'r', 'T': 'r', 'D': 'e', 'F': 'a', 'C': 'r', 'I': 'n', 'W': 'a', 'E': 'r'}

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
	if len(s) > len(name) && class[s[len(name)]]&classRight == 0 {
		return ""
	}
	return level
}
