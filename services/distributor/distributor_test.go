package distributor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// replica is an ingester that keeps what it gets, or fails as it is told.
type replica struct {
	ingestv1.IngestServiceClient
	mu   sync.Mutex
	got  []*ingestv1.IngestRequest
	fail func(ctx context.Context) error
	look func(ctx context.Context, req *ingestv1.IngestRequest) error // likewise, at the request
}

func (r *replica) Ingest(ctx context.Context, req *ingestv1.IngestRequest, _ ...grpc.CallOption) (*ingestv1.IngestResponse, error) {
	if r.fail != nil {
		if err := r.fail(ctx); err != nil {
			return nil, err
		}
	}
	if r.look != nil {
		if err := r.look(ctx, req); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The request is the distributor's again once it is answered.
	r.got = append(r.got, proto.Clone(req).(*ingestv1.IngestRequest))
	return &ingestv1.IngestResponse{}, nil
}

var processBegan = time.Now()

// Clock implements ingestv1.IngestServiceClient.
func (r *replica) Clock(context.Context, *ingestv1.ClockRequest, ...grpc.CallOption) (*ingestv1.ClockResponse, error) {
	return &ingestv1.ClockResponse{Clock: &ingestv1.ProcessClock{Id: 1, Nanos: int64(time.Since(processBegan))}}, nil
}

// Known implements ingestv1.IngestServiceClient.
func (r *replica) Known(ctx context.Context, req *ingestv1.KnownRequest, _ ...grpc.CallOption) (*ingestv1.KnownResponse, error) {
	if r.fail != nil {
		if err := r.fail(ctx); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	has := map[uint64]bool{}
	for _, req := range r.got {
		for _, b := range req.GetStreams() {
			has[b.GetToken()] = true
		}
	}
	resp := &ingestv1.KnownResponse{}
	for _, t := range req.GetTokens() {
		resp.Known = append(resp.Known, has[t])
	}
	return resp, nil
}

// streams returns how many streams the replica has, as it tells distributors.
func (r *replica) streams(tenant string) []limits.TenantStreams {
	r.mu.Lock()
	defer r.mu.Unlock()
	has := map[uint64]bool{}
	for _, req := range r.got {
		for _, b := range req.GetStreams() {
			has[b.GetToken()] = true
		}
	}
	return []limits.TenantStreams{{Tenant: tenant, Streams: len(has)}}
}

func (r *replica) entries() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, req := range r.got {
		for _, b := range req.GetStreams() {
			rows, err := rowspb.FromBlock(b)
			if err != nil {
				panic(err)
			}
			for i := range rows.Times {
				out[fmt.Sprintf("%s %d %s %v", b.GetLabels(), rows.Times[i], rows.Lines.At(i), rows.AppendMetadata(nil, i))]++
			}
		}
	}
	return out
}

type cluster struct {
	replicas map[string]*replica
	view     *ring.View
}

func (c *cluster) View() *ring.View { return c.view }
func (c *cluster) Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error) {
	return c.replicas[m.Name], nil
}

type fixed struct{ limits.Limits }

func (f fixed) For(string) limits.Limits { return f.Limits }

type unlimited struct{}

func (unlimited) Allow(string, int64, float64, int64) error { return nil }

func newCluster(t testing.TB, n, rf int) *cluster {
	t.Helper()
	c := &cluster{replicas: map[string]*replica{}}
	var table ring.Table
	healthy := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("ingester-%d", i)
		c.replicas[name] = &replica{}
		healthy[name] = true
		var err error
		table, _, err = table.Put(ring.Member{
			Name: name, Incarnation: name, Roles: ring.Ingester, GRPCAddr: "127.0.0.1:1", State: ring.Active,
			MinVersion: 1, MaxVersion: 1, Version: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.view = ring.NewView(table, healthy, ring.Config{ReplicationFactor: rf})
	return c
}

func (c *cluster) distributor(l limits.Limits) *Service {
	cfg := DefaultConfig()
	cfg.ReplicaTimeout = 2 * time.Second
	return New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Ring: c, Ingesters: c, Limits: fixed{l}, Rates: unlimited{},
		Now: func() time.Time { return now },
	})
}

func request(labels string, rows model.Rows) *ingestv1.WriteRequest {
	return &ingestv1.WriteRequest{Streams: []*ingestv1.StreamBlock{rowspb.ToBlock(labels, &rows)}, Door: "grpc"}
}

func lines(times []int64, text ...string) model.Rows {
	r := model.Rows{Times: times}
	for _, s := range text {
		r.Lines.AppendString(s)
	}
	return r
}

func ctx() context.Context { return tenant.NewContext(context.Background(), "t") }

func TestValidationIsPerEntry(t *testing.T) {
	at := now.UnixNano()
	l := limits.Default()
	l.MaxLineSize, l.MaxLabelNames, l.MaxMetadataPairs = 10, 2, 1
	meta := func(cols ...model.Column) model.Rows {
		r := lines([]int64{at}, "x")
		r.Metadata = cols
		return r
	}
	col := func(name, value string) model.Column {
		c := model.Column{Name: name}
		c.Append(0, []byte(value))
		return c
	}
	for _, c := range []struct {
		name     string
		labels   string
		rows     model.Rows
		accepted uint64
		reason   pushv1.RejectReason
		message  string
	}{
		{"good", `{app="a"}`, lines([]int64{at}, "x"), 1, 0, ""},
		{"long line among good ones", `{app="a"}`, lines([]int64{at, at, at}, "x", "01234567890", "y"), 2, pushv1.RejectReason_REJECT_REASON_LINE_TOO_LONG, "max entry size '10' bytes exceeded"},
		{"too old", `{app="a"}`, lines([]int64{1, at}, "x", "y"), 1, pushv1.RejectReason_REJECT_REASON_TOO_OLD, "has timestamp too old: 1970-01-01T00:00:00Z"},
		{"too new", `{app="a"}`, lines([]int64{at + int64(time.Hour)}, "x"), 0, pushv1.RejectReason_REJECT_REASON_TOO_FAR_IN_FUTURE, "has timestamp too new: 2026-11-25T13:00:00Z"},
		{"labels that do not parse", `{app=a}`, lines([]int64{at}, "x"), 0, pushv1.RejectReason_REJECT_REASON_INVALID_LABELS, "couldn't parse labels"},
		{"no labels", `{}`, lines([]int64{at}, "x"), 0, pushv1.RejectReason_REJECT_REASON_MISSING_LABELS, "at least one label pair"},
		{"duplicate label", `{a="1", a="2"}`, lines([]int64{at}, "x"), 0, pushv1.RejectReason_REJECT_REASON_DUPLICATE_LABEL_NAME, "duplicate label name: 'a'"},
		{"too many labels", `{a="1", b="2", c="3"}`, lines([]int64{at}, "x"), 0, pushv1.RejectReason_REJECT_REASON_TOO_MANY_LABELS, "has 3 label names; limit 2"},
		{"two labels and the derived one", `{a="1", b="2"}`, lines([]int64{at}, "x"), 1, 0, ""},
		{"too much metadata", `{a="1"}`, meta(col("a", "1"), col("b", "2")), 0, pushv1.RejectReason_REJECT_REASON_STRUCTURED_METADATA_TOO_MANY, "'2', limit: '1'"},
		{"metadata that is no text", `{a="1"}`, meta(col("a", "\xff")), 0, pushv1.RejectReason_REJECT_REASON_INVALID_STRUCTURED_METADATA, "not valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := newCluster(t, 1, 1)
			resp, err := cl.distributor(l).Write(ctx(), request(c.labels, c.rows))
			if err != nil {
				t.Fatal(err)
			}
			if resp.GetAcceptedEntries() != c.accepted {
				t.Errorf("%d entries accepted, want %d", resp.GetAcceptedEntries(), c.accepted)
			}
			stored := 0
			for _, n := range cl.replicas["ingester-0"].entries() {
				stored += n
			}
			if uint64(stored) != c.accepted {
				t.Errorf("%d entries stored, want %d", stored, c.accepted)
			}
			if c.reason == 0 {
				if len(resp.GetRejections()) > 0 {
					t.Errorf("refused: %v", resp.GetRejections())
				}
				return
			}
			if len(resp.GetRejections()) != 1 {
				t.Fatalf("%d rejections, want 1", len(resp.GetRejections()))
			}
			r := resp.GetRejections()[0]
			if pushv1.RejectReason(r.GetReason()) != c.reason || !strings.Contains(r.GetMessage(), c.message) {
				t.Errorf("refused for %v: %s\nwant %v: %s", pushv1.RejectReason(r.GetReason()), r.GetMessage(), c.reason, c.message)
			}
		})
	}
}

// TestRule1IdentityIsFixedHere: metadata in another order, with empty values, unclean
// names or several of one name, is the same entry.
func TestRule1IdentityIsFixedHere(t *testing.T) {
	at := now.UnixNano()
	for _, c := range []struct {
		same [][]string // columns, name=value
		want string
	}{
		{[][]string{{"a_b=v", "a_c=v"}, {"a.b=v", "a_c=v"}, {"a_b=v", "a_c=v", "d="}, {"a.c=v", "a_b=v"}}, "[{a_b v} {a_c v}]"},
		// Of names that become one the first counts that has a value: columns ascend by what was
		// sent, whatever order it was sent in.
		{[][]string{{"a.b=1", "a_b=2"}, {"a-b=", "a.b=1", "a_b=3"}, {"a.b=1"}, {"a_b=1"}}, "[{a_b 1}]"},
	} {
		cl := newCluster(t, 1, 1)
		d := cl.distributor(limits.Default())
		for _, columns := range c.same {
			r := lines([]int64{at}, "x")
			for _, text := range columns {
				name, value, _ := strings.Cut(text, "=")
				m := model.Column{Name: name}
				m.Append(0, []byte(value))
				r.Metadata = append(r.Metadata, m)
			}
			if _, err := d.Write(ctx(), request(`{b="2", a="1"}`, r)); err != nil {
				t.Fatal(err)
			}
		}
		got := cl.replicas["ingester-0"].entries()
		for text, n := range got {
			if len(got) != 1 || n != len(c.same) || !strings.HasSuffix(text, " "+c.want) {
				t.Errorf("%v became %d times %s, want %s", c.same, n, text, c.want)
			}
		}
	}
}

func TestAckNeedsAQuorum(t *testing.T) {
	at := now.UnixNano()
	broken := func(context.Context) error { return rpcerr.New(rpcerr.Unavailable, "down") }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for _, c := range []struct {
		name string
		fail []func(context.Context) error
		ok   bool
		want rpcerr.Reason
	}{
		{"all work", nil, true, ""},
		{"one is down", []func(context.Context) error{broken}, true, ""},
		{"one is frozen", []func(context.Context) error{hangs}, true, ""},
		{"two are down", []func(context.Context) error{broken, broken}, false, rpcerr.NoQuorum},
		{"two have no room", []func(context.Context) error{
			func(context.Context) error { return rpcerr.New(rpcerr.DiskFull, "full") },
			func(context.Context) error { return rpcerr.New(rpcerr.DiskFull, "full") },
		}, false, rpcerr.DiskFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := newCluster(t, 3, 3)
			for i, f := range c.fail {
				cl.replicas[fmt.Sprintf("ingester-%d", i)].fail = f
			}
			d := cl.distributor(limits.Default())
			defer d.writes.Wait()
			_, err := d.Write(ctx(), request(`{a="b"}`, lines([]int64{at}, "x")))
			if (err == nil) != c.ok || err != nil && !rpcerr.Is(err, c.want) {
				t.Errorf("error %v, want ok %t or %s", err, c.ok, c.want)
			}
		})
	}
	t.Run("too few are healthy", func(t *testing.T) {
		cl := newCluster(t, 1, 3)
		_, err := cl.distributor(limits.Default()).Write(ctx(), request(`{a="b"}`, lines([]int64{at}, "x")))
		if !rpcerr.Is(err, rpcerr.NoQuorum) {
			t.Errorf("error %v, want NO_QUORUM", err)
		}
	})
}

func TestStreamLimitSparesExistingStreams(t *testing.T) {
	at := now.UnixNano()
	l := limits.Default()
	l.MaxStreams = 2
	d := newCluster(t, 1, 1).distributor(l)
	push := func(stream string) uint64 {
		resp, err := d.Write(ctx(), request(fmt.Sprintf(`{s="%s"}`, stream), lines([]int64{at}, "x")))
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetAcceptedEntries()
	}
	for _, c := range []struct {
		stream string
		want   uint64
	}{{"a", 1}, {"b", 1}, {"c", 0}, {"a", 1}, {"d", 0}, {"b", 1}} {
		if got := push(c.stream); got != c.want {
			t.Errorf("stream %s: %d accepted, want %d", c.stream, got, c.want)
		}
	}
}

func TestLevelIsDerivedBesideWhatWasSent(t *testing.T) {
	at := now.UnixNano()
	cl := newCluster(t, 1, 1)
	r := lines([]int64{at, at, at}, "an ERROR here", "plain", "plain")
	c := model.Column{Name: "detected_level"}
	c.Append(2, []byte("WARN"))
	r.Metadata = []model.Column{c}
	if _, err := cl.distributor(limits.Default()).Write(ctx(), request(`{a="b"}`, r)); err != nil {
		t.Fatal(err)
	}
	rows, err := rowspb.FromBlock(cl.replicas["ingester-0"].got[0].GetStreams()[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[] [{detected_level error}]", "[] [{detected_level unknown}]", "[{detected_level warn}] []"} {
		if got := fmt.Sprint(rows.AppendMetadata(nil, i), rows.AppendDerived(nil, i)); got != want {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
}

func TestBatchTimesAscend(t *testing.T) {
	d := newCluster(t, 1, 1).distributor(limits.Default())
	last := int64(0)
	for range 1000 { // the clock stands still
		next := d.nextBatchTime()
		if next <= last {
			t.Fatalf("batch time %d after %d", next, last)
		}
		last = next
	}
}

func TestQuorumErrorKeepsTheRetryDelay(t *testing.T) {
	err := quorumError(errors.Join(errors.New("a"), fmt.Errorf("b: %w", rpcerr.New(rpcerr.Overloaded, "x").WithRetry(5*time.Second))))
	if !rpcerr.Is(err, rpcerr.Overloaded) || rpcerr.RetryAfter(err) != 5*time.Second {
		t.Errorf("%v, retry after %s", err, rpcerr.RetryAfter(err))
	}
}
