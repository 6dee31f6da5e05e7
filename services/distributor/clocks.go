package distributor

import (
	"context"
	"log/slog"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// clocks knows the clocks of ingesters' processes, by which deadlines are: what is done to
// the clocks of machines makes no difference to them. They are learnt from answers. An
// answer is made before it arrives, so that a deadline is never later than was meant, but
// earlier by the time that the answer took.
type clocks struct {
	log *slog.Logger
	now func() time.Time // what the own machine's clock says

	mu sync.Mutex
	of map[string]reading // by member
}

// reading is a clock as it was at a time.
type reading struct {
	id    uint64
	nanos int64
	at    time.Time     // with a monotonic reading
	ahead time.Duration // of the machine's clock, of the own one's; it was no less a moment ago
}

const (
	// clockAge is how long a clock is trusted to run as the own one does.
	clockAge = 10 * time.Second
	// maxSkew is by how much the clocks of two machines may differ before it is said.
	maxSkew = 30 * time.Second
)

func newClocks(log *slog.Logger, now func() time.Time) *clocks {
	return &clocks{log: log, now: now, of: map[string]reading{}}
}

// learn takes in a clock that has just been told.
func (c *clocks) learn(member string, clock *ingestv1.ProcessClock) {
	if clock == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := reading{clock.GetId(), clock.GetNanos(), time.Now(), 0}
	if at := clock.GetUnixNanos(); at != 0 {
		r.ahead = time.Duration(at - c.now().UnixNano())
	}
	if was := c.of[member].ahead; r.ahead.Abs() > maxSkew && was.Abs() <= maxSkew {
		c.log.Warn("the clocks of two machines differ", "member", member, "ahead", r.ahead.Round(time.Second).String())
	}
	c.of[member] = r
}

// skew returns by how much the clock of an ingester's machine differs from the own one,
// of those that have told of it lately the one that differs most.
func (c *clocks) skew() (most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.of {
		if time.Since(r.at) < time.Minute {
			most = max(most, r.ahead.Abs())
		}
	}
	return most
}

// forget makes the clock of a member be asked for before the next deadline.
func (c *clocks) forget(member string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.of[member]; ok {
		r.at = time.Time{}
		c.of[member] = r
	}
}

// deadline returns a time by a member's clock, or nil if that is not known.
func (c *clocks) deadline(member string, t time.Time) *ingestv1.ProcessClock {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.of[member]
	if !ok || time.Since(r.at) > clockAge {
		return nil
	}
	return &ingestv1.ProcessClock{Id: r.id, Nanos: r.nanos + int64(t.Sub(r.at))}
}

// deadline returns a time by a member's clock, which it asks for where it must.
func (s *Service) deadline(ctx context.Context, m *ring.Member, c ingestv1.IngestServiceClient, t time.Time) (*ingestv1.ProcessClock, error) {
	if d := s.clocks.deadline(m.Name, t); d != nil {
		return d, nil
	}
	resp, err := c.Clock(ctx, &ingestv1.ClockRequest{})
	if err != nil {
		return nil, err
	}
	clock := resp.GetClock()
	if clock == nil {
		return nil, rpcerr.New(rpcerr.Internal, "ingester %s does not tell its clock", m.Name)
	}
	// Not by what is known now: that may have been forgotten again.
	d := &ingestv1.ProcessClock{Id: clock.GetId(), Nanos: clock.GetNanos() + int64(time.Until(t))}
	s.clocks.learn(m.Name, clock)
	return d, nil
}
