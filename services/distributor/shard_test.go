package distributor

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/limits"
)

// A tenant with a shard size is stored by so many ingesters only, each stream by three.
func TestShardedTenantStaysInItsShard(t *testing.T) {
	for _, size := range []int{0, 4} {
		cl := newCluster(t, 9, 3)
		l := limits.Default()
		l.IngestionShardSize = size
		d := cl.distributor(l)
		d.breakers.after = time.Hour
		d.cfg.MaxInFlight = 1000 // one that lags is not left out
		for i := range 200 {
			if _, err := d.Write(ctx(), request(fmt.Sprintf(`{a="%d"}`, i), lines([]int64{now.UnixNano()}, "x"))); err != nil {
				t.Fatal(err)
			}
		}
		d.writes.Wait()
		used, copies := 0, 0
		for _, r := range cl.replicas {
			n := len(r.entries())
			copies += n
			if n > 0 {
				used++
			}
		}
		if want := map[int]int{0: 9, 4: 4}[size]; used != want || copies != 600 {
			t.Errorf("shard size %d: %d ingesters have %d copies, want %d and 600", size, used, copies, want)
		}
	}
}
