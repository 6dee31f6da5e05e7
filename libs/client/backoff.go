package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait between attempts: Min, doubled each time up to
// Max, of which a random half is left off so that many clients do not come back
// at once. A server's RetryInfo is a lower bound, to which up to a quarter is
// added.
type Backoff struct {
	// Min is the first wait. Default: 100 ms.
	Min time.Duration
	// Max is the longest wait. Default: 30 s.
	Max time.Duration
	// Rand gives numbers in [0, 1). Default: the runtime's generator.
	Rand func() float64
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 5 * time.Minute

func (b Backoff) withDefaults() Backoff {
	if b.Min <= 0 {
		b.Min = 100 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 30 * time.Second
	}
	b.Max = max(b.Max, b.Min)
	if b.Rand == nil {
		b.Rand = rand.Float64
	}
	return b
}

// Wait gives the wait after failure number attempt (from 0), where the server
// asked for at least retryAfter (0: it did not).
func (b Backoff) Wait(attempt int, retryAfter time.Duration) time.Duration {
	b = b.withDefaults()
	d := b.Min
	for range attempt {
		if d >= b.Max/2 {
			d = b.Max
			break
		}
		d *= 2
	}
	d = d/2 + time.Duration(b.Rand()*float64(d)/2)
	if retryAfter = min(retryAfter, maxRetryAfter); retryAfter > 0 {
		asked := retryAfter + time.Duration(b.Rand()*float64(retryAfter)/4)
		d = max(d, asked)
	}
	return d
}

// sleep waits for d or until ctx ends, whose error it then returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
