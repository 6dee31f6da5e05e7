package template

import (
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/model"
)

// A section that goes on where others ended has room for templates of its own, however many
// those had: whether these came with lines, or without.
func TestSectionsThatGoOnHaveRoom(t *testing.T) {
	for _, quarters := range []int{1, 3} {
		a := NewAnalyzer()
		var lines model.Strings
		lines.AppendString("a line")
		n := 0
		for section := range 12 {
			if section > 0 {
				a.Next(quarters)
			}
			for range maxFinals / 8 {
				if _, _, ok := a.Place(fmt.Appendf(nil, "template %d of another section", n)); !ok {
					t.Fatalf("%d quarters, section %d: no room for template %d", quarters, section, n)
				}
				n++
			}
			if _, err := a.Analyze(&lines, []int64{0}, []uint32{1}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}
