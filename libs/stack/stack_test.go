package stack_test

import (
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/stack"
)

// deep uses some stack.
func deep(n int) int {
	var room [64]byte
	room[n%64] = byte(n)
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + int(room[n%64])
}

// Calls go as deep as before, on stacks that had room and on those that have to grow.
func TestGrow(t *testing.T) {
	want := deep(1 << 12)
	var wg sync.WaitGroup
	for _, n := range []int{0, 80, 1 << 12} {
		wg.Go(func() {
			stack.Grow()
			if got := deep(n); n == 1<<12 && got != want {
				t.Errorf("%d, want %d", got, want)
			}
		})
	}
	wg.Wait()
}

func BenchmarkGrow(b *testing.B) {
	for name, first := range map[string]func(){"as it comes": func() {}, "at once": stack.Grow} {
		b.Run(name, func(b *testing.B) {
			var wg sync.WaitGroup
			for b.Loop() {
				wg.Go(func() {
					first()
					deep(80)
				})
				wg.Wait()
			}
		})
	}
}
