package lines_test

import (
	"fmt"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// A section of the same block is given three quarters of the templates that there may be, one
// of another block a quarter: of more none.
func TestMoreIsLearntWithinABlock(t *testing.T) {
	const most = 32 << 10
	letters := func(n int) string {
		b := []byte("word ....")
		for i := range b[5:] {
			b[5+i] = 'a' + byte(n%26)
			n /= 26
		}
		return string(b)
	}
	for _, c := range []struct {
		templates      int
		within, others bool // keep them
	}{{most/4 - 100, true, true}, {most/4 + 100, true, false}, {most*3/4 - 100, true, false}, {most*3/4 + 100, false, false}} {
		for _, within := range []bool{true, false} {
			b := lines.NewBuilder(column.LevelFastest)
			for n := 0; n < c.templates; {
				var text model.Strings
				var times []int64
				for range min(1000, c.templates-n) { // of more new ones in a block none are made
					for range 4 {
						text.AppendString(letters(n))
						times = append(times, int64(n))
					}
					n++
				}
				if _, err := b.Add(&text, times, nil); err != nil {
					t.Fatal(err)
				}
			}
			b.Finish()
			want := c.others
			if within {
				want = c.within
			}
			if size := b.Learnt(within).MemorySize(); (size > 100*c.templates) != want {
				t.Errorf("%d templates, within a block: %v: %s is kept", c.templates, within, fmt.Sprint(size, " bytes"))
			}
		}
	}
}
