package model

import "time"

// SlotWidths are the widths of slots of time that rows are told apart by: every
// source cuts the runs of a stream at multiples of one of them, so that sources which
// hold the same rows of a slot have equal runs. Each divides the next, and the windows
// that people ask for.
var SlotWidths = [...]int64{
	int64(5 * time.Minute), int64(15 * time.Minute), int64(time.Hour), int64(6 * time.Hour), int64(24 * time.Hour), int64(28 * 24 * time.Hour),
}

// Slot returns the number of the slot of that width that a time is in.
func Slot(t, width int64) int64 {
	s := t / width
	if t%width < 0 {
		s--
	}
	return s
}
