package follow

import (
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
)

// FileStatus is a followed file at one moment.
type FileStatus struct {
	Key    positions.Key
	Path   string
	Labels *entry.Set
	// Rotated: its path names another file now, or none.
	Rotated bool
	// Waiting: there is more to read, but no room or descriptor.
	Waiting bool
	// Lines and Bytes were read since the follower has the file; the rates are of
	// the last moments.
	Lines, Bytes             uint64
	LinesPerSec, BytesPerSec float64
	Size, Read               int64
	// BehindSince is when it was last read to its end.
	BehindSince time.Time
}

// Status gives the files as they were a moment ago. Safe for concurrent use.
func (fw *Follower) Status() []FileStatus {
	if p := fw.status.Load(); p != nil {
		return *p
	}
	return nil
}

// show makes what Status gives, about once a second.
func (fw *Follower) show(now time.Time) {
	gone := now.Sub(fw.shown)
	if gone < time.Second && len(fw.Status()) == len(fw.order) {
		return
	}
	out := make([]FileStatus, 0, len(fw.order))
	for _, f := range fw.order {
		s := FileStatus{
			Key: f.pos.Key(), Path: f.pos.Path, Labels: f.set, Rotated: f.rotated, Lines: f.lines, Bytes: f.bytes,
			Size: f.size, Read: f.pos.Offset, BehindSince: f.behindSince,
		}
		s.Waiting = (fw.full || f.wants) && f.size > f.pos.Offset
		if sec := gone.Seconds(); sec < 60 {
			s.LinesPerSec = float64(f.lines-f.shownLines) / sec
			s.BytesPerSec = float64(f.bytes-f.shownBytes) / sec
		}
		f.shownLines, f.shownBytes = f.lines, f.bytes
		out = append(out, s)
	}
	fw.shown = now
	fw.status.Store(&out)
}
