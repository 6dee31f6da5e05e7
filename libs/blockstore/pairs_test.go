package blockstore_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// TestPairs compares what stores of blocks give for WEIR_PAIRS random pairs of lines
// and LogQL line filters with a look at every line.
func TestPairs(t *testing.T) {
	n := 300
	if os.Getenv("WEIR_FEWER") != "" { // as in the run with the race detector
		n = 75
	}
	if s := os.Getenv("WEIR_PAIRS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	kept, rows := 0, 0
	for pairs := 0; pairs < n; {
		var entries []enginetest.Entry
		for i := range 1 + r.IntN(400) {
			k := r.IntN(4)
			entries = append(entries, enginetest.Entry{Labels: model.Labels{{Name: "app", Value: fmt.Sprint("a", k)}},
				Time: int64(i) * sec / 7, BatchTime: int64(i), Line: randomLine(r, k)})
		}
		store := enginetest.NewStore(entries...)
		o := &object{b: copyOf(t, store, block.Options{RowGroupBytes: []int{500, 5000, 0}[r.IntN(3)], NoGrams: r.IntN(4) == 0, Whole: r.IntN(6) == 0})}
		blocks := blockstore.NewStore(openBlock(t, o), blockstore.NewCache(1<<24, nil))
		sn, err := blocks.Open(context.Background(), nil, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			text, keep := randomFilters(r, entries)
			q, err := syntax.ParseLogQuery(`{app=~".+"} ` + text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			need := &engine.Need{Lines: true}
			for _, s := range q.Stages {
				need.Filters = append(need.Filters, s.(*syntax.LineFilter))
			}
			sel := sn.(engine.Selective).Select(context.Background(), need)
			var got, want []string
			for i := range sel.Streams() {
				each(t, sel.Rows(i, math.MinInt64, math.MaxInt64, false), func(rows *model.Rows, k int) {
					got = append(got, fmt.Sprintf("%d %s", rows.Times[k], rows.Lines.At(k)))
				})
			}
			for _, e := range entries {
				if keep(e.Line) {
					want = append(want, fmt.Sprintf("%d %s", e.Time, e.Line))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, pair %d, %s: %d rows, want %d", seed, pairs, text, len(got), len(want))
			}
			checkCounts(t, r, blocks, need, entries, keep)
			kept, rows = kept+len(got), rows+len(entries)
			pairs++
		}
		sn.Close()
	}
	t.Logf("seed %d: %d pairs, %d of %d rows match", seed, n, kept, rows)
}

func randomLine(r *rand.Rand, k int) string {
	switch r.IntN(12) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("\xff\x00é", r.IntN(5)) + fmt.Sprint(r.Uint64())
	}
	return fmt.Sprintf([]string{"level=%s id=%d peer=10.0.%d.%d dur=%dms", `{"level":"%s","n":%d,"a":[%d,%d],"t":%d}`,
		"%s: task %d of %d/%d took %d", "[%s] user%d \tGET /api/v%d/%d HTTP/1.1 %d"}[k],
		[]string{"info", "WARN", "error", "Kelvin\u212a"}[r.IntN(4)], r.Uint32()>>r.IntN(32), r.IntN(3), r.IntN(256), r.IntN(5000))
}

// randomFilters returns LogQL line filters, and what they keep.
func randomFilters(r *rand.Rand, entries []enginetest.Entry) (string, func(string) bool) {
	var texts []string
	var tests []func(string) bool
	for range 1 + r.IntN(3) {
		var needles []string
		for range 1 + r.IntN(4)/2 {
			line := entries[r.IntN(len(entries))].Line
			from := r.IntN(len(line) + 1)
			s := strings.ToValidUTF8(line[from:from+r.IntN(min(14, len(line)-from+1))], "?")
			if r.IntN(3) == 0 && s != "" {
				s = s[:len(s)-1]
				s = strings.ToValidUTF8(s, "?") + string(rune('0'+r.IntN(10)))
			}
			needles = append(needles, s)
		}
		op := []string{"|=", "!=", "|~", "!~"}[r.IntN(4)]
		var any []func(string) bool
		for i, s := range needles {
			if op == "|~" || op == "!~" {
				s = regexp.QuoteMeta(s)
				switch r.IntN(5) {
				case 0:
					s = "(?i)" + s
				case 1:
					s += `.*\d`
				case 2:
					s = `[a-z0-9]` + s + `|^` + s
				}
				needles[i] = s
				re := regexp.MustCompile(s)
				any = append(any, re.MatchString)
				continue
			}
			any = append(any, func(line string) bool { return strings.Contains(line, s) })
		}
		for i := range needles {
			needles[i] = strconv.Quote(needles[i])
		}
		texts = append(texts, op+" "+strings.Join(needles, " or "))
		negate := op[0] == '!'
		tests = append(tests, func(line string) bool {
			return slices.ContainsFunc(any, func(f func(string) bool) bool { return f(line) }) != negate
		})
	}
	return strings.Join(texts, " "), func(line string) bool {
		return !slices.ContainsFunc(tests, func(f func(string) bool) bool { return !f(line) })
	}
}
