package ingester

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/remote"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is an ingester behind its real stubs.
type node struct {
	t      *testing.T
	svc    *Service
	client ingestv1.IngestServiceClient
	close  func()
}

func start(t *testing.T, dir string, headLimit int64) *node {
	t.Helper()
	return startWith(t, dir, headLimit, nil, nil)
}

// startWith is start with changes to what New gets, and to the service before it starts.
func startWith(t *testing.T, dir string, headLimit int64, change func(*Config, *Deps), prepare func(*Service)) *node {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DiskReserve, cfg.DiskMinFree, cfg.DiskMaxUsed, cfg.TailLog = 0, 0, 100, 0
	deps := Deps{Log: slog.New(slog.DiscardHandler), DataDir: dir, HeadLimit: headLimit, TableVersion: func() uint64 { return 0 }}
	if change != nil {
		change(&cfg, &deps)
	}
	svc := New(cfg, deps)
	if prepare != nil {
		prepare(svc)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	su, ss := tenant.ServerInterceptors(tenant.ByHeader{}, func(string) bool { return false })
	eu, es := rpcerr.ServerInterceptors(remote.Errors, slog.New(slog.DiscardHandler))
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(eu, su), grpc.ChainStreamInterceptor(es, ss), grpc.WaitForHandlers(true))
	svc.Register(srv)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	cu, cs := tenant.ClientInterceptors()
	fu, fs := rpcerr.ClientInterceptors(remote.Errors)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithChainUnaryInterceptor(fu, cu), grpc.WithChainStreamInterceptor(fs, cs))
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	n := &node{t: t, svc: svc, client: ingestv1.NewIngestServiceClient(conn), close: func() {
		once.Do(func() {
			svc.Stop()
			_ = conn.Close()
			srv.Stop()
			<-done
			if err := svc.Close(); err != nil {
				t.Error(err)
			}
		})
	}}
	t.Cleanup(n.close)
	return n
}

func ctx(t *testing.T) context.Context { return tenant.NewContext(t.Context(), "t") }

func (n *node) ingest(batch int64, stream string, times []int64, text ...string) (*ingestv1.IngestResponse, error) {
	b := &ingestv1.StreamBlock{Labels: fmt.Sprintf(`{s="%s"}`, stream), Times: times}
	for _, s := range text {
		b.Slab = append(b.Slab, s...)
		b.LineEnds = append(b.LineEnds, uint32(len(b.Slab)))
	}
	return n.client.Ingest(ctx(n.t), &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: batch, Streams: []*ingestv1.StreamBlock{b}})
}

// read returns the lines of all streams and the gaps that the ingester confesses.
func (n *node) read() (lines []string, gaps []string) {
	n.t.Helper()
	lines, gaps, err := n.tryRead()
	if err != nil {
		n.t.Fatal(err)
	}
	return lines, gaps
}

func (n *node) tryRead() (lines []string, gaps []string, err error) {
	n.t.Helper()
	expr, err := syntax.ParseExpr(`{s=~".+"}`)
	if err != nil {
		n.t.Fatal(err)
	}
	sel := expr.(*syntax.LogSelector)
	session, err := remote.NewSource("x", n.client).Open(ctx(n.t), sel.Matchers, 0, 1<<60)
	if err != nil {
		return nil, nil, err
	}
	defer session.Close()
	_, err = session.Scan(ctx(n.t), engine.ScanRequest{Query: expr, Start: 0, End: 1 << 60}, func(r *engine.ScanRows) error {
		for i := range r.Times {
			lines = append(lines, string(r.Lines.At(i)))
		}
		return nil
	})
	return lines, session.Gaps(), err
}

func TestAckedIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	for i := range 10 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(10 - i)}, fmt.Sprint("line ", 9-i)); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := n.read()
	n.close()
	n = start(t, dir, 1<<30)
	after, gaps := n.read()
	if len(after) != 10 || strings.Join(before, "|") != strings.Join(after, "|") || len(gaps) > 0 {
		t.Errorf("before %q\nafter  %q\ngaps %v", before, after, gaps)
	}
	// A retry after the restart changes nothing.
	resp, err := n.ingest(10, "a", []int64{1}, "line 0")
	if err != nil || resp.GetAdded() != 0 {
		t.Errorf("a resent entry was added: %v, %v", resp, err)
	}
}

func TestFullHeadRefusesAndStoresNothing(t *testing.T) {
	n := start(t, t.TempDir(), 4096)
	if _, err := n.ingest(1, "a", []int64{1}, "fits"); err != nil {
		t.Fatal(err)
	}
	_, err := n.ingest(2, "a", []int64{2}, strings.Repeat("x", 4096))
	if !rpcerr.Is(err, rpcerr.Overloaded) {
		t.Fatalf("error %v, want OVERLOADED", err)
	}
	if lines, _ := n.read(); len(lines) != 1 {
		t.Errorf("%d lines, want 1", len(lines))
	}
	if n.svc.reserved.Load() != 0 {
		t.Errorf("%d bytes stay reserved", n.svc.reserved.Load())
	}
}

func TestReadsAreBoundedInMemory(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	n.svc.deps.ReadMemory = 64 << 10
	var times []int64
	var lines []string
	for i := range 5000 {
		times, lines = append(times, int64(i+1)), append(lines, fmt.Sprintf("n=%d", i))
	}
	if _, err := n.ingest(1, "a", times, lines...); err != nil {
		t.Fatal(err)
	}
	expr, err := syntax.ParseExpr(`sum by (n) (count_over_time({s="a"} | logfmt [1h]))`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.New(engine.Options{}).Instant(ctx(t), engine.Query{Expr: expr, Sources: []engine.Source{remote.NewSource("x", n.client)}}, int64(1e12))
	if !errors.Is(err, engine.ErrLimit) {
		t.Errorf("error %v, want a limit", err)
	}
}

func TestBadBlocksAreRefused(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	good := func() *ingestv1.StreamBlock {
		return &ingestv1.StreamBlock{Labels: `{a="b"}`, Times: []int64{1}, LineEnds: []uint32{1}, Slab: []byte("x")}
	}
	for name, spoil := range map[string]func(*ingestv1.IngestRequest){
		"tenant":          func(r *ingestv1.IngestRequest) { r.Tenant = "../x" },
		"labels":          func(r *ingestv1.IngestRequest) { r.Streams[0].Labels = `{a=b}` },
		"canonical":       func(r *ingestv1.IngestRequest) { r.Streams[0].Labels = `{b="1",a="2"}` },
		"line ends":       func(r *ingestv1.IngestRequest) { r.Streams[0].LineEnds = []uint32{2} },
		"number of lines": func(r *ingestv1.IngestRequest) { r.Streams[0].LineEnds = nil },
		"metadata": func(r *ingestv1.IngestRequest) {
			r.Streams[0].Metadata = []*ingestv1.Column{{Name: "m", Rows: []uint32{7}, Ends: []uint32{0}}}
		},
		"order of metadata": func(r *ingestv1.IngestRequest) {
			r.Streams[0].Metadata = []*ingestv1.Column{{Name: "m", Ends: []uint32{0}}, {Name: "a", Ends: []uint32{0}}}
		},
		"positions":          func(r *ingestv1.IngestRequest) { r.Streams[0].Positions = []uint32{1, 2} },
		"copy numbers":       func(r *ingestv1.IngestRequest) { r.Streams[0].Copies = []uint32{1, 2} },
		"after the deadline": func(r *ingestv1.IngestRequest) { r.Deadline = n.svc.tell() },
		"another's clock":    func(r *ingestv1.IngestRequest) { r.Deadline = &ingestv1.ProcessClock{Id: 1, Nanos: 1 << 60} },
	} {
		req := &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: 1, Streams: []*ingestv1.StreamBlock{good()}}
		spoil(req)
		if _, err := n.client.Ingest(ctx(t), req); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if lines, _ := n.read(); len(lines) != 0 {
		t.Errorf("%d lines were stored", len(lines))
	}
}

// TestDamagedLogIsSaid: a flipped bit costs its record, and every answer says so.
func TestDamagedLogIsSaid(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	for i := range 3 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i + 1)}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	n.close()
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "line 1")
	b[at+5] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	// It is not forgotten when the log is cut off.
	for _, when := range []string{"found", "found again", "cut off", "started again"} {
		n = start(t, dir, 1<<30)
		if when == "cut off" {
			if err := n.flush(); err != nil {
				t.Fatal(err)
			}
		}
		lines, gaps := n.read()
		if got := strings.Join(lines, "|"); got != "line 0|line 2" || len(gaps) != 1 {
			t.Errorf("%s: lines %q, gaps %v", when, got, gaps)
		}
		n.close()
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, 1<<30)
	err := New(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), DataDir: dir, HeadLimit: 1 << 30}).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("locked by process ", os.Getpid())) {
		t.Errorf("error %v", err)
	}
}

// TestFollowGoesOnOverARestart: a follower that comes back with its position gets
// what it has missed, once, and no more.
func TestFollowGoesOnOverARestart(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	follow := func(n *node, incarnation string, at uint64, want int) (lines []string, last *ingestv1.FollowResponse) {
		c, cancel := context.WithCancel(ctx(t))
		defer cancel()
		s, err := n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s="a"} |= "keep"`, Incarnation: incarnation, Position: at})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			last = m
			from := uint32(0)
			for _, end := range m.GetRows().GetLineEnds() {
				lines = append(lines, string(m.GetRows().GetSlab()[from:end]))
				from = end
			}
			if len(lines) >= want {
				return lines, last
			}
		}
	}
	_, first := follow(n, "", 0, 0)
	for i := range 5 {
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i + 1), int64(i + 1)}, fmt.Sprint("keep ", i), "other"); err != nil {
			t.Fatal(err)
		}
	}
	n.close()
	n = start(t, dir, 1<<30)
	lines, last := follow(n, first.GetIncarnation(), first.GetPosition(), 5)
	if got := strings.Join(lines, "|"); got != "keep 0|keep 1|keep 2|keep 3|keep 4" {
		t.Errorf("got %q", got)
	}
	if last.GetPosition() != 6 {
		t.Errorf("position %d, want 6", last.GetPosition())
	}
	if _, m := follow(n, "another", 3, 0); !m.GetLost() {
		t.Error("a position of another incarnation is not reported as lost")
	}
}

func TestConcurrentIngestAppliesInLogOrder(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if _, err := n.ingest(int64(w*100+i+1), fmt.Sprint("s", w%3), []int64{int64(i + 1)}, fmt.Sprint(w, " ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	lines, _ := n.read()
	if len(lines) != 160 {
		t.Errorf("%d lines, want 160", len(lines))
	}
	if seq := n.svc.gens.newest().Seq(); seq != n.svc.log.NextLSN()-1 {
		t.Errorf("the head is at %d, the log at %d", seq, n.svc.log.NextLSN()-1)
	}
}
