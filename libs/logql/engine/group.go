package engine

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Group waits for the goroutines that work for a query, as a sync.WaitGroup does. A panic
// of one of them does not end the process but becomes one of the goroutine that waits,
// whose request it ends. The zero Group is ready.
type Group struct {
	wg sync.WaitGroup

	mu  sync.Mutex
	was *Panic // the first
}

// Panic is what a goroutine panicked with, for the one that waited for it. It is an error so
// that it can say more to who asked; nothing returns it as one.
type Panic struct {
	Value any
	Stack []byte // of that goroutine
	Told  error  // what who asked is told; nil: there is nothing to tell
}

// Error says what it was, and where.
func (p *Panic) Error() string {
	text := ""
	if p.Told != nil {
		text = p.Told.Error() + ": "
	}
	return fmt.Sprintf("%s%v\n%s", text, p.Value, p.Stack)
}

// Unwrap returns what who asked is told.
func (p *Panic) Unwrap() error { return p.Told }

// Recovered returns a value that recover returned as a Panic, which it may be already.
func Recovered(value any) *Panic {
	if p, ok := value.(*Panic); ok {
		return p
	}
	return &Panic{Value: value, Stack: debug.Stack()}
}

// Go runs f on a goroutine of its own.
func (g *Group) Go(f func()) { g.wg.Go(func() { g.Do(f) }) }

// Do runs f. If it panics, Do returns, and Wait panics.
func (g *Group) Do(f func()) {
	defer func() {
		if value := recover(); value != nil {
			p := Recovered(value)
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.was == nil {
				g.was = p
			}
		}
	}()
	f()
}

// Wait waits for all, and panics with the first *Panic of theirs, if there is one.
func (g *Group) Wait() {
	g.wg.Wait()
	if g.was != nil {
		panic(g.was)
	}
}
