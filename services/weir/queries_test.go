package weir

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/shopgen"
)

// endless is a query that takes very long over the lines of shopLines: expressions that
// no literal helps and that go through hundreds of states at each byte, one after the
// other.
var endless = func() string {
	var legs []string
	for i := range 100 {
		legs = append(legs, fmt.Sprintf(`sum(count_over_time({app=~".+"} |~ "(?:[a-z]?[0-9]?.?){100}[^ -~]{3}|[x-z]%d" [1h]))`, i))
	}
	return strings.Join(legs, " + ")
}()

// shopLines pushes lines that a shop has written within the last hour.
func (p *process) shopLines(t *testing.T, n int) {
	t.Helper()
	start := time.Now().Add(-50 * time.Minute)
	g, err := shopgen.New(shopgen.Config{Seed: 1, Start: start, Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for range n {
		r := g.Next()
		app := g.Streams()[r.Stream].Service
		lines[app] = append(lines[app], string(r.Line))
	}
	for app, l := range lines {
		p.push(t, app, start, l...)
	}
}

// await waits until f holds.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// metric is the value of a metric without labels.
func (p *process) metric(t *testing.T, name string) string {
	t.Helper()
	families, err := p.tel.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return fmt.Sprint(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatalf("there is no metric %s", name)
	return ""
}

// idle waits until no query does anything.
func (p *process) idle(t *testing.T) {
	t.Helper()
	await(t, "all work to stop", func() bool {
		return p.metric(t, "weir_querier_running_queries") == "0" && !working()
	})
}

// working reports whether any goroutine runs a query, on the side of the querier or of
// the ingester.
func working() bool {
	stacks := make([]byte, 4<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("/libs/logql/engine."))
}

// running waits until n queries of a tenant are there, and returns them.
func (p *process) running(ctx context.Context, t *testing.T, n int) (out []*queryv1.RunningQuery) {
	t.Helper()
	await(t, fmt.Sprintf("%d queries to be listed", n), func() bool {
		resp, err := queryv1.NewQueryServiceClient(p.conn).ListQueries(ctx, &queryv1.ListQueriesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		out = resp.GetQueries()
		return len(out) == n && len(resp.GetWarnings()) == 0
	})
	return out
}

func (p *process) ask(ctx context.Context, query string) <-chan error {
	failed := make(chan error, 1)
	go func() {
		_, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(ctx, &queryv1.QueryRangeRequest{Query: query})
		failed <- err
	}()
	return failed
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("waited too long: %s", what)
		panic("not reached")
	}
}

// A query ends when somebody cancels it, when its caller goes, and at its deadline:
// whoever asked is told, and the work stops on all sides.
func TestQueriesEnd(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Querier.MaxConcurrent = 2 })
	p.shopLines(t, 6_000)
	queries := queryv1.NewQueryServiceClient(p.conn)

	failed := p.ask(t.Context(), endless)
	q := p.running(t.Context(), t, 1)[0]
	if q.GetQuery() != endless || q.GetKind() != "QueryRange" || q.GetId() == "" || q.GetQuerier() == "" || q.GetEnd() == nil {
		t.Errorf("listed as %v", q)
	}
	await(t, "it to have read something", func() bool {
		q = p.running(t.Context(), t, 1)[0]
		return q.GetState() == queryv1.QueryState_QUERY_STATE_RUNNING && q.GetBytesTotal() > 0
	})
	other := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "other")
	if got := p.running(other, t, 0); len(got) != 0 {
		t.Errorf("another tenant sees %v", got)
	}
	if _, err := queries.CancelQuery(other, &queryv1.CancelQueryRequest{Id: q.GetId()}); status.Code(err) != codes.NotFound {
		t.Errorf("another tenant cancels it: %v", err)
	}
	if got, err := queries.CancelQuery(t.Context(), &queryv1.CancelQueryRequest{Id: q.GetId()}); err != nil || got.GetQuery().GetState() != queryv1.QueryState_QUERY_STATE_CANCELLED {
		t.Errorf("cancelled: %v, %v", got, err)
	}
	err := receive(t, "the error", failed)
	if reason := reasonOf(err); status.Code(err) != codes.Aborted || reason != "QUERY_CANCELLED" || !strings.Contains(err.Error(), q.GetId()) {
		t.Errorf("who asked is told %v (%s)", err, reason)
	}
	p.idle(t)
	if _, err := queries.CancelQuery(t.Context(), &queryv1.CancelQueryRequest{Id: q.GetId()}); status.Code(err) != codes.NotFound {
		t.Errorf("cancelled when it was over: %v", err)
	}

	ctx, gone := context.WithCancel(t.Context())
	failed = p.ask(ctx, endless)
	p.running(t.Context(), t, 1)
	gone()
	receive(t, "the error", failed)
	p.running(t.Context(), t, 0)
	p.idle(t)

	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if err := receive(t, "the error", p.ask(ctx, endless)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("beyond its deadline: %v", err)
	}
	p.running(t.Context(), t, 0)
	p.idle(t)
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// The same over HTTP, and beyond the tenant's limit of waiting ones: the text and the
// status that clients of Loki know.
func TestQueriesOverHTTP(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) {
		c.Querier.MaxConcurrent = 1
		c.Limits.MaxQueuedQueries = 1
	})
	p.shopLines(t, 6_000)
	call := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.HTTPAddr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	first := p.ask(t.Context(), endless)
	p.running(t.Context(), t, 1)
	second := p.ask(t.Context(), endless)
	both := p.running(t.Context(), t, 2)
	if both[0].GetState() != queryv1.QueryState_QUERY_STATE_RUNNING || both[1].GetState() != queryv1.QueryState_QUERY_STATE_WAITING {
		t.Errorf("they are %v", both)
	}
	if code, text := call("GET", "/loki/api/v1/query_range?query="+url.QueryEscape(`{app="x"}`)); code != 429 || text != "too many outstanding requests" {
		t.Errorf("beyond the limit: %d %q", code, text)
	}
	if err := receive(t, "the error", p.ask(t.Context(), `{app="x"}`)); status.Code(err) != codes.ResourceExhausted || reasonOf(err) != "TOO_MANY_QUERIES" {
		t.Errorf("beyond the limit: %v", err)
	}
	if code, text := call("GET", "/api/v1/queries"); code != 200 || !strings.Contains(text, both[1].GetId()) || !strings.Contains(text, "QUERY_STATE_WAITING") {
		t.Errorf("listed: %d %s", code, text)
	}
	for i, failed := range []<-chan error{second, first} {
		if code, text := call("DELETE", "/api/v1/queries/"+both[1-i].GetId()); code != 200 {
			t.Errorf("cancelled: %d %s", code, text)
		}
		if err := receive(t, "the error", failed); status.Code(err) != codes.Aborted {
			t.Errorf("who asked is told %v", err)
		}
	}
	if code, text := call("DELETE", "/api/v1/queries/none"); code != 404 {
		t.Errorf("cancelled nothing: %d %s", code, text)
	}
	p.idle(t)
}
