package model

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestPlainLabels: what is told without parsing is what parsing tells.
func TestPlainLabels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pairs []Label
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			pairs = append(pairs, Label{
				rapid.SampledFrom([]string{"a", "b", "_c", "D1", "a.b", "1", "ä"}).Draw(t, "name"),
				rapid.StringOfN(rapid.SampledFrom([]rune("ab \"\\\n={},~ä")), 0, 4, -1).Draw(t, "value"),
			})
		}
		ls := NewLabels(pairs)
		text := ls.String()
		got, ok := PlainLabels(text)
		if ok && !got.Equal(ls) {
			t.Fatalf("%s: %v, want %v", text, got, ls)
		}
		plain := len(ls) > 0
		for _, l := range ls {
			plain = plain && plainName(l.Name) && strconv.Quote(l.Value) == `"`+l.Value+`"` && len([]rune(l.Value)) == len(l.Value)
		}
		if ok != plain {
			t.Fatalf("%s: %v, want %v", text, ok, plain)
		}
		// Other text is never taken for canonical.
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		other := text[:at] + rapid.SampledFrom([]string{"", `"`, ",", " ", "}", "{", "=", "a", "\x00"}).Draw(t, "instead") + text[at+1:]
		if got, ok := PlainLabels(other); ok && got.String() != other {
			t.Fatalf("%q is taken for %s", other, got)
		}
	})
}
