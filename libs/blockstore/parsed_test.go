package blockstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

const someID = "85946db759a60154e1cc296b87b5d269"

var parsedQueries = []string{
	`{app=~".+"} | json | level="%s"`, `{app=~".+"} |= "%[1]s" | json | level="%[1]s"`, `{app=~".+"} | json l="level" | l="%s"`,
	`{app=~".+"} | logfmt | level="%s"`, `{app=~".+"} | logfmt u="user" | u="%s"`, `{app=~".+"} | json | trace="%s"`,
	`{app=~".+"} | json | id="%s"`, `{app=~".+"} |= "%[1]s" | json | id="%[1]s"`, `{app=~".+"} |= "%[1]s"`, `{app=~".+"} | json | http_path="%s"`,
	`{app=~".+"} | json p="http.path" | p="%s"`, `{app=~".+"} | json | code="%s"`, `{app=~".+"} | json | app_extracted="%s"`, `{app=~".+"} | json | app="%s"`,
	`{app=~".+"} | json | level="%[1]s" | trace="%[1]s"`, `{app=~".+"} |~ "(?i)%[1]s" | json | id="%[1]s"`, `{app=~".+"} != "v1" | json | level="%s"`,
	`sum by (trace) (count_over_time({app=~".+"} | json | level="%s" [1m]))`, `{app=~".+"} | json level="level", level="msg" | level="%s"`,
	`{app=~".+"} | json | line_format "{{.level}}" | level="%s"`, `{app=~".+"} | json | logfmt | level="%s"`, `{app=~".+"} | pod="p01" | json | level="%s"`,
	`{app=~".+"} != "%[1]s" | json | level="%[1]s"`, `{app=~".+"} |= "85946db7" or "inf" | json | id="%[1]s"`, `{app=~".+"} |= "4a" |= "v1" | json | id="%[1]s"`,
	`sum by (trace) (count_over_time({app=~".+"} != "%[1]s" | json | level="%[1]s" [1m]))`, `sum by (code) (count_over_time({app=~".+"} |= "%[1]s" | json | level="%[1]s" [1m]))`,
	`{app=~".+"} | regexp "id.:.(?P<trace>[0-9a-f]+)" | trace="%s"`, `{app=~".+"} | json | pod="%[1]s" or trace="%[1]s"`, `{app=~".+"} | json | level!="info" | trace="%s"`,
	`sum by (level) (count_over_time({app=~".+"} | json | trace="%s" [1m]))`, `sum by (pod) (count_over_time({app=~".+"} | logfmt | trace="%s" [1m]))`, `sum by (x) (count_over_time({app=~".+"} | json | pod="%s" [1m]))`,
}

// oddID returns a line with an id that is not as lines with one are.
func oddID(r *rand.Rand, id string) string {
	switch r.IntN(8) {
	case 0: // it is escaped
		return fmt.Sprintf(`{"id":"%s\u00%02x%s","level":"info"}`, id[:4], id[4], id[5:])
	case 1: // its name is
		return fmt.Sprintf(`{"\u0069d":"%s","level":"info"}`, id)
	case 2: // a value before it holds what looks like the end of it
		return fmt.Sprintf(`{"msg":"a \"%s\\","id":"%s","level":"info"}`, id[:r.IntN(9)], id)
	case 3:
		return fmt.Sprintf(`{"msg":"x\",\"id\":\"%s","id":"none","level":"info"}`, id)
	case 4: // there are two
		return fmt.Sprintf(`{"id":"%s","id":"%s","level":"info"}`, id, someID[:r.IntN(32)])
	case 5: // it is further down
		return fmt.Sprintf(`{"a":{"id":"%s"},"level":"info"}`, id)
	case 6: // the line is no JSON
		return fmt.Sprintf(`{"id":"%s","level":"info`, id)
	}
	return fmt.Sprintf(`{"id":["%s"],"level":"info"} %s`, id, id)
}

// Rows with a field of a value are the same whether columns tell or lines.
func TestParsedEqualsLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		odd := rapid.SampledFrom([]int{0, 1, 30}).Draw(t, "odd")
		streams := rapid.SampledFrom([]int{1, 3, 30}).Draw(t, "streams")
		var entries []enginetest.Entry
		for i := range rapid.SampledFrom([]int{5, 100, 1500}).Draw(t, "entries") {
			k := r.IntN(streams)
			e := enginetest.Entry{
				Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("a%d", k%3)}, {Name: "pod", Value: fmt.Sprintf("p%02d", k)}}),
				Time:   int64(r.IntN(300)) * sec, BatchTime: int64(i / 10), Position: uint32(i % 10), Line: fieldLine(r, odd),
			}
			if r.IntN(3) == 0 {
				id := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
				if r.IntN(50) == 0 {
					id = someID
				}
				e.Line = fmt.Sprintf(`{"id":"%s","level":"info","trace":"%s"}`, id, someID[r.IntN(9):])
				if odd > 0 && r.IntN(6) == 0 {
					e.Line = oddID(r, id)
				}
			}
			e.Derived = model.Labels{{Name: "detected_level", Value: "info"}}
			if odd > 1 && r.IntN(50) == 0 {
				e.Metadata = model.Labels{{Name: "trace", Value: []string{"sent", someID, "info"}[r.IntN(3)]}}
			}
			entries = append(entries, e)
		}
		store := enginetest.NewStore(entries...)
		o := &object{b: copyOf(t, store, block.Options{
			RowGroupBytes: rapid.SampledFrom([]int{3000, 50000, 0}).Draw(t, "group"), SectionBytes: rapid.SampledFrom([]int64{50000, 0}).Draw(t, "section"), Whole: rapid.IntRange(0, 3).Draw(t, "whole") == 0})}
		fromBlock := engine.Local(blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<20, nil)), "block")
		value := rapid.SampledFrom([]string{"info", "error", someID, strings.ToUpper(someID), someID[1:], "200", "300", "v1", "w-3", "/p/7", "10.0.0.2", "sent", "c d", "a=b", "{", "fake", "a0"}).Draw(t, "value")
		q := rapid.SampledFrom(parsedQueries).Draw(t, "query")
		q = strings.ReplaceAll(strings.ReplaceAll(q, "%[1]s", "%s"), "%s", value)
		expr, err := syntax.ParseExpr(q)
		if err != nil {
			t.Skip(err)
		}
		start := int64(rapid.IntRange(0, 200).Draw(t, "start")) * sec
		run := func(src engine.Source) string {
			res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
				Query: engine.Query{Expr: expr, Sources: []engine.Source{src}}, Limit: 10000, Start: start, End: start + 200*sec, Step: 30e9})
			if err != nil {
				return "error: " + err.Error()
			}
			return dump(res)
		}
		for range 2 { // what was worked out is used again
			if got, want := run(fromBlock), run(engine.Local(store, "memory")); got != want {
				t.Fatalf("%s\nblock:  %s\nmemory: %s", q, got, want)
			}
		}
	})
}

// A row that was sent with metadata of the field's name has that, whatever its line has.
func TestParsedUnderMetadata(t *testing.T) {
	entries := []enginetest.Entry{}
	for i := range 40 {
		e := enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: "a"}}), Time: int64(i) * sec, Line: fmt.Sprintf(`{"trace":"t%d"}`, i%4)}
		if i%8 == 1 {
			e.Metadata = model.Labels{{Name: "trace", Value: "sent"}}
		}
		entries = append(entries, e)
	}
	fromBlock := engine.Local(blockstore.NewStore(openBlock(t, &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{})}), blockstore.NewCache(1<<20, nil)), "block")
	for value, want := range map[string]int{"sent": 5, "t0": 10, "t1": 5, "t9": 0} {
		expr, err := syntax.ParseExpr(fmt.Sprintf(`{app="a"} | json | trace="%s"`, value))
		if err != nil {
			t.Fatal(err)
		}
		res, err := engine.New(engine.Options{}).Range(context.Background(), engine.RangeQuery{
			Query: engine.Query{Expr: expr, Sources: []engine.Source{fromBlock}}, Limit: 100, End: 100 * sec})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, s := range res.Streams {
			got += len(s.Entries)
		}
		if got != want {
			t.Errorf("%s: %d rows, want %d", value, got, want)
		}
	}
}

// What a label of a parser is compared with rules out row groups without a look at them,
// but not those of which rows have it as metadata.
func TestValuesRuleRowGroupsOut(t *testing.T) {
	var entries []enginetest.Entry
	for i := range 6000 {
		e := enginetest.Entry{Labels: model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprint("a", i%4)}}), Time: int64(i) * sec / 2, BatchTime: 1, Position: uint32(i),
			Line: fmt.Sprintf(`{"msg":"done","trace":"%x","user":%d}`, uint64(i+1)*0x9E3779B97F4A7C15, i), Derived: model.Labels{{Name: "detected_level", Value: "info"}}}
		if i%1000 == 7 {
			e.Metadata = model.Labels{{Name: "trace", Value: "sentbysomebody"}}
		}
		entries = append(entries, e)
	}
	// In the smallest row groups identifiers take room that words had.
	for size, absent := range map[int]int{8 << 10: 8, 16 << 10: 1} {
		o := &object{b: copyOf(t, enginetest.NewStore(entries...), block.Options{RowGroupBytes: size})}
		r := openBlock(t, o)
		for q, want := range map[string]struct{ lines, reads int }{
			`{app=~".+"} | json | trace="zanquivortem"`:                                          {0, absent},
			`{app=~".+"} | regexp "(?P<trace>[a-z]+)" | trace="zanquivortem"`:                    {0, absent},
			`sum by (app) (count_over_time({app=~".+"} | json | trace="zanquivortem" [1h]))`:     {0, absent},
			`{app=~".+"} | json | trace="sentbysomebody"`:                                        {6, 25},
			`sum by (level) (count_over_time({app=~".+"} | json | trace="sentbysomebody" [3h]))`: {1, 25},
		} {
			o.reads = nil
			lines, err := answer(t, blockstore.NewStore(r, blockstore.NewCache(1<<20, nil)), q)
			if err != nil || len(lines) != want.lines || len(o.reads) > want.reads {
				t.Errorf("%s: %d lines with %d reads, %v, of %d row groups", q, len(lines), len(o.reads), err, r.RowGroups())
			}
		}
	}
}
