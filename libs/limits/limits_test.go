package limits_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestDefaultsAreValid(t *testing.T) {
	if err := limits.DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (limits.Limits{}).Validate(); err == nil || strings.Count(err.Error(), "\n") < 15 {
		t.Error("the zero limits should have a problem per key:", err)
	}
}

// load returns the section as the configuration loader fills it.
func load(t *testing.T, text string) limits.Config {
	t.Helper()
	c := struct{ Limits limits.Config }{limits.DefaultConfig()}
	if err := conf.DecodeYAML([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c.Limits
}

func TestOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "overrides.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("tenants: {b: {max_query_series: 7}}")
	cfg := load(t, "limits: {max_streams: 10, tenants: {a: {ingestion_rate: 1MB}, b: {max_query_series: 6}}}")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.OverridesFile = file
	p, err := limits.NewProvider(cfg, quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	want := limits.Default()
	want.MaxStreams = 10
	check := func(tenant string, change func(*limits.Limits)) {
		t.Helper()
		w := want
		change(&w)
		if got := p.For(tenant); !reflect.DeepEqual(got, w) {
			t.Errorf("%s: got %+v\nwant %+v", tenant, got, w)
		}
	}
	check("other", func(*limits.Limits) {})
	check("a", func(l *limits.Limits) { l.IngestionRate = conf.MB })
	check("b", func(l *limits.Limits) { l.MaxQuerySeries = 7 })

	put("tenants: {b: {max_query_series: 8}, c: {query_timeout: 5s}}")
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	check("b", func(l *limits.Limits) { l.MaxQuerySeries = 8 })
	check("c", func(l *limits.Limits) { l.QueryTimeout = 5 * time.Second })

	for text, problem := range map[string]string{
		"tenants: {b: {max_series: 1}}":          `unknown key "max_series"`,
		"tenants: {b: {max_query_series: 0}}":    "max_query_series must be at least 1",
		"tenants: {../b: {max_query_series: 1}}": "invalid tenant id",
		"tenant: {}":                             "did you mean tenants?",
		"tenants: [":                             "line 1",
	} {
		put(text)
		if err := p.Reload(); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: got %v, want %s", text, err, problem)
		}
		check("b", func(l *limits.Limits) { l.MaxQuerySeries = 8 })
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if p.Reload() == nil {
		t.Error("a missing file is no error")
	}
	check("b", func(l *limits.Limits) { l.MaxQuerySeries = 8 })
	if _, err := limits.NewProvider(cfg, quiet, nil); err == nil {
		t.Error("a missing file at the start is no error")
	}
	if n := testing.AllocsPerRun(10, func() { p.For("b") }); n != 0 {
		t.Errorf("For allocates %v times", n)
	}
}

func TestConfigProblems(t *testing.T) {
	cfg := load(t, "limits: {max_streams: 0, reload_interval: 1ms, tenants: {a: {max_tails: -1}, .b: {}}}")
	err := cfg.Validate()
	for _, want := range []string{"max_streams must", "reload_interval must", `tenant "a": `, `tenant ".b": `} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %s in %v", want, err)
		}
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "overrides.yaml")
		put := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("tenants: {a: {max_tails: 1}}")
		var out bytes.Buffer
		cfg := limits.DefaultConfig()
		cfg.OverridesFile = file
		p, err := limits.NewProvider(cfg, slog.New(slog.NewTextHandler(&out, nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		step := func() { time.Sleep(cfg.ReloadInterval); synctest.Wait() }

		put("tenants: {a: {max_tails: 2}}")
		step()
		if p.For("a").MaxTails != 2 {
			t.Error("the change was not seen")
		}
		put("nonsense")
		step()
		step()
		step()
		if p.For("a").MaxTails != 2 || strings.Count(out.String(), "level=WARN") != 1 {
			t.Errorf("%+v\n%s", p.For("a"), out.String())
		}
		put("tenants: {a: {max_tails: 3}}")
		step()
		if p.For("a").MaxTails != 3 {
			t.Error("not healed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// twin is a token bucket as the textbook has it.
type twin struct {
	tokens, perSecond, burst float64
	last                     time.Time
}

func TestRateLimiterAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		r := limits.NewRateLimiter(0, func() time.Time { return now }, nil)
		const perSecond, burst = 64, 256
		twins := map[string]*twin{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "seconds")) * time.Second)
			tenant := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")
			n := int64(rapid.IntRange(1, 300).Draw(t, "n"))
			w := twins[tenant]
			if w == nil {
				w = &twin{tokens: burst, perSecond: perSecond, burst: burst, last: now}
				twins[tenant] = w
			}
			w.tokens = min(w.burst, w.tokens+now.Sub(w.last).Seconds()*w.perSecond)
			w.last = now
			want := rpcerr.Reason("")
			switch {
			case n > burst:
				want = rpcerr.TooLarge
			case float64(n) > w.tokens:
				want = rpcerr.RateLimited
			default:
				w.tokens -= float64(n)
			}
			err := r.Allow(tenant, n, perSecond, burst)
			if got := rpcerr.ReasonOf(err); got != want {
				t.Fatalf("%d of %s: %q, want %q", n, tenant, got, want)
			}
			if want == rpcerr.RateLimited && rpcerr.RetryAfter(err) < time.Second {
				t.Fatal("no delay")
			}
		}
	})
}

func TestRetryAfterIsEnough(t *testing.T) {
	now := time.Unix(0, 0)
	r := limits.NewRateLimiter(0, func() time.Time { return now }, nil)
	if err := r.Allow("a", 1000, 100, 1000); err != nil {
		t.Fatal(err)
	}
	err := r.Allow("a", 700, 100, 1000)
	now = now.Add(rpcerr.RetryAfter(err))
	if err := r.Allow("a", 700, 100, 1000); err != nil {
		t.Error(err)
	}
}

func TestRateChangesAtRunTime(t *testing.T) {
	now := time.Unix(0, 0)
	r := limits.NewRateLimiter(0, func() time.Time { return now }, nil)
	if err := r.Allow("a", 100, 1, 100); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if err := r.Allow("a", 100, 1000, 200); !rpcerr.Is(err, rpcerr.RateLimited) {
		t.Error("a higher rate must not count for the past:", err)
	}
	now = now.Add(time.Second)
	if err := r.Allow("a", 200, 1000, 200); err != nil {
		t.Error(err)
	}
}

func TestTenantsAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	r := limits.NewRateLimiter(3, func() time.Time { return now }, nil)
	for _, id := range []string{"a", "b", "c", "a", "d"} { // b goes
		_ = r.Allow(id, 5, 1, 10)
	}
	if r.Tenants() != 3 {
		t.Error(r.Tenants())
	}
	if err := r.Allow("a", 5, 1, 10); !rpcerr.Is(err, rpcerr.RateLimited) {
		t.Error("a was forgotten:", err)
	}
	now = now.Add(time.Minute)
	_ = r.Allow("d", 1, 1, 10)
	r.Evict(time.Second)
	if r.Tenants() != 1 {
		t.Error("idle tenants were kept:", r.Tenants())
	}
}

func TestRetention(t *testing.T) {
	cfg := load(t, `
limits:
  retention_period: 720h
  retention_stream:
    - {selector: '{app="shop"} | detected_level="debug"', priority: 2, period: 24h}
    - selector: '{env="dev"}'
      period: 48h
  retention_size: 1GB
  tenants: {a: {retention_period: 0s, retention_stream: []}, b: {retention_period: 1m, retention_force: true}}
`)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	want := []limits.RetentionStream{
		{Selector: `{app="shop"} | detected_level="debug"`, Priority: 2, Period: 24 * time.Hour},
		{Selector: `{env="dev"}`, Period: 48 * time.Hour},
	}
	if !reflect.DeepEqual(cfg.RetentionStream, want) {
		t.Errorf("got %+v", cfg.RetentionStream)
	}
	p, err := limits.NewProvider(cfg, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := p.For("a"); l.RetentionPeriod != 0 || len(l.RetentionStream) != 0 {
		t.Errorf("tenant a: %+v", l)
	}
	if l := p.For("b"); l.RetentionPeriod != time.Minute || len(l.RetentionStream) != 2 {
		t.Errorf("tenant b: %+v", l)
	}
	for text, want := range map[string]string{
		"retention_period: -1h":                                                      "must not be negative",
		"retention_period: 1s":                                                       "set retention_force",
		"retention_size: -1":                                                         "size",
		"retention_stream: [{selector: '{}', period: 24h}]":                          "at least one",
		"retention_stream: [{selector: '{a=\"b\"}', period: 30s}]":                   "retention_stream[0].period",
		"retention_stream: [{selector: '{a=\"b\"}', perod: 30h}]":                    "perod",
		"retention_stream: {selector: '{a=\"b\"}', period: 30h}":                     "want a list",
		"retention_stream: [{selector: '{a=\"b\"} | line_format `x`', period: 30h}]": "only filters",
	} {
		c := struct{ Limits limits.Config }{limits.DefaultConfig()}
		err := conf.DecodeYAML([]byte("limits: {"+text+"}"), &c)
		if err == nil {
			err = c.Limits.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOTLPConfig(t *testing.T) {
	cfg := load(t, `
limits:
  otlp_config:
    resource_attributes:
      attributes_config:
        - {action: drop, attributes: [a.b, c], regex: "d.*"}
        - {action: index_label, regex: "dd|e"}
  tenants: {a: {otlp_config: {severity_text_as_label: true, resource_attributes: {ignore_defaults: true}}}}
`)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p, err := limits.NewProvider(cfg, quiet, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]limits.OTLPAction{
		"a.b": limits.OTLPDrop, "c": limits.OTLPDrop, "dx": limits.OTLPDrop, "dd": limits.OTLPDrop, "e": limits.OTLPIndexLabel,
		"a": limits.OTLPUnset, "xd": limits.OTLPUnset, "ee": limits.OTLPUnset, "axb": limits.OTLPUnset,
	} {
		rules := p.For("x").OTLPConfig.ResourceAttributes.AttributesConfig
		if got := limits.OTLPActionOf(rules, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if c := p.For("a").OTLPConfig; !c.SeverityTextAsLabel || !c.ResourceAttributes.IgnoreDefaults || len(c.ResourceAttributes.AttributesConfig) != 2 || !c.SplitsRecords() {
		t.Errorf("tenant a: %+v", c)
	}
	if c := p.For("b").OTLPConfig; c.SeverityTextAsLabel || c.SplitsRecords() {
		t.Errorf("tenant b: %+v", c)
	}
	text, err := conf.EncodeYAML(p.For("a"))
	if err != nil {
		t.Fatal(err)
	}
	again := limits.Default()
	if err := conf.DecodeYAML(text, &again); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if back, err := conf.EncodeYAML(again); err != nil || string(back) != string(text) {
		t.Errorf("%s\n%v, read back from\n%s", back, err, text)
	}
	for text, want := range map[string]string{
		"log_attributes: [{attributes: [x]}]":                                      "log_attributes[0].action is missing",
		"scope_attributes: [{action: drop}]":                                       "scope_attributes[0] has neither attributes nor regex",
		"resource_attributes: {attributes_config: [{action: keep, regex: a}]}":     "index_label, structured_metadata, drop",
		"resource_attributes: {attributes_config: [{action: drop, regex: '('}]}":   "missing closing",
		"resource_attributes: {attributes_config: [{action: drop, attribute: x}]}": "attribute",
		"log_attributes: [{action: drop, attributes: ['']}]":                       "empty name",
	} {
		c := struct{ Limits limits.Config }{limits.DefaultConfig()}
		err := conf.DecodeYAML([]byte("limits: {otlp_config: {"+text+"}}"), &c)
		if err == nil {
			err = c.Limits.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTime(t *testing.T) {
	for text, want := range map[string]string{"2026-01-31T12:00:00+01:00": "2026-01-31T12:00:00+01:00", "": "", "tomorrow": "not a time"} {
		var u limits.Time
		err := u.UnmarshalText([]byte(text))
		got, _ := u.MarshalText()
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.Contains(string(got), want) || u.IsZero() != (text != want || text == "") {
			t.Errorf("%q: %s, want %q", text, got, want)
		}
	}
	l := limits.Default()
	if l.BlockIngestionStatus = 99; l.Validate() == nil {
		t.Error("a status of 99 is none")
	}
}
