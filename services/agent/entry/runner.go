package entry

import (
	"context"
	"time"
)

// Runner is a pipeline's state for one source. One goroutine at a time uses it:
// the one that reads the source.
//
//	for each read:
//	    out, err = runner.Run(ctx, batch.Entries, now)
//	    ... hand out on; its positions may be committed up to what was read,
//	        all but runner.Held ...
//	when runner.Deadline has passed, and there is nothing to read:
//	    out = runner.Flush(now, false)
//	at the source's end, or before the agent ends in order:
//	    out = runner.Flush(now, true)
type Runner interface {
	// Run passes entries through the stages and returns what comes out, which is
	// valid until the next call and may be in, changed. The entries are in the
	// order in which they were read; one may come out in a later call, joined
	// with those that follow. The error is that of ctx, when a stage that waits
	// (limit) was cut short: then in was not taken as a whole, what came out is to
	// be thrown away, and the Runner is at its end. in is to be read again later.
	Run(ctx context.Context, in []Entry, now time.Time) ([]Entry, error)
	// Deadline is when Flush has something to give out; zero: nothing is held.
	Deadline() time.Time
	// Flush gives out joined lines whose time has come, or all that is held.
	Flush(now time.Time, all bool) []Entry
	// Held appends the spans of the entries that were taken and have not come
	// out, in ascending order. After a restart these are to be read again, before
	// all that follows the position that was committed; so a position is complete
	// only together with them.
	Held(dst []Span) []Span
	// Release gives back what the entries lie in that came out last, which nobody
	// may use any more. It is not needed, but saves memory where there are many
	// Runners.
	Release()
}

// Plain is the Runner of a pipeline without stages.
type Plain struct{}

// Run returns in.
func (Plain) Run(_ context.Context, in []Entry, _ time.Time) ([]Entry, error) { return in, nil }

// Deadline is zero.
func (Plain) Deadline() time.Time { return time.Time{} }

// Flush gives nothing.
func (Plain) Flush(time.Time, bool) []Entry { return nil }

// Release does nothing.
func (Plain) Release() {}

// Held gives nothing.
func (Plain) Held(dst []Span) []Span { return dst }
