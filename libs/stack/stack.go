// Package stack makes room on the stacks of goroutines.
package stack

// size is what fits, with a little around it, on a stack of 16 KiB: larger ones are not kept
// for the next goroutines of a processor.
const size = 12 << 10

// Grow makes room for deep calls on the stack of the calling goroutine, which should have just
// begun. Otherwise the stack doubles three times while calls go deeper, and each time every
// frame that is on it is looked at and copied: of a small query that is a tenth.
func Grow() { frame(false) }

// frame has so large a frame that room is made for it, which nothing is written to.
//
//go:noinline
func frame(fill bool) {
	if fill {
		var room [size]byte
		touch(&room)
	}
}

//go:noinline
func touch(room *[size]byte) { room[0] = 1 }
