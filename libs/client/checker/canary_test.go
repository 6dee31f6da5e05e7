package checker

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tails is a server whose tails send what they are told to.
type tails struct {
	tailv1.UnimplementedTailServiceServer
	begun chan chan *tailv1.TailResponse // of each call what it sends; it fails when that is closed
}

func (s *tails) Tail(_ *tailv1.TailRequest, out grpc.ServerStreamingServer[tailv1.TailResponse]) error {
	responses := make(chan *tailv1.TailResponse)
	select {
	case s.begun <- responses:
	case <-out.Context().Done():
		return out.Context().Err()
	}
	for {
		select {
		case m, ok := <-responses:
			if !ok {
				return status.Error(codes.PermissionDenied, "the tail breaks for good")
			}
			if err := out.Send(m); err != nil {
				return err
			}
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

// startTails returns the server and a canary whose tail it serves, and which follows.
func startTails(t *testing.T) (*tails, *Canary) {
	t.Helper()
	s := &tails{begun: make(chan chan *tailv1.TailResponse)}
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	tailv1.RegisterTailServiceServer(srv, s)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lis) }()
	c, err := client.Dial("passthrough:///weir", client.WithInsecure(),
		client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })))
	if err != nil {
		t.Fatal(err)
	}
	canary := &Canary{Client: c, History: &History{}, Service: "s"}
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() { defer close(followed); canary.follow(ctx) }()
	t.Cleanup(func() { cancel(); <-followed; _ = c.Close(); srv.Stop(); <-served })
	return s, canary
}

// awaits waits until what the canary knows of its tail is as wanted.
func (c *Canary) awaits(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		ok := is()
		c.mu.Unlock()
		switch {
		case ok:
			return
		case time.Now().After(deadline):
			t.Fatalf("the canary never knows that %s", what)
		}
	}
}

func delivers(entries ...Entry) *tailv1.TailResponse {
	m := &tailv1.TailResponse{Cursor: "c"}
	for _, e := range entries {
		m.Streams = append(m.Streams, &queryv1.LogStream{
			Labels:  map[string]string{"service_name": "s", "stream": fmt.Sprint(e.Stream)},
			Entries: []*queryv1.LogEntry{{TimestampUnixNano: e.Time, Line: &queryv1.LogEntry_Text{Text: string(e.Line(0))}}},
		})
	}
	return m
}

// A tail owes what is sent when it follows. What was on its way when it began may have
// been stored before that, whenever it is acknowledged.
func TestCanaryKnowsWhatATailOwes(t *testing.T) {
	s, c := startTails(t)
	h := c.History
	e := func(n uint32) Entry { return Entry{ID{0, n}, 1, int64(n + 1)} }
	heard := func(tailed, gap int) {
		t.Helper()
		c.heard(t.Context()) // what was acknowledged until the call before
		c.heard(t.Context())
		if r := c.report; r.Tailed != tailed || r.TailGap != gap {
			t.Errorf("of %d entries that were due %d are missing, want %d and %d: %q", r.Tailed, r.TailGap, tailed, gap, r.Examples)
		}
	}
	h.Sent([]Entry{e(0)})
	first := <-s.begun
	first <- delivers() // the entry is stored already
	c.awaits(t, "it follows", func() bool { return c.follows })
	h.Acked(e(0))
	h.Sent([]Entry{e(1), e(2)})
	first <- delivers(e(1), e(2))
	h.Acked(e(1), e(2))
	c.Wait = time.Minute
	heard(2, 0)

	// One that never comes is missed.
	h.Sent([]Entry{e(3), e(4)})
	h.Acked(e(3), e(4))
	first <- delivers(e(4))
	first <- delivers(e(3), e(4)) // and this one twice
	c.awaits(t, "all have come", func() bool { return c.tail.Missing([]ID{e(3).ID}) == nil })
	heard(4, 0)
	if c.report.TailTwice != 1 {
		t.Errorf("an entry came twice, and %d are said to", c.report.TailTwice)
	}
	c.Wait = 0
	h.Sent([]Entry{e(5)})
	h.Acked(e(5))
	heard(5, 1)

	// A tail that is begun anew owes nothing of before, whenever it is sent again.
	h.Sent([]Entry{e(6)})
	close(first)
	second := <-s.begun
	second <- delivers()
	c.awaits(t, "it follows again", func() bool { return c.follows && c.report.BrokenTails == 1 })
	h.Sent([]Entry{e(6)})
	h.Acked(e(6))
	heard(5, 1)
	h.Sent([]Entry{e(7)})
	h.Acked(e(7))
	heard(6, 2)
}

// That an ingester is away that may have what is missing is no broken promise; that
// something is missing for good is, and so is what is missing without a word.
func TestCanaryKnowsWhoIsAway(t *testing.T) {
	s, c := startTails(t)
	n := uint32(0)
	send := func() {
		e := Entry{ID{0, n}, 1, int64(n + 1)}
		n++
		c.History.Sent([]Entry{e})
		c.History.Acked(e)
	}
	responses := <-s.begun
	responses <- delivers()
	c.awaits(t, "it follows", func() bool { return c.follows })
	for i, x := range []struct {
		told      *tailv1.Dropped
		away, gap int
	}{
		{&tailv1.Dropped{Reason: "away", Awaited: true}, 1, 0},
		{nil, 1, 1},
		{&tailv1.Dropped{Reason: "away", Awaited: true}, 2, 1},
		{&tailv1.Dropped{Reason: "gone"}, 2, 2},
	} {
		send()
		if x.told != nil {
			responses <- &tailv1.TailResponse{Cursor: "c", Dropped: []*tailv1.Dropped{x.told}}
			c.awaits(t, "it was told", func() bool {
				c.tail.mu.Lock()
				defer c.tail.mu.Unlock()
				return c.tail.away+c.tail.dropped > 0
			})
		}
		// What was told is judged with what it may explain.
		c.mu.Lock()
		c.due = c.History.Mark()
		c.mu.Unlock()
		c.heard(t.Context())
		if r := c.report; r.TailAway != x.away || r.TailGap != x.gap || r.Broken() != x.gap || r.Tailed != i+1 {
			t.Errorf("look %d: away %d, gaps %d, of %d; want %d, %d: %q", i, r.TailAway, r.TailGap, r.Tailed, x.away, x.gap, r.Examples)
		}
	}
}

// What a canary was waiting for when it was interrupted is looked at in the end.
func TestInterruptedCanaryLooksAgain(t *testing.T) {
	s, c := startTails(t)
	responses := <-s.begun
	responses <- delivers()
	c.awaits(t, "it follows", func() bool { return c.follows })
	e := Entry{ID{0, 0}, 1, 1}
	c.History.Sent([]Entry{e})
	c.History.Acked(e)
	c.Wait = time.Minute
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		c.heard(interrupted)
	}
	if r := c.report; r.Tailed != 0 || r.TailGap != 0 {
		t.Errorf("it says of what it did not wait for: %d due, %d missing", r.Tailed, r.TailGap)
	}
	c.Wait = 0
	c.heard(t.Context())
	if r := c.report; r.Tailed != 1 || r.TailGap != 1 {
		t.Errorf("an entry is missing, and it says: %d due, %d missing", r.Tailed, r.TailGap)
	}
}

// A tail remembers what may be asked for, old as its time may be.
func TestTailForgetsWithTheHistory(t *testing.T) {
	h, tail := &History{}, &Tail{}
	young, old := Entry{ID{0, 0}, 1, 100}, Entry{ID{0, 1}, 2, 10}
	h.Sent([]Entry{young, old})
	h.Acked(young, old)
	tail.take(delivers(young, old))
	h.Forget(50)
	tail.Forget(h)
	if err := tail.Missing(h.Acknowledged(nil)); err != nil {
		t.Error(err)
	}
	h.Forget(200)
	if tail.Forget(h); tail.Len() != 0 {
		t.Errorf("%d are remembered and cannot be asked for", tail.Len())
	}
}
