package querier

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/tenant"
)

// frozen is when an ingester stops saying anything.
type frozen int

const (
	never frozen = iota
	atOnce
	onceOpen
)

// reads is an ingester that has entries, and may freeze.
type reads struct {
	ingestv1.UnimplementedIngestServiceServer
	name  string
	store *enginetest.Store
	stops frozen
}

func (r *reads) Read(stream ingestv1.IngestService_ReadServer) error {
	if r.stops == atOnce {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	if r.stops == onceOpen {
		stream = &freezing{stream}
	}
	return remote.Serve(stream, engine.Local(r.store, r.name), remote.Options{Incarnation: "first-" + r.name})
}

// freezing sends nothing behind the word that it is open.
type freezing struct {
	ingestv1.IngestService_ReadServer
}

func (f *freezing) Send(m *ingestv1.ReadResponse) error {
	if m.GetStreams() == nil && m.GetOpened() == nil {
		<-f.Context().Done()
		return f.Context().Err()
	}
	return f.IngestService_ReadServer.Send(m)
}

// readers is a cluster of ingesters a, b and c.
type readers struct {
	view    *ring.View
	clients map[string]ingestv1.IngestServiceClient
}

func (r *readers) View() *ring.View { return r.view }
func (r *readers) Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error) {
	return r.clients[m.Name], nil
}

// at is when the entries are.
var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newReaders starts ingesters whose entries are given by the numbers of their lines.
func newReaders(t *testing.T, lines map[string][]int, stops map[string]frozen) *readers {
	t.Helper()
	c := &readers{view: threeMembers(t, nil), clients: map[string]ingestv1.IngestServiceClient{}}
	for name, numbers := range lines {
		var entries []enginetest.Entry
		for _, n := range numbers {
			entries = append(entries, enginetest.Entry{
				Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}}), Time: at.UnixNano() + int64(n)*int64(time.Second), Line: fmt.Sprint("line ", n), BatchTime: 1, Position: uint32(n),
			})
		}
		listener := bufconn.Listen(1 << 20)
		server := grpc.NewServer(grpc.WaitForHandlers(true))
		ingestv1.RegisterIngestServiceServer(server, &reads{name: name, store: enginetest.NewStore(entries...), stops: stops[name]})
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(listener) }() // it ends with Stop
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			server.Stop()
			<-served
		})
		c.clients[name] = ingestv1.NewIngestServiceClient(conn)
	}
	return c
}

// ask queries for all entries, and returns the lines and how often ingesters were given
// up, by stage.
func (c *readers) ask(t *testing.T) (lines []string, given map[string]float64, err error) {
	t.Helper()
	reg := prometheus.NewRegistry()
	s := New(DefaultConfig(), Deps{
		Log: slog.New(slog.DiscardHandler), Reg: reg, Ring: c, Ingesters: c, Limits: defaults{}, Memory: 1 << 30,
		Now: func() time.Time { return at.Add(time.Minute) },
	})
	res, err := s.QueryRange(tenant.NewContext(t.Context(), "t"), &queryv1.QueryRangeRequest{Query: `{a="b"}`, Limit: 1000, Direction: queryv1.Direction_DIRECTION_FORWARD})
	for _, st := range res.GetStreams().GetStreams() {
		for _, e := range st.GetEntries() {
			lines = append(lines, e.GetText())
		}
	}
	families, gatherErr := reg.Gather()
	if gatherErr != nil {
		t.Fatal(gatherErr)
	}
	given = map[string]float64{}
	for _, f := range families {
		if f.GetName() == "weir_querier_hedges_total" {
			for _, m := range f.GetMetric() {
				given[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return lines, given, err
}

// An ingester that is frozen and not yet held for dead costs neither completeness nor the
// time for which one may be silent: what it has, its co-owners have.
func TestFrozenIngesterIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		stops map[string]frozen
		stage string
	}{
		{"while it opens", map[string]frozen{"b": atOnce}, "open"},
		{"while it reads", map[string]frozen{"b": onceOpen}, "read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Each entry is on two of three, as a quorum has it, and their rows differ.
			cl := newReaders(t, map[string][]int{"a": {1, 2, 4}, "b": {2, 3, 4}, "c": {1, 3}}, c.stops)
			for again := range 5 {
				lines, given, err := cl.ask(t)
				if err == nil && fmt.Sprint(lines) != "[line 1 line 2 line 3 line 4]" {
					t.Fatalf("%q", lines)
				}
				if err == nil && given[c.stage] == 1 && len(given) == 1 {
					return
				}
				// On a busy machine another one may have been the slow one.
				t.Logf("attempt %d: given up: %v, %v", again, given, err)
			}
			t.Fatal("it is waited for")
		})
	}
}

// With two frozen of three the answer could lack something: they are waited for as long as
// anyone may be silent, and it is an error then.
func TestTwoFrozenIngestersAreWaitedFor(t *testing.T) {
	t.Parallel()
	cl := newReaders(t, map[string][]int{"a": {1}, "b": {1}, "c": {1}}, map[string]frozen{"b": atOnce, "c": atOnce})
	if lines, given, err := cl.ask(t); err == nil || len(given) != 0 {
		t.Fatalf("%q, given up %v", lines, given)
	}
}

// An estimate of what all but a twentieth take.
func TestSlowEstimate(t *testing.T) {
	h := newHedger(nil)
	for i := range 20_000 {
		took := 20 * time.Millisecond
		if i%10 == 0 { // one in ten is slow, so that the estimate must be of those
			took = 300 * time.Millisecond
		}
		h.opened(took)
	}
	if h.slow < 200*time.Millisecond || h.slow > 400*time.Millisecond {
		t.Fatalf("%s with one in ten of 300 ms", h.slow)
	}
	if d := h.openAfter(); d < openAfterLeast || d > openAfterMost {
		t.Fatal(d)
	}
	for i := range 20_000 {
		took := 20 * time.Millisecond
		if i%100 == 0 {
			took = 300 * time.Millisecond
		}
		h.opened(took)
	}
	if h.slow > 100*time.Millisecond || h.openAfter() != openAfterLeast {
		t.Fatalf("%s with one in a hundred of 300 ms", h.slow)
	}
}

func TestReadingAgainIsBounded(t *testing.T) {
	h := newHedger(nil)
	n := 0
	for h.take() {
		n++
	}
	if n != readBurst {
		t.Fatalf("%d at once", n)
	}
	for range 1000 {
		h.opened(time.Millisecond)
		if h.take() {
			n++
		}
	}
	if n -= readBurst; n < 45 || n > 50 {
		t.Fatalf("%d of 1000", n)
	}
}
