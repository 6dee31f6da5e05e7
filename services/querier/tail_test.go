package querier

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ingesters are addresses at which calls of Follow are answered by a script.
type ingesters struct {
	mu     sync.Mutex
	view   *ring.View
	rf     int
	gaps   []string                                                                                                     // members that have lost something
	down   map[string]bool                                                                                              // members that are not healthy
	anew   map[string]string                                                                                            // incarnations of members that have another than their name
	left   map[string]bool                                                                                              // members that have left
	stored map[string][]enginetest.Entry                                                                                // what queries find, by address
	follow map[string]func(ctx context.Context, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error // by address
}

func (c *ingesters) View() *ring.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

func (c *ingesters) incarnation(name string) string { return cmp.Or(c.anew[name], name) }

// members sets the members, name to address.
func (c *ingesters) members(t *testing.T, at map[string]string) {
	t.Helper()
	var table ring.Table
	healthy := map[string]bool{}
	for name, addr := range at {
		healthy[name] = !c.down[name]
		state := ring.Active
		if c.left[name] {
			state = ring.Left
		}
		var err error
		table, _, err = table.Put(ring.Member{
			Name: name, Incarnation: c.incarnation(name), Roles: ring.Ingester, GRPCAddr: addr + ":1", State: state,
			MinVersion: 1, MaxVersion: 1, Version: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range c.gaps {
		var err error
		if table, _, _, err = table.NoteGap(name, "records 3 to 5", 1); err != nil {
			t.Fatal(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view = ring.NewView(table, healthy, ring.Config{ReplicationFactor: c.rf})
}

func (c *ingesters) Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error) {
	return &client{c: c, addr: strings.TrimSuffix(m.GRPCAddr, ":1")}, nil
}

type client struct {
	ingestv1.IngestServiceClient
	c    *ingesters
	addr string
}

func (c *client) Follow(ctx context.Context, req *ingestv1.FollowRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[ingestv1.FollowResponse], error) {
	c.c.mu.Lock()
	f := c.c.follow[c.addr]
	c.c.mu.Unlock()
	if f == nil {
		return nil, status.Error(codes.Unavailable, "nobody is at "+c.addr)
	}
	s := &followStream{ctx: ctx, messages: make(chan *ingestv1.FollowResponse)}
	go func() {
		defer close(s.messages)
		s.err = f(ctx, req, func(m *ingestv1.FollowResponse) {
			select {
			case s.messages <- m:
			case <-ctx.Done():
			}
		})
	}()
	return s, nil
}

// Clock tells the time of all of them.
func (c *client) Clock(context.Context, *ingestv1.ClockRequest, ...grpc.CallOption) (*ingestv1.ClockResponse, error) {
	return &ingestv1.ClockResponse{Clock: &ingestv1.ProcessClock{Id: 1, Nanos: time.Now().UnixNano()}}, nil
}

// Read serves a query, in this process.
func (c *client) Read(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[ingestv1.ReadRequest, ingestv1.ReadResponse], error) {
	c.c.mu.Lock()
	store := enginetest.NewStore(c.c.stored[c.addr]...)
	c.c.mu.Unlock()
	s := &readStream{ctx: ctx, asked: make(chan *ingestv1.ReadRequest), answers: make(chan *ingestv1.ReadResponse)}
	go func() {
		defer close(s.answers)
		s.err = remote.Serve(servedRead{readStream: s}, engine.Local(store, c.addr), remote.Options{Incarnation: c.addr})
	}()
	return s, nil
}

// readStream is both ends of a call of Read.
type readStream struct {
	grpc.ClientStream
	ctx     context.Context
	asked   chan *ingestv1.ReadRequest
	answers chan *ingestv1.ReadResponse
	err     error
}

func (s *readStream) Send(m *ingestv1.ReadRequest) error {
	select {
	case s.asked <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *readStream) CloseSend() error { close(s.asked); return nil }

func (s *readStream) Recv() (*ingestv1.ReadResponse, error) {
	if m, ok := <-s.answers; ok {
		return m, nil
	}
	return nil, cmp.Or(s.err, io.EOF)
}

type servedRead struct {
	grpc.ServerStream
	*readStream
}

func (s servedRead) Context() context.Context { return s.ctx }

func (s servedRead) Recv() (*ingestv1.ReadRequest, error) {
	select {
	case m, ok := <-s.asked:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s servedRead) Send(m *ingestv1.ReadResponse) error {
	select {
	case s.answers <- proto.CloneOf(m):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s servedRead) RecvMsg(any) error { panic("not called") }
func (s servedRead) SendMsg(any) error { panic("not called") }

type followStream struct {
	grpc.ClientStream
	ctx      context.Context
	messages chan *ingestv1.FollowResponse
	err      error
}

func (s *followStream) Recv() (*ingestv1.FollowResponse, error) {
	if m, ok := <-s.messages; ok {
		return m, nil
	}
	if s.err == nil {
		return nil, io.EOF
	}
	return nil, s.err
}

type defaults struct{}

func (defaults) For(string) limits.Limits { return limits.Default() }

// tailing is a call of Tail whose responses are taken one by one.
type tailing struct {
	grpc.ServerStream
	ctx       context.Context
	responses chan *tailv1.TailResponse
}

func (s *tailing) Context() context.Context { return s.ctx }
func (s *tailing) Send(m *tailv1.TailResponse) error {
	select {
	case s.responses <- m:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (c *ingesters) service() *Service {
	return New(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), Ring: c, Ingesters: c, Limits: defaults{}, Memory: 1 << 30, Now: time.Now})
}

func (c *ingesters) tail(t *testing.T, req *tailv1.TailRequest) (responses <-chan *tailv1.TailResponse, stop func()) {
	t.Helper()
	svc := c.service()
	ctx, cancel := context.WithCancel(tenant.NewContext(context.Background(), "t"))
	s := &tailing{ctx: ctx, responses: make(chan *tailv1.TailResponse)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.responses)
		if err := svc.Tail(req, s); err != nil && ctx.Err() == nil {
			t.Errorf("the tail ended: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return s.responses, stop
}

// message is lines, each of the time that is its hash.
func message(position uint64, size int, hashes ...uint64) *ingestv1.FollowResponse {
	m := &ingestv1.FollowResponse{Position: position, Incarnation: "i"}
	if len(hashes) == 0 {
		return m
	}
	m.Rows = &ingestv1.Rows{NewLabels: []*ingestv1.RowLabels{{Labels: []*ingestv1.Pair{{Name: "a", Value: []byte("b")}}}}}
	for _, h := range hashes {
		m.Rows.Times = append(m.Rows.Times, int64(h))
		m.Rows.Labels = append(m.Rows.Labels, 0)
		m.Rows.Slab = append(m.Rows.Slab, strings.Repeat("x", size)...)
		m.Rows.LineEnds = append(m.Rows.LineEnds, uint32(len(m.Rows.Slab)))
		m.Rows.Hashes = append(m.Rows.Hashes, h)
	}
	return m
}

func timesOf(m *tailv1.TailResponse) (out []int64) {
	for _, s := range m.GetStreams() {
		for _, e := range s.GetEntries() {
			out = append(out, e.GetTimestampUnixNano())
		}
	}
	return out
}

// An ingester that comes back at another address is followed there, from where it
// was left.
func TestTailFollowsAMemberToItsNewAddress(t *testing.T) {
	c := &ingesters{rf: 1}
	moved := make(chan struct{})
	c.follow = map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{
		"old": func(_ context.Context, _ *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
			send(message(1, 1))
			send(message(5, 1, 100))
			<-moved
			return status.Error(codes.Unavailable, "gone")
		},
		"new": func(ctx context.Context, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
			if req.GetPosition() != 5 || req.GetIncarnation() != "i" {
				t.Errorf("followed from %v", req)
			}
			send(message(5, 1))
			send(message(6, 1, 101))
			<-ctx.Done()
			return ctx.Err()
		},
	}
	c.members(t, map[string]string{"one": "old"})
	responses, _ := c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
	var got []int64
	for m := range responses {
		got = append(got, timesOf(m)...)
		if len(got) == 1 {
			c.members(t, map[string]string{"one": "new"})
			c.mu.Lock()
			delete(c.follow, "old")
			c.mu.Unlock()
			select {
			case <-moved:
			default:
				close(moved)
			}
		}
		if len(got) == 2 {
			break
		}
	}
	if fmt.Sprint(got) != "[100 101]" {
		t.Errorf("got %v", got)
	}
}

// A querier that does not know enough members yet, as it has only just started, refuses a
// tail, as it refuses queries: what is acknowledged may be on those that it cannot follow.
func TestTailBeginsWithEnoughMembers(t *testing.T) {
	quiet := func(ctx context.Context, _ *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
		send(message(1, 1))
		<-ctx.Done()
		return ctx.Err()
	}
	follow := map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{"x": quiet, "y": quiet, "z": quiet}
	for _, x := range []struct {
		members map[string]string
		gaps    []string
		refused bool
	}{
		{map[string]string{}, nil, true},
		{map[string]string{"one": "x"}, nil, true},
		{map[string]string{"one": "x", "two": "y"}, nil, false},
		{map[string]string{"one": "x", "two": "y", "three": "z"}, nil, false},
		// What is lost is missing in queries, and in no tail of what comes.
		{map[string]string{"one": "x", "two": "y", "three": "z"}, []string{"one", "two"}, false},
		{map[string]string{"one": "x", "two": "y"}, []string{"one"}, false},
	} {
		c := &ingesters{rf: 3, gaps: x.gaps, follow: follow}
		c.members(t, x.members)
		ctx, cancel := context.WithCancel(tenant.NewContext(t.Context(), "t"))
		s := &tailing{ctx: ctx, responses: make(chan *tailv1.TailResponse)}
		ended := make(chan error, 1)
		go func() { ended <- c.service().Tail(&tailv1.TailRequest{Query: `{a="b"}`}, s) }()
		select {
		case err := <-ended:
			if !x.refused || rpcerr.ReasonOf(err) != rpcerr.Incomplete {
				t.Errorf("%v: %v", x.members, err)
			}
			cancel()
		case <-s.responses:
			if x.refused {
				t.Errorf("%v: it begins", x.members)
			}
			cancel()
			<-ended
		}
	}
}

// What is too large for one response comes in several, each entry once, and a tail
// may be resumed behind any of them.
func TestTailPagesLargeAppendsAndResumesWithinThem(t *testing.T) {
	var hashes []uint64
	for i := range 60 {
		hashes = append(hashes, uint64(1000+i))
	}
	for cut := 1; cut <= 4; cut++ {
		c := &ingesters{rf: 1, follow: map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{
			"x": func(ctx context.Context, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
				at := max(req.GetPosition(), 1)
				send(message(at, 0))
				if at < 2 {
					send(message(1, 200_000, hashes[:20]...)) // pieces
					send(message(1, 200_000, hashes[20:40]...))
					send(message(2, 200_000, hashes[40:]...))
				}
				<-ctx.Done()
				return ctx.Err()
			},
		}}
		c.members(t, map[string]string{"one": "x"})
		seen := map[int64]int{}
		cursor := ""
		responses, stop := c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		withEntries := 0
		take := func(m *tailv1.TailResponse) {
			size := 0
			for _, s := range m.GetStreams() {
				for _, e := range s.GetEntries() {
					size += len(e.GetText())
				}
			}
			if size > pageBytes+200_000 {
				t.Errorf("a response of %d bytes", size)
			}
			for _, at := range timesOf(m) {
				seen[at]++
			}
			if len(m.GetStreams()) > 0 {
				withEntries++
			}
			cursor = m.GetCursor()
		}
		for m := range responses {
			if take(m); withEntries == cut {
				break
			}
		}
		stop()
		responses, stop = c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: cursor})
		for len(seen) < len(hashes) {
			m, ok := <-responses
			if !ok {
				break
			}
			take(m)
		}
		stop()
		for _, h := range hashes {
			if seen[int64(h)] != 1 {
				t.Errorf("cut behind response %d: entry %d came %d times", cut, h, seen[int64(h)])
			}
		}
	}
}

func TestPagesAreBoundedInBytes(t *testing.T) {
	big := model.NewLabels([]model.Label{{Name: "big", Value: strings.Repeat("x", 3<<20)}})
	st := engine.LogStream{Labels: big}
	other := engine.LogStream{Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}})}
	for range 20 {
		st.Entries = append(st.Entries, engine.Entry{})
		other.Entries = append(other.Entries, engine.Entry{Line: make([]byte, 500_000)})
	}
	n := 0
	err := pages([]engine.LogStream{other, st}, func(page []engine.LogStream) error {
		size := 0
		for _, s := range page {
			n += len(s.Entries)
			for _, e := range s.Entries {
				size += len(e.Line)
			}
		}
		if size > pageBytes+500_000 || len(page) == 0 {
			t.Errorf("a page of %d bytes in %d streams", size, len(page))
		}
		return nil
	})
	if err != nil || n != 40 {
		t.Errorf("%d entries, %v", n, err)
	}
}
