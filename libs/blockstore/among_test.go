package blockstore

import (
	"testing"

	"github.com/weir-logs/weir/libs/block"
)

// Runs are copies if all that is known of them is equal, digests included, and these are known.
func TestAmong(t *testing.T) {
	a, b, c := block.Run{MinTime: 1, MaxTime: 5, Rows: 3, Bytes: 9, Digest: 7}, block.Run{MinTime: 6, MaxTime: 8, Rows: 2, Bytes: 9, Digest: 8}, block.Run{MinTime: 9, MaxTime: 9, Rows: 1, Digest: 9}
	other, unknown := b, b
	other.Digest, unknown.Digest = 9, 0
	for i, c := range []struct {
		runs, of []block.Run
		want     bool
	}{
		{[]block.Run{a, b}, []block.Run{a, b}, true},
		{[]block.Run{a, c}, []block.Run{a, b, c}, true},
		{[]block.Run{a, b, c}, []block.Run{a, c}, false},
		{[]block.Run{a, b}, []block.Run{a, other}, false},
		{[]block.Run{a, unknown}, []block.Run{a, unknown}, false},
		{[]block.Run{b}, []block.Run{a}, false},
		{[]block.Run{a}, nil, false},
	} {
		if among(c.runs, c.of) != c.want {
			t.Errorf("case %d: %v", i, !c.want)
		}
	}
}
