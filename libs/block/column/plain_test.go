package column

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Text is plain for what each byte of it is.
func TestPlainOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.StringMatching(`[ -~]{0,30}`).Draw(t, "text"))
		if len(text) > 0 && rapid.Bool().Draw(t, "odd") {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		want := InQuotes | InWords
		for _, c := range text {
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				want &^= InQuotes
			}
			if c <= ' ' || c > '~' || c == '"' || c == '=' {
				want &^= InWords
			}
		}
		if got := PlainOf(text); got != want {
			t.Fatalf("%q: %b, want %b", text, got, want)
		}
	})
}

func TestParsePlain(t *testing.T) {
	all := []Plain{0, InQuotes, InWords, InQuotes | InWords}
	b := append(AppendPlain(nil, all), "rest"...)
	got, rest, err := ParsePlain(b, len(all))
	if err != nil || !slices.Equal(got, all) || !bytes.Equal(rest, []byte("rest")) {
		t.Error(got, rest, err)
	}
	for _, n := range []int{5, len(b) + 1} { // r is no Plain
		if _, _, err := ParsePlain(b, n); !errors.Is(err, ErrCorrupt) {
			t.Error(n, err)
		}
	}
}
