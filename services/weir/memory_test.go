package weir

import (
	"testing"

	"github.com/weir-logs/weir/libs/conf"
)

func TestDefaultMemory(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		system, group uint64
		want          int64
	}{
		{64 << 30, 0, 1024 * mib},
		{2048 * mib, 0, 512 * mib},
		{1024 * mib, 0, minMemory},
		{256 * mib, 0, 256 * mib},          // too little: Weir says so and does not start
		{1024 * mib, 512 * mib, 512 * mib}, // a control group's limit is all ours
		{64 << 30, 8 << 30, 8 << 30},
		{2048 * mib, 1 << 63, 512 * mib}, // no limit, as old kernels put it
	} {
		if got := defaultMemory(c.system, c.group); got != c.want {
			t.Errorf("machine %d MiB, group %d MiB: %d MiB, want %d", c.system/mib, c.group/mib, got/mib, c.want/mib)
		}
	}
}

// TestRule27SmallBudgetsAreRefused: better not to start than to fail later.
func TestRule27SmallBudgetsAreRefused(t *testing.T) {
	for limit, ok := range map[conf.ByteSize]bool{0: true, minMemory: true, minMemory - 1: false, minDecode: false, 1: false} {
		if err := (MemoryConfig{Limit: limit}).Validate(); (err == nil) != ok {
			t.Errorf("limit %s: %v", limit, err)
		}
		b, err := MemoryConfig{Limit: limit}.budget()
		if limit > 0 && (err == nil) != ok {
			t.Errorf("limit %s: %v", limit, err)
		}
		if sum := b.head + b.decode + b.queries + b.cache; err == nil && (sum > b.total || b.decode < minDecode) {
			t.Errorf("limit %s: %+v is %d in all", limit, b, sum)
		}
	}
}

// TestCollectionsKeepToTheBudget: what may be taken before memory is collected is a fixed
// share of the budget; more only where more is held, and never all.
func TestCollectionsKeepToTheBudget(t *testing.T) {
	const mib = 1 << 20
	b, err := MemoryConfig{Limit: 1000 * mib}.budget()
	if err != nil {
		t.Fatal(err)
	}
	for live, want := range map[uint64]int64{0: 430, 100 * mib: 430, 320 * mib: 430, 400 * mib: 500, 600 * mib: 750, 800 * mib: 900, 1 << 63: 900} {
		if got := b.gcLimit(live) / mib; got != want {
			t.Errorf("%d MiB are held: %d MiB, want %d", live/mib, got, want)
		}
	}
}
