// Package bug keeps a panic from ending more than what it happened in.
package bug

import (
	"errors"
	"runtime/debug"
)

// ErrPanic is what became of work that ended in a panic. It says nothing about what was worked
// on, which may be as it should be.
var ErrPanic = errors.New("internal error: a panic")

// Caught calls f and returns its error. If f panics it calls tell with the value and the stack,
// for the log and a metric, and returns ErrPanic. What f was changing is left as it was then: f
// must be such that nobody looks at that any more, and that it holds no lock.
func Caught(f func() error, tell func(value any, stack []byte)) (err error) {
	defer func() {
		if value := recover(); value != nil {
			tell(value, debug.Stack())
			err = ErrPanic
		}
	}()
	return f()
}
