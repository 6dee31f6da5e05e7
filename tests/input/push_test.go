package input

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/tests/harness"
)

const mib = 1 << 20

// refused are pushes of which nothing is stored.
func refused() []request {
	ok := map[string]string{"app": "x"}
	loki := func(name string, body []byte, text string, codes ...int) request {
		return request{name: name, path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: body, text: text, status: codes}
	}
	with := func(r request, kv ...string) request {
		h := map[string]string{}
		for k, v := range r.header {
			h[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = kv[i+1]
		}
		r.header = h
		return r
	}
	rest := func(name string, body []byte, text string, codes ...int) request {
		r := loki(name, body, text, codes...)
		r.path = restPush
		return r
	}
	proto := func(name string, body []byte, text string, codes ...int) request {
		return with(loki(name, body, text, codes...), "Content-Type", lokiBuf)
	}
	chunked := func(r request) request {
		r.chunks = true
		return r
	}
	bomb := gzipped(repeat(" ", 300*mib))
	valid := stream(ok, "line")
	claim := func(n uint64, tail string) []byte { return append(binary.AppendUvarint(nil, n), tail...) }
	text := func(labels string) []byte { return snappy.Encode(nil, lokiMessage(labels, time.Now(), "line")) }
	now := time.Now()

	return []request{
		// Row 49: bombs.
		with(loki("gzip bomb", bomb, "too large", 413), "Content-Encoding", "gzip"),
		with(rest("gzip bomb over REST", bomb, "TOO_LARGE", 413), "Content-Encoding", "gzip"),
		with(loki("gzip in gzip", gzipped(bomb), "", 400), "Content-Encoding", "gzip"),
		with(loki("two encodings", gzipped(gzipped(valid)), "not supported", 400, 415), "Content-Encoding", "gzip, gzip"),
		with(loki("zstd with a window of 2 GiB", []byte("\x28\xb5\x2f\xfd\x00\xa8aaaaaaaaaa"), "", 400, 415), "Content-Encoding", "zstd"),
		proto("snappy bomb", snappy.Encode(nil, repeat("a", 65*mib)), "too large", 413),
		// Row 50: what a header claims.
		proto("snappy header of 4 GiB", claim(math.MaxUint32, "abc"), "", 413),
		proto("snappy header of 60 MiB", claim(60*mib, "abc"), "", 400),
		proto("snappy header beyond 32 bits", claim(1<<40, "abc"), "", 400),
		// Row 51: garbage.
		loki("no body", []byte{}, "", 400, 422),
		loki("garbage", []byte("\x00\x01garbage"), "", 400),
		loki("truncated JSON", valid[:len(valid)-3], "", 400),
		loki("JSON and more", append(append([]byte{}, valid...), "x"...), "", 400),
		proto("garbage, protobuf", []byte("\x05garbage"), "", 400),
		proto("truncated snappy", text(`{app="x"}`)[:20], "", 400),
		proto("snappy of garbage", snappy.Encode(nil, []byte("\xff\xff\xff\xff")), "", 400),
		with(loki("not gzip", valid, "", 400), "Content-Encoding", "gzip"),
		with(loki("truncated gzip", gzipped(valid)[:30], "", 400), "Content-Encoding", "gzip"),
		with(loki("unknown encoding", valid, "not supported", 400, 415), "Content-Encoding", "br"),
		with(loki("unknown type", valid, "", 400, 415), "Content-Type", "text/html"),
		rest("garbage over REST", []byte("{"), "", 400),
		rest("unknown field over REST", []byte(`{"strems":[]}`), "", 400),
		// Row 52: too large.
		loki("17 MiB", repeat(" ", 17*mib), "too large", 413),
		chunked(loki("17 MiB, in chunks", repeat(" ", 17*mib), "too large", 413)),
		rest("17 MiB over REST", repeat(" ", 17*mib), "", 413),
		chunked(rest("17 MiB over REST, in chunks", repeat(" ", 17*mib), "", 413)),
		// Row 53: long lines.
		loki("line of 256 KiB and a byte", stream(ok, strings.Repeat("x", 256<<10+1)), "max entry size", 400),
		// Row 54: labels.
		loki("no labels", stream(nil, "x"), "", 400),
		loki("16 labels", stream(numbered(16, "l%d"), "x"), "", 400),
		loki("100,000 labels", stream(numbered(100_000, "l%d"), "x"), "", 400),
		loki("label value of 1 MiB", stream(map[string]string{"app": strings.Repeat("v", mib)}, "x"), "", 400),
		loki("label name of 1,025 bytes", stream(map[string]string{strings.Repeat("n", 1025): "x"}, "x"), "", 400),
		loki("label name with a dash", stream(map[string]string{"a-b": "x"}, "x"), "", 400),
		proto("label name twice", text(`{app="x", app="y"}`), "", 400),
		proto("label name that begins with a digit", text(`{1app="x"}`), "", 400),
		proto("labels that do not end", text(`{app="x`), "", 400),
		proto("labels that are no labels", text(`app`), "", 400),
		proto("labels of 1 MiB of braces", text(strings.Repeat("{", mib)), "", 400),
		proto("label value that is no UTF-8", text("{app=\"\xff\"}"), "", 400),
		// Row 56: JSON and times.
		loki("a million brackets", repeat("[", 1_000_000), "", 400),
		loki("a million objects", repeat(`{"a":`, 1_000_000), "", 400),
		loki("a million brackets inside", append([]byte(`{"streams":[{"stream":{"app":"x"},"x":`), repeat("[", 1_000_000)...), "", 400),
		rest("a million brackets over REST", repeat("[", 1_000_000), "", 400),
		rest("a million objects over REST", repeat(`{"streams":[{"entries":`, 100_000), "", 400),
		loki("time abc", streamAt(ok, "abc", "x"), "", 400),
		loki("time NaN", streamAt(ok, "NaN", "x"), "", 400),
		loki("time NaN as a number", []byte(`{"streams":[{"stream":{"app":"x"},"values":[[NaN,"x"]]}]}`), "", 400),
		loki("least time", streamAt(ok, fmt.Sprint(int64(math.MinInt64)), "x"), "", 400),
		loki("greatest time", streamAt(ok, fmt.Sprint(int64(math.MaxInt64)), "x"), "", 400),
		loki("time beyond 64 bits", streamAt(ok, "92233720368547758080", "x"), "", 400),
		loki("eleven minutes ahead", streamAt(ok, fmt.Sprint(now.Add(11*time.Minute).UnixNano()), "x"), "", 400),
		loki("eleven years ago", streamAt(ok, fmt.Sprint(now.AddDate(-11, 0, 0).UnixNano()), "x"), "", 400),
		loki("metadata of 65 KiB", []byte(fmt.Sprintf(`{"streams":[{"stream":{"app":"x"},"values":[["%d","x",{"m":"%s"}]]}]}`,
			now.UnixNano(), strings.Repeat("m", 65<<10))), "", 400),
		loki("metadata that nests", []byte(fmt.Sprintf(`{"streams":[{"stream":{"app":"x"},"values":[["%d","x",{"m":{"n":1}}]]}]}`, now.UnixNano())), "", 400),
		proto("time out of range", snappy.Encode(nil, lokiSeconds(`{app="x"}`, math.MaxInt64)), "", 400),
	}
}

// lokiMessage is Loki's PushRequest with one entry.
func lokiMessage(labels string, at time.Time, line string) []byte {
	return lokiEntry(labels, at.Unix(), int64(at.Nanosecond()), line)
}

func lokiSeconds(labels string, seconds int64) []byte { return lokiEntry(labels, seconds, 0, "x") }

func lokiEntry(labels string, seconds, nanos int64, line string) []byte {
	field := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	number := func(b []byte, n protowire.Number, v int64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
	}
	entry := field(nil, 1, number(number(nil, 1, seconds), 2, nanos))
	entry = field(entry, 2, []byte(line))
	return field(nil, 1, field(field(nil, 1, []byte(labels)), 2, entry))
}

// TestPush sends pushes that must be refused whole.
func TestPush(t *testing.T) {
	node := harness.Start(t)
	run(t, node, 300*mib, refused())
	if n := lines(t, node, "fake"); n != 0 {
		t.Errorf("%d lines are stored", n)
	}
}

// TestPushStoresTheRest sends a request with entries that must be refused and others:
// those are stored.
func TestPushStoresTheRest(t *testing.T) {
	node := harness.Start(t)
	now := time.Now().UnixNano()
	body := fmt.Sprintf(`{"streams":[
		{"stream":{"app":"good"},"values":[["%d","one"],["%d","%s"],["%d","two"],["%d","later"]]},
		{"stream":{"bad-name":"x"},"values":[["%d","three"]]},
		{"stream":{"app":"other"},"values":[["%d","four"]]}]}`,
		now, now+1, strings.Repeat("x", 256<<10+1), now+2, now+int64(time.Hour), now+3, now+4)
	request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: []byte(body), status: []int{400}}.do(t, node)
	if n := lines(t, node, "fake"); n != 3 {
		t.Errorf("%d lines are stored, want one, two and four", n)
	}
	alive(t, node)
}

// TestPushGRPC sends what cannot be pushed over gRPC.
func TestPushGRPC(t *testing.T) {
	node := harness.Start(t)
	c := node.Client()
	push := func(lines int, size int) *pushv1.PushRequest {
		s := &pushv1.Stream{Labels: map[string]string{"app": "x"}}
		for range lines {
			s.Entries = append(s.Entries, &pushv1.Entry{Line: &pushv1.Entry_Raw{Raw: make([]byte, size)}})
		}
		return &pushv1.PushRequest{Streams: []*pushv1.Stream{s}}
	}
	cc, err := grpc.NewClient(node.GRPC, harness.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	bounded(t, node, 200*mib, func() {
		if _, err := c.Push(t.Context(), push(100, 200<<10)); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("20 MiB: %v", err)
		}
		big := push(2000, 200<<10)
		err := cc.Invoke(t.Context(), pushv1.PushService_Push_FullMethodName, big, &pushv1.PushResponse{}, grpc.UseCompressor(grpcgzip.Name))
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a gzip bomb: %v", err)
		}
	})
	bounded(t, node, 100*mib, func() {
		for _, garbage := range []string{"\xff", "\x0a\xff\xff\xff\xff\x0f", "\x0a\x04\x12\x02\x12\xff", strings.Repeat("\x0b", 100_000)} {
			err := cc.Invoke(t.Context(), pushv1.PushService_Push_FullMethodName, []byte(garbage), new([]byte), grpc.ForceCodec(bytesCodec{}))
			if c := status.Code(err); c != codes.InvalidArgument && c != codes.Internal {
				t.Errorf("garbage %.10q: %v", garbage, err)
			}
		}
		for _, method := range []string{"/weir.push.v1.PushService/Nope", "/Nope/Nope", "/weir.push.v1.PushService"} {
			err := cc.Invoke(t.Context(), method, []byte{}, new([]byte), grpc.ForceCodec(bytesCodec{}))
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("method %s: %v", method, err)
			}
		}
	})
	for _, tenant := range invalidTenants {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", tenant)
		if _, err := c.Push(ctx, push(1, 1)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("tenant %q: %v", tenant, err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "a", "x-scope-orgid", "b")
	if _, err := c.Push(ctx, push(1, 1)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("two tenants: %v", err)
	}
	if n := lines(t, node, "fake"); n != 0 {
		t.Errorf("%d lines are stored", n)
	}
}

// bytesCodec sends and receives bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesCodec) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = b
	return nil
}
func (bytesCodec) Name() string { return "proto" }

// TestStreamLimit pushes a stream for each line (row 55): new streams beyond the limit
// are refused, existing ones never.
func TestStreamLimit(t *testing.T) {
	node := harness.Start(t, "--limits.max-streams=100")
	c := node.Client()
	bounded(t, node, 100*mib, func() {
		for i := range 50 {
			req := &pushv1.PushRequest{}
			for k := range 1000 {
				req.Streams = append(req.Streams, &pushv1.Stream{
					Labels:  map[string]string{"app": "x", "id": fmt.Sprint(i*1000 + k)},
					Entries: []*pushv1.Entry{{TimestampUnixNano: time.Now().UnixNano(), Line: &pushv1.Entry_Text{Text: "x"}}},
				})
			}
			resp, err := c.Push(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			want := uint64(0)
			if i == 0 {
				want = 100
			}
			if resp.GetAcceptedEntries() != want || resp.GetRejections()[0].GetReason() != pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT {
				t.Fatalf("push %d: %d accepted, %v", i, resp.GetAcceptedEntries(), resp.GetRejections()[0])
			}
		}
	})
	request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "new"}, "x"), status: []int{429}}.do(t, node)
	request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON}, body: stream(map[string]string{"app": "x", "id": "7"}, "y"), status: []int{204}}.do(t, node)
}

// TestRateLimit lets one tenant push too much (row 59): it is refused whole, with a
// delay, and others are not.
func TestRateLimit(t *testing.T) {
	node := harness.Start(t, "--limits.ingestion-rate=10KB", "--limits.ingestion-burst=20KB")
	big := stream(map[string]string{"app": "x"}, strings.Repeat("x", 15<<10))
	push := func(tenant string, code int) {
		t.Helper()
		request{path: lokiPush, header: map[string]string{"Content-Type": lokiJSON, "X-Scope-OrgID": tenant}, body: big, status: []int{code}}.do(t, node)
	}
	push("noisy", 204)
	push("noisy", 429)
	push("quiet", 204)
	if n := lines(t, node, "noisy"); n != 1 {
		t.Errorf("%d lines of the noisy tenant are stored", n)
	}
	err := func() error {
		_, err := node.Client().Push(metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "noisy"), &pushv1.PushRequest{Streams: []*pushv1.Stream{{
			Labels: map[string]string{"app": "x"}, Entries: []*pushv1.Entry{{Line: &pushv1.Entry_Text{Text: strings.Repeat("y", 15<<10)}}},
		}}})
		return err
	}()
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "RATE_LIMITED") {
		t.Errorf("over gRPC: %v", err)
	}
}
