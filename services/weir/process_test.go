package weir

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is a running process and a connection to its gRPC port.
type process struct {
	*Process
	conn *grpc.ClientConn
	stop func()
}

func startProcess(t *testing.T, dir string, edit func(*Config)) *process {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir = dir
	cfg.Server.Listen, cfg.Server.GRPCListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Compactor.Interval = 365 * 24 * time.Hour // its first cycle is at random: tests that look at blocks ask for theirs
	// How full this machine's disk is does not matter.
	cfg.Ingester.DiskReserve, cfg.Ingester.DiskMinFree, cfg.Ingester.DiskMaxUsed = 0, 0, 100
	if edit != nil {
		edit(&cfg)
	}
	set, err := Settings(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := NewProcess(t.Context(), cfg, CurrentBuild(), set.Print, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for p.Ready(ctx) != nil {
		select {
		case err := <-done:
			t.Fatalf("the process ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+p.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	run := &process{Process: p, conn: conn, stop: func() {
		if stopped {
			return
		}
		stopped = true
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the process ended with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}}
	t.Cleanup(run.stop)
	return run
}

func (p *process) push(t *testing.T, app string, at time.Time, lines ...string) {
	t.Helper()
	st := &pushv1.Stream{Labels: map[string]string{"app": app}}
	for i, l := range lines {
		st.Entries = append(st.Entries, &pushv1.Entry{
			TimestampUnixNano: at.Add(time.Duration(i)).UnixNano(), Line: &pushv1.Entry_Text{Text: l},
			StructuredMetadata: map[string]string{"n": fmt.Sprint(i)},
		})
	}
	resp, err := pushv1.NewPushServiceClient(p.conn).Push(t.Context(), &pushv1.PushRequest{Streams: []*pushv1.Stream{st}})
	if err != nil || resp.GetAcceptedEntries() != uint64(len(lines)) {
		t.Fatalf("push: %v, %v", resp, err)
	}
}

func (p *process) lines(t *testing.T, req *queryv1.QueryRangeRequest) (out []string, cursor string) {
	t.Helper()
	resp, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	type timed struct {
		at   int64
		line string
	}
	var all []timed
	for _, s := range resp.GetStreams().GetStreams() {
		for _, e := range s.GetEntries() {
			all = append(all, timed{e.GetTimestampUnixNano(), e.GetText()})
		}
	}
	slices.SortStableFunc(all, func(a, b timed) int { return int(a.at - b.at) })
	if req.GetDirection() != queryv1.Direction_DIRECTION_FORWARD {
		slices.Reverse(all)
	}
	for _, e := range all {
		out = append(out, e.line)
	}
	return out, resp.GetNextCursor()
}

func TestPushQueryRestart(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	at := time.Now().Add(-time.Minute)
	p.push(t, "shop", at, "one", "two level=error", "three")
	q := &queryv1.QueryRangeRequest{Query: `{app="shop"}`, Direction: queryv1.Direction_DIRECTION_FORWARD}
	if got, _ := p.lines(t, q); strings.Join(got, "|") != "one|two level=error|three" {
		t.Fatalf("got %q", got)
	}
	p.push(t, "shop", at, "one", "two level=error", "three") // a retry
	p.stop()
	p = startProcess(t, dir, nil)
	if got, _ := p.lines(t, q); strings.Join(got, "|") != "one|two level=error|three" {
		t.Fatalf("after a restart: %q", got)
	}
	if got, _ := p.lines(t, &queryv1.QueryRangeRequest{Query: `{app="shop"} | detected_level="error" | n="1"`}); strings.Join(got, "|") != "two level=error" {
		t.Fatalf("by derived and sent metadata: %q", got)
	}
	m, err := queryv1.NewQueryServiceClient(p.conn).Query(t.Context(), &queryv1.QueryRequest{Query: `sum(count_over_time({app="shop"}[10m]))`})
	if err != nil || len(m.GetVector().GetSamples()) != 1 || m.GetVector().GetSamples()[0].GetSample().GetValue() != 3 {
		t.Fatalf("count: %v, %v", m, err)
	}
}

func TestPagesNeitherLoseNorRepeat(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	var want []string
	for i := range 20 {
		// Ten streams, equal timestamps.
		p.push(t, fmt.Sprint("app", i%10), at, fmt.Sprint("a", i), fmt.Sprint("b", i))
		want = append(want, fmt.Sprint("a", i), fmt.Sprint("b", i))
	}
	for _, dir := range []queryv1.Direction{queryv1.Direction_DIRECTION_FORWARD, queryv1.Direction_DIRECTION_BACKWARD} {
		q := &queryv1.QueryRangeRequest{Query: `{app=~".+"}`, Limit: 3, Direction: dir}
		var got []string
		for {
			page, next := p.lines(t, q)
			got = append(got, page...)
			if next == "" {
				break
			}
			if len(page) == 0 || len(got) > 100 {
				t.Fatalf("%s: pages do not end", dir)
			}
			q.Cursor = next
		}
		slices.Sort(got)
		all := slices.Clone(want)
		slices.Sort(all)
		if !slices.Equal(got, all) {
			t.Errorf("%s: got %d entries %q, want %d", dir, len(got), got, len(all))
		}
	}
}

func TestTailHistoryLiveAndResume(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute)
	p.push(t, "shop", at, "old")
	tail := func(req *tailv1.TailRequest, want int, after func()) (got []string, cursor string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := tailv1.NewTailServiceClient(p.conn).Tail(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := s.Recv()
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			if after != nil {
				after()
				after = nil
			}
			cursor = m.GetCursor()
			for _, st := range m.GetStreams() {
				for _, e := range st.GetEntries() {
					got = append(got, e.GetText())
				}
			}
			if len(got) >= want {
				return got, cursor
			}
		}
	}
	got, cursor := tail(&tailv1.TailRequest{Query: `{app="shop"}`, Start: timestamppb.New(at.Add(-time.Hour))}, 3, func() {
		p.push(t, "shop", time.Now(), "live 1", "live 2")
	})
	if strings.Join(got, "|") != "old|live 1|live 2" {
		t.Fatalf("got %q", got)
	}
	p.push(t, "shop", time.Now(), "missed")
	p.push(t, "other", time.Now(), "not asked for")
	got, _ = tail(&tailv1.TailRequest{Query: `{app="shop"}`, Cursor: cursor}, 2, func() {
		p.push(t, "shop", time.Now(), "live 3")
	})
	if strings.Join(got, "|") != "missed|live 3" {
		t.Errorf("resumed: %q", got)
	}
	s, err := tailv1.NewTailServiceClient(p.conn).Tail(t.Context(), &tailv1.TailRequest{Query: `{app="other"}`, Cursor: cursor})
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the cursor of another query: %v", err)
	}
}

// TestTailComesBackWithinHistory ends a tail behind each of its first responses, while others
// push, among them what is older than history that was sent: whoever goes on by the cursor has
// each entry once.
func TestTailComesBackWithinHistory(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute)
	const pages, page = 4, 500
	for k := range pages {
		lines := make([]string, page)
		for i := range lines {
			lines[i] = fmt.Sprint("line ", k*page+i)
		}
		p.push(t, fmt.Sprint("app ", 1-k%2), at.Add(time.Duration(k)*time.Second), lines...)
	}
	pushed := 0
	for cut := 1; cut <= pages+2; cut++ {
		got := map[string]int{}
		req := &tailv1.TailRequest{Query: `{app=~"app.*"}`, Start: timestamppb.New(at.Add(-time.Hour)), Limit: pages * page}
		// Reads responses until enough says so, each cut behind its first cut ones.
		take := func(most int, enough func() bool) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := tailv1.NewTailServiceClient(p.conn).Tail(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			for range most {
				m, err := s.Recv()
				if err != nil {
					t.Fatal(err)
				}
				for _, st := range m.GetStreams() {
					for _, e := range st.GetEntries() {
						got[e.GetText()]++
					}
				}
				for _, d := range m.GetDropped() {
					t.Errorf("cut behind %d: %s", cut, d.GetReason())
				}
				if m.GetCursor() == "" {
					t.Fatalf("cut behind %d: a response has no cursor", cut)
				}
				if req.Cursor, req.Start = m.GetCursor(), nil; enough() {
					return
				}
			}
		}
		before := pushed
		push := func() {
			pushed++
			p.push(t, "app 0", time.Now(), fmt.Sprint("new ", pushed))
			pushed++
			p.push(t, "app 0", at.Add(time.Duration(cut)*time.Millisecond), fmt.Sprint("new ", pushed))
		}
		first := true
		take(cut, func() bool {
			if first {
				push()
			}
			first = false
			return false
		})
		push()
		want := pages*page + pushed - before
		take(1000, func() bool { return len(got) >= want })
		for line, n := range got {
			if n > 1 {
				t.Errorf("cut behind %d: %q came %d times", cut, line, n)
			}
		}
		for i := before; i < pushed; i++ {
			if got[fmt.Sprint("new ", i+1)] != 1 {
				t.Errorf("cut behind %d: new %d is missing", cut, i+1)
			}
		}
		t.Logf("cut behind %d: %d entries", cut, len(got))
	}
}

// TestTooManyTailsIsLoad: the limit is answered as what passes, is counted, and
// the place of a tail that ends is free again.
func TestTooManyTailsIsLoad(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Limits.MaxTails = 1 })
	tail := func() (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := tailv1.NewTailServiceClient(p.conn).Tail(ctx, &tailv1.TailRequest{Query: `{app="shop"}`})
		if err == nil {
			_, err = s.Recv()
		}
		return cancel, err
	}
	stop, err := tail()
	if err != nil {
		t.Fatal(err)
	}
	end, err := tail()
	end()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second tail of one allowed: %v", err)
	}
	resp, err := http.Get("http://" + p.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(body), "weir_querier_refused_tails_total 1\n") {
		t.Errorf("the refusal is not counted (%v)", err)
	}
	stop()
	for {
		end, err := tail()
		end()
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	}
}

func TestTenantsAreApart(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	p.push(t, "shop", time.Now(), "secret")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+"/api/v1/query_range?query=%7Bapp%3D%22shop%22%7D", nil)
	if err != nil {
		t.Fatal(err)
	}
	for tenant, want := range map[string]bool{"fake": true, "other": false} {
		req.Header.Set("X-Scope-OrgID", tenant)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || strings.Contains(string(body), "secret") != want {
			t.Errorf("tenant %s: %s %s", tenant, resp.Status, body)
		}
	}
}

func TestAdmin(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	c := adminv1.NewAdminServiceClient(p.conn)
	services, err := c.Services(t.Context(), &adminv1.ServicesRequest{})
	if err != nil || len(services.GetServices()) == 0 {
		t.Fatal(services, err)
	}
	for _, s := range services.GetServices() {
		if s.GetState() != adminv1.ServiceState_SERVICE_STATE_RUNNING {
			t.Errorf("%s is %s", s.GetName(), s.GetState())
		}
	}
	members, err := c.Members(t.Context(), &adminv1.MembersRequest{})
	if err != nil || len(members.GetMembers()) != 1 || !members.GetMembers()[0].GetHealthy() {
		t.Error(members, err)
	}
	if _, err := c.Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Compact(t.Context(), &adminv1.CompactRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Leave(t.Context(), &adminv1.LeaveRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("an ingester that holds the only copy may leave: %v", err)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	_, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), &queryv1.QueryRangeRequest{Query: `{app="x"} |= 5`})
	var info *errdetails.ErrorInfo
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			info = i
		}
	}
	if info.GetReason() != "PARSE_ERROR" || info.GetMetadata()["line"] != "1" || info.GetMetadata()["col"] != "14" {
		t.Errorf("error %v with %v", err, info)
	}
}

func TestConfigurationErrors(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"unknown target":    func(c *Config) { c.Target = []string{"ingestor"} },
		"no join":           func(c *Config) { c.Target = []string{"querier"} },
		"too little":        func(c *Config) { c.Memory.Limit = 1 << 20 },
		"copies for none":   func(c *Config) { c.Cluster.ReplicationFactor = 3 },
		"open to the world": func(c *Config) { c.Server.Listen = "0.0.0.0:3100" },
	} {
		cfg := DefaultConfig()
		edit(&cfg)
		set, err := Settings(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		if set.Validate() == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}

func TestQueryStreamIsQueryRange(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	for i := range 30 {
		p.push(t, fmt.Sprint("app", i%3), at.Add(time.Duration(i)*time.Second), fmt.Sprint("a", i), fmt.Sprint("b", i))
	}
	c := queryv1.NewQueryServiceClient(p.conn)
	stream := func(q *queryv1.QueryRangeRequest) (lines []string, series int, done *queryv1.Done) {
		s, err := c.QueryStream(t.Context(), &queryv1.QueryStreamRequest{Query: q})
		if err != nil {
			t.Fatal(err)
		}
		for {
			m, err := s.Recv()
			if err == io.EOF {
				return lines, series, done
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, st := range m.GetStreams().GetStreams() {
				for _, e := range st.GetEntries() {
					lines = append(lines, e.GetText())
				}
			}
			series += len(m.GetMatrix().GetSeries())
			if m.GetDone() != nil {
				done = m.GetDone()
			}
		}
	}
	for _, dir := range []queryv1.Direction{queryv1.Direction_DIRECTION_FORWARD, queryv1.Direction_DIRECTION_BACKWARD} {
		q := &queryv1.QueryRangeRequest{Query: `{app=~".+"}`, Limit: 25, Direction: dir}
		want, cursor := p.lines(t, q)
		got, _, done := stream(q)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || done.GetNextCursor() != cursor || len(got) != 25 {
			t.Errorf("%s: streamed %q, want %q", dir, got, want)
		}
	}
	if _, series, done := stream(&queryv1.QueryRangeRequest{Query: `sum by (app) (count_over_time({app=~".+"}[1m]))`}); series != 3 || done == nil {
		t.Errorf("%d series, want 3", series)
	}
}
