package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestProblemsAllAtOnce(t *testing.T) {
	_, ps := Load([]byte(`server:
  http_listen_prt: 9080
  grpc_listen_port: 0
positions:
  file_name: /tmp/x
clients:
  - url: loki:3100
  - urll: http://x/loki/api/v1/push
  - url: http://y/loki/api/v1/push
    basic_auth: {username: a, password: b, password_file: c}
    bearer_token: t
scrape_configs:
  - job_name: a
    kafka: {brokers: [x]}
  - job_name: b
    consul_sd_configs: []
  - job_name: c
    static_configs:
      - labels: {a-b: x, __path__: "/[x"}
    pipeline_stages:
      - jsonn: {}
      - regex: {expression: "("}
    relabel_configs:
      - {action: repalce, target_label: x}
      - {action: hashmod, target_label: x}
  - job_name: c
    encoding: utf-33
    syslog: {listen_address: nowhere}
limits_config: {max_line_size: huge}
`), Options{})
	got := ps.Error()
	for _, want := range []string{
		"line 2: server.http_listen_prt: unknown key; did you mean http_listen_port?",
		"line 5: positions.file_name: unknown key; did you mean filename?",
		`line 7: clients[0].url: "loki:3100" is no http:// or https:// URL`,
		"line 8: clients[1].urll: unknown key; did you mean url?",
		"line 9: clients[2].basic_auth.password: excludes password_file",
		"line 9: clients[2]: basic_auth and bearer_token exclude each other",
		"line 14: scrape_configs[0].kafka: this source is not supported",
		"line 16: scrape_configs[1].consul_sd_configs: this discovery is not supported",
		`line 19: job c.labels: "a-b" is not a label name`,
		`line 19: job c: "/[x" is not a pattern`,
		"line 21: scrape_configs[2].pipeline_stages[0].jsonn: unknown stage; did you mean json?",
		"line 22: scrape_configs[2].pipeline_stages[1].regex.expression: error parsing regexp",
		`line 24: scrape_configs[2].relabel_configs[0]: unknown action "repalce"; did you mean replace?`,
		"line 25: scrape_configs[2].relabel_configs[1]: action hashmod needs a modulus above 0",
		"line 26: job c: there are two jobs of this name, the first in line 17",
		`line 26: job c.encoding: "utf-33" is not supported`,
		`line 26: job c.syslog.listen_address: "nowhere" is not host:port`,
		`line 29: limits_config.max_line_size: "huge" is not a size`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if t.Failed() {
		t.Log("got:\n" + got)
	}
}

func TestReadRateIsANumber(t *testing.T) {
	for rate, good := range map[string]bool{"0.5": true, "1e6": true, "0": false, "-1": false, ".nan": false, ".inf": false, "-.inf": false} {
		_, ps := Load([]byte("server: {address: \"x:1\"}\npositions: {file: x}\nfiles: [{paths: [/x]}]\nlimits_config: {readline_rate_enabled: true, readline_rate: "+rate+", readline_burst: 1}\n"), Options{})
		if err := ps.Err(); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "limits_config") {
			t.Errorf("%s: %v", rate, err)
		}
	}
}

func TestPromtailDefaults(t *testing.T) {
	c, ps := Load([]byte(`
clients: [{url: http://x/loki/api/v1/push}]
scrape_configs:
  - job_name: a
    static_configs: [{labels: {__path__: /a.log}}]
`), Options{})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	cl := c.Clients[0]
	if cl.BatchWait != time.Second || cl.BatchSize != 1<<20 || cl.Timeout != 10*time.Second || cl.Backoff != (Backoff{500 * time.Millisecond, 5 * time.Minute, 10}) {
		t.Errorf("client %+v", cl)
	}
	if c.Server.Listen != ":80" || c.Positions.File != "/var/log/positions.yaml" || c.Positions.SaveInterval != 10*time.Second ||
		c.Target.SyncPeriod != 10*time.Second || c.Watch.MinPoll != 250*time.Millisecond || c.Limits.ReadRate != 0 || c.Jobs[0].FilenameLabel != "filename" {
		t.Errorf("got %+v", c)
	}
}

// The agent's first configurations, as in deploy/compose.
func TestShortSpelling(t *testing.T) {
	c, ps := Load([]byte(`
server: {address: gateway:9095, insecure: true, tenant: x}
external_labels: {cluster: compose}
positions: {file: /positions/positions}
listen: 0.0.0.0:9080
files:
  - {paths: ["/logs/a-*.log"], labels: {app: a}, start: end}
  - paths: [/b.log]
    exclude: [/b/*.gz]
    stages:
      - cri
      - json: [level, {m: msg}]
      - labels: [level]
      - output: m
docker: [{labels: {env: dev}}]
kubernetes: [{}]
journal: [{max_age: 1d}]
syslog: [{listen: ":1514", protocol: udp}]
`), Options{})
	if err := ps.Err(); err == nil || !strings.Contains(err.Error(), "protocol: unknown key") {
		t.Fatalf("got %v", err)
	}
	if c.Clients[0].Address != "gateway:9095" || !c.Clients[0].Insecure || c.Clients[0].Tenant != "x" || c.Server.Listen != "0.0.0.0:9080" {
		t.Errorf("got %+v", c.Clients[0])
	}
	var names []string
	for _, j := range c.Jobs {
		names = append(names, j.Name)
	}
	if !reflect.DeepEqual(names, []string{"files", "files-2", "docker", "kubernetes", "journal", "syslog"}) {
		t.Errorf("jobs %v", names)
	}
	if c.Jobs[0].Start != "end" || c.Jobs[1].Stages.Len() != 4 || c.Jobs[3].Stages.Len() != 1 || len(c.Jobs[2].Relabel) != 5 || c.Jobs[4].Journal.MaxAge != 24*time.Hour {
		t.Errorf("got %+v", c.Jobs)
	}
	if _, ps := Load([]byte("positions: {file: p}\nfiles: [{labels: {a: b}}]\n"), Options{}); ps.Err() == nil || !strings.Contains(ps.Error(), "paths: is missing") {
		t.Errorf("got %v", ps)
	}
	// Without anything else it is the server of the same host.
	c, ps = Load([]byte("positions: {file: p}\nfiles: [{paths: [/x]}]\n"), Options{})
	if ps.Err() != nil || c.Clients[0].Address != "127.0.0.1:9095" || c.Server.Listen != "127.0.0.1:9080" {
		t.Errorf("got %+v, %v", c, ps)
	}
}

func TestWarnings(t *testing.T) {
	_, ps := Load([]byte(`
clients: [{url: http://x/loki/api/v1/push, drop_rate_limited_batches: true}]
scrape_configs:
  - job_name: a
    static_configs: [{labels: {x: y}}]
    journal: {}
wal: {enabled: true}
tracing: {enabled: false}
`), Options{})
	if ps.Err() != nil {
		t.Fatal(ps)
	}
	for _, want := range []string{"journal: is ignored, as in Promtail", "has no __path__", "drop_rate_limited_batches: is ignored", "wal: is ignored"} {
		if !strings.Contains(ps.Error(), want) {
			t.Errorf("no %q in %v", want, ps)
		}
	}
}

// What can be run and is hardly meant.
func TestOdd(t *testing.T) {
	for _, c := range []struct{ jobs, want string }{
		{`files: [{paths: [/a/*.log], labels: {x: y}}, {paths: [/a/app*.log], labels: {x: z}}]`, "/a/app*.log is read by job"},
		{`files: [{paths: [/a/app.log], labels: {x: y}}, {paths: ["/a/**"], labels: {x: z}}]`, "/a/** is read by job"},
		{`files: [{paths: [/a/*.log], exclude: ["/a/app*"], labels: {x: y}}, {paths: [/a/app*.log], labels: {x: z}}]`, ""},
		{`files: [{paths: [/a/*.log], labels: {x: y}}, {paths: [/b/*.log], labels: {x: z}}]`, ""},
		{`files: [{paths: [/a/*.log], labels: {x: y}, stages: [{labeldrop: [x, filename]}]}]`, "leave no label"},
		{`files: [{paths: [/a/*.log], labels: {x: y}, stages: [{labelallow: [level]}]}]`, "leave no label"},
		{`files: [{paths: [/a/*.log], labels: {x: y}, stages: [{labeldrop: [x, filename]}, cri]}]`, ""},
		{`files: [{paths: [/a/*.log], labels: {x: y}, stages: [{match: {selector: '{x="y"}', stages: [{labeldrop: [x, filename]}]}}]}]`, ""},
		{`gelf: [{labels: {x: y}}]`, ""},
		{`gelf: [{listen: ":12201", labels: {x: y}}]`, "takes lines from anyone"},
		{`otlp: [{listen: ":4318"}]`, "takes lines from anyone"},
		{`otlp: [{listen: "0.0.0.0:4318"}]`, ""},
	} {
		cfg, ps := Load([]byte("positions: {file: /p}\n"+c.jobs), Options{})
		if ps.Err() != nil || c.want == "" && len(ps) > 0 || !strings.Contains(ps.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.jobs, ps, c.want)
		}
		if strings.HasPrefix(c.jobs, "gelf: [{labels") && cfg.Jobs[0].GELF.Listen != "127.0.0.1:12201" {
			t.Errorf("it listens on %s", cfg.Jobs[0].GELF.Listen)
		}
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "va", "E": "", "P": "/x/y.log"}
	get := func(n string) string { return env[n] }
	for _, c := range []struct{ in, want string }{
		{"a: ${A} $A ${NONE}.", "a: va $A ."},
		{"${NONE:-d} ${E:-d} ${A:-d} ${E:=d} ${E:+d} ${E:?d} ${NONE:-${A}}", "d d va d d d va"},
		{"$${A} $$1 a$", "${A} $1 a$"},
		{`a\\b \/ \n`, `a\b / \n`},
		{"${#A} ${A^} ${A^^} ${P#*/} ${P##*/} ${P%.*} ${P/y/z} ${P:1} ${P:1:2}", "2 Va VA x/y.log y.log /x/y /x/z.log x/y.log x/"},
		{"replacement: ${1}", "replacement: "},
	} {
		got, err := Expand(c.in, get)
		if err != nil || got != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"${A", "x\n${A-d}", "${A:-d", "${a b}", "${A:x}"} {
		if got, err := Expand(in, get); err == nil {
			t.Errorf("%q is %q", in, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := os.ReadDir("../testdata/promtail")
	for _, e := range files {
		if strings.HasSuffix(e.Name(), ".yaml") {
			b, _ := os.ReadFile("../testdata/promtail/" + e.Name())
			f.Add(b, true)
		}
	}
	f.Add([]byte("a: &a [*a]"), false)
	f.Fuzz(func(t *testing.T, b []byte, expand bool) {
		c, ps := Load(b, Options{ExpandEnv: expand})
		if ps.Err() != nil {
			return
		}
		short, err := Convert(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, ps := Load(short, Options{}); ps.Err() != nil {
			t.Fatalf("converted:\n%s\n%v", short, ps.Err())
		}
	})
}
