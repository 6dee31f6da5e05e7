package engine_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// questions are those about streams, each with what of its answer is counted: sizes that a
// reader of the package's types comes to.
var questions = map[string]func(t *rapid.T, in engine.MetaQuery) (answer string, size int, err error){
	"labels": func(t *rapid.T, in engine.MetaQuery) (string, int, error) {
		names, _, err := engine.New(engine.Options{}).Labels(t.Context(), in)
		size := 0
		for _, n := range names {
			size += 48 + len(n)
		}
		return fmt.Sprint(names), size, err
	},
	"values": func(t *rapid.T, in engine.MetaQuery) (string, int, error) {
		values, _, err := engine.New(engine.Options{}).LabelValues(t.Context(), in, "app")
		size := 0
		for _, v := range values {
			size += 16 + len(v)
		}
		return fmt.Sprint(values), size, err
	},
	"series": func(t *rapid.T, in engine.MetaQuery) (string, int, error) {
		series, _, err := engine.New(engine.Options{}).Series(t.Context(), in)
		size := 0
		for _, ls := range series {
			size += 24
			for _, l := range ls {
				size += 32 + len(l.Name) + len(l.Value)
			}
		}
		return fmt.Sprint(series), size, err
	},
	"cardinality": func(t *rapid.T, in engine.MetaQuery) (string, int, error) {
		values, _, err := engine.New(engine.Options{}).Cardinality(t.Context(), in)
		size := 0
		for _, of := range values {
			for v := range of {
				size += 48 + len(v)
			}
		}
		return fmt.Sprint(values), size, err
	},
	"stats": func(t *rapid.T, in engine.MetaQuery) (string, int, error) {
		stats, _, err := engine.New(engine.Options{}).Stats(t.Context(), in)
		return fmt.Sprint(stats), 0, err
	},
}

// Questions about streams answer within their limit as without one, or end with the limit's
// error, and that only if they hold more. In the end what is counted is the answer.
func TestQuestionsStayWithinMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stores := spread(t, entries(t), false)
		in := engine.MetaQuery{Sources: arrange(t, sources(stores, true)), Start: int64(rapid.IntRange(0, 50).Draw(t, "start")) * sec, End: 301 * sec, Excluded: excluded(t)}
		if rapid.Bool().Draw(t, "labelled") {
			for i, src := range in.Sources {
				in.Sources[i] = engine.WithLabel(src, model.Label{Name: "__tenant", Value: "t"}, nil)
			}
		}
		if rapid.Bool().Draw(t, "selects") {
			in.Selectors = [][]*syntax.Matcher{{syntax.MustMatcher(syntax.Eq, "app", "a")}}
		}
		name := pick(t, "question", "labels", "values", "series", "cardinality", "stats")
		in.Memory = engine.NewMemory(0)
		want, size, err := questions[name](t, in)
		if err != nil {
			t.Fatal(err)
		}
		closed(t, stores)
		peak := in.Memory.Peak()
		if held := in.Memory.Held(); held != int64(size) || peak < held {
			t.Fatalf("%s: %d bytes are held of an answer of %d, %d at most", name, held, size, peak)
		}
		limit := rapid.Int64Range(1, 1+peak).Draw(t, "limit")
		in.Memory = engine.NewMemory(limit)
		got, _, err := questions[name](t, in)
		closed(t, stores)
		if tooLittle := 2*limit < peak; tooLittle != errors.Is(err, engine.ErrMemory) || !tooLittle && (err != nil || got != want) {
			t.Fatalf("%s within %d bytes of %d: %v, got %s, want %s", name, limit, peak, err, got, want)
		}
	})
}
