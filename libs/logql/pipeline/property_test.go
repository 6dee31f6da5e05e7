package pipeline

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// TestRegexAgainstRegexp: what the simplified tests say is what regexp says, and
// what matches has the needles.
func TestRegexAgainstRegexp(t *testing.T) {
	atom := rapid.SampledFrom(strings.Split(`a b k s ab K é 1 [ab]+ a* \d+ [a1]+ [0-9]{2} \d\d[^\x00-\x7f] a+1 \. [ab] [^a] . \d (?i:ab) (?i:sk) (?i:é) (ab|cd) (a|ab)? x* b+ (kb){2} ^ $ .* .+ \b | foo.*(bar|qux) (?:) �`, " "))
	text := rapid.SampledFrom(strings.Split("a,b,k,s,ab,AB,Ab,K,S,é,É,ſ,K,1,.,x,cd,kb,foo,bar,qux,\n,\xff,\xc3,�, ", ","))
	rapid.Check(t, func(t *rapid.T) {
		expr := strings.Join(rapid.SliceOfN(atom, 1, 5).Draw(t, "regex"), "")
		if rapid.Bool().Draw(t, "fold") {
			expr = "(?i)" + expr
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			t.Skip()
		}
		simple := simplify(re)
		m := &LineMatcher{}
		m.add(lineFilter{tests: []lineTest{simple.test}}, anyOf([][][]string{simple.needles}))
		for range 20 {
			line := strings.Join(rapid.SliceOfN(text, 0, 8).Draw(t, "line"), "")
			want := re.MatchString(line)
			if got := m.Match([]byte(line)); got != want {
				t.Fatalf("%q of %q: %v", expr, line, got)
			}
			if want && !hasNeedles(m, line) {
				t.Fatalf("%q of %q lacks needles %q", expr, line, m.Needles())
			}
		}
	})
}

func hasNeedles(m *LineMatcher, line string) bool {
next:
	for _, any := range m.Needles() {
		for _, s := range any {
			if strings.Contains(line, s) {
				continue next
			}
		}
		return false
	}
	return true
}

// TestMatchesAgainstRegexp: label filters for a few words are what the regex is.
func TestMatchesAgainstRegexp(t *testing.T) {
	atom := rapid.SampledFrom(strings.Split(`a b ab | (a|b) a? [ab] (?:) .* é`, " "))
	rapid.Check(t, func(t *rapid.T) {
		expr := strings.Join(rapid.SliceOfN(atom, 0, 4).Draw(t, "regex"), "")
		for _, op := range []syntax.MatchType{syntax.Re, syntax.Nre} {
			m, err := syntax.NewMatcher(op, "x", expr)
			if err != nil {
				t.Skip()
			}
			v := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "é", "\n", "\xff"}), 0, 4).Draw(t, "value"), "")
			if got := matches(m)(v); got != m.Matches(v) {
				t.Fatalf("%s of %q: %v", m, v, got)
			}
		}
	})
}

var ansi = regexp.MustCompile("[\u001B\u009B][[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\u0007)|(?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-nqrty=><~]))")

func TestDecolorizeAgainstRegexp(t *testing.T) {
	part := rapid.SampledFrom(strings.Split("\x1b,\u009b,\x07,[,],(,;,?,#,0,1,22,333,4444,55555,m,x,A,Z,é,\xc2,\x9b, ,text,;;", ","))
	rapid.Check(t, func(t *rapid.T) {
		line := strings.Join(rapid.SliceOfN(part, 0, 12).Draw(t, "line"), "")
		var a arena
		if got, want := a.decolorize([]byte(line)), ansi.ReplaceAll([]byte(line), nil); !bytes.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", line, got, want)
		}
	})
}

// TestJSONAgainstStdlib: of valid objects with plain keys all leaves are found.
func TestJSONAgainstStdlib(t *testing.T) {
	key := rapid.StringMatching(`[a-d]{1,2}`)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		gens := []*rapid.Generator[any]{
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.Int32(), func(n int32) any { return n }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Just[any](nil),
			rapid.Map(rapid.SliceOfN(rapid.String(), 0, 2), func(s []string) any { return s }),
		}
		if depth > 0 {
			gens = append(gens, rapid.Map(rapid.MapOfN(key, value(depth-1), 0, 3), func(m map[string]any) any { return m }))
		}
		return rapid.OneOf(gens...)
	}
	p := compile(t, "| json")
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOfN(key, value(3), 0, 4).Draw(t, "object")
		line, err := json.Marshal(object)
		if err != nil {
			t.Skip()
		}
		want := map[string]string{}
		clash := false
		var walk func(prefix string, m map[string]any)
		walk = func(prefix string, m map[string]any) {
			for k, v := range m {
				var text string
				switch v := v.(type) {
				case map[string]any:
					walk(prefix+k+"_", v)
					continue
				case string:
					text = strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\uFFFD", " ")
				case nil, []string:
					continue
				default:
					text = sprint(v)
				}
				if _, ok := want[prefix+k]; ok {
					clash = true
				}
				want[prefix+k] = text
			}
		}
		walk("", object)
		_, set, ok := p.ForStream(nil).Process(0, line, nil)
		if !ok {
			t.Fatal("dropped")
		}
		got := model.Labels(set.Append(nil)).Map()
		if len(got) != len(want) {
			t.Fatalf("%s: got %v, want %v", line, got, want)
		}
		for k, v := range want {
			if got[k] != v && !clash {
				t.Fatalf("%s: %s is %q, want %q", line, k, got[k], v)
			}
		}
	})
}

// TestLabelSetAgainstMaps drives a set and a naive model of it.
func TestLabelSetAgainstMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "a_extracted", "d"})
		stream := rapid.MapOfN(name, rapid.Just("stream"), 0, 3).Draw(t, "stream")
		prog := &program{slots: []string{"a", "c"}}
		var set LabelSet
		set.init(prog, model.LabelsFromMap(stream))
		for row := range rapid.IntRange(1, 4).Draw(t, "rows") {
			meta := rapid.MapOfN(name, rapid.Just("meta"), 0, 3).Draw(t, "meta")
			set.begin()
			pairs := pairs(meta)
			set.setMeta(pairs)
			// The twin: one map per category.
			cats := [3]map[string]string{{}, {}, {}}
			for k, v := range stream {
				cats[0][k] = v
			}
			for _, m := range pairs {
				k := m.Name
				if _, ok := stream[k]; ok {
					k += extractedSuffix
				}
				cats[1][k] = m.Value
			}
			for range rapid.IntRange(0, 8).Draw(t, "ops") {
				n := name.Draw(t, "name")
				if rapid.Bool().Draw(t, "set") {
					v := sprint("set", row)
					set.set(set.name(n), v)
					cats[2][n] = v
				} else {
					set.del(set.name(n))
					for _, c := range cats {
						delete(c, n)
					}
				}
			}
			want := map[string]string{}
			for _, c := range cats {
				for k, v := range c {
					want[k] = v
				}
			}
			all := set.Append(nil)
			if got := model.Labels(all).String(); got != model.LabelsFromMap(want).String() {
				t.Fatalf("got %s, want %v", got, want)
			}
			for _, n := range []string{"a", "b", "c", "a_extracted", "d", "a_extracted_extracted"} {
				v, ok := set.Get(n)
				if w, has := want[n]; v != w || ok != has {
					t.Fatalf("%s is %q %v, want %q %v", n, v, ok, w, has)
				}
			}
			count := len(set.AppendStream(nil)) + len(set.AppendMetadata(nil)) + len(set.AppendParsed(nil))
			if count != len(want) {
				t.Fatalf("the categories have %d labels, want %d", count, len(want))
			}
			for _, without := range []bool{true, false} {
				var left []model.Label
				for _, l := range all {
					if (l.Name == "a" || l.Name == "c") != without {
						left = append(left, l)
					}
				}
				got := set.AppendGroup(nil, &Grouping{Names: []string{"a", "c"}, Without: without})
				if model.Labels(got).String() != model.Labels(left).String() {
					t.Fatalf("without %v: got %v, want %v", without, got, left)
				}
			}
			if !Clone(all).Equal(all) {
				t.Fatal("the clone differs")
			}
		}
	})
}

func TestAppendKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.MapOfN(rapid.StringN(0, 3, -1), rapid.StringN(0, 200, -1), 0, 3)
		a, b := pairs(gen.Draw(t, "a")), pairs(gen.Draw(t, "b"))
		if bytes.Equal(AppendKey(nil, a), AppendKey(nil, b)) != model.Labels(a).Equal(b) {
			t.Fatalf("%q %q", a, b)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":{"b":[1,"]"],"c":"\ud83d\ude00"}}`, `{"a":1,`, `{"":""}`, `[{"a":1}]`, `{"a":{"a":{"a":{}}}}`} {
		f.Add([]byte(s))
	}
	all, some, unpack := compile(f, "| json"), compile(f, `| json a, b="a.b[0]", c="[0].a"`), compile(f, "| unpack")
	f.Fuzz(func(t *testing.T, line []byte) {
		_, set, ok := all.ForStream(testLabels).Process(0, line, testMeta)
		if !ok {
			t.Fatal("dropped")
		}
		checkLabels(t, set)
		if kind, _ := set.Err(); kind != "" && len(line) > 0 && line[0] == '{' && json.Valid(line) && depth(line) < maxDepth {
			_, details := set.Err()
			t.Errorf("valid JSON is refused: %s", details)
		}
		for _, p := range []*Pipeline{some, unpack} {
			if _, set, ok := p.ForStream(testLabels).Process(0, line, testMeta); ok {
				checkLabels(t, set)
			}
		}
	})
}

func depth(b []byte) int { return bytes.Count(b, []byte("{")) }

func checkLabels(t *testing.T, set *LabelSet) {
	t.Helper()
	prev := ""
	for i, l := range set.Append(nil) {
		if i > 0 && l.Name <= prev {
			t.Errorf("%q behind %q", l.Name, prev)
		}
		if prev = l.Name; !syntax.IsLabelName(l.Name) {
			t.Errorf("%q is no label name", l.Name)
		}
		if !utf8.ValidString(l.Value) && l.Name != errorDetailsLabel {
			t.Errorf("%q is not UTF-8", l.Value)
		}
	}
}

func FuzzLogfmt(f *testing.F) {
	for _, s := range []string{`a=1 b="x\"y" c=`, `a="\`, `=`, `a="b"c`, "\xff=1"} {
		f.Add([]byte(s))
	}
	var ps []*Pipeline
	for _, q := range []string{"| logfmt", "| logfmt --strict --keep-empty", `| logfmt a, b="c"`} {
		ps = append(ps, compile(f, q))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, p := range ps {
			_, set, ok := p.ForStream(testLabels).Process(0, line, testMeta)
			if !ok {
				t.Fatal("dropped")
			}
			checkLabels(t, set)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("<a> - <_> [<b>]", "1 - 2 [3]")
	f.Add("<_>x", "yx")
	f.Fuzz(func(t *testing.T, pattern, line string) {
		if m, err := newPatternMatcher(pattern); err == nil {
			m.match([]byte(line))
		}
		parts, err := splitPattern(pattern)
		if err != nil {
			return
		}
		patternCaptures(parts).match([]byte(line), func(part int, value []byte) bool {
			if !strings.Contains(line, string(value)) {
				t.Errorf("%q is not in the line", value)
			}
			return true
		})
	})
}

func FuzzIP(f *testing.F) {
	f.Add("10.0.0.0/8", "x 10.1.2.3 y")
	f.Add("::1-::5", "[::3]:80")
	f.Fuzz(func(t *testing.T, pattern, line string) {
		m, err := newIPMatcher(pattern)
		if err != nil {
			return
		}
		m.match([]byte(line))
		if p, err := netip.ParsePrefix(pattern); err == nil && !strings.Contains(pattern, "-") {
			a, err := netip.ParseAddr(line)
			if err == nil && a.Zone() == "" && m.contains(a) != p.Contains(a) {
				t.Errorf("%s contains %s: %v", pattern, a, m.contains(a))
			}
		}
	})
}

func FuzzDecolorize(f *testing.F) {
	f.Add([]byte("\x1b[1;31mred\x1b[0m \x1b]0;title\a"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var a arena
		if got, want := a.decolorize(line), ansi.ReplaceAll(line, nil); !bytes.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	})
}

func BenchmarkPipeline(b *testing.B) {
	logfmt := `ts=2026-11-20T10:00:04.731Z level=info msg="request served" method=PUT path=/api/v1/orders status=304 duration=157.5ms size=49.3kB bytes=49314 remote=10.0.2.84 user=erin retry=2`
	object := `{"time":"2026-11-20T10:00:04.692179651Z","level":"info","msg":"query run","request":{"method":"POST","path":"/cart/2","headers":{"x-id":"r9765","accept":["json","html"]},"latency_ms":57.95},"user":{"id":7,"name":"erin"}}`
	for _, c := range []struct{ query, line string }{
		{`|= "served" != "debug"`, logfmt},
		{`|~ "error|warn|fatal"`, logfmt},
		{`|~ "(?i)(kernel panic|out of memory|segfault)"`, logfmt},
		{`|~ "status=5\\d\\d"`, logfmt},
		{`| logfmt | status >= 300`, logfmt},
		{`| logfmt level, status`, logfmt},
		{`| json | level="info"`, object},
		{`| json m="request.method"`, object},
		{`| pattern "ts=<ts> level=<level> <_>"`, logfmt},
		{`| logfmt | line_format "{{.method}} {{.path}}"`, logfmt},
		{`| logfmt | line_format "{{ToUpper .method}} {{.path}}"`, logfmt},
	} {
		b.Run(c.query, func(b *testing.B) {
			st := compile(b, c.query).ForStream(testLabels)
			line := []byte(c.line)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			var labels []model.Label
			for b.Loop() {
				if _, set, ok := st.Process(0, line, testMeta); ok {
					labels = set.Append(labels[:0])
				}
			}
		})
	}
}
