package match

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/template"
)

// Of random templates an index has the texts, joints and lists that a look at their pieces
// gives, and no two joints that are the same.
func TestIndexOfTemplates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		x := newIndex(&lines.Section{Table: table})
		type key struct {
			column     uint32
			tail, head string
		}
		numbers := map[key]uint32{}
		jointed, columns := map[uint32][]uint32{}, map[uint32][]uint32{}
		tails, heads := map[string][]uint32{}, map[string][]uint32{}
		var always []uint32
		add := func(m map[uint32][]uint32, k, n uint32) {
			if !slices.Contains(m[k], n) {
				m[k] = append(m[k], n)
			}
		}
		text := func(e edges, i int32) string {
			if i < 0 {
				return ""
			}
			return string(e.list[i].of(x.text))
		}
		for i := range table.Templates {
			m := &table.Templates[i]
			if got := x.text[x.ends[i]-len(m.Text) : x.ends[i]]; !bytes.Equal(got, m.Text) {
				t.Fatalf("template %d is %q, not %q", i, got, m.Text)
			}
			pieces := m.Pieces()
			slots := x.slots[x.begin[i]:x.begin[i+1]]
			if len(slots) != len(pieces)-1 {
				t.Fatalf("%d joints of %q", len(slots), m.Text)
			}
			for k, j := range slots {
				p, next := &pieces[k], pieces[k+1].Literal
				before := 0
				for _, c := range m.Columns[:k] {
					if c == p.Column {
						before++
					}
				}
				if got := x.nthOf(uint32(i), k); got != before {
					t.Fatalf("slot %d of %q is number %d of its column, not %d", k, m.Text, got, before)
				}
				want := key{p.Column, string(p.Literal[max(0, len(p.Literal)-edgeLen):]), string(next[:min(edgeLen, len(next))])}
				if got := (key{x.joints[j].column, text(x.tails, x.joints[j].tail), text(x.heads, x.joints[j].head)}); got != want {
					t.Fatalf("slot %d of %q is %+v, not %+v", k, m.Text, got, want)
				}
				if n, known := numbers[want]; known && n != j {
					t.Fatalf("%+v is joint %d and %d", want, n, j)
				} else if !known {
					numbers[want] = j
					if want.tail != "" {
						tails[want.tail] = append(tails[want.tail], j)
					}
					if want.head != "" {
						heads[want.head] = append(heads[want.head], j)
					}
				}
				add(jointed, j, uint32(i))
				add(columns, p.Column, uint32(i))
				if k > 0 && len(p.Literal) == 0 && !slices.Contains(always, uint32(i)) {
					always = append(always, uint32(i))
				}
			}
		}
		if !slices.Equal(x.always, always) {
			t.Fatalf("always %v, not %v", x.always, always)
		}
		same := func(what string, l *lists, i int, want []uint32) {
			if got := l.of(i); !slices.Equal(got, want) {
				t.Fatalf("%s %d is in %v, not %v", what, i, got, want)
			}
		}
		for j := range x.joints {
			same("joint", &x.jointed, j, jointed[uint32(j)])
		}
		for c := range table.Columns {
			same("column", &x.columns, c, columns[uint32(c)])
		}
		for what, e := range map[string]edges{"tail": x.tails, "head": x.heads} {
			want := tails
			if what == "head" {
				want = heads
			}
			if len(e.list) != len(want) {
				t.Fatalf("%d %ss, not %d", len(e.list), what, len(want))
			}
			for i := range e.list {
				same(what, &e.joints, i, want[text(e, int32(i))])
			}
		}
	})
}

// What an index of a section takes counts as part of the section, once.
func TestIndexMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &lines.Section{Table: drawTable(t)}
		before := s.MemorySize()
		x := indexOf(s)
		least := 8*len(x.ends) + 8*len(x.slots) + 12*len(x.joints)
		if n := s.MemorySize() - before; n < least || n != x.size() || n > 2048+24*least {
			t.Fatalf("%d bytes more, the index takes %d, and %d at least", n, x.size(), least)
		}
		if indexOf(s) != x || s.MemorySize() != before+x.size() {
			t.Fatal("it was made twice")
		}
		for range 2 { // for letters in any case
			if got := x.in(true); !bytes.Equal(got, lower(nil, x.text)) || s.MemorySize() != before+x.size()+len(x.text) {
				t.Fatalf("%d bytes more with %q", s.MemorySize()-before-x.size(), got)
			}
		}
	})
}

// A needle that begins in the text of a template and ends in the next one's is in neither.
func TestNeedleInTwoTemplates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t)
		x := newIndex(&lines.Section{Table: table})
		from := rapid.IntRange(0, max(0, len(x.text)-1)).Draw(t, "from")
		n := needle{text: bytes.Clone(x.text[from:min(len(x.text), from+rapid.IntRange(1, 6).Draw(t, "length"))]), fold: rapid.Bool().Draw(t, "fold")}
		if n.fold {
			n.text = lower(nil, n.text)
		}
		if len(n.text) == 0 {
			return
		}
		how := x.candidates(&n)
		for i := range table.Templates {
			want := slices.ContainsFunc(table.Templates[i].Pieces(), func(p template.Piece) bool { return n.in(p.Literal) })
			if is := how != nil && how[i]&inLiteral != 0; is != want {
				t.Fatalf("%q in %q: %v, not %v", n.text, table.Templates[i].Text, is, want)
			}
		}
	})
}

// drawTable draws a table as readers have it.
func drawTable(t *rapid.T) *template.Table {
	const columns = 6
	literal := rapid.StringMatching(`[aB =\x{e9}]{0,11}`)
	table := &template.Table{Columns: make([]template.Column, columns)}
	var layout template.Layout
	for !layout.Valid() {
		layout++
	}
	table.Columns[columns-1] = template.Column{IsTime: true, Layout: layout}
	kinds := append([]string{}, slices.Repeat([]string{"\x00"}, columns-1)...)
	kinds = append(kinds, "\x01"+string([]byte{0x80 + byte(layout)}))
	for range rapid.IntRange(0, 12).Draw(t, "templates") {
		m := template.Template{Text: []byte(literal.Draw(t, "text"))}
		for range rapid.IntRange(0, 9).Draw(t, "slots") {
			c := rapid.Uint32Range(0, columns-1).Draw(t, "column")
			m.Columns = append(m.Columns, c)
			m.Text = append(append(m.Text, kinds[c]...), literal.Draw(t, "text")...)
		}
		table.Templates = append(table.Templates, m)
	}
	read, err := template.ParseTable(table.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// Where keys are in a table differs from one to the other: nobody can choose texts, of lines
// that are sent, so that all of them are in one place, where each is looked for through all.
func TestNumbersDiffer(t *testing.T) {
	a, b := newNumbers[edgeKey](), newNumbers[edgeKey]()
	for i := range uint64(1000) {
		k := edgeKey{i << 40, 8}
		for _, n := range []*numbers[edgeKey]{&a, &b} {
			if got, is := n.number(k); is || uint64(got) != i {
				t.Fatalf("key %d is number %d, known %v", i, got, is)
			}
			if got, is := n.number(k); !is || uint64(got) != i {
				t.Fatalf("key %d is number %d, known %v", i, got, is)
			}
		}
	}
	if slices.Equal(a.table, b.table) {
		t.Error("two tables have all keys in the same places")
	}
}

// A template that a needle can begin in is asked about once, however many of its slots do for
// that.
func TestBeginsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex(&lines.Section{Table: drawTable(t)})
		n := needle{text: []byte(rapid.StringMatching(`[aB =]{2,6}`).Draw(t, "needle"))}
		times := make([]int, len(x.ends))
		r := run{index: x, needle: &n}
		r.begins(func(template uint32) {
			if times[template]++; times[template] > 1 {
				t.Fatalf("%q and template %d again", n.text, template)
			}
		})
	})
}
