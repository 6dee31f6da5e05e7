package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/services/agent/entry"
)

func run(t testing.TB, r *Runner, now time.Time, in []entry.Entry) []string {
	t.Helper()
	out, err := r.Run(context.Background(), in, now)
	if err != nil {
		t.Fatal(err)
	}
	return texts(out)
}

func texts(out []entry.Entry) (got []string) {
	for _, e := range out {
		got = append(got, string(e.Line))
	}
	return got
}

// What is held says where it was read, until it is given out by time.
func TestHeldAndFlushed(t *testing.T) {
	r := compile(t, `[{cri: {}}, {multiline: {firstline: '^\d', max_wait_time: 2s}}]`, Deps{}).NewRunner()
	in := feed(
		"2026-01-02T03:04:01Z stdout F 1 a",
		"2026-01-02T03:04:02Z stderr F x",
		"2026-01-02T03:04:03Z stdout P  b",
		"2026-01-02T03:04:04Z stdout F c",
		"2026-01-02T03:04:05Z stdout P  d",
	)
	if got := run(t, r, t0, in); len(got) != 1 || got[0] != "x" {
		t.Fatalf("got %q", got)
	}
	want := []entry.Span{in[0].Span, {Start: in[2].Span.Start, End: in[4].Span.End}}
	if held := r.Held(nil); !reflect.DeepEqual(held, want) {
		t.Fatalf("held %v, want %v", held, want)
	}
	if d := r.Deadline(); !d.Equal(t0.Add(2 * time.Second)) {
		t.Fatalf("deadline %v", d)
	}
	out := r.Flush(t0.Add(2*time.Second), false)
	if got := texts(out); len(got) != 1 || got[0] != "1 a\n bc" {
		t.Fatalf("got %q", got)
	}
	if out[0].Span != (entry.Span{Start: in[0].Span.Start, End: in[3].Span.End}) || !out[0].OwnTime {
		t.Fatalf("got %+v", out[0])
	}
	// The piece is joined to the block that began before, and flushed with it.
	if got := texts(r.Flush(t0.Add(partialWait), false)); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	if got := texts(r.Flush(t0.Add(partialWait+2*time.Second), false)); len(got) != 1 || got[0] != " d" {
		t.Fatalf("got %q", got)
	}
	if d := r.Deadline(); !d.IsZero() || len(r.Held(nil)) > 0 {
		t.Fatalf("deadline %v, held %v", d, r.Held(nil))
	}
}

// Two sources of one job do not mix, though their labels are the same.
func TestSourcesApart(t *testing.T) {
	p := compile(t, `[{multiline: {firstline: '^\d'}}]`, Deps{})
	a, b := p.NewRunner(), p.NewRunner()
	run(t, a, t0, feed("1 a"))
	run(t, b, t0, feed(" stray", "2 b"))
	run(t, a, t0, feed(" more"))
	if got := texts(a.Flush(t0, true)); len(got) != 1 || got[0] != "1 a\n more" {
		t.Errorf("a: %q", got)
	}
	if got := texts(b.Flush(t0, true)); len(got) != 1 || got[0] != "2 b" {
		t.Errorf("b: %q", got)
	}
}

func TestJoinedIsBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	d := Deps{MaxJoined: 100, Metrics: NewMetrics(reg)}
	r := compile(t, `[{cri: {}}]`, d).NewRunner()
	for range 1000 {
		run(t, r, t0, feed("2026-01-02T03:04:01Z stdout P "+strings.Repeat("x", 30)))
	}
	got := run(t, r, t0, feed("2026-01-02T03:04:01Z stdout F end"))
	if len(got) != 1 || len(got[0]) != 100 || !strings.HasSuffix(got[0], cutMark) {
		t.Errorf("got %q", got)
	}
	if n := testutil.ToFloat64(d.Metrics.cut.WithLabelValues("cri")); n != 1 {
		t.Errorf("%v cut", n)
	}

	r = compile(t, `[{multiline: {firstline: '^\d', max_lines: 0}}]`, d).NewRunner()
	var all []string
	all = append(all, run(t, r, t0, feed("1 first"))...)
	for range 50 {
		all = append(all, run(t, r, t0, feed(strings.Repeat("y", 30)))...)
	}
	all = append(all, texts(r.Flush(t0, true))...)
	lines := 0
	for _, l := range all {
		if len(l) > 100 {
			t.Errorf("%d bytes", len(l))
		}
		lines += strings.Count(l, "\n") + 1
	}
	if lines != 51 {
		t.Errorf("%d lines came out", lines)
	}

	// Many label sets: those that waited longest go.
	r = compile(t, `[{multiline: {firstline: '^\d'}}]`, d).NewRunner()
	n := 0
	for i := range maxGroups + 50 {
		n += len(run(t, r, t0.Add(time.Duration(i)), feed(fmt.Sprintf("{{s=%d}}1 x", i))))
	}
	if n != 50 {
		t.Errorf("%d came out early", n)
	}
}

func TestLimitWaits(t *testing.T) {
	r := compile(t, `[{limit: {rate: 0.001, burst: 1}}]`, Deps{}).NewRunner()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Run(ctx, feed("a", "b"), t0); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Run(context.Background(), feed("a"), t0); err == nil {
		t.Error("it goes on")
	}
}

func TestSampling(t *testing.T) {
	i := 0.0
	d := Deps{Rand: func() float64 { i += 0.1; return i - 0.1 }}
	got := run(t, compile(t, `[{sampling: {rate: 0.3}}]`, d).NewRunner(), t0, feed(strings.Split("abcdefghi", "")...))
	if strings.Join(got, "") != "abc" {
		t.Errorf("got %q", got)
	}
}

func TestMetricsStage(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	now := t0
	custom := NewCustom(func() time.Time { return now }, reg)
	m := NewMetrics(nil)
	const stages = `
- logfmt: {mapping: {d: , s: , b: }}
- metrics:
    lines: {type: Counter, description: All., config: {match_all: true, action: inc}}
    bytes: {type: counter, config: {match_all: true, count_entry_bytes: true, action: add}}
    ok: {type: counter, source: s, prefix: my_, config: {value: ok, action: inc}}
    d: {type: histogram, max_idle_duration: 1m, config: {buckets: [0.1, 1]}}
    b: {type: gauge, config: {action: set}}
`
	p := compile(t, stages, Deps{Custom: custom, Metrics: m})
	r := p.NewRunner()
	run(t, r, t0, feed("d=50ms s=ok b=true", "d=2s s=no b=7", "d=x"))
	want := `
# HELP my_ok 
# TYPE my_ok counter
my_ok{app="a"} 1
# HELP promtail_custom_b 
# TYPE promtail_custom_b gauge
promtail_custom_b{app="a"} 7
# HELP promtail_custom_bytes 
# TYPE promtail_custom_bytes counter
promtail_custom_bytes{app="a"} 34
# HELP promtail_custom_d 
# TYPE promtail_custom_d histogram
promtail_custom_d_bucket{app="a",le="0.1"} 1
promtail_custom_d_bucket{app="a",le="1"} 1
promtail_custom_d_bucket{app="a",le="+Inf"} 2
promtail_custom_d_sum{app="a"} 2.05
promtail_custom_d_count{app="a"} 2
# HELP promtail_custom_lines All.
# TYPE promtail_custom_lines counter
promtail_custom_lines{app="a"} 3
`
	if err := testutil.CollectAndCompare(custom, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(m.errors.WithLabelValues("metrics")); n != 1 {
		t.Errorf("%v failed", n)
	}
	// The same metrics once more, as on a reload: they go on.
	r = compile(t, stages, Deps{Custom: custom}).NewRunner()
	run(t, r, t0, feed("s=ok"))
	if n := custom.metrics["my_ok"].series; len(n) != 1 {
		t.Errorf("%d series", len(n))
	}
	for _, s := range custom.metrics["my_ok"].series {
		if s.value != 2 {
			t.Errorf("my_ok is %v", s.value)
		}
	}
	if _, ps := compileText(`[{metrics: {d: {type: gauge, config: {action: set}}}}]`, Deps{Custom: custom}); ps.Err() == nil {
		t.Error("another kind of the same name is taken")
	}
	if _, ps := compileText(`[{metrics: {d_sum: {type: gauge, config: {action: set}}}}]`, Deps{Custom: custom}); ps.Err() == nil {
		t.Error("a name of a histogram's series is taken")
	}
	// After a reload a metric may be another one.
	other := NewCustom(func() time.Time { return now }, nil)
	run(t, compile(t, `[{logfmt: [n]}, {metrics: {n: {type: histogram}}}]`, Deps{Custom: other}).NewRunner(), t0, feed("n=1"))
	other.Begin()
	run(t, compile(t, `[{logfmt: [n]}, {metrics: {n: {type: gauge, config: {action: set}}}}]`, Deps{Custom: other}).NewRunner(), t0, feed("n=3"))
	if err := testutil.CollectAndCompare(other, strings.NewReader("# HELP promtail_custom_n \n# TYPE promtail_custom_n gauge\npromtail_custom_n{app=\"a\"} 3\n")); err != nil {
		t.Error(err)
	}
	// Idle ones go behind the next scrape.
	now = t0.Add(2 * time.Minute)
	_, _ = reg.Gather()
	if len(custom.metrics["promtail_custom_d"].series) != 0 || len(custom.metrics["my_ok"].series) != 1 {
		t.Error("idle series")
	}
	// A counter does not fall, and does not panic.
	r = compile(t, `[{logfmt: {mapping: {n: }}}, {metrics: {n: {type: counter, config: {action: add}}}}]`, Deps{Custom: custom, Metrics: m}).NewRunner()
	run(t, r, t0, feed("n=-1", "n=NaN", "n=5"))
	for _, s := range custom.metrics["promtail_custom_n"].series {
		if s.value != 5 {
			t.Errorf("n is %v", s.value)
		}
	}
}

func TestTrace(t *testing.T) {
	r := compile(t, "[{json: {expressions: {l: }}},\n {labels: {l: }},\n {match: {selector: '{l=\"x\"}', action: drop}}]", Deps{}).NewRunner()
	var got []string
	r.Trace(func(s Step) { got = append(got, fmt.Sprint(s.Stage, s.Line, s.Outcome, s.Changed())) })
	run(t, r, t0, feed(`{"l":"x"}`, `{}`))
	want := []string{"json1kepttrue", "labels2kepttrue", "match3droppedfalse", "json1kepttrue", "labels2keptfalse", "match3skippedfalse"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestNoAllocation(t *testing.T) {
	r := compile(t, `[{cri: }, {json: [level, {m: a.b}]}, {labels: [level]}, {drop: {source: m, value: x}}, {labeldrop: [filename]}, {output: m}]`, Deps{}).NewRunner()
	set := entry.SetOf(map[string]string{"app": "x", "filename": "/f"})
	line := []byte(`2026-01-02T15:04:05.99Z stdout F {"ts":"t","level":"info","a":{"b":"say \"hi\""}}`)
	in := make([]entry.Entry, 100)
	n := testing.AllocsPerRun(100, func() {
		for i := range in {
			in[i] = entry.Entry{Labels: set, Line: line}
		}
		if out, err := r.Run(context.Background(), in, t0); err != nil || len(out) != 100 || string(out[0].Line) != `say "hi"` {
			t.Fatal(out, err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations for 100 lines", n)
	}
}

// The JSON reader finds what encoding/json finds, and refuses what it refuses.
func TestJSONAgainstStdlib(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			doc[rapid.SampledFrom([]string{"a", "b", "c\"d", "é"}).Draw(t, "key")] = rapid.OneOf(
				rapid.Map(rapid.String(), func(s string) any { return s }),
				rapid.Map(rapid.Int(), func(n int) any { return n }),
				rapid.Map(rapid.Bool(), func(b bool) any { return b }),
				rapid.Just[any](nil), rapid.Just[any](map[string]any{"a": "x", "b": []any{1, "y"}}), rapid.Just[any]([]any{map[string]any{"a": 1.5}}),
			).Draw(t, "value")
		}
		b, _ := json.Marshal(doc)
		if rapid.Bool().Draw(t, "indent") {
			var buf bytes.Buffer
			_ = json.Indent(&buf, b, " ", "\t")
			b = buf.Bytes()
		}
		checkJSON(t, b)
		if len(b) > 0 {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			checkJSON(t, b)
		}
	})
}

// Of a name that comes twice the last value counts alone.
func TestJSONNamesThatComeTwice(t *testing.T) {
	for _, doc := range []string{
		`{"a":"x","a":"y"}`, `{"a":"x","a":null}`, `{"b":{"a":"x","a":{"b":1}}}`,
		`{"b":{"a":"x","b":[1,"y"]},"b":5}`, `{"b":{"a":"x","b":[1,"y"]},"b":null}`, `{"b":{"a":"x","b":[1,"y"]},"b":{"c":1}}`,
		`{"b":[{"a":1.5}],"b":{"a":"x"}}`, `{"b":{"a":"x"},"b":[{"a":1.5}]}`, `{"b":[{"a":1.5}],"b":[{}]}`, `{"b":{"b":[1,"y"],"b":[1]}}`,
	} {
		checkJSON(t, []byte(doc))
	}
}

type fataler interface {
	Fatalf(format string, args ...any)
	Helper()
}

var probe = sync.OnceValue(func() *Pipeline {
	p, _ := compileText(`[{json: {expressions: {a: , b: , ba: b.a, bb1: 'b.b[1]', b0a: 'b[0].a', e: '"é"'}}}]`, Deps{})
	return p
})

func checkJSON(t fataler, b []byte) {
	t.Helper()
	jsonProbe := probe()
	r := jsonProbe.NewRunner()
	r.begin(context.Background(), t0)
	s := r.get()
	s.load(r, &entry.Entry{Line: b})
	var doc map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	valid := json.Valid(b) && dec.Decode(&doc) == nil && doc != nil
	scan := jsonScan{b: b, results: make([]jsonValue, 6)}
	err := scan.object(&jsonNode{})
	if valid && err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	if !valid {
		return // ours takes a little more: control characters in strings, bad escapes
	}
	jsonProbe.ops[0].stage.run(r, s, 0)
	at := func(v any, path ...any) any {
		for _, p := range path {
			switch p := p.(type) {
			case string:
				m, _ := v.(map[string]any)
				v = m[p]
			case int:
				l, _ := v.([]any)
				if p >= len(l) {
					return nil
				}
				v = l[p]
			}
		}
		return v
	}
	for name, want := range map[string]any{
		"a": at(doc, "a"), "b": at(doc, "b"), "ba": at(doc, "b", "a"), "bb1": at(doc, "b", "b", 1), "b0a": at(doc, "b", 0, "a"), "e": at(doc, "é"),
	} {
		got := s.values[jsonProbe.slotOf[name]]
		switch w := want.(type) {
		case nil:
			if got.kind != null {
				t.Fatalf("%q: %s is %v, want null", b, name, got)
			}
		case string:
			if got.kind != text || strings.ToValidUTF8(got.s, "\uFFFD") != w && !strings.Contains(w, "\uFFFD") {
				t.Fatalf("%q: %s is %q, want %q", b, name, got.s, w)
			}
		case json.Number:
			if got.kind != number || got.s != string(w) {
				t.Fatalf("%q: %s is %q, want %s", b, name, got.s, w)
			}
		case bool:
			if got.kind != boolean || got.s != fmt.Sprint(w) {
				t.Fatalf("%q: %s is %q, want %v", b, name, got.s, w)
			}
		default:
			if got.kind != nested {
				t.Fatalf("%q: %s is %v, want nested", b, name, got)
			}
		}
	}
}

func TestTimeAgainstStdlib(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-9e18, 9e18).Draw(t, "ns")
		offset := rapid.IntRange(-1439, 1439).Draw(t, "offset")
		when := time.Unix(0, ns).In(time.FixedZone("", offset*60))
		if y := when.Year(); y < 1679 || y > 2260 {
			return
		}
		if got, ok := parseRFC3339([]byte(when.Format(time.RFC3339Nano))); !ok || got != ns {
			t.Fatalf("%s: got %d, want %d", when.Format(time.RFC3339Nano), got, ns)
		}
	})
	for _, s := range []string{"", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00", "2026-01-01T00:00:0aZ", "9999-01-01T00:00:00Z"} {
		if ns, ok := parseRFC3339([]byte(s)); ok {
			t.Errorf("%q is %d", s, ns)
		}
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":{"a":"x","b":[1,2]}}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `[[[`, `{"é":null}`, `{"b":[{"a":true}]}`, `{"b":{"a":"x"},"b":5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkJSON(t, b) })
}

// Whatever comes in, nothing panics, and no line is lost or doubled that no stage
// drops.
func FuzzStages(f *testing.F) {
	p, ps := compileText(`
- docker:
- cri:
- json: [a, {b: 'a.b'}]
- logfmt: [a, c]
- regex: '(?P<d>\d+)'
- pattern: '<x> <y>'
- timestamp: {source: a, format: RFC3339, fallback_formats: [Unix, UnixMs, 'Jan _2 15:04:05']}
- replace: {expression: '(\d)\d*', replace: '{{ .Value }}'}
- redact:
- luhn:
- decolorize:
- truncate: 100
- labels: [a, d]
- structured_metadata: [c]
- multiline: {firstline: '^\w'}
- pack: [d]
`, Deps{})
	if ps.Err() != nil {
		f.Fatal(ps)
	}
	f.Add("2026-01-02T03:04:05Z stdout P a=1\n2026-01-02T03:04:05Z stdout F b\x1b[0m 4111111111111111")
	f.Add(`{"log":"a c=\"x\"\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}` + "\n" + `{"log":"a`)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(text, "\n")
		if len(lines) > 100 {
			return
		}
		r := p.NewRunner()
		in := feed()
		for i, l := range lines {
			in = append(in, entry.Entry{Labels: entry.SetOf(map[string]string{"app": "a"}), Time: t0.UnixNano(), Line: []byte(l), Span: entry.Span{Start: int64(i), End: int64(i + 1)}})
		}
		seen := map[int64]bool{}
		note := func(out []entry.Entry) {
			for _, e := range out {
				if seen[e.Span.Start] {
					t.Fatalf("%v came twice", e.Span)
				}
				seen[e.Span.Start] = true
				if !json.Valid(e.Line) {
					t.Fatalf("not packed: %q", e.Line)
				}
			}
		}
		for i := range in {
			out, err := r.Run(context.Background(), in[i:i+1], t0)
			if err != nil {
				t.Fatal(err)
			}
			note(out)
		}
		note(r.Flush(t0, true))
		if len(r.Held(nil)) > 0 {
			t.Fatal("still held")
		}
	})
}
