package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/services/agent/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const promtail = "../../testdata/promtail/"

// call runs the program and gives both outputs.
func call(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), args, func(n string) string { return map[string]string{"HOME_URL": "http://h/loki/api/v1/push"}[n] }, &o, &e)
	return code, o.String(), e.String()
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCheck(t *testing.T) {
	bad := write(t, "bad.yaml", "scrape_configs:\n- job_name: x\n  kafka: {}\n- job_name: y\n  journal: {}\n  pipeline_stages: [{jsn: }]\n")
	code, out, _ := call(t, "check", promtail+"docker.yaml", bad)
	if code != 1 {
		t.Errorf("code %d", code)
	}
	contains(t, out, "docker.yaml: valid: 2 jobs, 1 client", "error: line 3: scrape_configs[0].kafka", "did you mean json?", "clients: is missing", "cannot be run: 3 errors")
	if code, out, _ := call(t, "check", promtail+"kubernetes.yaml", "--expand-env"); code != 0 || !strings.Contains(out, "valid") {
		t.Errorf("%d: %s", code, out)
	}
	code, out, _ = call(t, "-config.file="+promtail+"journal.yaml", "-check-syntax")
	if code != 0 || out != "Valid config file! No syntax issues found\n" {
		t.Errorf("%d: %s", code, out)
	}
	code, _, errs := call(t, "-config.file=/none,"+bad, "-check-syntax")
	if code != 1 {
		t.Errorf("code %d", code)
	}
	contains(t, errs, "Unable to parse config:", bad+": line 3")
}

func TestConvert(t *testing.T) {
	in := write(t, "a.yaml", "clients: [{url: '${HOME_URL}'}]\nscrape_configs:\n- job_name: x\n  static_configs: [{labels: {__path__: /a.log, app: a}}]\n  pipeline_stages:\n  - json: {expressions: {l: level, msg: }}\n  - labels: {l: }\n  - cri: {}\n  - output: {source: msg}\n")
	code, out, errs := call(t, "convert", "--config.expand-env", in)
	if code != 0 {
		t.Fatal(errs)
	}
	contains(t, out, "url: http://h/loki/api/v1/push", "paths: [/a.log]", "- json: [{l: level}, msg]", "- labels: [l]", "- cri\n", "- output: msg")
}

func TestExplain(t *testing.T) {
	log := write(t, "j.log", "2026-01-04 05:00:00,250 ERROR [main] boom\n\tat x\n2026-01-04 05:00:01,000 INFO  [p] ok\n")
	code, out, errs := call(t, "explain", "--config", promtail+"java-multiline.yaml", "--file", log)
	if code != 0 {
		t.Fatal(errs)
	}
	contains(t, out, "job java", "[multiline, line 13] holds the line", `label:     level = "ERROR"`, "time:      2026-01-04T04:00:00.25Z", `"boom\n\tat x"`, "what is held, after its time:")
	code, out, _ = call(t, "explain", "--config", promtail+"kubernetes.yaml")
	if code != 0 {
		t.Errorf("code %d", code)
	}
	contains(t, out, "job kubernetes-pods (line 13)", "files   of the pods of this node", "stage     json (line 19)")
	code, out, _ = call(t, "explain", "--config", promtail+"kubernetes.yaml", "--file", log, "--label", "__meta_kubernetes_namespace=kube-system")
	if code != 0 || !strings.Contains(out, "relabelling drops the target") {
		t.Errorf("%d: %s", code, out)
	}
	if code, _, errs := call(t, "explain", "--config", promtail+"docker.yaml", "--file", log, "--job", "none"); code != 1 || !strings.Contains(errs, "there are flog_scrape, docker-files") {
		t.Errorf("%d: %s", code, errs)
	}
}

func TestStatus(t *testing.T) {
	s := status.Status{
		Time: time.Unix(100, 0), Started: time.Unix(40, 0), Version: "1.2", Ready: true,
		Targets: []status.Target{
			{Job: "a", Kind: "file", Name: "/quiet.log", State: "idle", Size: 10, Read: 10, Acked: 10},
			{Job: "a", Kind: "file", Name: "/busy.log", State: "reading", Size: 5 << 20, Read: 4 << 20, Acked: 3 << 20, LagBytes: 2 << 20, LagSeconds: 1.5, BytesPerSecond: 2048, LinesPerSecond: 20},
			{Job: "s", Kind: "syslog", Name: "tcp :1514", State: "idle", Size: -1, Read: -1, Acked: -1},
		},
		Clients: []status.Client{{Name: "near", State: "retrying", Error: "connection refused", QueueBytes: 1 << 20, QueueLimit: 1 << 30, Sent: 7, OldestSeconds: 90}},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != status.Path {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(s)
	}))
	defer srv.Close()
	defer http.DefaultClient.CloseIdleConnections()
	code, out, errs := call(t, "status", "--addr", strings.TrimPrefix(srv.URL, "http://"))
	if code != 0 {
		t.Fatal(errs)
	}
	contains(t, out, "weir-agent 1.2, up 1m0s, ready", "connection refused", "1.0 MiB", "1m30s", "/busy.log", "3145728", "2.0 MiB", "1.5s", "syslog tcp :1514")
	if strings.Index(out, "/busy.log") > strings.Index(out, "/quiet.log") {
		t.Error("what lags does not come first")
	}
	code, out, _ = call(t, "status", "--json", "--addr", srv.URL)
	var back status.Status
	if code != 0 || json.Unmarshal([]byte(out), &back) != nil || len(back.Targets) != 3 {
		t.Errorf("%d: %s", code, out)
	}
	if code, _, errs := call(t, "status", "--addr", srv.URL+"/x"); code != 1 || !strings.Contains(errs, "is it an agent?") {
		t.Errorf("%d: %s", code, errs)
	}
	if code, _, errs := call(t, "status", "--addr", "127.0.0.1:1"); code != 1 || !strings.Contains(errs, "no agent answers") {
		t.Errorf("%d: %s", code, errs)
	}
}

// A dry run prints what would be sent, from a file, and leaves no positions.
func TestDryRun(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	if err := os.WriteFile(log, []byte("level=info a\nlevel=debug b\nlevel=warn c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := write(t, "c.yaml", "server: {disable: true}\npositions: {filename: "+dir+"/pos.yaml}\nclients: [{url: http://127.0.0.1:1/loki/api/v1/push}]\n"+
		"scrape_configs:\n- job_name: x\n  static_configs: [{labels: {app: a, __path__: "+log+"}}]\n  pipeline_stages:\n  - logfmt: {mapping: {level: }}\n  - drop: {source: level, value: debug}\n  - labels: {level: }\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &watched{want: "level=warn c\n", found: cancel}
	var errs bytes.Buffer
	timer := time.AfterFunc(30*time.Second, cancel)
	defer timer.Stop()
	if code := run(ctx, []string{"-config.file", cfg, "-dry-run", "-inspect", "-log.level=error"}, func(string) string { return "" }, out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	contains(t, out.String(), "Clients configured:", "127.0.0.1:1/loki", "\t{app=\"a\", filename=\""+log+"\", level=\"info\"}\tlevel=info a\n", "level=warn c")
	if strings.Contains(out.String(), "level=debug b") {
		t.Error("dropped lines are printed")
	}
	contains(t, errs.String(), "[drop, line 9] drops the line")
	if files, _ := filepath.Glob(dir + "/pos.yaml*"); len(files) > 1 { // the lock
		t.Errorf("written: %v", files)
	}
}

// watched is an output that tells when a text has come.
type watched struct {
	all   bytes.Buffer
	want  string
	found func()
}

func (w *watched) String() string { return w.all.String() }

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.all.Write(p)
	if strings.Contains(w.all.String(), w.want) {
		w.found()
	}
	return n, err
}

func TestRunFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"-config.file=" + promtail + "docker.yaml -server.http-listen-port=x", "is no port"},
		{"-config.file=" + promtail + "docker.yaml -positions.sync-period=x", "not a duration"},
		{"-config.file=" + promtail + "docker.yaml -log.format=xml", "neither logfmt nor json"},
		{"stauts", "did you mean status?"},
	} {
		if code, _, errs := call(t, strings.Fields(c.args)...); code != 2 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d, %s", c.args, code, errs)
		}
	}
	o, err := parseRun(&program{out: &bytes.Buffer{}}, strings.Fields("-config.file="+promtail+"docker.yaml -client.url=http://x/y -client.tenant-id=t -client.external-labels=a=1,b=2 "+
		"-server.http-listen-port=99 -positions.file=/p -limit.readline-rate-enabled -limit.readline-rate=5 -max-line-size=1kb -stdin"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, ps, err := (&program{}).load(o, plainDeps())
	if err != nil || ps.Err() != nil {
		t.Fatal(err, ps)
	}
	if len(cfg.Clients) != 2 || cfg.Clients[1].URL != "http://x/y" || cfg.Clients[1].Tenant != "t" || cfg.Clients[0].ExternalLabels["a"] != "1" ||
		cfg.Server.Listen != ":99" || cfg.Positions.File != "/p" || cfg.Limits.ReadRate != 5 || cfg.Limits.MaxLine != 1024 || !cfg.Target.Stdin || len(cfg.Jobs) != 1 {
		t.Errorf("got %+v", cfg)
	}
}
