package grams_test

import (
	"testing"

	"github.com/weir-logs/weir/libs/block/grams"
)

func TestNonASCII(t *testing.T) {
	for line, want := range map[string]bool{"": false, "a": false, "\xc3": true, "ab\xff": true, "abc def 12": false, "abcdefgh é": true, "12345678é": true} {
		var b block
		b.add("plain 1")
		b.add("plain 2")
		b.add(line)
		_, matrix := build(t, grams.DefaultShare, []block{b})
		region, err := grams.Open(matrix, true)
		if err != nil {
			t.Fatal(err)
		}
		if region.NonASCII().Has(0) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
}

// k and s are also U+212A and U+017F.
func TestLettersOfManyForms(t *testing.T) {
	var b block
	b.add("in the \u017ftreet of \u212aelvin")
	b.add("plain 1")
	_, matrix := build(t, 1, []block{b})
	region, err := grams.Open(matrix, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, needle := range []string{"street", "kelvin", "street of kelvin"} {
		if !region.Needle([]byte(needle), true).Has(0) {
			t.Errorf("%q in any case is ruled out", needle)
		}
		if region.Needle([]byte(needle), false).Has(0) {
			t.Errorf("%q is not ruled out", needle)
		}
	}
}
