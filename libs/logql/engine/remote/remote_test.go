package remote_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"errors"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	ingestv1.UnimplementedIngestServiceServer
	src     engine.Source
	memory  int64 // 0: 64 MiB
	refused func()
}

func (s *server) Read(stream ingestv1.IngestService_ReadServer) error {
	return remote.Serve(stream, s.src, remote.Options{Incarnation: "i1", TableVersion: 7, Memory: cmp.Or(s.memory, 64<<20), Refused: s.refused})
}

// dial serves a source in memory and returns a source that reaches it.
func dial(t testing.TB, src engine.Source) (engine.Source, ingestv1.IngestServiceClient) {
	t.Helper()
	return dialServer(t, &server{src: src})
}

func dialServer(t testing.TB, s *server) (engine.Source, ingestv1.IngestServiceClient) {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.WaitForHandlers(true))
	ingestv1.RegisterIngestServiceServer(srv, s)
	go srv.Serve(lis)
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); srv.Stop() })
	c := ingestv1.NewIngestServiceClient(conn)
	return remote.NewSource(s.src.Name(), c), c
}

const sec = int64(time.Second)

// stores makes three stores that hold copies of each other's entries, some of
// them large, and not all of them valid UTF-8.
func stores() []*enginetest.Store {
	rnd := rand.New(rand.NewPCG(1, 2))
	parts := make([][]enginetest.Entry, 3)
	for i := range 1000 {
		e := enginetest.Entry{
			Labels:    model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i%7)}, {Name: "env", Value: "x\"y"}}),
			Time:      int64(rnd.IntN(600)) * sec,
			Line:      fmt.Sprintf("level=%s n=%d %s\xff", []string{"info", "error"}[i%2], i%10, strings.Repeat("x", rnd.IntN(100))),
			BatchTime: 1, Position: uint32(i),
		}
		if i%100 == 0 {
			e.Line += strings.Repeat("y", 20_000) // so that answers need several messages
		}
		if i%3 == 0 {
			e.Metadata = model.NewLabels([]model.Label{{Name: "trace", Value: fmt.Sprint("t\xfe", i%50)}})
		}
		for s := range parts {
			if rnd.IntN(10) > 0 || s == i%3 {
				parts[s] = append(parts[s], e)
			}
		}
	}
	var out []*enginetest.Store
	for _, p := range parts {
		st := enginetest.NewStore(p...)
		st.RunRows = 50
		out = append(out, st)
	}
	return out
}

// deletes takes some rows out.
func deletes(t *testing.T) *engine.Excluded {
	x := &engine.Excluded{Version: "v3"}
	for _, text := range []string{`{app="a1"}`, `{app=~"a[2-4]"} |= "n=3" | logfmt | level="error"`} {
		e, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		x.Tombstones = append(x.Tombstones, engine.Tombstone{ID: text, Selector: e.(*syntax.LogSelector), Start: 150 * sec, End: 300 * sec})
	}
	x.Retention = []engine.Cutoff{{Before: 120 * sec}}
	return x
}

// An engine over remote sources answers as one over local sources.
func TestRoundTrip(t *testing.T) {
	sts := stores()
	var local, far []engine.Source
	for i, s := range sts {
		l := engine.Local(s, fmt.Sprint("s", i))
		r, _ := dial(t, l)
		local, far = append(local, l), append(far, r)
	}
	e := engine.New(engine.Options{})
	for _, text := range []string{
		`{app=~".+"}`, `{app="a1"} |= "error" | logfmt`, `count_over_time({app=~".+"}[1m])`, `sum by (level) (rate({app=~".+"} | logfmt [1m]))`,
		`stddev_over_time({app=~".+"} | logfmt | unwrap n [90s]) by (app)`, `quantile_over_time(0.9, {app=~".+"} | logfmt | unwrap n [90s]) by (app)`,
		`sum(bytes_over_time({app=~".+"}[3m])) - sum(bytes_over_time({app=~".+"}[1m]))`, `absent_over_time({app="a1"} |= "nothing" [1m])`,
		`{app="none"}`,
	} {
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{0, 100} {
			for _, backward := range []bool{false, true} {
				q := engine.RangeQuery{Query: engine.Query{Expr: expr, Excluded: deletes(t)}, Start: 100 * sec, End: 500 * sec, Step: time.Minute, Limit: limit, Backward: backward}
				q.Sources = local
				want, err := e.Range(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				q.Sources = far
				got, err := e.Range(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				got.Statistics, want.Statistics = engine.Statistics{}, engine.Statistics{}
				if !equal(got, want) {
					t.Errorf("%s: remote and local answers differ", text)
				}
				if got.NextCursor == "" {
					continue
				}
				q.Cursor = got.NextCursor
				second, err := e.Range(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				q.Sources = local
				want, err = e.Range(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				second.Statistics, want.Statistics = engine.Statistics{}, engine.Statistics{}
				if !equal(second, want) {
					t.Errorf("%s: remote and local second pages differ", text)
				}
			}
		}
	}
	names, _, err := e.Labels(context.Background(), engine.MetaQuery{Sources: far, End: 1000 * sec})
	if err != nil || fmt.Sprint(names) != "[app env]" {
		t.Errorf("labels: %v, %v", names, err)
	}
}

func equal(a, b *engine.Result) bool {
	return fmt.Sprint(a) == fmt.Sprint(b) // which does not tell an empty slice from nil
}

// The errors of queries keep their kind.
func TestErrors(t *testing.T) {
	far, client := dial(t, engine.Local(stores()[0], "s"))
	e := engine.New(engine.Options{})
	for text, want := range map[string]error{
		`sum_over_time({app=~".+"} | logfmt | unwrap level [1m])`: engine.ErrPipeline,
		`count_over_time({app=~".+"} | logfmt [1m])`:              engine.ErrLimit,
	} {
		expr, err := syntax.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Range(context.Background(), engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{far}, Limits: engine.Limits{MaxSeries: 10}}, End: 600 * sec, Step: time.Minute,
		})
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
	call, err := client.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := call.Send(&ingestv1.ReadRequest{Step: &ingestv1.ReadRequest_Scan{Scan: &ingestv1.Scan{}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := call.Recv(); err == nil || !strings.Contains(err.Error(), "first step must be open") {
		t.Errorf("scan before open: %v", err)
	}
}

// A query that is cancelled ends, and so does its call.
func TestCancel(t *testing.T) {
	st := stores()[0]
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	st.BatchRows = 1
	st.FailRows = func() error {
		if n.Add(1) == 3 {
			cancel()
		}
		return nil
	}
	far, _ := dial(t, engine.Local(st, "s"))
	expr, _ := syntax.ParseExpr(`sum(count_over_time({app="a1"} |= "x" [1m]))`)
	_, err := engine.New(engine.Options{}).Range(ctx, engine.RangeQuery{Query: engine.Query{Expr: expr, Sources: []engine.Source{far}}, End: 600 * sec, Step: time.Minute})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for deadline := time.Now().Add(time.Minute); st.OpenSnapshots() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("snapshot left open")
		}
	}
}

// Streams that are there between their entries are listed from afar, too.
func TestSpans(t *testing.T) {
	entry := func(at int64) enginetest.Entry {
		return enginetest.Entry{Labels: model.LabelsFromMap(map[string]string{"app": "sparse"}), Time: at * sec, Line: "x", BatchTime: 1}
	}
	far, _ := dial(t, engine.Local(enginetest.NewStore(entry(10), entry(90)), "s"))
	in := engine.MetaQuery{Sources: []engine.Source{far}, Start: 40 * sec, End: 60 * sec}
	series, _, err := engine.New(engine.Options{}).Series(t.Context(), in)
	if err != nil || len(series) != 1 {
		t.Errorf("series: %v, %v", series, err)
	}
	stats, _, err := engine.New(engine.Options{}).Stats(t.Context(), in)
	if err != nil || stats.Streams != 0 {
		t.Errorf("stats: %v, %v", stats, err)
	}
}

// A server that does not know of deletes is no source for a query that has some.
func TestExcludedIsConfirmed(t *testing.T) {
	far, client := dial(t, engine.Local(stores()[0], "s"))
	old := remote.NewSource("old", forgetful{client})
	ctx := engine.WithExcluded(t.Context(), deletes(t))
	s, err := far.Open(ctx, nil, 0, 600*sec)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err := old.Open(ctx, nil, 0, 600*sec); err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("got %v", err)
		s.Close()
	}
}

type forgetful struct{ ingestv1.IngestServiceClient }

func (f forgetful) Read(ctx context.Context, opts ...grpc.CallOption) (ingestv1.IngestService_ReadClient, error) {
	c, err := f.IngestServiceClient.Read(ctx, opts...)
	return forgetfulCall{c}, err
}

type forgetfulCall struct {
	ingestv1.IngestService_ReadClient
}

func (f forgetfulCall) Send(m *ingestv1.ReadRequest) error {
	if o := m.GetOpen(); o != nil {
		o.Excluded = nil
	}
	return f.IngestService_ReadClient.Send(m)
}

// Patterns over the wire are those of the sources themselves.
func TestPatterns(t *testing.T) {
	var local, far []engine.Source
	for i, s := range stores() {
		l := engine.Local(s, fmt.Sprint("s", i))
		r, _ := dial(t, l)
		local, far = append(local, l), append(far, r)
	}
	expr, err := syntax.ParseExpr(`{app=~".+"} |= "level"`)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Options{})
	q := engine.PatternsQuery{Query: engine.Query{Expr: expr, Sources: local}, End: 1000 * sec, Width: 60 * sec}
	want, err := e.Patterns(t.Context(), q)
	if err != nil || len(want.Patterns) == 0 {
		t.Fatal(want, err)
	}
	q.Sources = far
	got, err := e.Patterns(t.Context(), q)
	if err != nil || !reflect.DeepEqual(got.Patterns, want.Patterns) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want.Patterns)
	}
}
