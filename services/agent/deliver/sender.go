package deliver

import (
	"context"
	"log/slog"
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

	mu      sync.Mutex
	flights []*flight
	acked   map[positions.Key]int64 // offsets of files
}

// flight is a batch that is being sent.
type flight struct {
	b    *queue.Batch
	done bool
	// repeated: an attempt that was given up may still look at the batch's memory.
	repeated bool
}

func newSender(cfg ClientConfig, d *Delivery) (*sender, error) {
	s := &sender{
		cfg: cfg, log: d.log.With("client", cfg.Name), m: d.m, r: d.q.Reader(cfg.Name),
		waits: client.Backoff{Min: cfg.MinBackoff, Max: cfg.MaxBackoff},
		aside: newAside(d.refusedFile(cfg.Name)), acked: map[positions.Key]int64{},
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
	slots := make(chan struct{}, max(1, s.cfg.InFlight))
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		b, err := s.r.Next(ctx)
		if err != nil {
			return
		}
		f := &flight{b: b}
		s.mu.Lock()
		s.flights = append(s.flights, f)
		s.oldest.Store(s.flights[0].b.Time)
		s.mu.Unlock()
		s.m.pending.WithLabelValues(s.cfg.Name).Set(float64(s.r.Behind()))
		wg.Go(func() {
			before := s.retries.Load()
			if s.batch(ctx, b) {
				f.repeated = s.retries.Load() != before
				s.landed(f)
			}
			<-slots
		})
	}
}

// landed acknowledges what is settled up to the first batch that is not.
func (s *sender) landed(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.done = true
	n := 0
	for n < len(s.flights) && s.flights[n].done {
		b := s.flights[n].b
		for _, p := range b.After.Files {
			s.acked[p.Key()] = p.Offset
		}
		s.r.Ack(b.Seq)
		if !s.flights[n].repeated {
			s.r.Release(b)
		}
		n++
	}
	s.flights = append(s.flights[:0], s.flights[n:]...)
	if len(s.flights) == 0 {
		s.oldest.Store(0)
	}
	s.m.pending.WithLabelValues(s.cfg.Name).Set(float64(s.r.Behind()))
}

// batch sends a batch until it is settled. false: ctx has ended before.
func (s *sender) batch(ctx context.Context, b *queue.Batch) bool {
	for _, r := range b.Requests {
		for attempt := 0; ; attempt++ {
			if ctx.Err() != nil {
				return false
			}
			out, err := s.t.send(ctx, r.Tenant, r.Body)
			if err == nil {
				s.trouble.Store(nil)
				s.account(r, out)
				break
			}
			if ctx.Err() != nil {
				return false
			}
			// Not the batch's fault, nor one that passes by itself: credentials,
			// the tenant, another kind of server. Someone will put it right.
			wait := s.waits.Wait(attempt, 0)
			s.onRetry("refused", err.Error(), wait)
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return false
			}
		}
	}
	s.m.batches.WithLabelValues(s.cfg.Name).Inc()
	s.m.oldest.WithLabelValues(s.cfg.Name).Set(time.Since(time.Unix(0, b.Time)).Seconds())
	return true
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
