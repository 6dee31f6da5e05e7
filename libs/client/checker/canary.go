package checker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/client"
)

// Canary writes to a server at a steady, low rate and looks at what it wrote again and
// again, in all the ways in which one can: by queries in both directions, page by page,
// by counts and by a live tail.
type Canary struct {
	Client  *client.Client
	History *History // what was written before, if it holds something, is looked for too
	Service string   // service_name of what is written; nobody else may write that
	Seed    uint64

	Rate    float64       // entries a second
	Streams int           // streams written to, each with an order of times of its own
	Every   time.Duration // from one look to the next
	Window  time.Duration // how long an entry is looked for
	Wait    time.Duration // for what is missing, until it counts as lost
	Tail    bool          // whether to follow with a tail
	// Told is given the report after each look; may be nil.
	Told func(Report)

	mu      sync.Mutex
	report  Report
	tail    Tail
	follows bool
	begun   Numbers // when the tail had begun: it owes what was sent from then on
	checked Mark    // and has delivered what of that was acknowledged until then
	due     Mark    // and at the next look should have delivered what was until then
}

// Report is what a canary has seen.
type Report struct {
	Seconds float64 `json:"seconds"`
	Verdict         // summed over all looks

	StoredRequests int     `json:"stored_requests"`
	FailedRequests int     `json:"failed_requests"`
	ResentRequests int     `json:"resent_requests"`
	LongestGap     float64 `json:"longest_push_gap_seconds"` // without a stored request
	PushP99        float64 `json:"push_p99_seconds"`
	Reads          int     `json:"reads"`           // ranges that were looked at
	FailedReads    int     `json:"failed_reads"`    // queries that were not answered
	BrokenTails    int     `json:"broken_tails"`    // tails that ended and were begun anew
	Tailed         int     `json:"tailed"`          // acknowledged entries that a tail had to deliver
	Wrong          string  `json:"wrong,omitempty"` // a wrong answer to a push
	LastError      string  `json:"last_error,omitempty"`
}

// Err returns an error if a promise is broken.
func (r Report) Err() error {
	if r.Wrong != "" {
		return errors.New(r.Wrong)
	}
	return r.Verdict.Err()
}

// Run writes and looks until ctx ends, looks at all of the window once more, and returns
// the report.
func (c *Canary) Run(ctx context.Context) Report {
	began := time.Now()
	load := c.load()
	stop := load.Start()
	defer stop()
	following, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer unfollow()
	if c.Tail {
		wg.Go(func() { c.follow(following) })
	}
	v := Verifier{Client: c.Client, History: c.History, Service: c.Service, Wait: c.Wait}
	rng := rand.New(rand.NewPCG(c.Seed, 1<<32))
	for {
		sleep(ctx, c.Every)
		if ctx.Err() != nil {
			break
		}
		now := time.Now()
		c.History.Forget(now.Add(-c.Window).UnixNano())
		c.tail.Forget(c.History)
		c.look(ctx, &v, Span{now.Add(-2 * c.Every).UnixNano(), now.Add(c.Every).UnixNano()})
		from := now.Add(-time.Duration(rng.Int64N(int64(c.Window)))).UnixNano()
		c.look(ctx, &v, Span{from, from + int64(2*c.Every)})
		c.heard(ctx)
		c.tell(load, began)
	}
	stop()
	// The last look is not hurried by the end, but has its own.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.Wait+time.Minute)
	defer cancel()
	end := time.Now().Add(time.Minute)
	step := max(time.Minute, c.Window/20)
	for from := end.Add(-c.Window); from.Before(end); from = from.Add(step) {
		c.look(last, &v, Span{from.UnixNano(), from.Add(step).UnixNano()})
	}
	c.heard(last)
	c.heard(last)
	c.tell(load, began)
	return c.report
}

// load returns the writers for the rate.
func (c *Canary) load() *Load {
	const writers = 2
	batch := int(min(200, max(1, c.Rate/4)))
	mean := float64(batch+1) / 2
	return &Load{
		Sink: c.Client, History: c.History, Seed: c.Seed, Service: c.Service, Writers: writers, Streams: c.Streams,
		Batch: batch, Pause: time.Duration(writers * mean / c.Rate * float64(time.Second)),
		Resend: true, Lenient: true, Back: min(FarthestBack, c.Window/2),
	}
}

func (c *Canary) look(ctx context.Context, v *Verifier, span Span) {
	w, err := v.Verify(ctx, span, 1000)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Add(w)
	if err != nil {
		if ctx.Err() == nil {
			c.report.FailedReads++
			c.report.LastError = err.Error()
		}
		return
	}
	c.report.Reads++
}

func (c *Canary) tell(load *Load, began time.Time) {
	p := load.Pushes()
	c.mu.Lock()
	r := &c.report
	r.Seconds = time.Since(began).Seconds()
	r.StoredRequests, r.FailedRequests, r.ResentRequests = p.Stored, p.Failed, p.Resent
	r.LongestGap, r.PushP99 = p.LongestGap.Seconds(), p.Took(0.99).Seconds()
	if err := load.Err(); err != nil {
		r.Wrong = err.Error()
	}
	told := *r
	c.mu.Unlock()
	if c.Told != nil {
		c.Told(told)
	}
}

// follow keeps a tail going.
func (c *Canary) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.tail.Follow(ctx, c.Client, c.Service, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.follows, c.begun, c.checked, c.due = true, c.History.Numbers(), c.History.Mark(), c.History.Mark()
		})
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		if c.follows {
			c.report.BrokenTails++
		}
		c.follows = false
		c.report.LastError = fmt.Sprintf("tail: %v", err)
		c.mu.Unlock()
		sleep(ctx, time.Second)
	}
}

// heard checks that the tail has delivered what was acknowledged until the last call. If
// ctx ends before that is known, the next call checks it.
func (c *Canary) heard(ctx context.Context) {
	c.mu.Lock()
	follows, begun, from, to := c.follows, c.begun, c.checked, c.due
	c.mu.Unlock()
	if !follows {
		return
	}
	ids := c.History.between(begun, from, to)
	now := c.History.Mark()
	err := c.tail.await(ctx, ids, c.Wait)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.follows || c.checked != from { // it broke meanwhile
		return
	}
	if err != nil && ctx.Err() != nil {
		return
	}
	v := &c.report.Verdict
	var missing *missingError
	if errors.As(err, &missing) && missing.dropped == 0 {
		v.broken(&v.TailGap, "%v", missing)
		v.TailGap += missing.missing - 1
	}
	c.tail.Judge(v, c.History)
	c.report.Tailed += len(ids)
	c.checked, c.due = to, now
}
