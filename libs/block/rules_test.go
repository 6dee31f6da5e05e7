package block_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

func oneStream(rows ...row) []stream {
	return []stream{{labels: model.Labels{{Name: "app", Value: "a"}}, rows: rows}}
}

// Every row has its batch time and position, though its time be unlike any other's, as
// long as a merge has not fixed the order; then they are gone, and rows of equal time
// are numbered, also across row groups.
func TestR5BatchTimesAreKept(t *testing.T) {
	var rows []row
	for i := range 50 {
		rows = append(rows, row{time: int64(i / 10), batch: int64(i%10) + 1e15, position: uint32(i * 7), line: fmt.Sprint("line ", i)})
	}
	for _, ordered := range []bool{false, true} {
		b, _ := write(t, oneStream(rows...), block.Meta{ID: "b", Ordered: ordered}, block.Options{RowGroupBytes: 60}, 13)
		r := open(t, b)
		if r.RowGroups() < 5 {
			t.Fatal(r.RowGroups())
		}
		i := 0
		if err := r.Each(context.Background(), func(_ model.Labels, got *model.Rows) error {
			for k := range got.Len() {
				want := model.OrderKey{Time: rows[i].time, BatchTime: rows[i].batch, Position: rows[i].position}
				if ordered {
					want = model.OrderKey{Time: rows[i].time, Position: uint32(i % 10)}
				}
				if key := got.Key(k); key != want || (got.BatchTimes == nil) != ordered {
					t.Fatalf("ordered %v: row %d is %+v, want %+v", ordered, i, key, want)
				}
				i++
			}
			return nil
		}); err != nil || i != len(rows) {
			t.Fatal(err, i)
		}
	}
}

// What was derived by another version of a rule keeps its version, and takes no part in
// digests.
func TestR2DerivedValuesHaveVersions(t *testing.T) {
	plain := row{time: 1, line: "x"}
	derived := plain
	derived.derived, derived.version = map[string]string{"detected_level": "info"}, 3
	var digests []uint64
	for _, x := range []row{plain, derived} {
		b, _ := write(t, oneStream(x), block.Meta{ID: "b"}, block.Options{}, 1)
		r := open(t, b)
		digests = append(digests, r.Runs(0, math.MinInt64, math.MaxInt64)[0].Digest)
		if err := r.Each(context.Background(), func(_ model.Labels, got *model.Rows) error {
			if x.version > 0 && got.Derived[0].Version != x.version {
				t.Error(got.Derived[0].Version)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] {
		t.Error(digests)
	}
}

// Runs of a stream do not touch, are as coarse as their rows allow, and their digests are
// the sums of hashes, wherever blocks were cut.
func TestR7R8Runs(t *testing.T) {
	const minute = int64(60e9)
	for name, c := range map[string]struct {
		rows   int
		step   int64
		runs   int
		narrow bool
	}{
		"twenty rows of a day":                   {20, 70 * minute, 1, false},
		"many rows of 10 minutes":                {20000, minute / 2000, 2, false},
		"a row a minute":                         {1440, minute, 4, false},
		"twenty rows of a day, narrow":           {20, 70 * minute, 1, true},
		"many rows of 10 minutes, narrow":        {20000, minute / 2000, 40, true},
		"a row a minute, narrow":                 {1440, minute, 4, true},
		"two thousand rows a second, narrow":     {20000, int64(5e5), 10, true},
		"few hundred rows of one second, narrow": {300, int64(1e6), 1, true},
	} {
		var rows []row
		var digest uint64
		for i := range c.rows {
			rows = append(rows, row{time: int64(i) * c.step, line: fmt.Sprint(i)})
			one := rowsOf(rows[i:], false)
			digest += one.Hash(0)
		}
		b, _ := write(t, oneStream(rows...), block.Meta{ID: "b"}, block.Options{RowGroupBytes: 5000, NoGrams: true, NarrowRuns: c.narrow}, 1000)
		r := open(t, b)
		runs := r.Runs(0, math.MinInt64, math.MaxInt64)
		var sum block.Run
		for i, run := range runs {
			if i > 0 && run.MinTime <= runs[i-1].MaxTime {
				t.Errorf("%s: run %v after %v", name, run, runs[i-1])
			}
			sum.Rows += run.Rows
			sum.Digest += run.Digest
		}
		if len(runs) != c.runs || sum.Rows != uint64(c.rows) || sum.Digest != digest {
			t.Errorf("%s: %d runs %v", name, len(runs), runs)
		}
	}
}

// Rows of one time in several runs would make digests count twice.
func TestR7EqualTimesAreOneRun(t *testing.T) {
	var rows []row
	for i := range 3000 {
		rows = append(rows, row{time: 5, position: uint32(i), line: fmt.Sprint(i)})
	}
	b, _ := write(t, oneStream(rows...), block.Meta{ID: "b"}, block.Options{RowGroupBytes: 1000, NoGrams: true}, 100)
	if runs := open(t, b).Runs(0, 0, 10); len(runs) != 1 || runs[0].Rows != 3000 {
		t.Error(runs)
	}
}

// Copies of one entry are told apart by their numbers.
func TestR3CopyNumbers(t *testing.T) {
	var rows []row
	for i := range 3 {
		rows = append(rows, row{time: 5, position: uint32(i), line: "same", copies: uint32(i)})
	}
	b, _ := write(t, oneStream(rows...), block.Meta{ID: "b"}, block.Options{}, 2)
	got := allOf(t, open(t, b))
	if len(got) != 3 || slices.Equal(got[:1], got[1:2]) {
		t.Error(got)
	}
	for i, s := range got {
		if want := oneStream(rows[i])[0].labels.String() + want(t, oneStream(rows[i])[0], false)[0]; s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
}
