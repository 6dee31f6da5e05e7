package distributor

import (
	"log/slog"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// breakAfter is how long an ingester may leave a request without an answer before
	// no more are sent to it: the other replicas' acknowledgements do not wait for it.
	breakAfter = time.Second
	// breakFor is how long nothing is sent then. The first request after that finds out
	// whether it is back; while it is on its way nothing else is sent.
	breakFor = time.Second
	// breakFailures is after how many failures in a row nothing is sent.
	breakFailures = 5
)

// breakers keep requests from ingesters that do not answer, so that these fail at once
// instead of filling memory until their time is over.
type breakers struct {
	log   *slog.Logger
	after time.Duration // breakAfter, more in tests on machines that are busy

	mu sync.Mutex // guards what follows
	of map[string]*breaker
}

type breaker struct {
	failures int       // in a row
	until    time.Time // while open: when one request may try
	broken   bool
}

func newBreakers(log *slog.Logger) *breakers {
	return &breakers{log: log, after: breakAfter, of: map[string]*breaker{}}
}

// allow returns an error if the ingester is not to be written to now.
func (b *breakers) allow(name string, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.of[name]
	if x == nil || !x.broken {
		return nil
	}
	if wait := x.until.Sub(now); wait > 0 {
		return rpcerr.New(rpcerr.Unavailable, "ingester %s has not answered lately", name).WithRetry(wait)
	}
	x.until = now.Add(breakFor) // this one tries
	return nil
}

// refuses reports whether allow would return an error. It lets no request try.
func (b *breakers) refuses(name string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.of[name]
	return x != nil && x.broken && now.Before(x.until)
}

// failed notes that a request found nobody.
func (b *breakers) failed(name string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.of[name]
	if x == nil {
		x = &breaker{}
		b.of[name] = x
	}
	if x.failures++; x.failures >= breakFailures || x.broken {
		b.trip(name, x, now)
	}
}

// trip is called with mu held.
func (b *breakers) trip(name string, x *breaker, now time.Time) {
	if !x.broken {
		x.broken = true
		b.log.Warn("an ingester does not answer and is not written to for now", "member", name)
	}
	x.until = now.Add(breakFor)
}

// worked notes that an ingester has answered.
func (b *breakers) worked(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.of[name]; x != nil {
		if x.broken {
			b.log.Info("an ingester answers again", "member", name)
		}
		delete(b.of, name)
	}
}

// watch trips the breaker if it is not stopped in time.
func (b *breakers) watch(name string, now func() time.Time) *time.Timer {
	return time.AfterFunc(b.after, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		x := b.of[name]
		if x == nil {
			x = &breaker{}
			b.of[name] = x
		}
		b.trip(name, x, now())
	})
}

// open returns how many ingesters are not written to.
func (b *breakers) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, x := range b.of {
		if x.broken {
			n++
		}
	}
	return n
}

// unreachable reports whether an ingester did not answer, as opposed to having refused.
func unreachable(err error) bool {
	switch rpcerr.ReasonOf(err) {
	case rpcerr.Unavailable, rpcerr.NotReady, rpcerr.Timeout:
		return true
	}
	return false
}
