package deliver

import (
	"testing"
	"time"
)

func TestStamps(t *testing.T) {
	c := newCollector(1<<20, 0, 1000)
	const hour = int64(time.Hour)
	for i, x := range [][2]int64{
		{2000, 2000}, {2000, 2001}, {1500, 2002}, {hour, hour},
		{2 * hour, 2 * hour}, {2*hour - 1e9, 2*hour + 1}, // set back a little
		{hour, hour}, {hour, hour + 1}, // set back far
	} {
		if got := c.stamp(x[0]); got != x[1] {
			t.Errorf("%d: %d, want %d", i, got, x[1])
		}
	}
}
