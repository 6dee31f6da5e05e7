package objstore

import (
	"strings"
	"sync"
	"time"
)

const (
	// awayAfter is how long attempts fail before the store is said not to answer, unless an
	// operation has failed after its last attempt.
	awayAfter = 10 * time.Second
	// awayUntil is how long that is said after the last failure: then nobody tries any more.
	awayUntil = 10 * time.Minute
)

// away knows whether the store answers, reads and writes apart: one may be denied, or out of
// room, while the other is not.
type away struct {
	mu            sync.Mutex // guards what follows
	reads, writes failing
}

// failing is attempts that failed since the last answer.
type failing struct {
	since time.Time // when the first of them began; zero: there is none
	last  time.Time // when the last of them ended
	final bool      // an operation failed after its last attempt, or is not allowed
}

func (a *away) of(op string) *failing {
	switch op {
	case "put", "put_new", "delete":
		return &a.writes
	}
	return &a.reads
}

func (a *away) answered(op string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.of(op) = failing{}
}

func (a *away) failed(op string, began, now time.Time, final bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.of(op)
	if f.since.IsZero() || now.Sub(f.last) >= awayUntil {
		*f = failing{since: began}
	}
	f.last, f.final = now, f.final || final
}

// Away tells what of the store does not answer and since when, "" if all does as far as was
// tried.
func (c *Client) Away() string {
	now := time.Now()
	c.away.mu.Lock()
	defer c.away.mu.Unlock()
	var out []string
	for _, k := range []struct {
		what string
		failing
	}{{"reads", c.away.reads}, {"writes", c.away.writes}} {
		if !k.since.IsZero() && (k.final || now.Sub(k.since) >= awayAfter) && now.Sub(k.last) < awayUntil {
			out = append(out, k.what+" fail since "+k.since.UTC().Format(time.RFC3339))
		}
	}
	return strings.Join(out, ", ")
}
