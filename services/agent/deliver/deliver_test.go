package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loki is a server of Loki's push API that fails as it is told.
type loki struct {
	*httptest.Server
	mu    sync.Mutex
	lines map[string][]string // by tenant and labels
	seen  map[string]bool
	auth  []string
	fail  func(n int, body []byte) (status int, text string)
	// failTenant is who gets 429.
	failTenant string
	n          int
}

func newLokiServer(t *testing.T) *loki {
	t.Helper()
	l := &loki{lines: map[string][]string{}, seen: map[string]bool{}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/token" {
			id, secret, _ := r.BasicAuth()
			fmt.Fprintf(w, `{"access_token":"%s-%s","expires_in":3600}`, id, secret)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.n++
		l.auth = append(l.auth, r.Header.Get("Authorization"))
		raw, err := snappy.Decode(nil, b)
		if err != nil {
			t.Error(err)
		}
		if l.failTenant != "" && r.Header.Get("X-Scope-OrgID") == l.failTenant {
			w.Header().Set("Retry-After", "0")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		if l.fail != nil {
			if status, text := l.fail(l.n, raw); status != 0 {
				w.Header().Set("Retry-After", "0")
				http.Error(w, text, status)
				return
			}
		}
		streams, err := source.DecodeLokiProto(raw)
		if err != nil {
			t.Error(err)
		}
		for _, s := range streams {
			key := r.Header.Get("X-Scope-OrgID") + fmt.Sprint(s.Labels)[3:]
			for _, e := range s.Entries {
				id := fmt.Sprint(key, e.Time, string(e.Line))
				if !l.seen[id] {
					l.seen[id] = true
					l.lines[key] = append(l.lines[key], string(e.Line)+metadataText(e.Metadata))
				}
			}
		}
		w.WriteHeader(204)
	}))
	t.Cleanup(l.Close)
	return l
}

func metadataText(m []model.Label) string {
	if len(m) == 0 {
		return ""
	}
	return " " + model.Labels(m).String()
}

func (l *loki) get(key string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[key])
}

func clientTo(name, url string) ClientConfig {
	return ClientConfig{Name: name, URL: url, Timeout: 5 * time.Second, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}
}

// opened is a running Delivery.
func opened(t *testing.T, cfg Config) (d *Delivery, stop func()) {
	t.Helper()
	cfg.MaxBytes, cfg.MaxWait, cfg.SaveInterval = 1<<20, 5*time.Millisecond, time.Second
	d, err := Open(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	hard, kill := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx, hard) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			timer := time.AfterFunc(500*time.Millisecond, kill)
			<-done
			timer.Stop()
			kill()
			_ = d.Close()
		})
	}
	t.Cleanup(stop)
	return d, stop
}

func put(d *Delivery, set *entry.Set, tenant string, lines ...string) {
	var ents []entry.Entry
	for _, l := range lines {
		ents = append(ents, entry.Entry{Labels: set, Line: []byte(l), Tenant: tenant})
	}
	d.Add(ents, nil, "", "")
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: ", what)
		}
	}
}

// landed waits until the answers to all that a client has sent are taken, which may be later than
// its server has it.
func landed(t *testing.T, d *Delivery, client int) {
	t.Helper()
	await(t, "all answers", func() bool {
		s := d.senders[client]
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.flights) == 0
	})
}

var app = entry.SetOf(map[string]string{"app": "a"})

// 429, 500 and broken connections are repeated; a refused line is set aside; labels
// and tenants arrive.
func TestLoki(t *testing.T) {
	l := newLokiServer(t)
	l.fail = func(n int, body []byte) (int, string) {
		switch {
		case n == 1:
			return 429, "slow down"
		case n == 2:
			return 500, "oops"
		case bytes.Contains(body, []byte("poison")):
			return 400, "entry too far behind"
		}
		return 0, ""
	}
	dir := t.TempDir()
	c := clientTo("loki", l.URL+"/loki/api/v1/push")
	c.Tenant = "own"
	d, stop := opened(t, Config{Positions: filepath.Join(dir, "positions"), Clients: []ClientConfig{c}, External: []model.Label{{Name: "app", Value: "x"}, {Name: "env", Value: "test"}}})
	put(d, app, "", "one", "poison", "two", "three")
	put(d, app, "other", "theirs")
	d.Add([]entry.Entry{{Labels: app, Line: []byte("meta"), Metadata: []model.Label{{Name: "k", Value: "v"}}}}, nil, "", "")
	await(t, "all lines", func() bool { return len(l.get("own[app:a env:test]")) == 4 && len(l.get("other[app:a env:test]")) == 1 })
	if got, want := l.get("own[app:a env:test]"), []string{"one", "two", "three", `meta {k="v"}`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	landed(t, d, 0)
	stop()
	b, err := os.ReadFile(filepath.Join(dir, "positions.refused", "loki.jsonl"))
	var e asideEntry
	if err != nil || json.Unmarshal(b, &e) != nil || e.Line != "poison" || e.Reason != "too_old" || e.Labels["app"] != "a" {
		t.Errorf("%s %v", b, err)
	}
}

// A client whose server is away holds up neither the other one nor the reading, and
// gets its lines later, over a restart too.
func TestTwoClients(t *testing.T) {
	good, bad := newLokiServer(t), newLokiServer(t)
	down := func(int, []byte) (int, string) { return 503, "away" }
	bad.fail = down
	cfg := Config{
		Positions: filepath.Join(t.TempDir(), "positions"),
		Clients:   []ClientConfig{clientTo("good", good.URL), clientTo("bad", bad.URL)},
	}
	cfg.Clients[1].External = []model.Label{{Name: "to", Value: "bad"}}
	d, stop := opened(t, cfg)
	var want []string
	for i := range 100 {
		l := fmt.Sprint(i)
		want = append(want, l)
		put(d, app, "", l)
		if i%10 == 9 {
			if err := d.Sync(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	await(t, "the good one has all", func() bool { return slices.Equal(good.get("[app:a]"), want) })
	landed(t, d, 0)
	stop()
	if n := len(bad.get("[app:a to:bad]")); n != 0 {
		t.Errorf("%d lines at a server that is away", n)
	}
	bad.mu.Lock()
	bad.fail = nil
	bad.mu.Unlock()
	before := good.n
	_, stop = opened(t, cfg)
	await(t, "the bad one has all", func() bool { return slices.Equal(bad.get("[app:a to:bad]"), want) })
	stop()
	if good.n != before {
		t.Errorf("%d requests again to the good one", good.n-before)
	}
}

// A tenant that is throttled holds up the others of its client only when so many
// batches wait for it; each keeps its order, and all arrives in the end.
func TestThrottledTenant(t *testing.T) {
	l := newLokiServer(t)
	l.failTenant = "slow"
	d, stop := opened(t, Config{Positions: filepath.Join(t.TempDir(), "positions"), Clients: []ClientConfig{clientTo("c", l.URL)}})
	var want []string
	for i := range maxFlights - 1 {
		text := fmt.Sprint(i)
		want = append(want, text)
		put(d, app, "slow", text)
		put(d, app, "quick", text)
		if err := d.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the quick tenant has all", func() bool { return slices.Equal(l.get("quick[app:a]"), want) })
	for i := range 100 {
		text := fmt.Sprint("more ", i)
		want = append(want, text)
		put(d, app, "slow", text)
		put(d, app, "quick", text)
		if err := d.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	d.senders[0].mu.Lock()
	n := len(d.senders[0].flights)
	d.senders[0].mu.Unlock()
	if n > maxFlights {
		t.Errorf("%d batches in memory", n)
	}
	l.mu.Lock()
	l.failTenant = ""
	l.mu.Unlock()
	for _, tenant := range []string{"slow", "quick"} {
		await(t, tenant+" has all", func() bool { return slices.Equal(l.get(tenant+"[app:a]"), want) })
	}
	stop()
}

func TestAuth(t *testing.T) {
	l := newLokiServer(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, a := range map[string]AuthConfig{
		"Basic dTpw":   {Username: "u", Password: "p"},
		"Bearer s3":    {CredentialsFile: file},
		"Custom x":     {Type: "Custom", Credentials: "x"},
		"Bearer id-s3": {OAuth2: &OAuth2Config{ClientID: "id", ClientSecretFile: file, TokenURL: l.URL + "/token"}},
		"":             {},
	} {
		l.auth = nil
		c := clientTo("c", l.URL)
		c.Auth = a
		d, stop := opened(t, Config{Clients: []ClientConfig{c}})
		put(d, app, "", "x")
		await(t, "a request", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.auth) > 0 })
		stop()
		if l.auth[0] != want {
			t.Errorf("%q, want %q", l.auth[0], want)
		}
		if a.OAuth2 != nil {
			for _, s := range d.senders {
				s.t.(*lokiTransport).creds.http.CloseIdleConnections()
			}
		}
	}
	l.Server.CloseClientConnections()
}

// What is written by hand is what the generated code reads.
func TestEncode(t *testing.T) {
	text := rapid.StringMatching(`[a-z\x{ff}-\x{fff}]{1,300}`)
	rapid.Check(t, func(t *rapid.T) {
		c := newCollector(1<<20, 0, 0)
		type line struct{ line, meta string }
		want := map[string][]line{}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			labels := map[string]string{"a": rapid.SampledFrom([]string{"x", "y", "é"}).Draw(t, "label")}
			e := entry.Entry{Labels: entry.SetOf(labels), Line: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "line"), Time: rapid.Int64().Draw(t, "time"), OwnTime: true}
			l := line{line: string(e.Line)}
			if rapid.Bool().Draw(t, "meta") {
				l.meta = text.Draw(t, "value")
				e.Metadata = []model.Label{{Name: "m", Value: l.meta}}
			}
			want[labels["a"]] = append(want[labels["a"]], l)
			c.add([]entry.Entry{e}, nil, "", "")
		}
		b := c.take()
		if b == nil {
			if len(want) > 0 {
				t.Fatal("no batch")
			}
			return
		}
		for _, more := range [][]model.Label{nil, {{Name: "a", Value: "no"}, {Name: "z", Value: "yes"}}} {
			body, err := withLabels(b.Requests[0].Body, more)
			if err != nil {
				t.Fatal(err)
			}
			req := &pushv1.PushRequest{}
			if err := proto.Unmarshal(body, req); err != nil {
				t.Fatal(err)
			}
			if len(req.GetStreams()) != len(want) || req.GetBatchTimeUnixNano() != c.last {
				t.Fatalf("%v", req)
			}
			for _, s := range req.GetStreams() {
				if (s.GetLabels()["z"] == "yes") != (more != nil) {
					t.Fatalf("%v", s.GetLabels())
				}
				lines := want[s.GetLabels()["a"]]
				if len(lines) != len(s.GetEntries()) {
					t.Fatalf("%d entries, want %d", len(s.GetEntries()), len(lines))
				}
				for i, e := range s.GetEntries() {
					if e.GetText()+string(e.GetRaw()) != lines[i].line || e.GetStructuredMetadata()["m"] != lines[i].meta {
						t.Fatalf("%v, want %q", e, lines[i])
					}
				}
			}
		}
	})
}

func FuzzTranscode(f *testing.F) {
	c := newCollector(1<<20, 0, 0)
	c.add([]entry.Entry{{Labels: app, Line: []byte("x"), Metadata: []model.Label{{Name: "m", Value: "v"}}}}, nil, "", "")
	f.Add(c.take().Requests[0].Body)
	f.Fuzz(func(_ *testing.T, b []byte) {
		if streams, err := streamsOf(b); err == nil {
			for _, s := range streams {
				_, _ = appendLoki(nil, s)
			}
		}
		_, _ = withLabels(b, []model.Label{{Name: "a", Value: "b"}})
	})
}
