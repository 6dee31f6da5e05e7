package template

import (
	"testing"

	"pgregory.net/rapid"
)

// The slots of a text are where its bytes, one by one, have marks.
func TestNextSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text []byte
		for range rapid.IntRange(0, 20).Draw(t, "pieces") {
			for _, c := range rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes") {
				if c > markRaw {
					text = append(text, c)
				}
			}
			switch rapid.IntRange(0, 3).Draw(t, "mark") {
			case 0:
				text = append(text, markSlot)
			case 1:
				text = append(text, markTime, layoutBase+byte(rapid.IntRange(0, 20).Draw(t, "layout")))
			case 2:
				text = append(text, markRaw)
			}
		}
		at := 0
		for p := 0; p < len(text); p++ {
			if text[p] > markRaw {
				continue
			}
			end := p + 1
			if text[p] == markTime {
				end++
			}
			if from, to := NextSlot(text, at); from != p || to != end {
				t.Fatalf("slot from %d on of %q is %d to %d, not %d to %d", at, text, from, to, p, end)
			}
			p, at = end-1, end
		}
		if from, to := NextSlot(text, at); from != len(text) || to != len(text) {
			t.Fatalf("slot from %d on of %q is %d to %d", at, text, from, to)
		}
	})
}
