package deliver

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/queue"
)

// outcome is what became of a request.
type outcome struct {
	accepted uint64
	// refused are what the server will never take, decoded for the record.
	refused []refusal
	// others is how many more were refused than are listed.
	others uint64
}

// refusal is entries of one stream that were refused.
type refusal struct {
	reason, message string
	labels          map[string]string
	entries         []*pushv1.Entry
}

// transport sends requests to one kind of server. An error is one of the kind that
// passes, or that a person has to cure: the request is to be sent again.
type transport interface {
	send(ctx context.Context, tenant string, body []byte) (outcome, error)
	close() error
}

// sender brings the queue's batches to one client's server.
type sender struct {
	cfg     ClientConfig
	log     *slog.Logger
	m       *Metrics
	r       *queue.Reader
	t       transport
	waits   client.Backoff
	aside   *aside
	trouble atomic.Pointer[string] // why nothing goes out; nil: all is well
	lastLog time.Time

	sent, refused, dropped, retries atomic.Uint64
	oldest                          atomic.Int64 // Time of the batch being sent; 0: none

	busy  chan struct{} // requests under way
	moved chan struct{} // batches have landed

	mu      sync.Mutex
	flights []*flight
	lanes   map[string]*lane        // by tenant
	tenant  string                  // of the newest request
	several bool                    // tenants were seen
	acked   map[positions.Key]int64 // offsets of files
}

const (
	// maxFlights is how many batches are read ahead where there are several tenants,
	// so that one that is throttled holds up the others only beyond that.
	maxFlights = 16
	// maxRequests is how many requests are under way at a time.
	maxRequests = 64
)

// lane is what is to be sent for one tenant, in order.
type lane struct {
	todo    []piece
	workers int
}

// piece is one tenant's part of a batch.
type piece struct {
	f *flight
	r queue.Request
}

// flight is a batch that is being sent.
type flight struct {
	b    *queue.Batch
	left int // pieces that are not settled
	// repeated: an attempt that was given up may still look at the batch's memory.
	repeated bool
}

func newSender(cfg ClientConfig, d *Delivery) (*sender, error) {
	s := &sender{
		cfg: cfg, log: d.log.With("client", cfg.Name), m: d.m, r: d.q.Reader(cfg.Name),
		waits: client.Backoff{Min: cfg.MinBackoff, Max: cfg.MaxBackoff},
		aside: newAside(d.refusedFile(cfg.Name)), acked: map[positions.Key]int64{},
		busy: make(chan struct{}, maxRequests), moved: make(chan struct{}, 1), lanes: map[string]*lane{},
	}
	for _, p := range d.q.State().Files {
		s.acked[p.Key()] = p.Offset
	}
	var err error
	s.t, err = newTransport(cfg, d.cfg.UserAgent, s.onRetry)
	return s, err
}

// onRetry is told of attempts that failed.
func (s *sender) onRetry(code, message string, wait time.Duration) {
	s.retries.Add(1)
	s.m.retries.WithLabelValues(s.cfg.Name, code).Inc()
	s.trouble.Store(&message)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.lastLog) >= 10*time.Second {
		s.lastLog = now
		s.log.Warn("cannot push; trying again", "err", message, "wait", wait)
	}
}

// run sends until ctx ends.
func (s *sender) run(ctx context.Context) {
	defer s.r.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s.mu.Lock()
		most := max(1, s.cfg.InFlight)
		if s.several {
			most = max(most, maxFlights)
		}
		full := len(s.flights) >= most
		s.mu.Unlock()
		if full {
			select {
			case <-s.moved:
			case <-ctx.Done():
				return
			}
			continue
		}
		b, err := s.r.Next(ctx)
		if err != nil {
			return
		}
		f := &flight{b: b, left: len(b.Requests)}
		s.mu.Lock()
		s.flights = append(s.flights, f)
		s.oldest.Store(s.flights[0].b.Time)
		if f.left == 0 {
			s.land() // it only says where sources are
		}
		for _, r := range b.Requests {
			if l := s.enqueue(f, r); l != nil {
				wg.Go(func() { s.drain(ctx, l) })
			}
		}
		s.mu.Unlock()
		s.m.pending.WithLabelValues(s.cfg.Name).Set(float64(s.r.Behind()))
	}
}

// enqueue gives a request to its tenant's lane, which it returns if that wants a
// worker more. The caller holds mu.
func (s *sender) enqueue(f *flight, r queue.Request) *lane {
	tenant := cmp.Or(r.Tenant, s.cfg.Tenant)
	s.several = s.several || s.tenant != tenant && (s.tenant != "" || len(f.b.Requests) > 1)
	s.tenant = tenant
	l := s.lanes[tenant]
	if l == nil {
		l = &lane{}
		s.lanes[tenant] = l
	}
	l.todo = append(l.todo, piece{f, r})
	if l.workers >= max(1, s.cfg.InFlight) {
		return nil
	}
	l.workers++
	return l
}

// drain sends what a lane has until that is all, or ctx ends.
func (s *sender) drain(ctx context.Context, l *lane) {
	for {
		select {
		case s.busy <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		if len(l.todo) == 0 {
			if l.workers--; l.workers == 0 {
				maps.DeleteFunc(s.lanes, func(_ string, o *lane) bool { return o == l })
			}
			s.mu.Unlock()
			<-s.busy
			return
		}
		p := l.todo[0]
		l.todo = l.todo[1:]
		s.mu.Unlock()
		before := s.retries.Load()
		ok := s.send(ctx, p.r)
		<-s.busy
		if !ok {
			return
		}
		s.mu.Lock()
		p.f.left--
		p.f.repeated = p.f.repeated || s.retries.Load() != before
		s.land()
		s.mu.Unlock()
		s.m.pending.WithLabelValues(s.cfg.Name).Set(float64(s.r.Behind()))
	}
}

// land acknowledges what is settled up to the first batch that is not. The caller
// holds mu.
func (s *sender) land() {
	n := 0
	for n < len(s.flights) && s.flights[n].left == 0 {
		b := s.flights[n].b
		for _, p := range b.After.Files {
			s.acked[p.Key()] = p.Offset
		}
		s.m.batches.WithLabelValues(s.cfg.Name).Inc()
		s.m.oldest.WithLabelValues(s.cfg.Name).Set(time.Since(time.Unix(0, b.Time)).Seconds())
		s.r.Ack(b.Seq)
		if !s.flights[n].repeated {
			s.r.Release(b)
		}
		n++
	}
	s.flights = slices.Delete(s.flights, 0, n)
	if len(s.flights) == 0 {
		s.oldest.Store(0)
	}
	if n > 0 {
		select {
		case s.moved <- struct{}{}:
		default:
		}
	}
}

// send sends a request until it is settled. false: ctx has ended before.
func (s *sender) send(ctx context.Context, r queue.Request) bool {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		out, err := s.t.send(ctx, r.Tenant, r.Body)
		if err == nil {
			s.trouble.Store(nil)
			s.account(r, out)
			return true
		}
		if ctx.Err() != nil {
			break
		}
		// Not the batch's fault, nor one that passes by itself: credentials, the
		// tenant, another kind of server. Someone will put it right.
		wait := s.waits.Wait(attempt, 0)
		s.onRetry("refused", err.Error(), wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	return false
}

// account counts what became of a request, and sets aside what was refused.
func (s *sender) account(r queue.Request, out outcome) {
	s.m.accepted.WithLabelValues(s.cfg.Name).Add(float64(out.accepted))
	s.m.sentBytes.WithLabelValues(s.cfg.Name).Add(float64(len(r.Body)))
	s.sent.Add(out.accepted)
	count := func(reason string, n uint64) {
		s.m.refused.WithLabelValues(s.cfg.Name, reason).Add(float64(n))
		s.refused.Add(n)
	}
	if out.others > 0 {
		count("unlisted", out.others)
	}
	type about struct {
		n       int
		example refusal
	}
	by := map[string]*about{}
	for _, f := range out.refused {
		count(f.reason, uint64(len(f.entries)))
		if by[f.reason] == nil {
			by[f.reason] = &about{example: f}
		}
		by[f.reason].n += len(f.entries)
		if err := s.aside.write(r.Tenant, f); err != nil {
			s.log.Error("cannot set refused entries aside", "err", err)
		}
	}
	for reason, a := range by {
		s.log.Warn("the server refused lines", "reason", reason, "lines", a.n, "message", a.example.message, "stream", a.example.labels)
	}
}

func (s *sender) close() error { return s.t.close() }
