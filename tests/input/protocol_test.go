package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/weir-logs/weir/tests/harness"
)

// TestPaths sends requests to paths and with methods that there are not (rows 71, 72).
func TestPaths(t *testing.T) {
	node := harness.Start(t)
	body := stream(map[string]string{"app": "x"}, "x")
	js := map[string]string{"Content-Type": lokiJSON}
	rs := []request{
		{name: "unknown", path: "/nope", status: []int{404}},
		{name: "unknown REST", path: "/api/v1/nope", status: []int{404}},
		{name: "unknown Loki", path: "/loki/api/v1/nope", status: []int{404}},
		{name: "push by GET", path: lokiPush, status: []int{405}},
		{name: "REST push by GET", path: restPush, status: []int{404, 405, 501}},
		{name: "push by PUT", method: "PUT", path: lokiPush, header: js, body: body, status: []int{405}},
		{name: "push by DELETE", method: "DELETE", path: lokiPush, status: []int{405}},
		{name: "ready by POST", path: "/ready", body: []byte("x"), status: []int{404, 405}},
		{name: "flush by GET", path: "/flush", status: []int{405}},
		{name: "compact by GET", path: "/compact", status: []int{405}},
		{name: "TRACE", method: "TRACE", path: "/ready", status: []int{404, 405}},
		{name: "method of no kind", method: "QWERTY", path: lokiPush, status: []int{405}},
		{name: "method override", path: "/flush", header: map[string]string{"X-HTTP-Method-Override": "POST"}, status: []int{405}},
		{name: "REST method override", path: restPush + "?x=1", header: map[string]string{"X-HTTP-Method-Override": "POST"}, status: []int{400, 404, 405, 501}},
		{name: "two slashes", path: "//loki//api/v1/push", header: js, body: body, status: []int{301, 307, 308, 400, 404, 405}},
		{name: "dots", path: "/loki/api/v1/../../../config", status: []int{301, 307, 308, 400, 404}},
		{name: "dots, encoded", path: "/loki/api/v1/%2e%2e/%2e%2e/config", status: []int{301, 307, 308, 400, 404}},
		{name: "dots, encoded twice", path: "/loki/api/v1/%252e%252e/config", status: []int{400, 404}},
		{name: "slash, encoded", path: "/loki%2fapi%2fv1%2fpush", header: js, body: body, status: []int{400, 404}},
		{name: "NUL", path: "/loki/api/v1/label/%00/values", status: []int{200, 400, 404}},
		{name: "label of another language", path: "/loki/api/v1/label/%c3%a4/values", status: []int{200, 400}},
		{name: "file", path: "/etc/passwd", status: []int{404}},
		{name: "pprof", path: "/debug/pprof/", status: []int{404}},
		{name: "header of 100 KiB", path: "/ready", header: map[string]string{"X": strings.Repeat("x", 100<<10)}, status: []int{431}},
		{name: "other site's page", path: lokiPush, header: map[string]string{"Content-Type": lokiJSON, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, body: body, status: []int{403}},
	}
	run(t, node, 100*mib, rs)
	if n := lines(t, node, "fake"); n != 0 {
		t.Errorf("%d lines are stored", n)
	}
}

// raw opens a connection that fails rather than waits for ever.
func raw(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitEnd reads until the server closes a connection, and returns what it said.
func awaitEnd(t *testing.T, c net.Conn) string {
	t.Helper()
	var out bytes.Buffer
	_, err := io.Copy(&out, io.LimitReader(c, 1<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open")
	}
	return out.String()
}

// TestSlowClients opens connections that send headers or a body slowly, or nothing
// (row 57): others are served, and the slow ones are given up.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	node := harness.Start(t)
	var headers, bodies []net.Conn
	for range 100 {
		c := raw(t, node.HTTP)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nX-Slow: ", lokiPush)
		headers = append(headers, c)
	}
	for range 100 {
		c := raw(t, node.HTTP)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", lokiPush)
		bodies = append(bodies, c)
	}
	request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "x"}, "x"), status: []int{204}}.do(t, node)
	for _, c := range headers {
		awaitEnd(t, c)
	}
	for _, c := range bodies {
		if said := awaitEnd(t, c); strings.Contains(said, " 204 ") {
			t.Errorf("half a body is taken: %q", said)
		}
	}
	alive(t, node)
}

// framer opens an HTTP/2 connection without TLS.
func framer(t *testing.T, addr string) (net.Conn, *http2.Framer) {
	t.Helper()
	c := raw(t, addr)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c, f
}

func headerBlock(kv ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(kv); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]}) // to memory
	}
	return b.Bytes()
}

// TestHTTP2 misuses the protocol (row 58) on both ports: the connection ends or is put
// up with, and the process serves others.
func TestHTTP2(t *testing.T) {
	node := harness.Start(t)
	get := headerBlock(":method", "GET", ":scheme", "http", ":path", "/loki/api/v1/labels", ":authority", "x")
	call := headerBlock(":method", "POST", ":scheme", "http", ":path", "/weir.query.v1.QueryService/Labels", ":authority", "x",
		"content-type", "application/grpc", "te", "trailers")
	// Each writes until the server hangs up, or n times.
	attacks := map[string]struct {
		n     int
		ends  bool // the HTTP port must hang up; gRPC's transport puts up with some
		write func(f *http2.Framer, i uint32) error
	}{
		"rapid reset": {20_000, false, func(f *http2.Framer, i uint32) error {
			id := 2*i + 1
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: get, EndStream: true, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"rapid reset of calls": {20_000, false, func(f *http2.Framer, i uint32) error {
			id := 2*i + 1
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: call, EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"streams without end": {20_000, false, func(f *http2.Framer, i uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: call, EndHeaders: true})
		}},
		"continuations": {100_000, true, func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get})
			}
			return f.WriteContinuation(1, false, headerBlock("x-"+fmt.Sprint(i), strings.Repeat("x", 1000)))
		}},
		"pings": {100_000, false, func(f *http2.Framer, i uint32) error { return f.WritePing(false, [8]byte{byte(i)}) }},
		"settings": {100_000, false, func(f *http2.Framer, i uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i % 1000})
		}},
		"unknown frames": {10_000, false, func(f *http2.Framer, i uint32) error {
			return f.WriteRawFrame(http2.FrameType(0x0a+i%6), http2.Flags(i), i%7, make([]byte, i%100))
		}},
		"frame too long": {100, true, func(f *http2.Framer, _ uint32) error {
			return f.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20))
		}},
		"data of no stream": {100, true, func(f *http2.Framer, _ uint32) error { return f.WriteData(99, false, []byte("x")) }},
		"headers that do not decode": {100, true, func(f *http2.Framer, i uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		"path without a slash": {1, false, func(f *http2.Framer, _ uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: headerBlock(
				":method", "POST", ":scheme", "http", ":path", "weir.query.v1.QueryService/Labels", ":authority", "x", "content-type", "application/grpc")})
		}},
		"window of 4 GiB": {4, true, func(f *http2.Framer, _ uint32) error { return f.WriteWindowUpdate(0, 1<<31-1) }},
	}
	for port, addr := range map[string]string{"HTTP": node.HTTP, "gRPC": node.GRPC} {
		for name, a := range attacks {
			t.Run(port+" "+name, func(t *testing.T) {
				bounded(t, node, 200*mib, func() {
					c, f := framer(t, addr)
					ended := make(chan struct{})
					go func() { // reads what the server says, so that it can say it
						defer close(ended)
						_, _ = io.Copy(io.Discard, c) // until it hangs up
					}()
					var err error
					for i := uint32(0); i < uint32(a.n) && err == nil; i++ {
						err = a.write(f, i)
					}
					if a.ends && port == "HTTP" {
						select {
						case <-ended:
						case <-time.After(harness.Patience):
							t.Error("the connection stays open")
						}
					}
				})
				// Others are served.
				request{path: "/loki/api/v1/labels", status: []int{200}}.do(t, node)
				if n := lines(t, node, "fake"); n != 0 {
					t.Errorf("%d lines", n)
				}
			})
		}
	}
}
