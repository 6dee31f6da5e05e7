package weirctl

import (
	"unicode"
	"unicode/utf8"
)

// appendSafe appends text so that a terminal shows it and obeys none of it: a
// log line may come from an attacker. Control characters, bytes that are not
// UTF-8, and characters that are invisible or reorder the text around them are
// written as escapes (\x1b, \u202e). Tabs stay; a line break becomes newline.
func appendSafe(dst []byte, text []byte, newline string) []byte {
	for len(text) > 0 {
		c := text[0]
		if c < utf8.RuneSelf {
			switch {
			case c >= ' ' && c < 0x7f || c == '\t':
				dst = append(dst, c)
			case c == '\n':
				dst = append(dst, newline...)
			case c == '\r':
				dst = append(dst, `\r`...)
			default:
				dst = appendEscape(dst, 'x', rune(c), 2)
			}
			text = text[1:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = appendEscape(dst, 'x', rune(c), 2)
		case !hidden(r):
			dst = append(dst, text[:size]...)
		case r > 0xffff:
			dst = appendEscape(dst, 'U', r, 8)
		default:
			dst = appendEscape(dst, 'u', r, 4)
		}
		text = text[size:]
	}
	return dst
}

// hidden reports whether r shows nothing by itself or changes how other text is
// shown: controls (C1 included), format characters (bidirectional marks and
// overrides, zero-width ones, tags), line and paragraph separators. The
// zero-width joiner is let through: emoji are made with it.
func hidden(r rune) bool {
	const zeroWidthJoiner = 0x200d
	return r != zeroWidthJoiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

func appendEscape(dst []byte, kind byte, r rune, digits int) []byte {
	dst = append(dst, '\\', kind)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[r>>shift&15])
	}
	return dst
}
