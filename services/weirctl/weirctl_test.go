package weirctl

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex // guards b
	b    bytes.Buffer
	more func(text string) // called after each write, with all written so far
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	n, err := b.b.Write(p)
	text, more := b.b.String(), b.more
	b.mu.Unlock()
	if more != nil {
		more(text)
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type outcome struct {
	code           int
	stdout, stderr string
}

type invocation struct {
	args     []string
	stdin    string
	reader   io.Reader // instead of stdin
	terminal bool
	env      map[string]string
	now      func() time.Time
	onStdout func(string)
}

func (in invocation) run(ctx context.Context) outcome {
	stdout, stderr := &buffer{more: in.onStdout}, &buffer{}
	if in.now == nil {
		in.now = func() time.Time { return noon }
	}
	if in.reader == nil {
		in.reader = strings.NewReader(in.stdin)
	}
	code := Run(ctx, &Env{
		Args: in.args, Stdin: in.reader, Stdout: stdout, Stderr: stderr,
		StdoutTerminal: in.terminal, StderrTerminal: in.terminal,
		Getenv: func(k string) string { return in.env[k] }, Now: in.now, Version: "0.1.0",
	})
	return outcome{code, stdout.String(), stderr.String()}
}

// failing runs what fails until its --timeout, and says which that was: a longer one where the
// machine was too busy for a first answer.
func (in invocation) failing(ctx context.Context) (got outcome, timeout string) {
	args := in.args
	for _, timeout = range []string{"50ms", "1s", "30s"} {
		in.args = append(slices.Clone(args), "--timeout", timeout)
		if got = in.run(ctx); strings.Contains(got.stderr, "trying again in") {
			break
		}
	}
	return got, timeout
}

// TestTranscripts compares what commands write with testdata/NAME.txt.
func TestTranscripts(t *testing.T) {
	selector := `{env="prod"}`
	tests := map[string]invocation{
		"help":                   {args: []string{"--help"}},
		"help-query":             {args: []string{"query", "--help"}},
		"help-generate":          {args: []string{"help", "generate"}},
		"help-push":              {args: []string{"help", "push"}},
		"help-export":            {args: []string{"help", "export"}},
		"help-blocks":            {args: []string{"help", "blocks"}},
		"help-queries":           {args: []string{"help", "queries"}},
		"queries-list":           {args: []string{"queries", "list"}},
		"queries-list-json":      {args: []string{"queries", "list", "-o", "json"}},
		"queries-list-more":      {args: []string{"queries", "list", "A1"}},
		"queries-cancel":         {args: []string{"queries", "cancel", "A1"}},
		"queries-cancel-json":    {args: []string{"queries", "cancel", "A1", "-o", "json"}},
		"queries-cancel-over":    {args: []string{"queries", "cancel", "X"}},
		"queries-cancel-nothing": {args: []string{"queries", "cancel"}},
		"queries-unknown":        {args: []string{"queries", "kill", "A1"}},
		"help-deletes":           {args: []string{"help", "deletes"}},
		"deletes-create":         {args: []string{"deletes", "create", selector, "--from", "2026-02-01T00:00:00Z"}},
		"deletes-create-json":    {args: []string{"deletes", "create", selector, "-o", "json"}},
		"deletes-create-nothing": {args: []string{"deletes", "create"}},
		"deletes-create-syntax":  {args: []string{"deletes", "create", `{app=}`}},
		"deletes-list":           {args: []string{"deletes", "list"}},
		"deletes-list-json":      {args: []string{"deletes", "list", "-o", "json"}},
		"deletes-cancel":         {args: []string{"deletes", "cancel", "a"}},
		"deletes-cancel-started": {args: []string{"deletes", "cancel", "b"}},
		"deletes-unknown":        {args: []string{"deletes", "lsit"}},
		"retention":              {args: []string{"retention", "dry-run"}},
		"retention-exact":        {args: []string{"retention", "dry-run", "--exact"}},
		"retention-unread":       {args: []string{"retention", "dry-run", "--at", "2027-01-01T00:00:00Z"}},
		"retention-unread-json":  {args: []string{"retention", "dry-run", "--at", "2027-01-01T00:00:00Z", "-o", "json"}},
		"retention-json":         {args: []string{"retention", "dry-run", "--at", "2026-12-31T00:00:00Z", "-o", "json"}},
		"blocks-list":            {args: []string{"blocks", "list"}},
		"blocks-list-json":       {args: []string{"blocks", "list", "-o", "json"}},
		"blocks-list-all":        {args: []string{"blocks", "list", "--all"}},
		"blocks-verify-nowhere":  {args: []string{"blocks", "verify"}},
		"blocks-store-missing":   {args: []string{"blocks", "list", "--store", "/does/not/exist"}},
		"blocks-store-parameter": {args: []string{"blocks", "list", "--store", "s3://x/y?regoin=z"}},
		"export-server":          {args: []string{"export", selector, "--page-size", "3"}},
		"export-nothing":         {args: []string{"export"}},
		"export-metric":          {args: []string{"export", "rate({}[1m])"}},
		"import":                 {args: []string{"import", "--batch-lines", "2"}, stdin: importable},
		"import-refused":         {args: []string{"import"}, stdin: importable + strings.ReplaceAll(importable, "a line", "REFUSE")},
		"import-broken":          {args: []string{"import"}, stdin: importable + `{"timestamp":"2026-03-01T11:00:00Z","line":"x"}`},
		"import-no-json":         {args: []string{"import"}, stdin: "hello"},
		"no-command":             {},
		"version":                {args: []string{"--version"}},
		"unknown-command":        {args: []string{"qeury", selector}},
		"unknown-flag":           {args: []string{"query", selector, "--sicne", "1h"}},
		"unknown-short-flag":     {args: []string{"query", selector, "-z"}},
		"flag-before-command":    {args: []string{"--limit", "1", "query"}},
		"missing-query":          {args: []string{"query"}},
		"two-queries":            {args: []string{"query", `{app="a"}`, "|=", "x"}},
		"bad-output":             {args: []string{"query", selector, "-o", "jsno"}},
		"bad-since":              {args: []string{"query", selector, "--since", "1 hour"}},
		"bad-range":              {args: []string{"query", selector, "--from", "now-1h", "--to", "now-2h"}},
		"bad-limit":              {args: []string{"query", selector, "--limit", "-1"}},
		"bad-page-size":          {args: []string{"query", selector, "--page-size", "99999999999"}},
		"bad-label":              {args: []string{"push", "-l", "app"}},
		"bad-batch-lines":        {args: []string{"push", "-l", "app=a", "--batch-lines", "many"}},
		"bad-rate":               {args: []string{"generate", "--push", "--rate", "fast"}},
		"bad-canary-rate":        {args: []string{"canary", "--rate", "NaN"}},
		"bad-streams":            {args: []string{"blocks", "inspect", "--streams", "-1", "a"}},
		"bad-switch":             {args: []string{"query", selector, "--tls=maybe"}},
		"all-backward":           {args: []string{"query", selector, "--limit", "0"}},
		"query":                  {args: []string{"query", selector, "--utc"}},
		"query-limit":            {args: []string{"query", selector, "--utc", "--limit", "2"}},
		"query-pages":            {args: []string{"query", selector, "--utc", "--limit", "4", "--page-size", "3"}},
		"query-forward":          {args: []string{"query", selector, "--utc", "--forward", "--limit", "0", "--page-size", "2"}},
		"query-terminal":         {args: []string{"query", selector, "--utc", "--details"}, terminal: true},
		"query-no-color":         {args: []string{"query", selector, "--utc"}, terminal: true, env: map[string]string{"NO_COLOR": "1"}},
		"query-color":            {args: []string{"query", selector, "--utc", "--color", "always", "--no-labels"}},
		"query-raw":              {args: []string{"query", selector, "-o", "raw"}},
		"query-raw-terminal":     {args: []string{"query", selector, "-o", "raw"}, terminal: true},
		"query-json":             {args: []string{"query", selector, "-o", "json"}},
		"query-logfmt":           {args: []string{"query", selector, "-o", "logfmt"}},
		"query-stats":            {args: []string{"query", selector, "--utc", "--limit", "1", "--stats", "--partial"}},
		"query-syntax":           {args: []string{"query", `{app=} |= "x"`}},
		"query-syntax-2":         {args: []string{"query", "{env=\"prod\"}\n\t|= second"}},
		"matrix":                 {args: []string{"query", "rate({}[1m])", "--utc", "--step", "1m"}},
		"matrix-terminal":        {args: []string{"query", "rate({}[1m])", "--utc"}, terminal: true},
		"matrix-json":            {args: []string{"query", "rate({}[1m])", "-o", "json"}},
		"matrix-logfmt":          {args: []string{"query", "rate({}[1m])", "-o", "logfmt"}},
		"instant":                {args: []string{"query", "sum(rate({}[1m]))", "--instant"}},
		"instant-json":           {args: []string{"query", "sum(rate({}[1m]))", "--at", "2026-03-01T11:00:00Z", "-o", "json"}},
		"instant-scalar":         {args: []string{"query", "1+1", "--instant", "--utc"}},
		"instant-syntax":         {args: []string{"query", "rate({app=}[1m])", "--instant"}},
		"labels":                 {args: []string{"labels"}},
		"label-values":           {args: []string{"labels", "host"}},
		"label-values-terminal":  {args: []string{"labels", "host"}, terminal: true},
		"label-values-json":      {args: []string{"labels", "host", "-o", "json"}},
		"label-values-syntax":    {args: []string{"labels", "host", "--selector", "{app=}"}},
		"series":                 {args: []string{"series", selector}},
		"series-json":            {args: []string{"series", "-o", "json"}},
		"stats":                  {args: []string{"stats", selector}},
		"stats-json":             {args: []string{"stats", selector, "-o", "json"}},
		"stats-logfmt":           {args: []string{"stats", selector, "-o", "logfmt"}},
		"format":                 {args: []string{"format", `{app="a"}|="x"`}},
		"explain":                {args: []string{"explain", `sum by (app) (rate({app="checkout"}[1m]))`}},
		"status":                 {args: []string{"status"}},
		"status-json":            {args: []string{"status", "-o", "json"}},
		"ring":                   {args: []string{"ring"}},
		"ring-forget":            {args: []string{"ring", "forget", "ingester-2"}},
		"ring-forget-force":      {args: []string{"ring", "forget", "ingester-2", "--force"}},
		"ring-acknowledge":       {args: []string{"ring", "acknowledge", "ingester-2"}},
		"ring-drop":              {args: []string{"ring", "drop", "ingester-2"}},
		"flush":                  {args: []string{"flush"}},
		"push":                   {args: []string{"push", "-l", "app=x"}, stdin: "one\ntwo\n"},
		"push-terminal":          {args: []string{"push", "-l", "app=x"}, stdin: "one\ntwo\n", terminal: true},
		"push-refused":           {args: []string{"push", "-l", "app=x"}, stdin: "one\nREFUSE\nthree\n"},
		"push-without-label":     {args: []string{"push"}, stdin: "one\n"},
		"generate-nowhere":       {args: []string{"generate"}},
		"generate-bad-service":   {args: []string{"generate", "--push", "--services", "till", "--rate", "0"}},
		"tail-syntax":            {args: []string{"tail", "{app=}"}},
		"insecure-and-tls":       {args: []string{"labels", "--tls", "--insecure"}},
		"generate-bad-incidents": {args: []string{"generate", "--push", "--incident-every", "1m", "--incident-for", "2m"}},
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			if in.env == nil {
				in.env = map[string]string{}
			}
			in.env["WEIR_ADDR"] = f.addr
			got := in.run(t.Context())
			var b strings.Builder
			fmt.Fprintf(&b, "$ weirctl %s\n%s", strings.Join(in.args, " "), got.stdout)
			if got.stderr != "" {
				fmt.Fprintf(&b, "--- stderr\n%s", got.stderr)
			}
			fmt.Fprintf(&b, "--- exit %d\n", got.code)
			text := strings.ReplaceAll(b.String(), f.addr, "ADDR")
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
		})
	}
}

func TestNoServer(t *testing.T) {
	for _, args := range [][]string{{"labels"}, {"query", "{}"}, {"status"}, {"tail", "{}"}} {
		got := invocation{args: append(args, "--addr", "127.0.0.1:1")}.run(t.Context())
		if got.code != ExitError || !strings.Contains(got.stderr, "cannot reach a Weir server at 127.0.0.1:1") {
			t.Errorf("%v: exit %d, %q", args, got.code, got.stderr)
		}
	}
}

func TestTenantIsSent(t *testing.T) {
	f := startFake(t)
	in := invocation{args: []string{"query", "{}", "--tenant", "acme"}, env: map[string]string{"WEIR_ADDR": f.addr, "WEIR_TENANT": "other"}}
	in.run(t.Context())
	in.args = []string{"push", "-l", "app=x"}
	in.stdin = "one\n"
	in.run(t.Context())
	if want := []string{"acme", "other"}; !reflect.DeepEqual(f.tenants, want) {
		t.Errorf("tenants %q, want %q", f.tenants, want)
	}
}

func TestQueryAsksForTheRange(t *testing.T) {
	f := startFake(t)
	in := invocation{args: []string{"query", "{}", "--from", "2026-03-01T10:00:00Z", "--to", "now-30m", "--step", "1m", "--interval", "5s", "--limit", "7", "--forward"}, env: map[string]string{"WEIR_ADDR": f.addr}}
	if got := in.run(t.Context()); got.code != ExitOK {
		t.Fatal(got)
	}
	r := f.ranges[0]
	if start, end := r.GetStart().AsTime(), r.GetEnd().AsTime(); !start.Equal(noon.Add(-2*time.Hour)) || !end.Equal(noon.Add(-30*time.Minute)) {
		t.Errorf("range %v to %v", start, end)
	}
	if r.GetStep().AsDuration() != time.Minute || r.GetInterval().AsDuration() != 5*time.Second || r.GetLimit() != 7 || r.GetDirection().String() != "DIRECTION_FORWARD" {
		t.Errorf("request %v", r)
	}
}

// TestExportAsksForPartsOfALongRange: no server allows a range of years at once, and the
// parts are all of it, none of it twice.
func TestExportAsksForPartsOfALongRange(t *testing.T) {
	f := startFake(t)
	in := invocation{args: []string{"export", `{env="prod"}`, "--since", "400d", "--page-size", "3"}, env: map[string]string{"WEIR_ADDR": f.addr}}
	if got := in.run(t.Context()); got.code != ExitOK {
		t.Fatal(got)
	}
	at := noon.Add(-400 * 24 * time.Hour)
	for _, r := range f.ranges {
		start, end := r.GetStart().AsTime(), r.GetEnd().AsTime()
		if r.GetCursor() != "" {
			continue // a further page of a part
		}
		if !start.Equal(at) || end.Sub(start) > 7*24*time.Hour || !start.Before(end) {
			t.Fatalf("%v to %v, after %v", start, end, at)
		}
		at = end
	}
	if !at.Equal(noon) {
		t.Errorf("the last part ends at %v", at)
	}
}

func TestStatusFailsUnlessAllIsWell(t *testing.T) {
	f := startFake(t)
	f.service = adminv1.ServiceState_SERVICE_STATE_STARTING
	got := invocation{args: []string{"status"}, env: map[string]string{"WEIR_ADDR": f.addr}}.run(t.Context())
	if got.code != ExitError || !strings.Contains(got.stdout, "starting") || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestFlushAndCompact(t *testing.T) {
	f := startFake(t)
	got := invocation{args: []string{"flush", "--compact"}, env: map[string]string{"WEIR_ADDR": f.addr}}.run(t.Context())
	if want := []string{"flush", "compact"}; got.code != ExitOK || !reflect.DeepEqual(f.flushes, want) {
		t.Errorf("%+v, calls %v", got, f.flushes)
	}
}

// TestTail: the connection breaks after the first entry; the tail goes on where
// it was, and ends well when it is interrupted.
func TestTail(t *testing.T) {
	f := startFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := invocation{
		args: []string{"tail", "{}", "--utc", "--since", "5m"}, env: map[string]string{"WEIR_ADDR": f.addr},
		onStdout: func(text string) {
			if strings.Contains(text, "gnp") {
				cancel()
			}
		},
	}.run(ctx)
	if got.code != ExitOK {
		t.Errorf("exit %d", got.code)
	}
	for _, line := range []string{"order placed", "order refused", "gnp"} {
		if n := strings.Count(got.stdout, line); n != 1 {
			t.Errorf("%q comes %d times in %q", line, n, got.stdout)
		}
	}
	if want := "weirctl: warning: 1,500 entries left out between 2026-03-01T12:00:00.000Z and 2026-03-01T12:00:01.000Z: the tail was too slow\n"; got.stderr != want {
		t.Errorf("standard error %q, want %q", got.stderr, want)
	}
}

func TestPushStoresEachLineOnce(t *testing.T) {
	f := startFake(t)
	f.failing = 1
	got := invocation{args: []string{"push", "--label", "app=x,env=test", "--metadata", "run=7", "--batch-lines", "2"}, stdin: "same\nsame\n\ncaf\xe9\nlast", env: map[string]string{"WEIR_ADDR": f.addr}}.run(t.Context())
	if got.code != ExitOK || !strings.Contains(got.stderr, "1 of 3 ingesters answered, 2 are needed; trying again in") || !strings.Contains(got.stderr, "s, for 1m in all (--timeout)\n") {
		t.Fatalf("%+v", got)
	}
	var lines []string
	times := map[int64]bool{}
	for _, p := range f.pushed {
		line := p.entry.GetText()
		if p.entry.GetRaw() != nil {
			line = string(p.entry.GetRaw())
		}
		lines = append(lines, line)
		times[p.entry.GetTimestampUnixNano()] = true
		if !reflect.DeepEqual(p.labels, map[string]string{"app": "x", "env": "test"}) || p.entry.GetStructuredMetadata()["run"] != "7" {
			t.Errorf("labels %v, metadata %v", p.labels, p.entry.GetStructuredMetadata())
		}
	}
	if want := []string{"same", "same", "", "caf\xe9", "last"}; !reflect.DeepEqual(lines, want) {
		t.Errorf("stored %q, want %q", lines, want)
	}
	if len(times) != len(lines) {
		t.Errorf("%d times for %d lines", len(times), len(lines))
	}
}

// TestPushInterrupted: what was read before the interruption is stored.
func TestPushInterrupted(t *testing.T) {
	f := startFake(t)
	r, w := io.Pipe()
	defer w.Close() //nolint:errcheck // lets the reader go
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		// A write returns when it is read; the second, when the first line has
		// been handed on.
		io.WriteString(w, "one\n") //nolint:errcheck
		io.WriteString(w, "two\n") //nolint:errcheck
		io.WriteString(w, "thr")   //nolint:errcheck
		cancel()
	}()
	got := invocation{args: []string{"push", "-l", "app=x", "--interval", "1h"}, reader: r, env: map[string]string{"WEIR_ADDR": f.addr}}.run(ctx)
	if n := len(f.pushed); got.code != ExitOK || n == 0 {
		t.Errorf("%d entries stored, %+v", n, got)
	}
}

func TestPushGivesUpAfterTheTimeout(t *testing.T) {
	f := startFake(t)
	f.failing = 1 << 30
	got, timeout := invocation{args: []string{"push", "-l", "app=x"}, stdin: "one\n", env: map[string]string{"WEIR_ADDR": f.addr}}.failing(t.Context())
	if got.code != ExitError || !strings.Contains(got.stderr, ", for "+timeout+" in all (--timeout)\n") || !strings.Contains(got.stderr, "0 lines stored") {
		t.Errorf("%+v", got)
	}
}

func TestPushRefusesABoundlessLine(t *testing.T) {
	f := startFake(t)
	got := invocation{args: []string{"push", "-l", "app=x"}, stdin: "one\n" + strings.Repeat("x", maxPushLine+1), env: map[string]string{"WEIR_ADDR": f.addr}}.run(t.Context())
	if got.code != ExitError || !strings.Contains(got.stderr, "a line is longer than 2.1 MB") || len(f.pushed) != 1 {
		t.Errorf("exit %d, %q, %d stored", got.code, got.stderr, len(f.pushed))
	}
}
