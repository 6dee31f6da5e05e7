package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness"
)

// TestTailOfOneCopy kills for good one of two ingesters of which each holds the only copy of
// its streams, while a client that takes nothing is behind: the client gets all that the other
// holds, and is told that of the one something is missing, which it is.
func TestTailOfOneCopy(t *testing.T) {
	t.Parallel()
	c := harness.NewCluster(t, 2)
	for _, n := range append(c.Ingesters, c.Front) {
		n.Args = append(n.Args, "--cluster.replication-factor=1")
	}
	c.Start()
	cl := c.Client()
	ctx, cancel := context.WithCancel(harness.Context(t))
	defer cancel()
	began, goOn := make(chan struct{}), make(chan struct{})
	type outcome struct {
		got     map[string]int // by line
		reasons []string
	}
	took := make(chan outcome, 1)
	const last = "the last of all"
	go func() {
		out := outcome{got: map[string]int{}}
		defer func() { took <- out }()
		for resp, err := range cl.Tail(ctx, &tailv1.TailRequest{Query: `{app="slow"}`}) {
			if err != nil {
				t.Error(err)
				return
			}
			if len(out.got) == 0 && len(out.reasons) == 0 {
				select {
				case <-began:
				default:
					close(began)
				}
				<-goOn
			}
			for _, d := range resp.GetDropped() {
				out.reasons = append(out.reasons, d.GetReason())
			}
			for _, e := range client.Entries(resp) {
				line, _, _ := strings.Cut(string(client.Line(e)), "\n")
				out.got[line]++
			}
			if out.got[last] > 0 && len(out.reasons) > 0 {
				return
			}
		}
	}()
	<-began
	const streams, rounds = 40, 40
	padding := "\n" + strings.Repeat("x", 30_000)
	push := func(lines ...string) { // one a stream
		t.Helper()
		req := &pushv1.PushRequest{}
		for k, line := range lines {
			req.Streams = append(req.Streams, &pushv1.Stream{
				Labels:  map[string]string{"app": "slow", "stream": fmt.Sprint(k)},
				Entries: []*pushv1.Entry{{TimestampUnixNano: time.Now().UnixNano(), Line: &pushv1.Entry_Text{Text: line}}},
			})
		}
		harness.Until(t, func() error { _, err := cl.Push(ctx, req); return err })
	}
	for i := range rounds {
		lines := make([]string, streams)
		for k := range lines {
			lines[k] = fmt.Sprint("line ", i, " of ", k, padding)
		}
		push(lines...)
	}
	dead := c.Ingesters[1]
	dead.Kill()
	harness.Until(t, func() error {
		_, err := cl.Admin().Forget(ctx, &adminv1.ForgetRequest{Name: dead.Name, Force: true})
		return err
	})
	push(last)
	close(goOn)
	out := <-took
	missing := map[int]int{} // by stream
	for i := range rounds {
		for k := range streams {
			switch n := out.got[fmt.Sprint("line ", i, " of ", k)]; {
			case n == 0:
				missing[k]++
			case n > 1:
				t.Errorf("line %d of %d came %d times", i, k, n)
			}
		}
	}
	// About half of the streams were on the one, and only those lack lines.
	if len(missing) == 0 || len(missing) > streams-5 {
		t.Errorf("of %d streams lines are missing", len(missing))
	}
	if len(out.reasons) != 1 || !strings.Contains(out.reasons[0], dead.Name) {
		t.Errorf("told of %q", out.reasons)
	}
	t.Logf("of %d of %d streams lines are missing: %q", len(missing), streams, out.reasons)
}
