package querier

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/tenant"
)

// firm is three queriers of a shop: one, two and three. The shop's is one.
type firm struct {
	view    *ring.View
	clients map[string]ingestv1.BlockServiceClient

	mu     sync.Mutex
	breaks map[string]func(sent int) error // by querier: an error instead of its so manieth message
	served map[string]int                  // calls, by querier
}

func (f *firm) View() *ring.View { return f.view }
func (f *firm) Self() string     { return "one" }
func (f *firm) Worker(m *ring.Member) (ingestv1.BlockServiceClient, error) {
	return f.clients[m.Name], nil
}

// breaking is a querier that fails as it is told.
type breaking struct {
	ingestv1.UnimplementedBlockServiceServer
	name    string
	firm    *firm
	service *Service
}

func (b *breaking) ReadBlocks(stream ingestv1.BlockService_ReadBlocksServer) error {
	b.firm.mu.Lock()
	fail := b.firm.breaks[b.name]
	b.firm.served[b.name]++
	b.firm.mu.Unlock()
	ctx := tenant.NewContext(stream.Context(), "t")
	return b.service.ReadBlocks(&breakingStream{BlockService_ReadBlocksServer: stream, ctx: ctx, fail: fail})
}

type breakingStream struct {
	ingestv1.BlockService_ReadBlocksServer
	ctx  context.Context
	fail func(int) error
	sent int
}

func (s *breakingStream) Context() context.Context { return s.ctx }
func (s *breakingStream) Send(m *ingestv1.ReadBlocksResponse) error {
	if s.sent++; s.fail != nil {
		if err := s.fail(s.sent); err != nil {
			return err
		}
	}
	return s.BlockService_ReadBlocksServer.Send(m)
}

// employ makes the shop's querier one of three.
func (s *shop) employ() *firm {
	f := &firm{clients: map[string]ingestv1.BlockServiceClient{}, breaks: map[string]func(int) error{}, served: map[string]int{}}
	var table ring.Table
	healthy := map[string]bool{}
	for _, name := range []string{"one", "two", "three"} {
		var err error
		table, _, err = table.Put(ring.Member{Name: name, Incarnation: "-" + name, Roles: ring.Querier, GRPCAddr: "h:1", State: ring.Active, Version: 1})
		s.must(err)
		healthy[name] = true
	}
	f.view = ring.NewView(table, healthy, ring.Config{ReplicationFactor: 3})
	deps := func() Deps {
		return Deps{
			Log: slog.New(slog.DiscardHandler), Ring: f, Limits: defaults{}, Memory: 1 << 30, Now: func() time.Time { return s.now }, Workers: f,
			Store: &Store{Bucket: s.bucket, Loader: s.loader, Cache: blockstore.NewCache(1<<20, nil), Memory: 1 << 20},
		}
	}
	for _, name := range []string{"two", "three"} {
		listener := bufconn.Listen(1 << 20)
		server := grpc.NewServer(grpc.WaitForHandlers(true))
		ingestv1.RegisterBlockServiceServer(server, &breaking{name: name, firm: f, service: New(DefaultConfig(), deps())})
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(listener) }() // it ends with Stop
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		s.must(err)
		s.Cleanup(func() {
			s.must(conn.Close())
			server.Stop()
			<-done
		})
		f.clients[name] = ingestv1.NewBlockServiceClient(conn)
	}
	s.blocks.workers = newWorkers(deps(), 8, 1<<28)
	return f
}

// Blocks are read by all queriers, each by one; what one does not read the others do.
func TestBlocksAreReadByAllQueriers(t *testing.T) {
	s := newShop(t)
	var all [][]row
	for i := range 12 {
		r := rows(fmt.Sprint("app", i%5), 100*i, 100*i+150) // some entries are in two blocks
		s.put(nil, r...)
		all = append(all, r)
	}
	s.refresh()
	want := textOf(all...)
	count := `sum(count_over_time({app=~".+"}[24h]))`
	alone, err := s.ask(count, false)
	s.must(err)
	check := func(what string) {
		t.Helper()
		s.same(what, s.lines(`{app=~".+"}`), want)
		res, err := s.ask(count, false)
		s.must(err)
		if got, want := fmt.Sprint(res.Matrix), fmt.Sprint(alone.Matrix); got != want {
			t.Errorf("%s: counted %s, want %s", what, got, want)
		}
		// A limit that a query meets at another querier is the query's error.
		if _, err := s.ask(`{app=~".+"} | json | line_format "{{.nothing" `, false); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	s.same("alone", s.lines(`{app=~".+"}`), want)
	f := s.employ()
	check("all work")
	f.mu.Lock()
	served := maps.Clone(f.served)
	f.mu.Unlock()
	if served["two"] == 0 || served["three"] == 0 {
		t.Fatalf("calls: %v", served)
	}
	gone := status.Error(codes.Unavailable, "it is gone")
	for _, c := range []struct {
		what string
		fail func(sent int) error
	}{
		{"one panics", func(int) error { return status.Error(codes.Internal, "internal error") }},
		{"one cannot open", func(int) error { return gone }},
		{"one fails while it reads", func(sent int) error {
			if sent > 2 {
				return gone
			}
			return nil
		}},
		{"one is too busy", func(int) error { return status.Error(codes.ResourceExhausted, "busy") }},
		{"one does not know how", func(int) error { return status.Error(codes.Unimplemented, "what") }},
	} {
		for _, who := range [][]string{{"two"}, {"two", "three"}} {
			f.mu.Lock()
			clear(f.breaks)
			for _, name := range who {
				f.breaks[name] = c.fail
			}
			f.mu.Unlock()
			clear(s.blocks.workers.rest)
			before := testutil.ToFloat64(s.blocks.workers.failed)
			check(fmt.Sprint(c.what, " of ", who))
			if n := testutil.ToFloat64(s.blocks.workers.failed) - before; n < float64(len(who)) {
				t.Errorf("%s: %v failures of %v are counted", c.what, n, who)
			}
			want := len(who)
			if c.what == "one panics" {
				want = 0 // but this query goes on without it
			}
			if len(s.blocks.workers.rest) != want {
				t.Errorf("%s: %v are left alone, want %d of %v", c.what, s.blocks.workers.rest, want, who)
			}
		}
	}
}

// A querier that comes or goes changes nothing but its own share, and shares are even.
func TestAffinity(t *testing.T) {
	var members []*ring.Member
	for i := range 10 {
		members = append(members, &ring.Member{Name: fmt.Sprint("querier-", i)})
	}
	count := map[string]int{}
	for i := range 10_000 {
		id := catalog.ID(fmt.Sprint("block-", i))
		m := reader(members, id)
		count[m.Name]++
		if less := reader(members[:9], id); m != members[9] && less != m {
			t.Fatalf("block %s moved from %s to %s", id, m.Name, less.Name)
		}
	}
	for name, n := range count {
		if n < 850 || n > 1150 {
			t.Errorf("%s reads %d of 10000", name, n)
		}
	}
	if reader(nil, "x") != nil {
		t.Error("somebody of nobody")
	}
}

// What is asked of a querier is checked: it reads blocks of the caller's tenant only.
func TestReadBlocksIsChecked(t *testing.T) {
	s := newShop(t)
	b := s.put(nil, rows("a", 0, 10)...)
	s.refresh()
	f := s.employ()
	for _, c := range []struct {
		name string
		keys []string
		ok   bool
	}{
		{"its own", []string{catalog.Key(b)}, true},
		{"no key", nil, false},
		{"another tenant's", []string{"other" + catalog.Key(b)[1:]}, false},
		{"nonsense", []string{"t/../x"}, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		call, err := f.clients["two"].ReadBlocks(ctx)
		s.must(err)
		s.must(call.Send(&ingestv1.ReadBlocksRequest{Blocks: c.keys, Read: &ingestv1.ReadRequest{
			Step: &ingestv1.ReadRequest_Open{Open: &ingestv1.Open{Selector: "{}", Start: day.UnixNano(), End: day.Add(time.Hour).UnixNano()}}}}))
		if _, err := call.Recv(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		cancel()
	}
}
