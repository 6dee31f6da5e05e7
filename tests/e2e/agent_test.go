package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness"

	// What the other programs are made of, so that a change to them makes cached
	// results stale.
	_ "github.com/weir-logs/weir/services/agent"
	_ "github.com/weir-logs/weir/services/weirctl"
)

// pipeline is a server and an agent that follows the files of a directory.
type pipeline struct {
	t      *testing.T
	dir    string // where the followed files are
	server *harness.Node
	agent  *harness.Process
	config string
	client *client.Client
	began  time.Time
}

// start starts a server and an agent that follows *.log in a new directory.
func start(t *testing.T) *pipeline {
	t.Helper()
	p := &pipeline{t: t, dir: t.TempDir(), began: time.Now()}
	p.server = harness.Start(t)
	p.client = p.server.Client()

	state := t.TempDir()
	p.config = filepath.Join(state, "agent.yaml")
	// Pieces end within lines, and this machine may be slow to write the next:
	// partial_wait is long.
	config := fmt.Sprintf(`
server: {address: "%s", max_backoff: 200ms}
external_labels: {env: e2e}
positions: {file: "%s/positions.yaml"}
files:
  - {paths: ["%s/*.log"], labels: {app: files}}
batch: {max_wait: 50ms}
read: {poll_interval: 20ms, partial_wait: 10m}
listen: ""
`, p.server.GRPC, state, p.dir)
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.agent = harness.NewProcess(t, "agent")
	p.startAgent()
	return p
}

func (p *pipeline) startAgent() {
	p.t.Helper()
	p.agent.Start(harness.Program(p.t, "services/agent/cmd/weir-agent"), "--config="+p.config)
}

// count returns how many lines the server holds.
func (p *pipeline) count() (int, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	resp, err := p.client.Query(ctx, &queryv1.QueryRequest{
		Query: `sum(count_over_time({env="e2e"}[1h]))`, Time: timestamppb.New(time.Now().Add(time.Minute)),
	})
	if err != nil {
		return 0, err
	}
	n := 0.0
	for _, s := range resp.GetVector().GetSamples() {
		n += s.GetSample().GetValue()
	}
	return int(n), nil
}

// await waits until the server holds n lines.
func (p *pipeline) await(n int) {
	p.t.Helper()
	harness.Until(p.t, func() error {
		got, err := p.count()
		if err == nil && got < n {
			err = fmt.Errorf("%d of %d lines are there", got, n)
		}
		return err
	})
}

// read returns all lines of a file, page by page.
func (p *pipeline) read(path string) []string {
	p.t.Helper()
	req := &queryv1.QueryRangeRequest{
		Query: fmt.Sprintf("{filename=%s}", strconv.Quote(path)), Limit: 999, Direction: queryv1.Direction_DIRECTION_FORWARD,
		Start: timestamppb.New(p.began.Add(-time.Minute)), End: timestamppb.New(time.Now().Add(time.Minute)),
	}
	var lines []string
	last := int64(0)
	for resp, err := range p.client.Pages(harness.Context(p.t), req) {
		if err != nil {
			p.t.Fatalf("%s: after %d lines: %v", path, len(lines), err)
		}
		if w := resp.GetWarnings(); len(w) > 0 {
			p.t.Errorf("%s: warnings %q", path, w)
		}
		for _, s := range resp.GetStreams().GetStreams() {
			for name, want := range map[string]string{"filename": path, "env": "e2e", "app": "files"} {
				if got := s.GetLabels()[name]; got != want {
					p.t.Fatalf("%s: label %s is %q, want %q", path, name, got, want)
				}
			}
			for _, e := range s.GetEntries() {
				if at := e.GetTimestampUnixNano(); at > last {
					last = at
				} else {
					p.t.Fatalf("%s: line %d has time %d, the one before %d", path, len(lines), at, last)
				}
				lines = append(lines, string(client.Line(e)))
			}
		}
	}
	return lines
}

// check compares what the server has of each file with what was written to it, when
// all of it is there.
func (p *pipeline) check(written map[string][]byte) {
	p.t.Helper()
	n, size := 0, 0
	want := map[string][]string{}
	for name, data := range written {
		want[name] = linesOf(data)
		n += len(want[name])
		size += len(data)
	}
	p.await(n)
	for name, want := range want {
		got := p.read(filepath.Join(p.dir, name))
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				p.t.Errorf("%s: line %d is %.200q, want %.200q", name, i+1, got[i], want[i])
				break
			}
		}
		if len(got) != len(want) {
			p.t.Errorf("%s: %d lines, want %d", name, len(got), len(want))
		}
	}
	if got, err := p.count(); err != nil || got != n {
		p.t.Errorf("the server counts %d lines (%v), want %d", got, err, n)
	}
	if p.t.Failed() {
		return
	}
	p.t.Logf("%d lines of %d files, %d bytes, are there once and in order", n, len(written), size)
}

// linesOf cuts the content of a file into lines, which \n or \r\n ends.
func linesOf(data []byte) []string {
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines
}
