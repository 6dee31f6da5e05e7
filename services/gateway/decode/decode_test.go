package decode

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// stream and row are what a request says, in the plainest form.
type stream struct {
	Labels string
	Rows   []row
}

type row struct {
	Time     int64
	Line     string
	Metadata map[string]string
	Copy     uint32
}

// plain reads a request back, and checks that its columns fit together.
func plain(t fataler, req *ingestv1.WriteRequest) []stream {
	t.Helper()
	var out []stream
	for _, b := range req.GetStreams() {
		if !utf8.ValidString(b.GetLabels()) {
			t.Fatalf("labels %q cannot be sent on", b.GetLabels())
		}
		rows, err := rowspb.FromBlock(b)
		if err != nil {
			t.Fatalf("%v", err)
		}
		s := stream{Labels: b.GetLabels()}
		for i := range rows.Len() {
			r := row{Time: rows.Times[i], Line: string(rows.Lines.At(i)), Copy: rows.Copy(i), Metadata: map[string]string{}}
			for _, l := range rows.AppendMetadata(nil, i) {
				if !utf8.ValidString(l.Name) {
					t.Fatalf("metadata name %q cannot be sent on", l.Name)
				}
				r.Metadata[l.Name] = l.Value
			}
			s.Rows = append(s.Rows, r)
		}
		out = append(out, s)
	}
	return out
}

// naive is what Push must make of a message, by way of the generated code.
func naive(m *pushv1.PushRequest) []stream {
	var out []stream
	for _, in := range m.GetStreams() {
		s := stream{Labels: labelText(model.LabelsFromMap(in.GetLabels()))}
		for _, e := range in.GetEntries() {
			r := row{Time: e.GetTimestampUnixNano(), Line: e.GetText() + string(e.GetRaw()), Copy: e.GetCopy(), Metadata: map[string]string{}}
			for k, v := range e.GetStructuredMetadata() {
				if v != "" {
					r.Metadata[k] = v
				}
			}
			s.Rows = append(s.Rows, r)
		}
		out = append(out, s)
	}
	return out
}

func genName() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"a", "b", "c", "app", "trace_id", "x.y", "", "9", "ü", `a="b", c`, "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"})
}

func genMap(t *rapid.T, what string) map[string]string {
	return rapid.MapOfN(genName(), rapid.OneOf(rapid.Just(""), rapid.Just("v"), rapid.String()), 0, 12).Draw(t, what)
}

func genPush(t *rapid.T) *pushv1.PushRequest {
	m := &pushv1.PushRequest{BatchTimeUnixNano: rapid.Int64().Draw(t, "batch")}
	for range rapid.IntRange(0, 4).Draw(t, "streams") {
		s := &pushv1.Stream{Labels: genMap(t, "labels")}
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			e := &pushv1.Entry{
				TimestampUnixNano:  rapid.Int64().Draw(t, "time"),
				StructuredMetadata: genMap(t, "metadata"),
				Copy:               rapid.SampledFrom([]uint32{0, 0, 0, 1, math.MaxUint32}).Draw(t, "copy"),
			}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 1:
				e.Line = &pushv1.Entry_Text{Text: rapid.String().Draw(t, "text")}
			case 2:
				e.Line = &pushv1.Entry_Raw{Raw: rapid.SliceOf(rapid.Byte()).Draw(t, "raw")}
			}
			s.Entries = append(s.Entries, e)
		}
		m.Streams = append(m.Streams, s)
	}
	return m
}

func TestPushIsWhatGeneratedCodeReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genPush(t)
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		mem := NewMemory(64 << 20)
		res := mem.Reserve(64 << 20)
		req, err := Push(wire, res)
		if err != nil {
			t.Fatal(err)
		}
		same(t, plain(t, req), naive(m))
		if req.GetBatchTimeUnixNano() != m.GetBatchTimeUnixNano() || !req.GetStamp() {
			t.Fatalf("batch time %d, stamp %v", req.GetBatchTimeUnixNano(), req.GetStamp())
		}
		res.Release()
		if mem.Used() != 0 {
			t.Fatalf("%d bytes are still held", mem.Used())
		}
		// Two halves of a message are one: protobuf concatenates.
		batch := protowire.AppendTag(nil, 1, protowire.VarintType)
		batch = protowire.AppendVarint(batch, 7)
		for range 2 {
			batch = protowire.AppendTag(batch, 2, protowire.BytesType)
			batch = protowire.AppendBytes(batch, wire)
		}
		seq, req, err := PushStream(batch, nil)
		if err != nil || seq != 7 {
			t.Fatal(seq, err)
		}
		same(t, plain(t, req), append(naive(m), naive(m)...))
	})
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func same(t fataler, got, want []stream) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// lokiWire encodes streams as Loki's clients do.
func lokiWire(streams []stream) []byte {
	var b []byte
	message := func(b []byte, num protowire.Number, m []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), m)
	}
	for _, s := range streams {
		sb := message(nil, 1, []byte(s.Labels))
		for _, r := range s.Rows {
			var ts []byte
			seconds, nanos := r.Time/1e9, r.Time%1e9
			if nanos < 0 {
				seconds, nanos = seconds-1, nanos+1e9
			}
			ts = protowire.AppendVarint(protowire.AppendTag(ts, 1, protowire.VarintType), uint64(seconds))
			ts = protowire.AppendVarint(protowire.AppendTag(ts, 2, protowire.VarintType), uint64(nanos))
			eb := message(nil, 1, ts)
			eb = message(eb, 2, []byte(r.Line))
			for k, v := range r.Metadata {
				eb = message(eb, 3, message(message(nil, 1, []byte(k)), 2, []byte(v)))
			}
			sb = message(sb, 2, eb)
		}
		sb = protowire.AppendVarint(protowire.AppendTag(sb, 3, protowire.VarintType), 12345) // hash
		b = message(b, 1, sb)
	}
	return message(b, 20, []byte("a field of a later version"))
}

func genLoki(t *rapid.T, text *rapid.Generator[string]) []stream {
	var out []stream
	for range rapid.IntRange(0, 4).Draw(t, "streams") {
		s := stream{Labels: `{app="` + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app") + `"}`}
		for range rapid.IntRange(0, 20).Draw(t, "rows") {
			r := row{Time: rapid.Int64Range(-1<<62, 1<<62).Draw(t, "time"), Line: text.Draw(t, "line"), Metadata: map[string]string{}}
			for k, v := range genMap(t, "metadata") {
				if v != "" {
					r.Metadata[k] = v
				}
			}
			s.Rows = append(s.Rows, r)
		}
		out = append(out, s)
	}
	return out
}

func TestLokiProtobufRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genLoki(t, rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		req, err := Loki(lokiWire(want), nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, plain(t, req), want)
		if req.GetStamp() {
			t.Fatal("a time of 0 must stay 1970")
		}
	})
}

func TestLokiJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genLoki(t, rapid.String())
		type entry = []any
		type jsonStream struct {
			Stream map[string]string `json:"stream"`
			Values []entry           `json:"values"`
		}
		type legacyEntry struct {
			TS   time.Time `json:"ts"`
			Line string    `json:"line"`
		}
		type legacyStream struct {
			Labels  string        `json:"labels"`
			Entries []legacyEntry `json:"entries"`
		}
		var v1 struct {
			Streams []jsonStream `json:"streams"`
		}
		var legacy struct {
			Streams []legacyStream `json:"streams"`
		}
		var wantLegacy []stream
		for _, s := range want {
			js := jsonStream{Stream: map[string]string{"app": s.Labels[6:7]}}
			ls, wl := legacyStream{Labels: s.Labels}, stream{Labels: s.Labels}
			for _, r := range s.Rows {
				e := entry{strconv.FormatInt(r.Time, 10), r.Line}
				if len(r.Metadata) > 0 {
					e = append(e, r.Metadata)
				}
				js.Values = append(js.Values, e)
				ls.Entries = append(ls.Entries, legacyEntry{time.Unix(0, r.Time).UTC(), r.Line})
				wl.Rows = append(wl.Rows, row{Time: r.Time, Line: r.Line, Metadata: map[string]string{}})
			}
			if js.Values == nil {
				js.Values = []entry{}
			}
			if ls.Entries == nil {
				ls.Entries = []legacyEntry{}
			}
			v1.Streams, legacy.Streams, wantLegacy = append(v1.Streams, js), append(legacy.Streams, ls), append(wantLegacy, wl)
		}
		for _, c := range []struct {
			in     any
			decode func([]byte, *Reservation) (*ingestv1.WriteRequest, error)
			want   []stream
		}{{v1, LokiJSON, want}, {legacy, LokiLegacyJSON, wantLegacy}} {
			text, err := json.Marshal(c.in)
			if err != nil {
				t.Fatal(err)
			}
			req, err := c.decode(text, nil)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			same(t, plain(t, req), c.want)
		}
	})
}

func TestLokiJSONAccepts(t *testing.T) {
	md := map[string]string{}
	for _, c := range []struct {
		in   string
		want []stream
	}{
		{`null`, nil},
		{`{}`, nil},
		{` {"streams" : null } `, nil},
		{`{"streams":[]}`, nil},
		{`{"x":{"y":[1,2,{"z":null}]},"streams":[{"stream":{"a":"b"}}],"t":true}`, []stream{{Labels: `{a="b"}`}}},
		{`{"streams":[{"values":[["1","x"]],"stream":{"b":"2","a":"1","b":"3","c":""}}]}`,
			[]stream{{Labels: `{a="1", b="3"}`, Rows: []row{{Time: 1, Line: "x", Metadata: md}}}}},
		{`{"streams":[{"stream":{"n":5,"t":true,"z":null,"f":-1.5e3},"values":[]}]}`,
			[]stream{{Labels: `{f="-1.5e3", n="5", t="true", z="null"}`}}},
		{`{"streams":[{"stream":{},"values":[[],["-5"],["7","l",{}],["8","m",{"k":"v","k":"w"},[1]]]}]}`,
			[]stream{{Labels: `{}`, Rows: []row{
				{Time: NoTime, Metadata: md}, {Time: -5, Metadata: md}, {Time: 7, Line: "l", Metadata: md},
				{Time: 8, Line: "m", Metadata: map[string]string{"k": "w"}},
			}}}},
		{`{"streams":[{"stream":{"a":"b"},"values":[["1","\u0041\n\"\\\/\b\f\r\t\ud83d\ude00\ud83dx\u00e9"]]}]}`,
			[]stream{{Labels: `{a="b"}`, Rows: []row{{Time: 1, Line: "A\n\"\\/\b\f\r\t😀\uFFFDxé", Metadata: md}}}}},
		{`{"streams":[{"stream":{"a\"b":"v"},"values":[]}]}`, []stream{{Labels: `{"a\"b"="v"}`}}},
		{"{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\",\"\xff\xfe\",{\"\xff\":\"v\"}]]}]}",
			[]stream{{Labels: `{a="b"}`, Rows: []row{{Time: 1, Line: "\xff\xfe", Metadata: map[string]string{"_": "v"}}}}}},
	} {
		req, err := LokiJSON([]byte(c.in), nil)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		same(t, plain(t, req), c.want)
	}
}

func TestLokiJSONRefuses(t *testing.T) {
	stream := func(s string) string { return `{"streams":[` + s + `]}` }
	values := func(s string) string { return stream(`{"stream":{"a":"b"},"values":` + s + `}`) }
	for _, c := range []struct{ in, text string }{
		{``, "it ends where { is expected"},
		{`not json`, "expected {"},
		{`[]`, "expected {"},
		{`{"streams":{}}`, "expected ["},
		{`{"streams":[]`, "it ends where } is expected"},
		{`{"streams":[]}x`, "more text behind the value"},
		{stream(`null`), "expected {"},
		{stream(`{"stream":null,"values":[]}`), "expected {"},
		{stream(`{"stream":{"a":["b"]}}`), "expected a value"},
		{stream(`{"stream":{"a":"b"`), `expected }`},
		{values(`{}`), "expected ["},
		{values(`null`), "expected ["},
		{values(`["1"]`), "expected ["},
		{values(`[[1,"x"]]`), `expected "`},
		{values(`[["","x"]]`), "whole number of nanoseconds"},
		{values(`[["abc","x"]]`), "whole number of nanoseconds"},
		{values(`[["1.5","x"]]`), "whole number of nanoseconds"},
		{values(`[["9223372036854775808","x"]]`), "whole number of nanoseconds"},
		{values(`[["1",5]]`), `expected "`},
		{values(`[["1",null]]`), `expected "`},
		{values(`[["1","x",null]]`), "expected {"},
		{values(`[["1","x","y"]]`), "expected {"},
		{values(`[["1","x",{"k":5}]]`), `expected "`},
		{values(`[["1","x",{"k":{}}]]`), `expected "`},
		{values("[[\"1\",\"a\nb\"]]"), "control character"},
		{values(`[["1","\x"]]`), "an escape that is none"},
		{values(`[["1","\u12g4"]]`), "an escape that is none"},
		{values(`[["1","abc]]`), "the string has no end"},
		{values(`[["1","abc\`), "the string has no end"},
		{`{"x":01}`, "expected a value"},
		{`{"x":NaN}`, "expected a value"},
		{`{"x":tru}`, "expected a value"},
		{`{"x":-}`, "expected a value"},
		{`{"x":1.}`, "expected a value"},
		{`{"x":1e}`, "expected a value"},
		{`{"x":` + strings.Repeat("[", 1_000_000), "nests too deep"},
		{`{"x":` + strings.Repeat(`{"a":`, 1_000_000), "nests too deep"},
	} {
		_, err := LokiJSON([]byte(c.in), nil)
		if !rpcerr.Is(err, rpcerr.ParseError) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%.80s: %v, want %q", c.in, err, c.text)
		}
	}
	_, err := LokiLegacyJSON([]byte(`{"streams":[{"labels":"{}","entries":[{"ts":"5","line":"x"}]}]}`), nil)
	if !rpcerr.Is(err, rpcerr.ParseError) {
		t.Error(err)
	}
}

func TestPushRefuses(t *testing.T) {
	entry := func(e *pushv1.Entry) []byte {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wrap := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), b)
	}
	bad := func(field protowire.Number, b []byte) []byte {
		return wrap(1, wrap(2, append(entry(&pushv1.Entry{TimestampUnixNano: 1}), wrap(field, b)...)))
	}
	for name, in := range map[string][]byte{
		"text":      bad(2, []byte{0xff}),
		"metadata":  bad(4, append(wrap(1, []byte("k")), wrap(2, []byte{0xff})...)),
		"name":      bad(4, wrap(1, []byte{0xff})),
		"label":     wrap(1, wrap(1, append(wrap(1, []byte("a")), wrap(2, []byte{0xff})...))),
		"truncated": wrap(1, wrap(2, []byte{0x09, 1, 2}))[:5],
		"garbage":   []byte("garbage that is not protobuf"),
		"group":     {0x0b},
	} {
		if _, err := Push(in, nil); !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if err := proto.Unmarshal(in, &pushv1.PushRequest{}); err == nil {
			t.Errorf("%s: the generated code reads it", name)
		}
	}
}

func TestLabelsThatAreNotText(t *testing.T) {
	req, err := Loki(lokiWire([]stream{{Labels: "{a=\"\xff\"}"}, {Labels: "`{a=\"b\"}"}}), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range plain(t, req) {
		if strings.HasPrefix(s.Labels, "{") {
			t.Errorf("%s parses", s.Labels)
		}
	}
}

func TestTimestampsOutOfRange(t *testing.T) {
	for _, c := range []struct{ seconds, want int64 }{
		{0, 5}, {math.MaxInt64, math.MaxInt64}, {math.MinInt64, NoTime + 1}, {9_223_372_036, math.MaxInt64}, {-9_223_372_036, NoTime + 1}, {-1, -1e9 + 5},
	} {
		if got := nanoseconds(c.seconds, 5); got != c.want {
			t.Errorf("%d: %d, want %d", c.seconds, got, c.want)
		}
	}
}

func TestSplitKeepsAllRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genPush(t)
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		req, err := Push(wire, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := plain(t, req)
		most := rapid.IntRange(300, 3000).Draw(t, "most")
		parts, refused := Split(req, most)
		got := make([]stream, len(want))
		for i, p := range parts {
			size := 0
			for k, s := range plain(t, p.Request) {
				size += blockSize(p.Request.GetStreams()[k])
				from := p.From[k]
				got[from.Stream].Labels = s.Labels
				for n, r := range s.Rows {
					if w := want[from.Stream].Rows[int(from.Row)+n]; !reflect.DeepEqual(r, w) {
						t.Fatalf("row %d of stream %d is %+v, want %+v", int(from.Row)+n, from.Stream, r, w)
					}
				}
				got[from.Stream].Rows = append(got[from.Stream].Rows, s.Rows...)
			}
			if len(parts) > 1 && size > most {
				t.Fatalf("part %d has %d bytes, more than %d", i, size, most)
			}
		}
		rows, dropped := 0, 0
		for i := range want {
			rows += len(want[i].Rows)
			dropped += len(want[i].Rows) - len(got[i].Rows)
		}
		if int(refused.GetRejectedEntries()) != dropped || len(refused.GetRejections()) != dropped {
			t.Fatalf("%d of %d rows are missing, %d are refused", dropped, rows, refused.GetRejectedEntries())
		}
	})
}

// TestSplitAroundARefusedRow: the rows behind a refused one are a piece of their own,
// whose labels count once more.
func TestSplitAroundARefusedRow(t *testing.T) {
	labels := `{app="` + strings.Repeat("x", 60) + `"}`
	b := &ingestv1.StreamBlock{Labels: labels}
	end := uint32(0)
	for i, n := range []int{20, 500, 20, 20} {
		b.Times = append(b.Times, int64(i))
		b.Slab = append(b.Slab, strings.Repeat("y", n)...)
		end += uint32(n)
		b.LineEnds = append(b.LineEnds, end)
	}
	most := blockSize(&ingestv1.StreamBlock{Labels: labels, Times: b.Times[:3], Slab: b.Slab[:60]})
	parts, refused := Split(&ingestv1.WriteRequest{Streams: []*ingestv1.StreamBlock{b}}, most)
	if refused.GetRejectedEntries() != 1 {
		t.Errorf("%d rows are refused", refused.GetRejectedEntries())
	}
	rows := 0
	for i, p := range parts {
		size := 0
		for _, piece := range p.Request.GetStreams() {
			size += blockSize(piece)
			rows += len(piece.GetTimes())
		}
		if size > most {
			t.Errorf("part %d has %d bytes, more than %d", i, size, most)
		}
	}
	if rows != 3 {
		t.Errorf("%d rows are kept", rows)
	}
}

func ExampleLokiJSON() {
	req, err := LokiJSON([]byte(`{"streams":[{"stream":{"app":"shop"},"values":[["1700000000000000000","sold out"]]}]}`), nil)
	fmt.Println(req.GetStreams()[0].GetLabels(), string(req.GetStreams()[0].GetSlab()), err)
	// Output: {app="shop"} sold out <nil>
}
