package block_test

import (
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block"
)

// A footer counts itself and the matrix: it does not hold on to the piece of memory that
// both were read into.
func TestFooterHoldsNothingThatWasRead(t *testing.T) {
	var rows []row
	for i := range 100 {
		rows = append(rows, row{time: int64(i), line: fmt.Sprintf("request %d of user %x", i, i*i)})
	}
	b, _ := write(t, oneStream(rows...), block.Meta{ID: "b"}, block.Options{}, 100)
	f, err := open(t, b).ReadSectionFooter(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if f.Grams == nil {
		t.Fatal("no grams")
	}
	clear(b) // what the reader gave out
	if s, err := f.Open(); err != nil || len(s.Blocks) != 1 {
		t.Fatal(s, err)
	}
}
