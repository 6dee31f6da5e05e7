// Package syntaxtest generates random LogQL queries for tests.
package syntaxtest

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Words is what the generated queries talk about. Every list needs a member.
type Words struct {
	Streams map[string][]string // stream label → values, used in selectors
	Labels  []string            // label names, used in stages and groupings
	Values  []string            // label values, used in filters
	Needles []string            // pieces of lines, used in line filters
	// Exact leaves out numbers that Pretty shortens or that have no notation
	// (NaN, Inf), so that its text parses back to an equal tree.
	Exact bool
	// Extended has what Loki's language does not.
	Extended bool
}

// Default has words that are hard to print: quotes, escapes, bytes that are not
// UTF-8, names of functions.
func Default() Words {
	return Words{
		Streams: map[string][]string{
			"app":   {"x", "api", `a"b`, "`", "\\", "日本"},
			"count": {"1", "\n", "\x00", "\xff", "é"},
			"_a9":   {"{}", "$1", "[5m]"},
			"é.\"b": {"1", "2"},
		},
		Labels: []string{"a", "b", "level", "rate", "sum", "ip", "bytes", "duration", "vector", "__error__",
			"distinct", "limit", "top", "sort", "in", "not", "desc", "time", "k8s.pod/name", "by", "\xff`"},
		Extended: true,
		Values:   []string{"", "x", "a b", `"`, "`", "5", "5m", "\xfe", "# no comment", "\ufffd"},
		Needles:  []string{"", "error", "a.b", `\d`, "<_>", "\t", "`\"`", "\xff\xfe", "😀"},
	}
}

// Queries generates queries of all kinds.
func (w Words) Queries() *rapid.Generator[syntax.Expr] {
	return rapid.Custom(func(t *rapid.T) syntax.Expr {
		if rapid.Bool().Draw(t, "log") {
			return w.log(t)
		}
		return w.metric(t, 3)
	})
}

// LogQueries generates selectors with pipelines.
func (w Words) LogQueries() *rapid.Generator[*syntax.LogSelector] {
	return rapid.Custom(w.log)
}

// MetricQueries generates expressions whose operations nest at most depth times.
func (w Words) MetricQueries(depth int) *rapid.Generator[syntax.Expr] {
	return rapid.Custom(func(t *rapid.T) syntax.Expr { return w.metric(t, depth) })
}

func pick[T any](t *rapid.T, from ...T) T { return rapid.SampledFrom(from).Draw(t, "pick") }

func chance(t *rapid.T, percent int) bool {
	return rapid.IntRange(0, 99).Draw(t, "chance") >= 100-percent
}

func (w Words) label(t *rapid.T) string { return pick(t, w.Labels...) }
func (w Words) value(t *rapid.T) string { return pick(t, w.Values...) }

// plain picks a label whose name needs no quotes.
func (w Words) plain(t *rapid.T) string {
	return rapid.SampledFrom(w.Labels).Filter(syntax.IsPlainName).Draw(t, "plain")
}

func (w Words) labels(t *rapid.T, least int) []string {
	n := rapid.IntRange(least, 3).Draw(t, "labels")
	var out []string
	for range n {
		out = append(out, w.label(t))
	}
	return out
}

// regex makes an expression around a text; expressions have to be UTF-8.
func regex(t *rapid.T, text string) string {
	q := regexp.QuoteMeta(strings.ToValidUTF8(text, "?"))
	return pick(t, q, q+".*", ".*"+q, q+"|x", "(?i)"+q, ".+", "[a-c]"+q)
}

func (w Words) matcher(t *rapid.T, name, value string) *syntax.Matcher {
	mt := pick(t, syntax.Eq, syntax.Neq, syntax.Re, syntax.Nre)
	if mt == syntax.Re || mt == syntax.Nre {
		value = regex(t, value)
	}
	return syntax.MustMatcher(mt, name, value)
}

func (w Words) selector(t *rapid.T) *syntax.LogSelector {
	stream := rapid.SampledFrom(slices.Sorted(maps.Keys(w.Streams)))
	s := &syntax.LogSelector{}
	for range rapid.IntRange(1, 3).Draw(t, "matchers") {
		name := stream.Draw(t, "name")
		s.Matchers = append(s.Matchers, w.matcher(t, name, pick(t, w.Streams[name]...)))
	}
	if syntax.CheckMatchers(s.Matchers) != nil {
		s.Matchers = append(s.Matchers, syntax.MustMatcher(syntax.Re, stream.Draw(t, "name"), ".+"))
	}
	return s
}

func (w Words) log(t *rapid.T) *syntax.LogSelector { return w.pipeline(t, w.selector(t), false) }

// pipeline adds stages, of a range such as make sense there.
func (w Words) pipeline(t *rapid.T, s *syntax.LogSelector, ranged bool) *syntax.LogSelector {
	if w.Extended && chance(t, 5) {
		s.Matchers, s.Bare = nil, true
		s.Stages = append(s.Stages, w.lineFilter(t))
	}
	for range rapid.IntRange(0, 4).Draw(t, "stages") {
		next := w.stage(t)
		if w.Extended && chance(t, 20) {
			next = w.extendedStage(t, ranged)
		}
		if n := len(s.Stages); n > 0 && ambiguous(s.Stages[n-1], next) {
			continue
		}
		s.Stages = append(s.Stages, next)
	}
	return s
}

// ambiguous: the line filter would be read as the matcher of the last label.
func ambiguous(stage, next syntax.Stage) bool {
	f, ok := next.(*syntax.LineFilter)
	if !ok || f.Op != syntax.LineNotContains && f.Op != syntax.LineNotRegexp {
		return false
	}
	var refs []syntax.LabelRef
	switch s := stage.(type) {
	case *syntax.Drop:
		refs = s.Labels
	case *syntax.Keep:
		refs = s.Labels
	default:
		return false
	}
	return refs[len(refs)-1].Matcher == nil
}

func (w Words) stage(t *rapid.T) syntax.Stage {
	switch rapid.IntRange(0, 13).Draw(t, "stage") {
	case 0:
		return &syntax.JSON{Extractions: w.extractions(t)}
	case 1:
		return &syntax.Logfmt{Strict: chance(t, 30), KeepEmpty: chance(t, 30), Extractions: w.extractions(t)}
	case 2:
		return &syntax.Regexp{Text: pick(t, `(?P<a>\w+)`, "(?P<a>[^ ]*) (?P<b>.*)", "`?(?P<x>\")")}
	case 3:
		return &syntax.Pattern{Text: pick(t, "<a> <_>", "<_>=<b>", "`<a>` \"<b>\" <", "[<level>]")}
	case 4:
		return &syntax.Unpack{}
	case 5:
		return &syntax.LineFormat{Template: pick(t, "{{.a}}", "x", "{{ .level | ToUpper }} \"{{.b}}\"", "")}
	case 6:
		return w.labelFormat(t)
	case 7:
		return &syntax.Decolorize{}
	case 8:
		return &syntax.Drop{Labels: w.refs(t)}
	case 9:
		return &syntax.Keep{Labels: w.refs(t)}
	case 10, 11:
		return &syntax.LabelFilter{Cond: w.condition(t, 2, true)}
	}
	return w.lineFilter(t)
}

func (w Words) lineFilter(t *rapid.T) *syntax.LineFilter {
	f := &syntax.LineFilter{Op: syntax.LineOp(rapid.IntRange(0, 5).Draw(t, "op"))}
	for range rapid.IntRange(1, 3).Draw(t, "alternatives") {
		m := syntax.LineMatch{Text: pick(t, w.Needles...)}
		switch f.Op {
		case syntax.LineContains, syntax.LineNotContains:
			if chance(t, 20) {
				m = syntax.LineMatch{IP: true, Text: address(t)}
			}
		case syntax.LineRegexp, syntax.LineNotRegexp:
			m.Text = regex(t, m.Text)
		case syntax.LinePattern, syntax.LineNotPattern:
			m.Text = pick(t, "<_>"+m.Text, m.Text+"<_>", "<_>"+m.Text+"<_>")
			if m.Text == "<_><_>" { // consecutive wildcards are refused later
				m.Text = "<_>"
			}
		}
		f.Alternatives = append(f.Alternatives, m)
	}
	return f
}

func address(t *rapid.T) string {
	return pick(t, "10.0.0.1", "192.168.0.0/16", "1.1.1.1-1.1.1.9", "::1", "2001:db8::/32")
}

func (w Words) extractions(t *rapid.T) []syntax.Extraction {
	var xs []syntax.Extraction
	for range rapid.IntRange(0, 2).Draw(t, "extractions") {
		xs = append(xs, syntax.Extraction{Name: w.label(t), Path: w.label(t)})
	}
	return xs
}

func (w Words) labelFormat(t *rapid.T) *syntax.LabelFormat {
	s := &syntax.LabelFormat{}
	seen := map[string]bool{"__error__": true} // refused later, like repeated names
	for range rapid.IntRange(1, 3).Draw(t, "assigns") {
		a := syntax.LabelAssign{Name: w.label(t)}
		if seen[a.Name] {
			continue
		}
		seen[a.Name] = true
		if a.Rename = rapid.Bool().Draw(t, "rename"); a.Rename {
			a.Value = w.plain(t)
		} else {
			a.Value = pick(t, "{{.a}}-{{.b}}", `"x"`, "")
		}
		s.Assigns = append(s.Assigns, a)
	}
	if len(s.Assigns) == 0 {
		s.Assigns = append(s.Assigns, syntax.LabelAssign{Name: "z", Rename: true, Value: w.plain(t)})
	}
	return s
}

func (w Words) refs(t *rapid.T) []syntax.LabelRef {
	var refs []syntax.LabelRef
	for range rapid.IntRange(1, 3).Draw(t, "refs") {
		r := syntax.LabelRef{Name: w.label(t)}
		if chance(t, 40) {
			r.Matcher = w.matcher(t, r.Name, w.value(t))
		}
		refs = append(refs, r)
	}
	return refs
}

// condition makes a label filter; rounded as in pipelines, or exact as behind unwrap.
func (w Words) condition(t *rapid.T, depth int, rounded bool) syntax.Condition {
	if depth > 0 && chance(t, 40) {
		return &syntax.LogicalCond{
			Or:    rapid.Bool().Draw(t, "or"),
			Left:  w.condition(t, depth-1, rounded),
			Right: w.condition(t, depth-1, rounded),
		}
	}
	name := w.label(t)
	op := syntax.CompareOp(rapid.IntRange(0, 5).Draw(t, "op"))
	if w.Extended && chance(t, 15) {
		return w.in(t, name, depth)
	}
	switch rapid.IntRange(0, 5).Draw(t, "condition") {
	case 0:
		v := pick(t, 0, 5, -1.5, 1e9, 0.001, rapid.Float64Range(-1e300, 1e300).Draw(t, "number"))
		return &syntax.NumberCond{Name: name, Op: op, Value: v}
	case 1:
		d := rapid.Int64Range(math.MinInt64+1, math.MaxInt64).Draw(t, "duration")
		return &syntax.DurationCond{Name: name, Op: op, Value: pick(t, time.Duration(d), 0, time.Second, 90*time.Minute, 250*time.Microsecond)}
	case 2:
		v := pick(t, 0, 999, 1000, 1<<20, 12<<10, rapid.Uint64Range(0, 15e18).Draw(t, "bytes"))
		if rounded || w.Exact {
			v = syntax.RoundBytes(v)
		}
		if w.Exact && v >= 1e18 { // Pretty says EB, which is no literal
			v = 5
		}
		return &syntax.BytesCond{Name: name, Op: op, Value: v}
	case 3:
		return &syntax.IPCond{Name: name, Negated: rapid.Bool().Draw(t, "negated"), Pattern: address(t)}
	}
	return &syntax.StringCond{Matcher: w.matcher(t, name, w.value(t))}
}

func (w Words) metric(t *rapid.T, depth int) syntax.Expr {
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 9).Draw(t, "kind")
	}
	switch kind {
	case 4, 5, 6:
		return w.vector(t, depth)
	case 7, 8:
		return w.binary(t, depth)
	case 9:
		return &syntax.LabelReplace{
			Inner: w.metric(t, depth-1), Dst: w.label(t), Src: w.label(t),
			Replacement: pick(t, "$1", "${1}x", "", `"`), Regex: pick(t, "(.*)", "a|(b)", "\"", "`"),
		}
	case 2:
		if w.Extended {
			return w.function(t, depth)
		}
	case 3:
		if chance(t, 50) {
			return &syntax.Vector{Value: pick(t, 0, 1, 2.5, 100)}
		}
	}
	return w.rangeAggregation(t)
}

var rangeOps = []struct {
	op             syntax.RangeOp
	unwrap, plain  bool
	groups, params bool
}{
	{op: syntax.OpCountOverTime, plain: true},
	{op: syntax.OpRate, plain: true, unwrap: true},
	{op: syntax.OpBytesOverTime, plain: true},
	{op: syntax.OpBytesRate, plain: true},
	{op: syntax.OpAbsentOverTime, plain: true, unwrap: true},
	{op: syntax.OpRateCounter, unwrap: true},
	{op: syntax.OpSumOverTime, unwrap: true},
	{op: syntax.OpAvgOverTime, unwrap: true, groups: true},
	{op: syntax.OpMinOverTime, unwrap: true, groups: true},
	{op: syntax.OpMaxOverTime, unwrap: true, groups: true},
	{op: syntax.OpFirstOverTime, unwrap: true, groups: true},
	{op: syntax.OpLastOverTime, unwrap: true, groups: true},
	{op: syntax.OpStddevOverTime, unwrap: true, groups: true},
	{op: syntax.OpStdvarOverTime, unwrap: true, groups: true},
	{op: syntax.OpQuantileOverTime, unwrap: true, groups: true, params: true},
}

func (w Words) rangeAggregation(t *rapid.T) *syntax.RangeAggregation {
	o := pick(t, rangeOps...)
	if w.Extended && chance(t, 20) {
		o = pick(t, extendedOps...)
	}
	e := &syntax.RangeAggregation{Op: o.op}
	e.Range = syntax.Range{
		Selector: w.pipeline(t, w.selector(t), true),
		Interval: pick(t, time.Millisecond, time.Second, 90*time.Second, 5*time.Minute, time.Hour, 24*time.Hour, 14*24*time.Hour),
		Offset:   pick(t, 0, 0, time.Minute, -time.Hour, 1500*time.Microsecond),
	}
	if o.unwrap && (!o.plain || rapid.Bool().Draw(t, "unwrap")) {
		u := &syntax.Unwrap{
			Name:       w.label(t),
			Conversion: pick(t, syntax.ConvertNone, syntax.ConvertBytes, syntax.ConvertDuration, syntax.ConvertDurationSeconds),
		}
		for range rapid.IntRange(0, 2).Draw(t, "filters") {
			u.Filters = append(u.Filters, &syntax.LabelFilter{Cond: w.condition(t, 1, false)})
		}
		e.Range.Unwrap = u
	}
	if o.groups && rapid.Bool().Draw(t, "grouped") {
		e.Grouping = &syntax.Grouping{Without: rapid.Bool().Draw(t, "without"), Labels: w.labels(t, 0)}
	}
	switch o.op {
	case syntax.OpCountDistinctOverTime:
		e.Labels = w.labels(t, 1)
	case syntax.OpHistogramOverTime:
		e.Bounds = pick(t, []float64{1}, []float64{-1, 0, 2.5}, []float64{0.5, 1000, 1e9})
	}
	if o.params {
		e.Param = pick(t, 0, 0.5, 0.99, 1, 1e-7)
	}
	return e
}

func (w Words) vector(t *rapid.T, depth int) *syntax.VectorAggregation {
	e := &syntax.VectorAggregation{Op: pick(t,
		syntax.OpSum, syntax.OpAvg, syntax.OpCount, syntax.OpMin, syntax.OpMax, syntax.OpStddev,
		syntax.OpStdvar, syntax.OpTopk, syntax.OpBottomk, syntax.OpApproxTopk, syntax.OpSort, syntax.OpSortDesc)}
	e.Inner = w.metric(t, depth-1)
	switch e.Op {
	case syntax.OpTopk, syntax.OpBottomk, syntax.OpApproxTopk:
		e.Param = rapid.IntRange(1, 10).Draw(t, "k")
	}
	switch e.Op {
	case syntax.OpApproxTopk, syntax.OpSort, syntax.OpSortDesc:
		return e
	}
	switch rapid.IntRange(0, 2).Draw(t, "grouping") {
	case 0:
		e.Grouping = &syntax.Grouping{Labels: w.labels(t, 1)}
	case 1:
		e.Grouping = &syntax.Grouping{Without: true, Labels: w.labels(t, 0)}
	}
	return e
}

func (w Words) binary(t *rapid.T, depth int) *syntax.BinaryExpr {
	e := &syntax.BinaryExpr{
		Op: pick(t, syntax.OpOr, syntax.OpAnd, syntax.OpUnless, syntax.OpAdd, syntax.OpSub, syntax.OpMul,
			syntax.OpDiv, syntax.OpMod, syntax.OpPow, syntax.OpEqual, syntax.OpNotEqual, syntax.OpGreater,
			syntax.OpGreaterEqual, syntax.OpLess, syntax.OpLessEqual),
		LHS: w.metric(t, depth-1),
		RHS: w.metric(t, depth-1),
	}
	e.ReturnBool = e.Op.IsComparison() && rapid.Bool().Draw(t, "bool")
	if w.Extended && !e.Op.IsSet() && chance(t, 10) {
		if rapid.Bool().Draw(t, "left") {
			e.LHS = &syntax.Time{}
		} else {
			e.RHS = &syntax.Time{}
		}
		return e
	}
	if !e.Op.IsSet() && chance(t, 40) {
		v := pick(t, 0, 1, -2, 0.1, 1e300, 1e-9, math.NaN(), math.Inf(1), math.Inf(-1))
		if w.Exact && (math.IsNaN(v) || math.IsInf(v, 0)) {
			v = 7
		}
		if l := (&syntax.Literal{Value: v}); rapid.Bool().Draw(t, "left") {
			e.LHS = l
		} else {
			e.RHS = l
		}
		return e
	}
	if chance(t, 50) {
		m := &syntax.Matching{On: rapid.Bool().Draw(t, "on"), Labels: w.labels(t, 0)}
		if !e.Op.IsSet() {
			m.Card = syntax.Cardinality(rapid.IntRange(0, 2).Draw(t, "card"))
		}
		if m.Card != syntax.OneToOne {
			m.Include = w.labels(t, 0)
		}
		e.Matching = m
	}
	return e
}
