package block

import (
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// A column that says that its values are longer than they are costs no memory for it.
func TestRoomForValues(t *testing.T) {
	values, err := column.Open(&column.Info{Kind: column.Int, N: 4, Width: 1, MinLen: 8 << 20, MaxLen: 8 << 20}, []byte{1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	var dst model.Column
	(&tableValues{values: values}).appendTo(&dst, []uint32{0, 1, 2, 3}, 0, nil, nil)
	if got := string(dst.Values.Slab); got != "1234" {
		t.Errorf("values %q", got)
	}
	if n := cap(dst.Values.Slab); n > 4<<10 {
		t.Errorf("%d bytes of memory for %d", n, len(dst.Values.Slab))
	}
}
