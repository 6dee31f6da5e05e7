// Package input sends what no server should be sent, over the real ports of the real
// binary: each gets a precise answer, costs little, and leaves nothing behind.
package input

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/weir-logs/weir/tests/harness"
)

const (
	lokiPush = "/loki/api/v1/push"
	restPush = "/api/v1/push"
	lokiJSON = "application/json"
	lokiBuf  = "application/x-protobuf"
)

// request is an HTTP request and what is expected of its answer.
type request struct {
	name   string
	method string // default POST with a body, else GET
	path   string
	header map[string]string
	body   []byte
	chunks bool // send the body without its length

	status []int  // any of these
	text   string // that the answer has
}

var client = &http.Client{
	Timeout:       harness.Patience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request and checks the answer, which it returns.
func (r request) do(t *testing.T, node *harness.Node) string {
	t.Helper()
	code, body := r.send(t, node)
	if !slices.Contains(r.status, code) {
		t.Errorf("status %d, want %v: %.300s", code, r.status, body)
	}
	if !strings.Contains(body, r.text) {
		t.Errorf("the answer does not say %q: %.300s", r.text, body)
	}
	return body
}

func (r request) send(t *testing.T, node *harness.Node) (int, string) {
	t.Helper()
	method := r.method
	if method == "" {
		method = http.MethodGet
		if r.body != nil {
			method = http.MethodPost
		}
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
		if r.chunks {
			body = io.MultiReader(body) // hides its length
		}
	}
	req, err := http.NewRequest(method, "http://"+node.HTTP, body)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(r.path, "?")
	req.URL.Opaque, req.URL.RawQuery = "//"+node.HTTP+path, query // as it is
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		// A server may refuse what it has not read and hang up before that is sent.
		for _, code := range []int{http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge} {
			if slices.Contains(r.status, code) {
				return code, r.text
			}
		}
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && !slices.Contains(r.status, resp.StatusCode) {
		t.Error(err)
	}
	return resp.StatusCode, string(out)
}

// bounded runs f, which must not make the process take more memory than extra, nor end
// it.
func bounded(t *testing.T, node *harness.Node, extra int64, f func()) {
	t.Helper()
	node.ResetPeak()
	base := node.RSS()
	f()
	if got := node.Peak() - base; got > extra {
		t.Errorf("memory grew by %d MiB", got>>20)
	}
	alive(t, node)
}

// alive checks that the process answers and has not panicked.
func alive(t *testing.T, node *harness.Node) {
	t.Helper()
	if code, body, err := node.Get("/ready"); err != nil || code != http.StatusOK {
		t.Fatalf("/ready: %d %s %v", code, body, err)
	}
	if log := node.Log(); strings.Contains(log, "panic") {
		t.Error("the process panicked")
	}
}

// stream is Loki's JSON for one stream with one entry of now.
func stream(labels map[string]string, line string) []byte {
	return streamAt(labels, strconv.FormatInt(time.Now().UnixNano(), 10), line)
}

func streamAt(labels map[string]string, ts, line string) []byte {
	b, err := json.Marshal(map[string]any{"streams": []any{map[string]any{"stream": labels, "values": [][]string{{ts, line}}}}})
	if err != nil {
		panic(err)
	}
	return b
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// lines returns how many lines a tenant has, of any stream.
func lines(t *testing.T, node *harness.Node, tenant string) int {
	t.Helper()
	q := url.Values{
		"query": {`{service_name=~".+"}`}, "limit": {"5000"},
		"start": {"1"}, "end": {strconv.FormatInt(time.Now().Add(time.Hour).UnixNano(), 10)},
	}
	q.Set("start", strconv.FormatInt(time.Now().Add(-24*time.Hour).UnixNano(), 10))
	body := request{path: "/loki/api/v1/query_range?" + q.Encode(), header: map[string]string{"X-Scope-OrgID": tenant}, status: []int{200}}.do(t, node)
	var resp struct {
		Data struct {
			Result []struct{ Values [][]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &resp); err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	n := 0
	for _, s := range resp.Data.Result {
		n += len(s.Values)
	}
	return n
}

// run sends requests, each in a subtest.
func run(t *testing.T, node *harness.Node, extra int64, requests []request) {
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) { bounded(t, node, extra, func() { r.do(t, node) }) })
	}
}

func repeat(s string, n int) []byte { return bytes.Repeat([]byte(s), n) }

func numbered(n int, format string) map[string]string {
	out := make(map[string]string, n)
	for i := range n {
		out[fmt.Sprintf(format, i)] = "v"
	}
	return out
}
