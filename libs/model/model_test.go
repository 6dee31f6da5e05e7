package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pairsGen draws label pairs, some with equal names, some without a value.
func pairsGen() *rapid.Generator[[]Label] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Label {
		return Label{
			Name:  rapid.SampledFrom([]string{"a", "b", "app", "z_1"}).Draw(t, "name"),
			Value: rapid.SampledFrom([]string{"", "x", "y\"\\\n", "é"}).Draw(t, "value"),
		}
	}), 0, 6)
}

func TestNewLabelsIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pairs := pairsGen().Draw(t, "pairs")
		want := map[string]string{}
		for _, p := range pairs {
			want[p.Name] = p.Value
		}
		for name, v := range want {
			if v == "" {
				delete(want, name)
			}
		}
		ls := NewLabels(slices.Clone(pairs))
		if len(ls) != len(want) || !slices.IsSortedFunc(ls, func(a, b Label) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatalf("%v from %v", ls, pairs)
		}
		for _, l := range ls {
			if want[l.Name] != l.Value || ls.Get(l.Name) != l.Value {
				t.Fatalf("%v from %v", ls, pairs)
			}
		}
		again := LabelsFromMap(ls.Map())
		if !again.Equal(ls) || again.String() != ls.String() || again.Fingerprint() != ls.Fingerprint() || again.Compare(ls) != 0 {
			t.Fatalf("%v is not %v", again, ls)
		}
	})
}

// TestEqualTextIsEqualLabels: the canonical text tells label sets apart.
func TestEqualTextIsEqualLabels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := NewLabels(pairsGen().Draw(t, "a")), NewLabels(pairsGen().Draw(t, "b"))
		if (a.String() == b.String()) != a.Equal(b) || (a.Compare(b) == 0) != a.Equal(b) || a.Compare(b) != -b.Compare(a) && a.Compare(b)*b.Compare(a) >= 0 {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

// entry is the twin's row.
type entry struct {
	time int64
	copy uint32
	line string
	meta [2]string // of the columns a and b
}

func entryGen() *rapid.Generator[entry] {
	return rapid.Custom(func(t *rapid.T) entry {
		value := rapid.SampledFrom([]string{"", "1", "22"})
		return entry{
			time: rapid.Int64Range(0, 2).Draw(t, "time"),
			copy: rapid.Uint32Range(0, 1).Draw(t, "copy"),
			line: rapid.SampledFrom([]string{"", "x", "xy"}).Draw(t, "line"),
			meta: [2]string{value.Draw(t, "a"), value.Draw(t, "b")},
		}
	})
}

// build makes rows of entries; columns without a value may be there or not.
func build(entries []entry, empty bool) *Rows {
	r := &Rows{}
	cols := []Column{{Name: "a"}, {Name: "b"}}
	for i, e := range entries {
		r.Times = append(r.Times, e.time)
		r.Lines.AppendString(e.line)
		r.Copies = append(r.Copies, e.copy)
		for k, v := range e.meta {
			if v != "" || empty {
				cols[k].Append(i, []byte(v))
			}
		}
	}
	for k := range cols {
		cols[k].Finish(len(entries))
		if cols[k].Values.Len() > 0 {
			r.Metadata = append(r.Metadata, cols[k])
		}
	}
	return r
}

// TestIdentityIsContent: entries are the same, and have the same hash, exactly if
// their contents are; how columns are laid out makes no difference.
func TestIdentityIsContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(entryGen(), 1, 8).Draw(t, "a")
		b := rapid.SliceOfN(entryGen(), 1, 8).Draw(t, "b")
		ra, rb := build(a, rapid.Bool().Draw(t, "empty a")), build(b, rapid.Bool().Draw(t, "empty b"))
		for _, r := range []*Rows{ra, rb} {
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
		}
		for i := range a {
			for j := range b {
				same := a[i] == b[j]
				if ra.SameEntry(i, rb, j) != same || (ra.Hash(i) == rb.Hash(j)) != same {
					t.Fatalf("%v and %v: same entry %t, hashes %x %x", a[i], b[j], ra.SameEntry(i, rb, j), ra.Hash(i), rb.Hash(j))
				}
			}
		}
	})
}

// TestRule7DigestSeesSwaps: two rows that swap their times, lines or metadata
// change the sum of hashes.
func TestRule7DigestSeesSwaps(t *testing.T) {
	digest := func(entries ...entry) (sum uint64) {
		r := build(entries, false)
		for i := range entries {
			sum += r.Hash(i)
		}
		return sum
	}
	a, b := entry{1, 0, "x", [2]string{"1", ""}}, entry{2, 0, "y", [2]string{"", "22"}}
	whole := digest(a, b)
	if digest(b, a) != whole {
		t.Error("a digest depends on the order")
	}
	for name, swap := range map[string]func(a, b *entry){
		"times":    func(a, b *entry) { a.time, b.time = b.time, a.time },
		"lines":    func(a, b *entry) { a.line, b.line = b.line, a.line },
		"metadata": func(a, b *entry) { a.meta, b.meta = b.meta, a.meta },
	} {
		x, y := a, b
		swap(&x, &y)
		if digest(x, y) == whole {
			t.Errorf("a digest does not see that %s are swapped", name)
		}
	}
}

// TestHashIsForEver: replicas of different versions compare hashes. A change of
// the hash needs a new HashVersion.
func TestHashIsForEver(t *testing.T) {
	r := build([]entry{{1, 0, "", [2]string{}}, {1_700_000_000_000_000_000, 2, "a line", [2]string{"1", "22"}}}, false)
	got := fmt.Sprintf("%x %x %x", r.Hash(0), r.Hash(1), Labels{{"app", "x"}, {"env", "y"}}.Fingerprint())
	if want := "b1c231db40c242a2 3a125b64209d0b8e 35a87fa9ec07e5e5"; got != want || HashVersion != 1 {
		t.Errorf("hashes %s, want %s", got, want)
	}
}

func TestOrderKeyIsATotalOrder(t *testing.T) {
	key := rapid.Custom(func(t *rapid.T) OrderKey {
		small := rapid.IntRange(0, 1)
		return OrderKey{int64(small.Draw(t, "t")), int64(small.Draw(t, "b")), uint32(small.Draw(t, "p")), uint64(small.Draw(t, "h"))}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := key.Draw(t, "a"), key.Draw(t, "b"), key.Draw(t, "c")
		if a.Compare(b) != -b.Compare(a) || (a.Compare(b) == 0) != (a == b) {
			t.Fatalf("%v and %v", a, b)
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("%v, %v and %v", a, b, c)
		}
	})
}

func TestCheckRefusesWhatDoesNotFit(t *testing.T) {
	good := func() *Rows {
		return build([]entry{{1, 0, "x", [2]string{"1", ""}}, {2, 1, "y", [2]string{"", "2"}}}, false)
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Rows){
		"times":            func(r *Rows) { r.Times = r.Times[:1] },
		"line ends":        func(r *Rows) { r.Lines.Ends[0] = 9 },
		"descending ends":  func(r *Rows) { r.Lines.Ends = []uint32{2, 1} },
		"slab":             func(r *Rows) { r.Lines.Slab = append(r.Lines.Slab, 'z') },
		"copies":           func(r *Rows) { r.Copies = r.Copies[:1] },
		"positions":        func(r *Rows) { r.Positions = []uint32{1} },
		"order of columns": func(r *Rows) { slices.Reverse(r.Metadata) },
		"row out of range": func(r *Rows) { r.Metadata[1].Rows = []uint32{2} },
		"rows descend": func(r *Rows) {
			r.Metadata[0] = Column{Name: "a", Rows: []uint32{1, 0}, Values: Strings{Ends: []uint32{0, 0}}}
		},
		"dense too short": func(r *Rows) { r.Metadata[0] = Column{Name: "a", Values: Strings{Ends: []uint32{0}}} },
		"derived":         func(r *Rows) { r.Derived = []Column{{Name: "d", Rows: []uint32{0}}} },
	} {
		r := good()
		spoil(r)
		if r.Check() == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}
