package checker

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

// Tail collects what a live tail of a Load delivers. The zero Tail is ready; do not copy
// it. Safe for concurrent use.
type Tail struct {
	mu      sync.Mutex
	got     map[ID]int // how often
	wrong   []string
	dropped int
	away    int    // how often it said that an ingester is away that may have entries
	reason  string // of the last that was dropped
}

// Follow follows the entries of a service until ctx ends or the tail fails, and returns
// why. following is called once, when the tail has begun.
func (t *Tail) Follow(ctx context.Context, c *client.Client, service string, following func()) error {
	once := sync.OnceFunc(following)
	for resp, err := range c.Tail(ctx, &tailv1.TailRequest{Query: Selector(service)}) {
		if err != nil {
			return err
		}
		t.take(resp)
		once()
	}
	return ctx.Err()
}

func (t *Tail) take(resp *tailv1.TailResponse) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.got == nil {
		t.got = map[ID]int{}
	}
	for _, d := range resp.GetDropped() {
		t.reason = d.GetReason()
		if d.GetAwaited() {
			t.away++
			continue
		}
		t.dropped += int(max(1, d.GetEntries()))
	}
	for s, e := range client.Entries(resp) {
		x, err := ParseLine(client.Line(e))
		if err != nil || x.Time != e.GetTimestampUnixNano() || fmt.Sprint(x.Stream) != s.GetLabels()["stream"] {
			if len(t.wrong) < 20 {
				t.wrong = append(t.wrong, fmt.Sprintf("stream %v, time %d, %+v, %v", s.GetLabels(), e.GetTimestampUnixNano(), x, err))
			}
			continue
		}
		t.got[x.ID]++
	}
}

// Len is how many different entries were delivered and are not forgotten.
func (t *Tail) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.got)
}

// Missing returns an error that counts which of some entries were not delivered yet, or
// nil.
func (t *Tail) Missing(ids []ID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	missing := 0
	var example ID
	for _, id := range ids {
		if t.got[id] == 0 {
			missing++
			example = id
		}
	}
	if missing == 0 {
		return nil
	}
	return &missingError{missing, len(ids), example, t.dropped + t.away, t.reason}
}

type missingError struct {
	missing, of int
	example     ID
	dropped     int // as it said, or awaited
	reason      string
}

func (e *missingError) Error() string {
	return fmt.Sprintf("the tail misses %d of %d entries, such as %+v; %d were left out or are awaited %q", e.missing, e.of, e.example, e.dropped, e.reason)
}

// Judge counts into v what the tail did wrong since the last call: entries that it
// delivered more than once although they were sent once, left out, or changed; and how
// often it said that it awaits some.
func (t *Tail) Judge(v *Verdict, h *History) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, times := range t.got {
		if times > 1 && !h.resent(id) {
			v.broken(&v.TailTwice, "the tail delivered %+v %d times", id, times)
			t.got[id] = 1
		}
	}
	for _, w := range t.wrong {
		v.broken(&v.Corrupt, "the tail delivered %s", w)
	}
	for range t.dropped {
		v.broken(&v.TailGap, "the tail left out entries: %s", t.reason)
	}
	v.TailAway += t.away
	t.wrong, t.dropped, t.away = nil, 0, 0
}

// Forget forgets the entries that the history has forgotten, and no others: an entry that
// it remembers may be looked for.
func (t *Tail) Forget(h *History) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(t.got, func(id ID, _ int) bool { return h.find(id) == nil })
}

// await waits until the tail has delivered some entries, for a time at most.
func (t *Tail) await(ctx context.Context, ids []ID, wait time.Duration) error {
	for began := time.Now(); ; {
		err := t.Missing(ids)
		if err == nil || time.Since(began) > wait || ctx.Err() != nil {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
	}
}
