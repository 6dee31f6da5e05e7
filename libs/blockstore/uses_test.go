package blockstore

import (
	"testing"

	"pgregory.net/rapid"
)

// plainUses says of text what each byte of it allows.
func TestPlainUses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.StringMatching(`[ -~]{0,30}`).Draw(t, "text"))
		if len(text) > 0 && rapid.Bool().Draw(t, "odd") {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		want := inString | inWord
		for _, c := range text {
			want &= allowed[c]
		}
		if got := plainUses(text); got != want {
			t.Fatalf("%q: %b, want %b", text, got, want)
		}
	})
}
