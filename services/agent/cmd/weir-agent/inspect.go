package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/deliver"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

// tracer prints what stages do.
type tracer struct {
	mu  sync.Mutex
	out io.Writer
	all bool // also what does nothing
}

func newTracer(out io.Writer) *tracer { return &tracer{out: out} }

func (t *tracer) step(s pipeline.Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.all && s.Outcome == "kept" && !s.Changed() {
		return
	}
	name := fmt.Sprintf("[%s, line %d]", s.Stage, s.Line)
	switch s.Outcome {
	case "dropped":
		name += " drops the line"
	case "held":
		name += " holds the line, to join it with what follows"
	case "skipped":
		name += " does not match"
	default:
		if !s.Changed() {
			name += " changes nothing"
		}
	}
	fmt.Fprintln(t.out, name)
	for _, l := range changes(s) {
		fmt.Fprintln(t.out, "   ", l)
	}
}

// changes lists what a stage did, one to a line.
func changes(s pipeline.Step) (out []string) {
	a, b := s.Before, s.After
	if a.Line != b.Line {
		out = append(out, fmt.Sprintf("line:      %s", quote(b.Line)))
	}
	if !a.Time.Equal(b.Time) {
		out = append(out, fmt.Sprintf("time:      %s", b.Time.Format(time.RFC3339Nano)))
	}
	diff := func(kind string, before, after map[string]string) {
		for _, n := range slices.Sorted(maps.Keys(after)) {
			if old, there := before[n]; !there || old != after[n] {
				out = append(out, fmt.Sprintf("%-10s %s = %s", kind+":", n, quote(after[n])))
			}
		}
		for _, n := range slices.Sorted(maps.Keys(before)) {
			if _, there := after[n]; !there {
				out = append(out, fmt.Sprintf("%-10s %s is gone", kind+":", n))
			}
		}
	}
	diff("extracted", a.Extracted, b.Extracted)
	diff("label", a.Labels.Map(), b.Labels.Map())
	diff("metadata", model.Labels(a.Metadata).Map(), model.Labels(b.Metadata).Map())
	return out
}

// quote writes a text on one line, shortened if it is long.
func quote(s string) string {
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// dryRun puts a printer where the servers are, and copies of the positions where
// the positions are. The returned function removes the copies.
func (p *program) dryRun(cfg *config.Config) (end func(), err error) {
	fmt.Fprintln(p.out, "Clients configured:")
	for _, c := range cfg.Clients {
		where := c.URL
		if where == "" {
			where = "gRPC " + c.Address
		}
		fmt.Fprintf(p.out, "  %s: %s\n", c.Name, where)
	}
	dir, err := os.MkdirTemp("", "weir-agent-dry-run-")
	if err != nil {
		return nil, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	if file := cfg.Positions.File; file != "" {
		for _, suffix := range []string{"", ".old"} {
			data, err := os.ReadFile(file + suffix)
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "positions"+suffix), data, 0o600); err != nil {
				remove()
				return nil, err
			}
		}
		from := deliver.QueueDir(file)
		if cfg.Queue.Dir != "" {
			from = cfg.Queue.Dir
		}
		if _, err := os.Stat(from); err == nil {
			// What waits there was read, and is not to be printed as if it were new.
			fmt.Fprintf(p.err, "weir-agent: entries that wait in %s are not shown\n", from)
		}
		cfg.Positions.File = filepath.Join(dir, "positions")
		cfg.Queue.Dir = ""
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		remove()
		return nil, err
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	pushv1.RegisterPushServiceServer(srv, &printer{out: p.out})
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lis) }()
	only := cfg.Clients[0]
	cfg.Clients = []config.Client{{
		Name: "dry-run", Address: lis.Addr().String(), Insecure: true, BatchWait: 100 * time.Millisecond, BatchSize: only.BatchSize,
		Timeout: only.Timeout, Backoff: only.Backoff, ExternalLabels: only.ExternalLabels,
	}}
	cfg.Batch.MaxWait, cfg.Batch.MaxPending = 100*time.Millisecond, 1
	cfg.Server.Listen = ""
	return func() { srv.Stop(); <-served; remove() }, nil
}

// printer is a server that prints what it gets.
type printer struct {
	pushv1.UnimplementedPushServiceServer
	mu  sync.Mutex
	out io.Writer
}

// Push prints entries as time, labels and line.
func (s *printer) Push(_ context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type row struct {
		t    int64
		text string
	}
	var rows []row
	for _, st := range req.GetStreams() {
		labels := model.LabelsFromMap(st.GetLabels()).String()
		for _, e := range st.GetEntries() {
			line := e.GetText()
			if raw := e.GetRaw(); raw != nil {
				line = string(raw)
			}
			t := e.GetTimestampUnixNano()
			rows = append(rows, row{t, fmt.Sprintf("%s\t%s\t%s\n", time.Unix(0, t).Format(time.RFC3339Nano), labels, line)})
		}
	}
	// As they were read, where the times are those of reading.
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.t, b.t) })
	var text strings.Builder
	for _, r := range rows {
		text.WriteString(r.text)
	}
	_, err := io.WriteString(s.out, text.String())
	return &pushv1.PushResponse{AcceptedEntries: uint64(len(rows))}, err
}
