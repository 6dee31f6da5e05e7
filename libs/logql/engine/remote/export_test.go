package remote

import "time"

// Hurry makes clients give up sooner, and servers speak more often.
func Hurry(s, h time.Duration) (undo func()) {
	s0, h0 := silence, heartbeat
	silence, heartbeat = s, h
	return func() { silence, heartbeat = s0, h0 }
}
