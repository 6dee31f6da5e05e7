package patterns

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a part of a line and what is between it and the one before.
type token struct{ before, text string }

// messageKeys are where the text of a JSON line is, in order of preference.
var messageKeys = [...]string{"log", "message", "msg", "msg_", "_msg", "content"}

// timeKeys are the logfmt pairs that never have anything in common.
var timeKeys = [...]string{"ts", "t", "time", "timestamp", "traceID"}

// cutLine cuts a line, by what it is itself: a stream may have lines of all kinds. It appends the
// line's tokens to dst, which is empty, or says that it has none that are worth to be compared.
func cutLine(dst []token, line string) ([]token, bool) {
	if text := strings.TrimSpace(line); strings.HasPrefix(text, "{") && json.Valid([]byte(text)) {
		return cutJSON(dst, line)
	}
	if tokens, ok := cutLogfmt(dst, line); ok {
		return tokens, true
	}
	return cutWords(dst, line)
}

// cutWords cuts at blanks and punctuation. Punctuation and = are tokens themselves, but
// for what words, numbers, addresses and paths contain: _ - . : and /.
func cutWords(dst []token, line string) ([]token, bool) {
	before, word := 0, -1 // where what is between tokens, and a token, begin
	end := func(at int) {
		if word >= 0 {
			dst = append(dst, token{line[before:word], line[word:at]})
			before, word = at, -1
		}
	}
	for i, r := range line {
		switch {
		case unicode.IsSpace(r):
			end(i)
		case r < utf8.RuneSelf && wordByte[r]:
			if word < 0 {
				word = i
			}
		case r == '=' || unicode.IsPunct(r):
			end(i)
			n := utf8.RuneLen(r)
			dst = append(dst, token{line[before:i], line[i : i+n]})
			before = i + n
		case word < 0:
			word = i
		}
		if len(dst) > maxTokens {
			return dst, true
		}
	}
	end(len(line))
	return dst, true
}

// cutLogfmt cuts into keys and values. A line with a word that is no pair is none of
// its kind.
func cutLogfmt(dst []token, line string) ([]token, bool) {
	from := len(dst)
	for i := 0; ; {
		start := i
		for i < len(line) && line[i] <= ' ' {
			i++
		}
		if i == len(line) {
			return dst, len(dst) > from
		}
		key := i
		for i < len(line) && line[i] > ' ' && line[i] != '=' && line[i] != '"' {
			i++
		}
		if i == len(line) || line[i] != '=' || i == key {
			return dst, false
		}
		dst = append(dst, token{line[start:key], line[key:i]})
		i++
		value := i
		if i < len(line) && line[i] == '"' {
			for i++; i < len(line) && line[i] != '"'; i++ {
				if line[i] == '\\' {
					i++
				}
			}
			i = min(i+1, len(line))
		}
		for i < len(line) && line[i] > ' ' {
			i++
		}
		text := line[value:i]
		for _, k := range timeKeys {
			if dst[len(dst)-1].text == k {
				text = Wildcard
			}
		}
		dst = append(dst, token{"=", text})
		if len(dst) > maxTokens {
			return dst, true
		}
	}
}

// cutJSON cuts the text of a message, as it is written in JSON, so that the pattern
// matches the line. What is around it is wildcards.
func cutJSON(dst []token, line string) ([]token, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(line), &fields) != nil {
		return dst, false
	}
	for _, key := range messageKeys {
		raw := string(fields[key])
		if len(raw) < 2 || raw[0] != '"' {
			continue
		}
		raw = raw[1 : len(raw)-1]
		from := len(dst) + 1
		dst, _ = cutWords(append(dst, token{"", Wildcard}), raw)
		end := len(raw)
		if len(dst) > from {
			last := dst[len(dst)-1].text
			end = strings.LastIndex(raw, last) + len(last)
		}
		return append(dst, token{raw[end:], Wildcard}), true
	}
	return dst, false
}

// cutPattern cuts a pattern as lines of it would be cut, to dst, which is empty. A token
// of which a part varies varies.
func cutPattern(dst []token, text string) ([]token, bool) {
	cut := cutWords
	if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "{") {
		if quoted := quoteSlots(trimmed); json.Valid([]byte(quoted)) {
			text, cut = quoted, cutJSON
		}
	} else if _, ok := cutLogfmt(dst, text); ok {
		cut = cutLogfmt
	}
	// Blanks and punctuation tear no slot apart if it is a letter.
	const slot = "\ue000"
	text = strings.ReplaceAll(text, Wildcard, slot)
	// What varies around a message is no part of its words.
	inner, around := strings.CutPrefix(text, slot)
	if around {
		inner, around = strings.CutSuffix(inner, slot)
	}
	if around {
		text = slot + "\n" + inner + "\n" + slot
	}
	tokens, ok := cut(dst, text)
	if n := len(tokens); around && n > 1 {
		tokens[1].before = strings.TrimPrefix(tokens[1].before, "\n")
		tokens[n-1].before = strings.TrimSuffix(tokens[n-1].before, "\n")
	}
	for i := range tokens {
		t := &tokens[i]
		if t.before = strings.ReplaceAll(t.before, slot, Wildcard); strings.Contains(t.text, slot) {
			t.text = Wildcard
		}
	}
	return tokens, ok
}

// quoteSlots makes strings of the slots of a JSON text that stand where values do.
func quoteSlots(text string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inside && c == '\\' && i+1 < len(text):
			b.WriteByte(c)
			i++
		case c == '"':
			inside = !inside
		case !inside && strings.HasPrefix(text[i:], Wildcard):
			b.WriteString(`"` + Wildcard + `"`)
			i += len(Wildcard) - 1
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
