package input

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/weir-logs/weir/tests/harness"
)

// tail opens a live tail over a WebSocket.
func tail(ctx context.Context, t *testing.T, node *harness.Node, query string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(ctx, "ws://"+node.HTTP+"/loki/api/v1/tail?"+url.Values{"query": {query}, "start": {fmt.Sprint(time.Now().UnixNano())}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(16 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// next returns the lines of the next frame, of which none may be missing.
func next(ctx context.Context, c *websocket.Conn) ([]string, error) {
	_, b, err := c.Read(ctx)
	if err != nil {
		return nil, err
	}
	var frame struct {
		Streams []struct{ Values [][]any }
		Dropped []any `json:"dropped_entries"`
	}
	if err := json.Unmarshal(b, &frame); err != nil {
		return nil, err
	}
	if len(frame.Dropped) > 0 {
		return nil, fmt.Errorf("dropped: %s", b)
	}
	var lines []string
	n := 0
	for _, s := range frame.Streams {
		n += len(s.Values)
		for _, v := range s.Values {
			lines = append(lines, v[1].(string))
		}
	}
	if n > 100 {
		return nil, fmt.Errorf("%d entries in a frame", n)
	}
	return lines, nil
}

// TestTails follows with as many clients as a tenant may have, one of which does not
// read for a while: each gets each line once, in order. One more is told so in the
// close frame, and when one leaves there is room again.
func TestTails(t *testing.T) {
	node := harness.Start(t)
	ctx := harness.Context(t)
	const most, batches, each = 10, 20, 100 // limits.max_tails
	push := func(line string) {
		request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "x"}, line), status: []int{204}}.do(t, node)
	}
	var conns []*websocket.Conn
	for i := range most {
		c := tail(ctx, t, node, `{app="x"}`)
		conns = append(conns, c)
		push(fmt.Sprintf("begin %d", i))
		for begun := false; !begun; {
			lines, err := next(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			begun = len(lines) > 0 && strings.HasPrefix(lines[len(lines)-1], fmt.Sprintf("begin %d", i))
		}
	}
	_, err := next(ctx, tail(ctx, t, node, `{app="x"}`))
	if code := websocket.CloseStatus(err); code != websocket.StatusInternalError || !strings.Contains(err.Error(), "max concurrent tail requests limit exceeded, count > limit (11 > 10)") {
		t.Errorf("the eleventh tail: %v", err)
	}

	var wg sync.WaitGroup
	pushed := make(chan struct{})
	for i, c := range conns {
		wg.Go(func() {
			if i == 0 {
				<-pushed // slow: it reads when all is there
			}
			for n := 0; n < batches*each; {
				lines, err := next(ctx, c)
				if err != nil {
					t.Errorf("tail %d, after %d lines: %v", i, n, err)
					return
				}
				for _, line := range lines {
					if strings.HasPrefix(line, "begin") {
						continue
					}
					if want := fmt.Sprintf("line %06d", n); !strings.HasPrefix(line, want) {
						t.Errorf("tail %d: %.20q, want %q", i, line, want)
						return
					}
					n++
				}
			}
		})
	}
	filler := strings.Repeat("x", 500)
	at := time.Now().UnixNano()
	for b := range batches {
		var values []string
		for k := range each {
			n := b*each + k
			values = append(values, fmt.Sprintf(`["%d","line %06d %s"]`, at+int64(n), n, filler))
		}
		request{
			path: lokiPush, header: map[string]string{"Content-Type": lokiJSON},
			body: []byte(`{"streams":[{"stream":{"app":"x"},"values":[` + strings.Join(values, ",") + `]}]}`), status: []int{204},
		}.do(t, node)
	}
	close(pushed)
	wg.Wait()
	if t.Failed() {
		return
	}
	if err := conns[0].Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	harness.Until(t, func() error {
		if n := node.Metric("weir_querier_tails"); n != most-1 {
			return fmt.Errorf("%v tails are served", n)
		}
		return nil
	})
	c := tail(ctx, t, node, `{app="x"}`)
	for seen := 0; seen == 0; {
		push("again")
		lines, err := next(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		seen = len(lines)
	}
	alive(t, node)
}

// TestTailEnds lets a tail end by its limit of time.
func TestTailEnds(t *testing.T) {
	node := harness.Start(t, "--limits.max-tail-duration=300ms")
	ctx := harness.Context(t)
	_, err := next(ctx, tail(ctx, t, node, `{app="x"}`))
	if websocket.CloseStatus(err) != websocket.StatusInternalError || !strings.Contains(err.Error(), "reached tail max duration limit") {
		t.Errorf("%v", err)
	}
}
