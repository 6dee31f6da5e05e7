package engine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/logql/syntax/syntaxtest"
	"github.com/weir-logs/weir/libs/model"
)

func TestMain(m *testing.M) {
	engine.SetIntervalPage(3)
	engine.SetSplitRows(4)
	goleak.VerifyTestMain(m)
}

const sec = int64(time.Second)

func parse(t interface {
	Helper()
	Fatalf(string, ...any)
}, q string) syntax.Expr {
	t.Helper()
	e, err := syntax.ParseExpr(q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return e
}

func labels(pairs ...string) model.Labels {
	var ls []model.Label
	for i := 0; i < len(pairs); i += 2 {
		ls = append(ls, model.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return model.NewLabels(ls)
}

// words are what random queries and random lines talk about.
var words = syntaxtest.Words{
	Streams: map[string][]string{"app": {"a", "b"}, "env": {"x", "y"}},
	Labels:  []string{"level", "n", "dur", "app", "trace", "detected_level", "app_extracted", "__error__"},
	Values:  []string{"info", "error", "1", "2", "a", "", "1s"},
	Needles: []string{"info", "error", "n=1", "level", "{", "zzz", ""},
}

func pick[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

// entries draws entries with many equal times. An entry that is drawn again
// has the key it had first.
func entries(t *rapid.T) []enginetest.Entry {
	n := rapid.IntRange(0, 60).Draw(t, "entries")
	keys := map[string]enginetest.Entry{}
	var out []enginetest.Entry
	for i := range n {
		e := enginetest.Entry{
			Labels:    labels("app", pick(t, "app", "a", "b"), "env", pick(t, "env", "x", "y")),
			Time:      int64(rapid.IntRange(0, 100).Draw(t, "time")) * sec * 3,
			Line:      line(t),
			BatchTime: int64(rapid.IntRange(1, 3).Draw(t, "batch")),
			Position:  uint32(i),
		}
		if rapid.Bool().Draw(t, "meta") {
			e.Metadata = labels("trace", pick(t, "trace", "1", "2", ""), "app", pick(t, "metaapp", "", "m"), "level", pick(t, "metalevel", "", "", "error"))
		}
		if rapid.Bool().Draw(t, "derived") {
			e.Derived = labels("detected_level", pick(t, "dl", "info", "error"))
		}
		id := fmt.Sprint(e.Labels, e.Time, e.Line, e.Metadata)
		if old, ok := keys[id]; ok {
			e = old
		}
		keys[id] = e
		out = append(out, e)
	}
	return out
}

func line(t *rapid.T) string {
	level := pick(t, "level", "info", "error", "warn")
	n := pick(t, "n", "1", "2", "3.5", "x", "")
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		return fmt.Sprintf(`{"level":%q,"n":%q,"dur":"%ss"}`, level, n, n)
	case 1:
		return fmt.Sprintf("level=%s n=%s dur=%sms", level, n, n)
	case 2:
		return `{"level":"` + level
	}
	return level + " happened " + n
}

// spread makes sources that hold the entries between them, each in one or
// several; with rekey, copies have keys of their own, the first the smallest.
func spread(t *rapid.T, all []enginetest.Entry, rekey bool) []*enginetest.Store {
	k := rapid.IntRange(1, 3).Draw(t, "sources")
	parts := make([][]enginetest.Entry, k)
	mode := rapid.IntRange(0, 2).Draw(t, "mode")
	for _, e := range all {
		first := rapid.IntRange(0, k-1).Draw(t, "home")
		parts[first] = append(parts[first], e)
		for s := range k {
			switch {
			case s == first || mode == 0:
				continue
			case mode == 1 && rapid.IntRange(0, 9).Draw(t, "copy") == 0:
				continue
			case mode == 2 && rapid.Bool().Draw(t, "copy"):
				continue
			}
			c := e
			if rekey {
				c.BatchTime += int64(rapid.IntRange(0, 2).Draw(t, "later"))
			}
			parts[s] = append(parts[s], c)
		}
	}
	out := make([]*enginetest.Store, k)
	for i := range out {
		out[i] = enginetest.NewStore(parts[i]...)
		out[i].RunRows = rapid.IntRange(0, 5).Draw(t, "run")
		out[i].BatchRows = rapid.IntRange(0, 5).Draw(t, "rows")
		out[i].Selective = rapid.Bool().Draw(t, "selective")
	}
	return out
}

func sources(stores []*enginetest.Store, digests bool) []engine.Source {
	var out []engine.Source
	for i, s := range stores {
		s.NoDigests = !digests
		out = append(out, engine.Local(s, fmt.Sprint("s", i)))
	}
	return out
}

func closed(t interface{ Fatalf(string, ...any) }, stores []*enginetest.Store) {
	for _, s := range stores {
		if n := s.OpenSnapshots(); n != 0 {
			t.Fatalf("%d snapshots left open", n)
		}
	}
}

func run(q engine.RangeQuery) (*engine.Result, error) {
	return engine.New(engine.Options{}).Range(context.Background(), q)
}
