package model

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPages: what is taken is empty, zero and its taker's alone, before and after pages are
// used again.
func TestPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Pages[int]
		for range rapid.IntRange(1, 4).Draw(t, "uses") {
			var taken [][]int
			for k := range rapid.IntRange(0, 60).Draw(t, "takes") {
				n := rapid.IntRange(0, 20).Draw(t, "n")
				s := p.Take(n, rapid.IntRange(1, 100).Draw(t, "page"))
				if len(s) != 0 || cap(s) != n {
					t.Fatalf("a slice of %d with room for %d, want room for %d", len(s), cap(s), n)
				}
				s = s[:n]
				for i := range s {
					if s[i] != 0 {
						t.Fatalf("value %d is %d", i, s[i])
					}
					s[i] = k + 1
				}
				taken = append(taken, s)
			}
			for k, s := range taken {
				for _, v := range s {
					if v != k+1 {
						t.Fatalf("slice %d has a value of slice %d", k, v-1)
					}
				}
			}
			p.Reuse()
		}
	})
}
