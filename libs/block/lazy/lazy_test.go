package lazy

import (
	"sync"
	"testing"
)

func TestOnce(t *testing.T) {
	var o Once
	calls := 0
	for range 2 {
		func() {
			defer func() {
				if recover() != "a bug" {
					t.Error("the panic was lost")
				}
			}()
			o.Do(func() { calls++; panic("a bug") })
		}()
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			o.Do(func() { calls++ })
			if calls != 3 {
				t.Errorf("%d calls, want two that ended in a panic and one", calls)
			}
		})
	}
	wg.Wait()
}
