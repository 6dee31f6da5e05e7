package weir

import "testing"

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
