package lines_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// shapesOf is lines whose templates and values have words in common: long texts that recur or
// begin and end as others do, texts that tell few values apart, words before numbers.
func shapesOf(r *rand.Rand, rows int) (b block) {
	words := strings.Fields("level=error caller=main.go Grafana path msg= ended Mar/ user ./kelvin started")
	word := func() string { return words[r.IntN(len(words))] }
	long := func() string {
		return "/" + word() + "/" + word() + fmt.Sprintf("/%x/", r.IntN(9)) + word() + "/" + word() + "/" + word()
	}
	var texts []string
	for range 4 {
		texts = append(texts, long())
	}
	kinds, form := r.IntN(7), r.IntN(7)
	for i := range rows {
		var v string
		switch (form + r.IntN(2)) % 7 {
		case 0:
			v = texts[r.IntN(4)]
		case 1:
			v = long()
		case 2:
			v = word() + fmt.Sprint(r.IntN(5000))
		case 3:
			v = word()[:3] + fmt.Sprint(r.IntN(7)) + word()
		case 4:
			v = fmt.Sprint(i)
		case 5:
			v = "1234567812345678Grafana " + word() + " Grafana8765432187654321"
		default:
			v = fmt.Sprintf("%08x", r.Uint32())
		}
		b.lines.AppendString(words[kinds] + " " + words[max(2*(kinds&1), kinds+1+r.IntN(2))] + " \"" + v + "\" " + words[kinds+2])
		b.times = append(b.times, int64(i)*1e9)
	}
	return b
}

// Each gram of a template of a block that a value has is shared, as a look at all values says.
func checkShared(t *rapid.T, section []byte) (shared, not int) {
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Blocks {
		body, err := s.Body(i, section[s.Blocks[i].Offset:][:s.Blocks[i].Size])
		if err != nil {
			t.Fatal(err)
		}
		has := map[uint32]string{}
		for k := range body.Columns() {
			if body.Columns()[k].Kind == column.Signed {
				continue
			}
			v, err := body.Values(k)
			if err != nil {
				t.Fatal(err)
			}
			for n := range v.Len() {
				text := v.Append(nil, n)
				for at := 0; at+4 <= len(text); at++ {
					if g, ok := lines.Gram(text[at:]); ok {
						has[g] = string(text)
					}
				}
			}
		}
		for _, c := range s.Blocks[i].Templates {
			for _, p := range s.Table.Templates[c.Template].Pieces() {
				for at := 0; at+4 <= len(p.Literal); at++ {
					g, ok := lines.Gram(p.Literal[at:])
					if !ok {
						continue
					}
					if text, ok := has[g]; ok && !s.Shared(i, g) {
						t.Fatalf("block %d: %q is in value %q", i, p.Literal[at:at+4], text)
					} else if ok {
						shared++
					} else if !s.Shared(i, g) {
						not++
					}
				}
			}
		}
	}
	return shared, not
}

func TestSharedGrams(t *testing.T) {
	b := lines.NewBuilder(column.LevelFastest)
	shared, not := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 6))
		var bodies []*lines.Body
		for range 2 { // sections of one builder
			b.Reset()
			for range 1 + r.IntN(3) {
				rows := shapesOf(r, 1+r.IntN(120))
				for range 1 + r.IntN(2) { // another block may have the same values
					if _, err := b.Add(&rows.lines, rows.times, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			section := append([]byte(nil), b.Finish()...)
			n, m := checkShared(t, section)
			shared, not = shared+n, not+m
			s, err := lines.Open(section)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range s.Blocks {
				body, err := s.Body(i, section[k.Offset:][:k.Size])
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, body)
			}
		}
		b.Reset()
		for range 1 + r.IntN(3) {
			var parts []lines.Part
			var times []int64
			size := 0
			for _, n := range r.Perm(len(bodies))[:1+r.IntN(len(bodies))] {
				rows := bodies[n].Info().Rows
				from := r.IntN(rows)
				parts = append(parts, lines.Part{Body: bodies[n], From: from, To: rows})
				var some model.Rows
				if err := bodies[n].Rows(from, rows, &some); err != nil {
					t.Fatal(err)
				}
				times, size = append(times, some.Times...), size+len(some.Lines.Slab)
			}
			if _, err := b.AddParts(parts, &model.Strings{}, times, nil, nil, size); err != nil {
				t.Fatal(err)
			}
		}
		n, m := checkShared(t, b.Finish())
		shared, not = shared+n, not+m
	})
	if shared == 0 || not == 0 {
		t.Errorf("%d grams are shared, %d are not", shared, not)
	}
}

// A block whose templates have more grams than are told apart rules nothing out.
func TestTooManyGrams(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	b := lines.NewBuilder(column.LevelFastest)
	var many, few block
	for i := range 60 { // lines with other numbers of words do not become one template
		line := make([]byte, 20*(100+i))
		for k := range line {
			if line[k] = "ghijklmnopqrstuvwxyz"[r.IntN(20)]; k%20 == 19 {
				line[k] = ' '
			}
		}
		for range 10 {
			many.lines.AppendString(string(line))
			many.times = append(many.times, int64(i))
		}
	}
	for i := range 100 {
		few.lines.AppendString(fmt.Sprintf("gram of %d and gram%dof", i, i%7))
		few.times = append(few.times, int64(i))
	}
	for _, k := range []*block{&many, &few} {
		if _, err := b.Add(&k.lines, k.times, nil); err != nil {
			t.Fatal(err)
		}
	}
	s, err := lines.Open(b.Finish())
	if err != nil {
		t.Fatal(err)
	}
	g, ok := lines.Gram([]byte("gram"))
	if !ok || !s.Shared(0, g) || !s.Shared(1, g) {
		t.Error("a gram that values may have is ruled out")
	}
	if g, _ := lines.Gram([]byte(" of ")); s.Shared(1, g) {
		t.Errorf("%d templates; the second block rules out as little as the first", len(s.Table.Templates))
	}
}

// Values that begin and end as others do, or are equal to others, wherever they differ.
func TestSharedGramsOfLikeValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7))
		random := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = "ghijk"[r.IntN(5)]
			}
			return b
		}
		for range 20 {
			values := []string{string(random(40))}
			for range 1 + r.IntN(8) {
				v := []byte(values[r.IntN(len(values))])
				at := r.IntN(len(v) + 1)
				values = append(values, string(v[:at])+string(random(r.IntN(3)))+string(v[min(len(v), at+r.IntN(3)):]))
			}
			literal := random(60)
			shared := lines.SharedIn(string(literal), values)
			for at := 0; at+4 <= len(literal); at++ {
				g := literal[at : at+4]
				if strings.Contains(strings.Join(values, "\n"), string(g)) && !shared(g) {
					t.Fatalf("%q is in %q", g, values)
				}
			}
		}
	})
}
