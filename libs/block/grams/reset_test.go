package grams_test

import (
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block/grams"
)

// Values of a block that was never added, for it failed, are not taken for known in the
// next.
func TestResetForgetsValues(t *testing.T) {
	b := grams.NewBuilder(grams.DefaultShare)
	value := func(i int) []byte { return fmt.Append(nil, "value ", i) }
	for i := range 50 {
		b.AddValue([]byte("trace"), value(i))
	}
	b.Reset()
	for i := range 50 {
		b.AddValue([]byte("trace"), value(49-i))
	}
	slab := []byte("one line")
	b.AddBlock(slab, &grams.Rows{Ends: []uint32{uint32(len(slab))}, Shapes: []uint32{0}, Counts: []int32{0}}, 100)
	region, err := grams.Open(b.Finish(), true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if !region.HasValue(0, []byte("trace"), value(i)) {
			t.Errorf("%s is missing", value(i))
		}
	}
}
