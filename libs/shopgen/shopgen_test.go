package shopgen

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden file")

var opening = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

func newGenerator(t testing.TB, cfg Config) *Generator {
	t.Helper()
	if cfg.Start.IsZero() {
		cfg.Start = opening
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// sample writes n records as text.
func sample(g *Generator, n int) []byte {
	var b bytes.Buffer
	for range n {
		r := g.Next()
		fmt.Fprintf(&b, "%s %s %s\n", time.Unix(0, r.Time).UTC().Format("15:04:05.000000000"), g.Streams()[r.Stream].FileName(), r.Line)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	got := sample(newGenerator(t, Config{Seed: 1, Rate: 20, IncidentEvery: 9 * time.Second, IncidentFor: 6 * time.Second}), 150)
	const file = "testdata/sample.golden"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the sample differs from %s; rerun with -update if that is meant:\n%s", file, got)
	}
}

func TestEqualConfigsYieldEqualRecords(t *testing.T) {
	a := sample(newGenerator(t, Config{Seed: 7, Rate: 500}), 5000)
	if b := sample(newGenerator(t, Config{Seed: 7, Rate: 500}), 5000); !bytes.Equal(a, b) {
		t.Error("equal seeds yield different records")
	}
	if b := sample(newGenerator(t, Config{Seed: 8, Rate: 500}), 5000); bytes.Equal(a, b) {
		t.Error("different seeds yield equal records")
	}
}

func TestTimesNeverDecrease(t *testing.T) {
	g := newGenerator(t, Config{Seed: 3, Rate: 1000, IncidentEvery: 20 * time.Second})
	last := opening.UnixNano()
	for i := range 100_000 {
		r := g.Next()
		if r.Time < last {
			t.Fatalf("record %d is %v before the one before it", i, time.Duration(last-r.Time))
		}
		last = r.Time
	}
}

func TestRate(t *testing.T) {
	for _, services := range [][]string{nil, {"gateway"}, {"payments", "syslog"}, {"catalog"}, {"checkout"}, {"inventory"}} {
		g := newGenerator(t, Config{Seed: 5, Rate: 200, Services: services, IncidentEvery: -1})
		const n = 50_000
		var last int64
		for range n {
			last = g.Next().Time
		}
		got := n / time.Duration(last-opening.UnixNano()).Seconds()
		if math.Abs(got-200) > 10 {
			t.Errorf("services %v: %.1f records a second, want 200", services, got)
		}
	}
}

func TestOnlyTheServicesAskedFor(t *testing.T) {
	g := newGenerator(t, Config{Rate: 100, Services: []string{"payments", "inventory"}})
	seen := map[string]bool{}
	for range 2000 {
		seen[g.Streams()[g.Next().Stream].FileName()] = true
	}
	var names []string
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	if got, want := strings.Join(names, " "), "inventory-app-1.log inventory-app-3.log payments-app-2.log payments-app-3.log"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

var traceID = regexp.MustCompile(`[0-9a-f]{32}`)

// TestTracesCorrelate: every request that a service logs about is one that the
// gateway answered.
func TestTracesCorrelate(t *testing.T) {
	g := newGenerator(t, Config{Seed: 2, Rate: 300, IncidentEvery: time.Minute})
	answered := map[string]bool{}
	logged := map[string]string{}
	var end int64
	for {
		r := g.Next()
		service := g.Streams()[r.Stream].Service
		id := string(traceID.Find(r.Line))
		if service == "syslog" {
			continue
		}
		if id == "" {
			t.Fatalf("%s line without a trace id: %s", service, r.Line)
		}
		// Whatever is still under way when the services are no longer looked at
		// is answered within half a minute.
		if r.Time < opening.Add(2*time.Minute).UnixNano() {
			logged[id] = service
		} else if end = opening.Add(150 * time.Second).UnixNano(); r.Time > end {
			break
		}
		if service == "gateway" {
			answered[id] = true
		}
	}
	if len(logged) < 5000 {
		t.Fatalf("only %d traces", len(logged))
	}
	for id, service := range logged {
		if !answered[id] {
			t.Errorf("%s logs trace %s, which the gateway never answered", service, id)
		}
	}
}

func TestJSONServicesLogValidJSON(t *testing.T) {
	g := newGenerator(t, Config{Seed: 4, Rate: 100, Services: []string{"catalog", "payments"}, IncidentEvery: 10 * time.Second})
	for range 20_000 {
		r := g.Next()
		var v struct {
			TS       time.Time
			Level    string
			Msg      string
			Duration float64 `json:"duration_ms"`
		}
		if err := json.Unmarshal(r.Line, &v); err != nil {
			t.Fatalf("%v: %s", err, r.Line)
		}
		if v.TS.UnixMicro() != r.Time/1000 || v.Level == "" || v.Msg == "" {
			t.Fatalf("time %v, level %q, message %q: %s", v.TS, v.Level, v.Msg, r.Line)
		}
	}
}

// TestIncident: errors and charge times soar while the database is down, and
// are back to normal after it.
func TestIncident(t *testing.T) {
	g := newGenerator(t, Config{Seed: 6, Rate: 300, IncidentEvery: 9 * time.Minute, IncidentFor: 2 * time.Minute})
	type window struct {
		answers, failures, charges int
		chargeTime                 float64
		traces                     int
	}
	var before, during, after window
	status := regexp.MustCompile(`HTTP/1.1" (\d)`)
	for {
		r := g.Next()
		var w *window
		switch at := time.Duration(r.Time - opening.UnixNano()); {
		case at < 3*time.Minute:
			w = &before
		case at < 3*time.Minute+20*time.Second:
			continue
		case at < 4*time.Minute+20*time.Second:
			w = &during
		case at < 5*time.Minute+20*time.Second:
			continue
		case at < 8*time.Minute:
			w = &after
		}
		if w == nil {
			break
		}
		switch g.Streams()[r.Stream].Service {
		case "gateway":
			w.answers++
			if string(status.FindSubmatch(r.Line)[1]) == "5" {
				w.failures++
			}
		case "inventory":
			w.traces += bytes.Count(r.Line, []byte("Exception: warehouse"))
		case "payments":
			var v struct {
				Duration float64 `json:"duration_ms"`
			}
			if json.Unmarshal(r.Line, &v); v.Duration > 0 {
				w.charges++
				w.chargeTime += v.Duration
			}
		}
	}
	failing := func(w window) float64 { return float64(w.failures) / float64(w.answers) }
	charge := func(w window) float64 { return w.chargeTime / float64(w.charges) }
	for name, w := range map[string]window{"before": before, "after": after} {
		if failing(w) > 0.01 || charge(w) > 400 {
			t.Errorf("%s: %.4f of the answers are failures, a charge takes %.0f ms", name, failing(w), charge(w))
		}
	}
	if failing(during) < 0.03 || charge(during) < 2000 || during.traces < 10*before.traces/3 {
		t.Errorf("during: %.4f of the answers are failures, a charge takes %.0f ms, %d stack traces (%d before)", failing(during), charge(during), during.traces, before.traces)
	}
}

func TestSeverity(t *testing.T) {
	i := incident{every: 300, lasts: 90}
	for at, want := range map[int64]float64{0: 0, 99: 0, 100: 0, 109: 1, 130: 1, 160: 1, 175: 0.5, 190: 0, 250: 0, 399: 0, 430: 1} {
		if got := i.severity(at); math.Abs(got-want) > 1e-9 {
			t.Errorf("at %d: %v, want %v", at, got, want)
		}
	}
	for offset, want := range map[int64]int64{0: 100, 100: 100, 101: 400, 400: 400, 1000: 1000} {
		if got := i.begin(offset); got != want {
			t.Errorf("the first incident after %d begins at %d, want %d", offset, got, want)
		}
	}
}

func TestNewListsAllThatIsWrong(t *testing.T) {
	_, err := New(Config{Rate: -1, Services: []string{"gateway", "till"}, IncidentEvery: time.Minute, IncidentFor: time.Hour})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"a rate of -1 records a second: it must be more than 0 and at most 1000000", `unknown service "till": there are gateway, catalog`, "an incident of 1h0m0s does not fit into one every 1m0s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if _, err := New(Config{Rate: math.NaN()}); err == nil {
		t.Error("a rate that is not a number is taken")
	}
}

func BenchmarkNext(b *testing.B) {
	g := newGenerator(b, Config{Seed: 1, Rate: 10_000})
	var bytes int64
	for b.Loop() {
		bytes += int64(len(g.Next().Line))
	}
	b.ReportMetric(float64(bytes)/b.Elapsed().Seconds()/1e6, "MB/s")
	b.ReportAllocs()
}
