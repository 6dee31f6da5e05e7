package engine

import (
	"runtime"
	"sync/atomic"
)

// pool bounds the goroutines that help queries, over the whole process. Whoever has
// work does it itself and takes on helpers as far as some are free: nobody ever
// waits for one, so work within work cannot lock up.
type pool struct {
	limit, busy atomic.Int64
}

var helpers = func() *pool {
	p := &pool{}
	p.limit.Store(int64(max(4, 2*runtime.GOMAXPROCS(0))))
	return p
}()

// SetWorkers sets how many goroutines, over the whole process, help those that run
// queries. Without it they are twice the cores, and four at least: some may wait for
// I/O.
func SetWorkers(n int) { helpers.limit.Store(int64(max(n, 0))) }

func (p *pool) take() bool {
	if p.busy.Add(1) <= p.limit.Load() {
		return true
	}
	p.busy.Add(-1)
	return false
}

func (p *pool) give() { p.busy.Add(-1) }

// Spread runs f(0) to f(n-1), on the caller's goroutine and on helpers, and waits
// for all, also if one panics: then it does so, too.
func Spread(n int, f func(int)) { spread(n, f) }

func spread(n int, f func(int)) {
	if n == 1 {
		f(0)
		return
	}
	var next atomic.Int64
	var g Group
	var work func()
	work = func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if i < n-1 && helpers.take() {
				g.Go(func() {
					defer helpers.give()
					work()
				})
			}
			f(i)
		}
	}
	g.Do(work)
	g.Wait()
}
