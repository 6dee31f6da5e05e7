package patterns

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPatterns(t *testing.T) {
	for name, c := range map[string]struct {
		line func(i int) string
		want []Pattern
	}{
		"words": {
			func(i int) string {
				if i%4 == 0 {
					return fmt.Sprintf("cache entry %d evicted after %d seconds", i, 3*i)
				}
				return fmt.Sprintf("user u%d logged in from 10.0.0.%d", i, i)
			},
			[]Pattern{
				{Text: "user <_> logged in from <_>", Total: 30, Samples: map[int64]uint64{0: 7, 1: 8, 2: 7, 3: 8}},
				{Text: "cache entry <_> evicted after <_> seconds", Total: 10, Samples: map[int64]uint64{0: 3, 1: 2, 2: 3, 3: 2}},
			},
		},
		"logfmt": {
			func(i int) string {
				return fmt.Sprintf(`ts=2026-01-01 level=info msg="request done" path=/item/%d status=200`, i)
			},
			[]Pattern{{Text: `ts=<_> level=info msg="request done" path=<_> status=200`, Total: 40, Samples: map[int64]uint64{0: 10, 1: 10, 2: 10, 3: 10}}},
		},
		"json": {
			func(i int) string {
				return fmt.Sprintf(`{"level":"info","msg":"request %d \"done\"", "message":7,"status":200}`, i)
			},
			[]Pattern{{Text: `<_>request <_> \"done\"<_>`, Total: 40, Samples: map[int64]uint64{0: 10, 1: 10, 2: 10, 3: 10}}},
		},
		"punctuation": {
			func(i int) string { return fmt.Sprintf("GET /a/%d [id=%d, ok]: took 5ms", i, i) },
			[]Pattern{{Text: "GET <_> [id=<_>, ok]: took 5ms", Total: 40, Samples: map[int64]uint64{0: 10, 1: 10, 2: 10, 3: 10}}},
		},
		"neighbours": {
			func(i int) string { return fmt.Sprintf("the last of them %d %d", i, -i) },
			[]Pattern{{Text: "the last of them <_>", Total: 40, Samples: map[int64]uint64{0: 10, 1: 10, 2: 10, 3: 10}}},
		},
		"short":             {func(int) string { return "one two three" }, nil},
		"long":              {func(int) string { return strings.Repeat("a ", 2000) }, nil},
		"empty":             {func(int) string { return "" }, nil},
		"no text":           {func(int) string { return `{"a":1}` }, nil},
		"nothing in common": {func(i int) string { return fmt.Sprintf("%da %db %dc %dd", i, i, i, i) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(10)
			for i := range 40 {
				s.Add(`{app="x"}`, "", int64(i), c.line(i))
			}
			if got := s.Patterns(2, 10); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// A stream may have lines of all kinds, in any order: those of each have the patterns that they
// have alone.
func TestKindsOfLines(t *testing.T) {
	kinds := []string{
		"user u%d logged in, it took %dms", `level=info code=20%d msg="done %d"`, `{"msg":"request %d of %d done","n":1}`,
		`{"a":%d,"b":%d}`, "  at shop.Cart.add(Cart.java:%d) id=%d", `level=info code=%d and more =%d`,
	}
	rapid.Check(t, func(t *rapid.T) {
		mixed, alone := New(10), New(10)
		for i, kind := range rapid.SliceOfN(rapid.IntRange(0, len(kinds)-1), 1, 100).Draw(t, "kinds") {
			line := fmt.Sprintf(kinds[kind], rapid.IntRange(0, 3).Draw(t, "a"), i)
			mixed.Add("s", "info", int64(i), line)
			alone.Add(fmt.Sprint(kind), "info", int64(i), line)
		}
		if got, want := mixed.Patterns(1, 100), alone.Patterns(1, 100); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestStreamsAndLevels(t *testing.T) {
	s := New(10)
	for i := range 20 {
		for _, stream := range []string{"a", "b"} {
			s.Add(stream, "info", int64(i)-5, fmt.Sprint("everything is well with ", i))
		}
		s.Add("a", "error", 0, fmt.Sprint("everything is well with ", i))
		s.Add("a", "error", 0, fmt.Sprint("nothing is well with ", i))
	}
	want := []Pattern{
		{Text: "everything is well with <_>", Level: "info", Total: 40, Samples: map[int64]uint64{-1: 10, 0: 20, 1: 10}},
		{Text: "everything is well with <_>", Level: "error", Total: 20, Samples: map[int64]uint64{0: 20}},
	}
	if got := s.Patterns(20, 2); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := s.Patterns(41, 2); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestBounds(t *testing.T) {
	words := func(n, i int) string {
		var sb strings.Builder
		for k := range n {
			fmt.Fprintf(&sb, "%c%c%c ", 'a'+i%26, 'a'+i/26%26, 'a'+(k+i)%26)
		}
		return sb.String()
	}
	s := New(10)
	for i := range 20_000 {
		s.Add(fmt.Sprint(i%50), "", 0, words(4+i/26/26%70, i))
	}
	if s.clusters > maxAll {
		t.Error(s.clusters)
	}
	clusters := 0
	for _, tr := range s.trees {
		if len(tr.all) > maxClusters {
			t.Error(len(tr.all))
		}
		clusters += len(tr.all)
		count := 0
		var walk func(*node)
		walk = func(n *node) {
			if len(n.children) > maxChildren {
				t.Error(len(n.children), " children")
			}
			if len(n.children) == 0 && len(n.clusters) == 0 {
				t.Error("a node leads to nothing")
			}
			count += len(n.clusters)
			for _, c := range n.children {
				walk(c)
			}
		}
		for _, n := range tr.roots {
			walk(n)
		}
		if count != len(tr.all) {
			t.Errorf("%d clusters in the tree, %d in the list", count, len(tr.all))
		}
	}
	if clusters != s.clusters {
		t.Errorf("%d clusters, counted %d", clusters, s.clusters)
	}
}

// matches reports whether a line is of a pattern, as LogQL's |> does,
// whose patterns may begin anywhere.
func matches(pattern, line string) bool {
	parts := strings.Split(pattern, Wildcard)
	for _, p := range parts {
		at := strings.Index(line, p)
		if at < 0 {
			return false
		}
		line = line[at+len(p):]
	}
	return true
}

// Every line is counted once, and the pattern of a stream of one shape matches its lines.
func TestCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"get", "put", "7", "x=1", "(", `"`, "été", "a-b", "ts=1"})
		sep := rapid.SampledFrom([]string{" ", "  ", "\t"})
		lines := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
			var sb strings.Builder
			for range rapid.IntRange(4, 8).Draw(t, "n") {
				sb.WriteString(word.Draw(t, "word") + sep.Draw(t, "sep"))
			}
			return sb.String()
		}), 1, 60).Draw(t, "lines")
		s := New(10)
		counted := uint64(0)
		for i, l := range lines {
			before := total(s)
			s.Add("s", "", int64(i), l)
			counted += total(s) - before
		}
		sum := uint64(0)
		for _, tr := range s.trees {
			for _, c := range tr.all {
				n := uint64(0)
				for _, k := range c.samples {
					n += k
				}
				if n != c.total {
					t.Fatalf("samples of %d lines, %d in all", n, c.total)
				}
				sum += c.total
			}
		}
		if sum != counted {
			t.Fatalf("%d lines are in patterns, %d were added", sum, counted)
		}
	})
}

func total(s *Set) (n uint64) {
	for _, tr := range s.trees {
		for _, c := range tr.all {
			n += c.total
		}
	}
	return n
}

func FuzzAdd(f *testing.F) {
	for _, l := range []string{
		`{"msg":"request 0 done","status":200}`, `level=info msg="a \" b" ts=5`, `a b c d e`, "\xff\xfe = (", `{"log":"a\u0000 b \\"}`,
	} {
		f.Add(l, l)
	}
	f.Fuzz(func(t *testing.T, first, line string) {
		s := New(10)
		s.Add("s", "", 1, first)
		s.Add("s", "", 1, line)
		s = New(10)
		s.Add("s", "", 1, line)
		for _, p := range s.Patterns(1, 10) {
			if !strings.Contains(line, Wildcard) && !matches(p.Text, line) {
				t.Fatalf("%q is not of its pattern %q", line, p.Text)
			}
		}
	})
}

// Patterns that are added to another set are found there again, and lines that only
// templates are known of make the patterns that they make themselves.
func TestAddPattern(t *testing.T) {
	for _, c := range []struct {
		line     func(i int) string
		template string
		want     string
	}{
		{func(i int) string { return fmt.Sprintf("user u%d logged in from 10.0.0.%d", i, i) }, "user u<_> logged in from 10.0.0.<_>", "user <_> logged in from <_>"},
		{func(i int) string {
			return fmt.Sprintf(`{"level":"info","msg":"request %d \"done\"","status":%d}`, i, i)
		}, `{"level":"info","msg":"request <_> \"done\"","status":<_>}`, `<_>request <_> \"done\"<_>`},
		{func(i int) string { return fmt.Sprintf(`level=info msg="it took %dms" code=200`, i) }, `level=info msg="it took <_>ms" code=200`, `level=info msg=<_> code=200`},
		{func(i int) string { return fmt.Sprintf("GET /item/%d in %dms, [id=%d]", i, i, i) }, "GET /item/<_> in <_>, [id=<_>]", "GET <_> in <_>, [id=<_>]"},
	} {
		s := New(10)
		for i := range 40 {
			s.Add("s", "info", int64(i), c.line(i))
		}
		for range 2 { // as found, and found again
			got := s.Patterns(1, 10)
			if len(got) != 1 || got[0].Text != c.want || got[0].Total != 40 || got[0].Samples[3] != 10 {
				t.Errorf("%s: %+v", c.template, got)
			}
			again := New(10)
			s.Each(func(stream string, p Pattern) {
				for at, n := range p.Samples {
					again.AddPattern(stream, p.Level, at, p.Text, n)
				}
			})
			s = again
		}
		s.AddPattern("s", "info", 7, c.template, 5)
		if got := s.Patterns(1, 10); len(got) != 1 || got[0].Text != c.want || got[0].Total != 45 || got[0].Samples[7] != 5 {
			t.Errorf("%s with its template: %+v", c.template, got)
		}
	}
	s := New(10)
	s.AddPattern("s", "", 0, "<_>", 5)
	s.AddPattern("s", "", 0, "<_> <_>", 5)
	s.AddPattern("s", "", 0, "", 5)
	if got := s.Patterns(0, 10); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSamplesAreBounded(t *testing.T) {
	s := New(1)
	for i := range 120 {
		for at := range int64(10_000) {
			s.AddPattern(fmt.Sprint(i%7), "", at, fmt.Sprintf("%c%c some words", 'a'+i%26, 'a'+i/26), uint64(i+1))
		}
	}
	n := 0
	for _, tr := range s.trees {
		for _, c := range tr.all {
			n += len(c.samples)
		}
	}
	if n != s.samples || n > maxSamples || n < maxSamples/4 {
		t.Errorf("%d samples, counted %d", n, s.samples)
	}
}

// Lines that are not cut are counted as those that are.
func TestShapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fast, slow := New(10), New(10)
		for i := range rapid.IntRange(1, 200).Draw(t, "lines") {
			a, b := rapid.IntRange(0, 3).Draw(t, "a"), rapid.SampledFrom([]string{"x", "y1", "y2", "-", "z 7"}).Draw(t, "b")
			line := rapid.SampledFrom([]string{
				"user u%d logged in from %s:80", `level=info code=20%d msg="done %s"`, `{"msg":"request %d of %s done","n":1}`, "%d%s, short", "a b c %d %s",
			}).Draw(t, "line")
			line = fmt.Sprintf(line, a, b)
			fast.Add("s", "info", int64(i), line)
			clear(slow.shapes)
			slow.Add("s", "info", int64(i), line)
		}
		if got, want := fast.Patterns(1, 100), slow.Patterns(1, 100); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// A pattern that comes again at once is counted as one that is looked for anew, whatever
// was added before.
func TestSamePatternAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fast, slow := New(10), New(10)
		word := rapid.SampledFrom([]string{"<_>", "get", "put", "7", "x=<_>", "(", `"`, "a-b", "user"})
		for range rapid.IntRange(1, 60).Draw(t, "patterns") {
			text := strings.Join(rapid.SliceOfN(word, 1, 7).Draw(t, "words"), " ")
			stream, level := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stream"), rapid.SampledFrom([]string{"", "info"}).Draw(t, "level")
			for at := range rapid.Int64Range(1, 4).Draw(t, "buckets") {
				fast.AddPattern(stream, level, at, text, 3)
				slow.last.cluster = nil
				slow.AddPattern(stream, level, at, text, 3)
			}
			if rapid.Bool().Draw(t, "line") {
				fast.Add(stream, level, 5, text)
				slow.Add(stream, level, 5, text)
			}
		}
		if got, want := fast.Patterns(1, 1000), slow.Patterns(1, 1000); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if fast.clusters != slow.clusters || fast.samples != slow.samples {
			t.Fatalf("%d clusters of %d samples, want %d of %d", fast.clusters, fast.samples, slow.clusters, slow.samples)
		}
	})
}

// Texts that are no patterns change nothing, however often they come and between what.
func TestNoPatternsChangeNothing(t *testing.T) {
	none := []string{"", Wildcard, strings.Repeat("word ", maxTokens+1), Wildcard + " " + Wildcard}
	some := []string{"user <_> logged in", "user <_> logged out", `{"msg":"<_>","n":<_>}`}
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(1), New(1)
		for range rapid.IntRange(0, 40).Draw(t, "adds") {
			bucket, n := rapid.Int64Range(0, 5).Draw(t, "bucket"), rapid.Uint64Range(1, 9).Draw(t, "n")
			stream, level := rapid.SampledFrom([]string{"", "s"}).Draw(t, "stream"), rapid.SampledFrom([]string{"", "info"}).Draw(t, "level")
			if rapid.Bool().Draw(t, "none") {
				a.AddPattern(stream, level, bucket, rapid.SampledFrom(none).Draw(t, "text"), n)
				continue
			}
			text := rapid.SampledFrom(some).Draw(t, "text")
			a.AddPattern(stream, level, bucket, text, n)
			b.AddPattern(stream, level, bucket, text, n)
		}
		if got, want := a.Patterns(1, 100), b.Patterns(1, 100); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
