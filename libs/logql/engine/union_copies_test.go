package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/model"
)

// heldRow is a row of a stream that a session holds.
type heldRow struct {
	time int64
	hash uint64
}

// drawCopies returns sessions that hold copies of streams, each cut at rows of its own, with
// their runs and their rows by session and stream. A copy has not what it lacks, and
// at a cut rows come late if late is 2.
func drawCopies(r *rand.Rand, copies, cuts, streams, rows, late int, lacks func(copy, row int) bool) (names []string, list [][]Stream, held [][][]heldRow) {
	for c := range copies {
		base := len(list)
		n := 1 + r.IntN(cuts)
		for b := range n {
			names = append(names, fmt.Sprintf("copy %d block %d", c, b))
		}
		list, held = append(list, make([][]Stream, n)...), append(held, make([][][]heldRow, n)...)
		var at []int
		for range n - 1 {
			at = append(at, r.IntN(rows+1))
		}
		slices.Sort(at)
		for s := range streams {
			labels := model.NewLabels([]model.Label{{Name: "pod", Value: fmt.Sprintf("p%03d", s)}})
			parts := make([][]heldRow, n)
			for i := range rows {
				if lacks(c, i) {
					continue
				}
				in, _ := slices.BinarySearch(at, i+r.IntN(late)*(s%2))
				parts[in] = append(parts[in], heldRow{int64(10*i + s), xxhash.Sum64String(fmt.Sprint(s, " ", i))})
			}
			for b, part := range parts {
				slices.SortFunc(part, func(a, b heldRow) int { return int(a.time - b.time) })
				st := Stream{Labels: labels}
				for i, row := range part {
					run := Run{row.time, row.time, 1, 7, row.hash}
					if k := len(st.Runs); k > 0 && (i%64 != 0 || r.IntN(2) == 0) {
						st.Runs[k-1] = st.Runs[k-1].plus(run, false)
					} else {
						st.Runs = append(st.Runs, run)
					}
				}
				if len(part) > 0 {
					list[base+b], held[base+b] = append(list[base+b], st), append(held[base+b], part)
				}
			}
		}
	}
	return names, list, held
}

// What a plan reads of copies that were cut anywhere are all rows that anybody has, those that
// one session is read for once, and what it says of a stream is true of that.
func TestPlansOfCopiesReadAllRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		lost := rapid.SampledFrom([]int{0, 0, 3, 30}).Draw(t, "one in so many rows is lost")
		names, list, held := drawCopies(r, rapid.IntRange(1, 4).Draw(t, "copies"), rapid.IntRange(1, 6).Draw(t, "blocks"),
			rapid.SampledFrom([]int{1, 3, 20}).Draw(t, "streams"), rapid.SampledFrom([]int{1, 5, 20, 200}).Draw(t, "rows"), rapid.IntRange(1, 2).Draw(t, "late"),
			func(int, int) bool { return lost > 0 && r.IntN(lost) == 0 })
		start, end := int64(0), int64(1<<40)
		if rapid.Bool().Draw(t, "range") {
			start, end = r.Int64N(100), 100+r.Int64N(2000)
		}
		want := map[string]map[heldRow]bool{}
		for s := range list {
			for i, st := range list[s] {
				for _, row := range held[s][i] {
					if row.time >= start && row.time < end {
						if want[st.Labels.String()] == nil {
							want[st.Labels.String()] = map[heldRow]bool{}
						}
						want[st.Labels.String()][row] = true
					}
				}
			}
		}
		plan, _ := unite(names, listsOf(list), start, end, &holder{})
		for i := range plan {
			u := &plan[i]
			got := map[heldRow]int{}
			last := start - 1
			total, alone := uint64(0), true
			for k := range u.pieces {
				p := &u.pieces[k]
				if p.start <= last || p.end <= p.start || p.end > end {
					t.Fatalf("%s: piece %d of %+v", u.labels, k, u.pieces)
				}
				last = p.end - 1
				from, lost := p.from(nil, make([]bool, len(names)))
				if lost >= 0 || len(from) == 1 != (len(p.classes) == 1) {
					t.Fatalf("%s: %v of %+v", u.labels, from, p)
				}
				alone = alone && len(p.classes) == 1
				for _, rd := range from {
					for _, row := range held[rd.session][rd.stream] {
						if row.time >= rd.Start && row.time < rd.End {
							total++
							if got[row]++; got[row] > 1 && len(from) == 1 {
								t.Fatalf("%s: row %v comes twice", u.labels, row)
							}
						}
					}
				}
			}
			wants := want[u.labels.String()]
			if len(got) != len(wants) {
				t.Fatalf("%s: %d rows of %d", u.labels, len(got), len(wants))
			}
			if alone && total != uint64(len(wants)) || u.rows < uint64(len(wants)) && end == 1<<40 {
				t.Fatalf("%s: %d rows read of %d, said %d", u.labels, total, len(wants), u.rows)
			}
			var sum Run
			for k, run := range u.known {
				sum = sum.plus(run, k == 0)
			}
			if alone && end == 1<<40 && (sum.Rows != total || sum.Rows != u.rows || sum.Bytes != u.bytes) {
				t.Fatalf("%s: known %+v of %d rows, %d said", u.labels, sum, total, u.rows)
			}
			delete(want, u.labels.String())
		}
		if len(want) > 0 {
			t.Fatalf("no plan for %v", want)
		}
	})
}

// Of copies that were cut anywhere one is read, that in fewest blocks, and nothing is united, if
// they have the same rows: also if there are more blocks than of which all sums are tried. One
// that lacks what came last does not matter there.
func TestCopiesCutElsewhereAreNotUnited(t *testing.T) {
	const rows, streams = 25, 60
	for seed := range uint64(40) {
		half := seed%2 == 1
		names, list, _ := drawCopies(rand.New(rand.NewPCG(seed, 1)), 3, 7, streams, rows, 1, func(copy, row int) bool { return half && copy == 0 && row > rows/2 })
		blocks := map[string]int{}
		for _, name := range names {
			blocks[name[:len("copy 0")]]++
		}
		if half {
			delete(blocks, "copy 0")
		}
		fewest := slices.Min(slices.Collect(maps.Values(blocks)))
		plan, _ := unite(names, listsOf(list), 0, 1<<40, &holder{})
		wrong := 0
		for i := range plan {
			u := &plan[i]
			if !half && u.rows != rows || !half && len(u.pieces) > fewest || slices.ContainsFunc(u.pieces, func(p piece) bool {
				return len(p.classes) > 1 && (!half || p.start > 10*rows/2+streams)
			}) {
				wrong++
			}
		}
		if wrong > 6 { // where it was found out badly which block is of which copy
			t.Errorf("seed %d, %d blocks: %d of %d streams are read as several copies", seed, len(names), wrong, len(plan))
		}
	}
}

// A block goes on where the one of its copy ended last, not where another copy broke off.
func TestCopiesOfSessions(t *testing.T) {
	stream := func(first, last int64) []Stream {
		return []Stream{{Labels: model.Labels{{Name: "x", Value: "y"}}, Runs: []Run{{first, last, 2, 2, 1}}}}
	}
	list := [][]Stream{stream(0, 5), stream(0, 9), stream(10, 20), stream(6, 15), stream(16, 20), stream(0, 20)}
	places := []place{{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}, {5, 0}}
	of := findCopies(listsOf(list), [][]place{places}).of
	if len(of) != 6 || of[0] != of[3] || of[3] != of[4] || of[1] != of[2] || of[0] == of[1] || of[5] == of[0] || of[5] == of[1] {
		t.Errorf("broken off: %v", of)
	}
	list = [][]Stream{stream(0, 5), stream(0, 9), stream(10, 20)}
	if of := findCopies(listsOf(list), [][]place{places[:3]}).of; len(of) != 3 || of[1] != of[2] || of[0] == of[1] {
		t.Errorf("%v", of)
	}
	if of := findCopies(listsOf(list[1:]), [][]place{places[:2]}).of; of != nil {
		t.Errorf("one copy: %v", of)
	}
}
