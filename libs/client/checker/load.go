package checker

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// Service is the service_name of the streams of a Load that does not say otherwise.
const Service = "checker"

// FarthestBack is how long ago the oldest entries of a Load are when they are made.
const FarthestBack = 30 * time.Minute

// Sink takes requests.
type Sink interface {
	Push(ctx context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error)
}

// Load is writers that push at a steady rate. Among their entries are some of equal
// and of falling times, equal entries within a request, requests that are sent again,
// and entries that must be refused. Every second failed request is sent again until
// it is stored; the others are left with an unknown outcome.
type Load struct {
	Sink    Sink
	History *History
	Seed    uint64

	Service string        // default Service
	Writers int           // default 4
	Streams int           // default 8
	Batch   int           // entries of a request at most; default 40
	Pause   time.Duration // of each writer between requests; default 10 ms
	Timeout time.Duration // of a request; default 30 s
	Resend  bool          // send some stored requests again
	Failed  func(error)   // told of each failed request; may be nil
	Back    time.Duration // how far back times go; default FarthestBack
	// Lenient sends no entries that must be refused, and takes a refusal, such as that of
	// a rate limit, for no mistake.
	Lenient bool

	next  []writer // goes on where the last Run ended
	mu    sync.Mutex
	wrong []string
	// mistakes is how many there were; wrong has the first.
	mistakes int
	pushes   Pushes
}

// Pushes is how requests fared.
type Pushes struct {
	Stored, Failed, Resent int
	LongestGap             time.Duration // between two stored requests of any writers, while there were writers
	took                   histogram     // by requests that were stored
	last                   time.Time
}

// Took returns the time within which a share of the stored requests were stored, to a
// tenth or so: Took(0.99) is the 99th percentile. 0: there were none.
func (p Pushes) Took(share float64) time.Duration { return p.took.quantile(share) }

// histogram counts times, in classes each a tenth larger than the one before.
type histogram [160]int

func (h *histogram) add(d time.Duration) {
	h[min(len(h)-1, max(0, int(math.Log(float64(d)/1e5)/math.Log(1.1))))]++
}

func (h *histogram) quantile(share float64) time.Duration {
	total := 0
	for _, n := range h {
		total += n
	}
	if total == 0 {
		return 0
	}
	seen := 0
	for i, n := range h {
		if seen += n; float64(seen) >= share*float64(total) {
			return time.Duration(1e5 * math.Pow(1.1, float64(i+1)))
		}
	}
	return 0
}

type writer struct {
	id      uint32
	seq     uint32
	rng     *rand.Rand
	times   []int64 // last time used, by stream
	batch   int64   // last batch time
	history []*request
}

type request struct {
	push    *pushv1.PushRequest
	index   [][]Entry // as push.Streams and their entries
	unique  []Entry
	invalid map[ID]bool
}

// Run pushes until ctx ends; requests in flight are finished. It may be called again
// when it has returned.
func (l *Load) Run(ctx context.Context) {
	l.defaults()
	l.mu.Lock()
	l.pushes.last = time.Now()
	l.mu.Unlock()
	var wg sync.WaitGroup
	for i := range l.next {
		wg.Go(func() { l.write(ctx, &l.next[i]) })
	}
	wg.Wait()
}

// Start runs the load in the background until stop is called, which waits for it.
func (l *Load) Start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (l *Load) defaults() {
	if l.Service == "" {
		l.Service = Service
	}
	l.Writers, l.Streams, l.Batch = orInt(l.Writers, 4), orInt(l.Streams, 8), orInt(l.Batch, 40)
	if l.Back == 0 {
		l.Back = FarthestBack
	}
	if l.Pause == 0 {
		l.Pause = 10 * time.Millisecond
	}
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	for i := len(l.next); i < l.Writers; i++ {
		l.next = append(l.next, writer{id: uint32(i), seq: l.History.next(uint32(i)), rng: rand.New(rand.NewPCG(l.Seed, uint64(i))), times: make([]int64, l.Streams)})
	}
}

func orInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Pushes returns how the requests fared so far.
func (l *Load) Pushes() Pushes {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pushes
	if !p.last.IsZero() {
		p.LongestGap = max(p.LongestGap, time.Since(p.last))
	}
	return p
}

// ResetGap begins to look for the longest gap, and at how long requests take, anew.
func (l *Load) ResetGap() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pushes.LongestGap, l.pushes.last, l.pushes.took = 0, time.Now(), histogram{}
}

// Err returns an error if valid entries were refused or invalid ones taken.
func (l *Load) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.History.Err(); err != nil {
		return fmt.Errorf("the history cannot be written: %w", err)
	}
	if len(l.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%d wrong answers to pushes, the first: %s", l.mistakes, l.wrong[0])
}

func (l *Load) write(ctx context.Context, w *writer) {
	for ctx.Err() == nil && l.History.Err() == nil {
		r := l.make(w)
		if l.Resend && len(w.history) > 0 && w.rng.IntN(100) == 0 {
			r = w.history[w.rng.IntN(len(w.history))]
			l.mu.Lock()
			l.pushes.Resent++
			l.mu.Unlock()
		}
		for !l.send(r) && w.rng.IntN(2) == 0 && ctx.Err() == nil {
			sleep(ctx, l.Pause)
		}
		if len(w.history) < 50 {
			w.history = append(w.history, r)
		} else {
			w.history[w.rng.IntN(50)] = r
		}
		sleep(ctx, l.Pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// make returns the next request of a writer.
func (l *Load) make(w *writer) *request {
	now := time.Now().UnixNano()
	w.batch = max(w.batch+1, now)
	r := &request{push: &pushv1.PushRequest{BatchTimeUnixNano: w.batch}, invalid: map[ID]bool{}}
	place := map[int]int{}
	for range 1 + w.rng.IntN(l.Batch) {
		e := Entry{ID: ID{w.id, w.seq}, Stream: w.rng.IntN(l.Streams)}
		w.seq++
		e.Time = w.time(e.Stream, now, l.Back)
		if w.rng.IntN(100) == 0 && !l.Lenient {
			e.Time = now + int64(time.Hour)
			r.invalid[e.ID] = true
		}
		i, ok := place[e.Stream]
		if !ok {
			i = len(r.index)
			place[e.Stream] = i
			r.index = append(r.index, nil)
			r.push.Streams = append(r.push.Streams, &pushv1.Stream{Labels: map[string]string{"service_name": l.Service, "stream": fmt.Sprint(e.Stream)}})
		}
		size := 80 + w.rng.IntN(300)
		if w.rng.IntN(1000) == 0 {
			size = w.rng.IntN(200 << 10)
		}
		s := r.push.Streams[i]
		pe := &pushv1.Entry{TimestampUnixNano: e.Time, Line: &pushv1.Entry_Text{Text: string(e.Line(size))}}
		r.unique = append(r.unique, e)
		r.index[i] = append(r.index[i], e)
		s.Entries = append(s.Entries, pe)
		if w.rng.IntN(100) == 0 { // its twin
			r.index[i] = append(r.index[i], e)
			s.Entries = append(s.Entries, pe)
		}
	}
	return r
}

// time returns the time of a writer's next entry of a stream. Streams take turns in how
// their times go: mostly rising, with some equal and some far back; strictly rising; all
// of a request equal; falling within a request; at random as far back as times go.
func (w *writer) time(stream int, now int64, back time.Duration) int64 {
	last := w.times[stream]
	next := max(now, last+1)
	switch p := w.rng.IntN(100); {
	case stream%5 == 2:
		next = max(now, last)
	case stream%5 == 3:
		if next = now; last >= now-int64(time.Millisecond) && last <= now {
			next = last - 1000
		}
	case stream%5 == 4, stream%5 == 0 && p < 10:
		return now - w.rng.Int64N(int64(back))
	case stream%5 == 0 && p < 20 && last != 0:
		next = last
	}
	w.times[stream] = next
	return next
}

// send sends a request once, notes what became of it, and returns whether that is
// known.
func (l *Load) send(r *request) bool {
	l.History.Sent(r.unique)
	ctx, cancel := context.WithTimeout(context.Background(), l.Timeout)
	defer cancel()
	began := time.Now()
	resp, err := l.Sink.Push(ctx, r.push)
	l.mu.Lock()
	if err == nil {
		now := time.Now()
		l.pushes.Stored++
		l.pushes.LongestGap = max(l.pushes.LongestGap, now.Sub(l.pushes.last))
		l.pushes.last = now
		l.pushes.took.add(now.Sub(began))
	} else {
		l.pushes.Failed++
	}
	l.mu.Unlock()
	if err != nil {
		if l.Failed != nil {
			l.Failed(err)
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented, codes.PermissionDenied:
			if !l.Lenient {
				l.mistake("a request was refused: %v", err)
			}
			l.History.Refused(r.unique...)
			return true
		}
		return false
	}
	refused := map[ID]bool{}
	for _, j := range resp.GetRejections() {
		for k := range j.GetCount() {
			e := r.index[j.GetStream()][j.GetEntry()+k]
			refused[e.ID] = true
			if !r.invalid[e.ID] && !l.Lenient {
				l.mistake("entry %+v was refused: %s", e, j.GetMessage())
			}
		}
	}
	total := 0
	for _, s := range r.index {
		total += len(s)
	}
	if int(resp.GetAcceptedEntries()+resp.GetRejectedEntries()) != total {
		l.mistake("%d accepted and %d rejected of %d", resp.GetAcceptedEntries(), resp.GetRejectedEntries(), total)
	}
	var stored, not []Entry
	for _, e := range r.unique {
		switch {
		case refused[e.ID]:
			not = append(not, e)
			continue
		case r.invalid[e.ID]:
			l.mistake("entry %+v was not refused", e)
		}
		stored = append(stored, e)
	}
	l.History.Acked(stored...)
	l.History.Refused(not...)
	return true
}

func (l *Load) mistake(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mistakes++; len(l.wrong) >= 100 {
		return
	}
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}
