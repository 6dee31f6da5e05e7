package block_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/model"
)

// Blocks that are written one after the other with what was learnt from those before
// hold the rows that they hold without it, and the same runs.
func TestBlocksReadTheSameWithAndWithoutKnowledge(t *testing.T) {
	type pair struct {
		k           *block.Knowledge
		limit       int64
		with, plain *block.Writer
	}
	var pairs []pair
	for _, p := range []pair{{limit: 1}, {limit: 40 << 10}, {limit: 1 << 20}} {
		p.k = block.NewKnowledge(p.limit)
		o := block.Options{RowGroupBytes: 4 << 10, Knowledge: p.k, NoGrams: p.limit < 1<<20}
		p.with = block.NewWriter(io.Discard, block.Meta{}, o)
		o.Knowledge = nil
		p.plain = block.NewWriter(io.Discard, block.Meta{}, o)
		pairs = append(pairs, p)
	}
	same := func(rt interface {
		Fatal(...any)
		Fatalf(string, ...any)
	}, p pair, ss []stream) {
		var texts [2][]string
		for i, w := range []*block.Writer{p.with, p.plain} {
			var out bytes.Buffer
			w.Reset(&out, block.Meta{ID: "b", Tenant: "t"})
			for _, s := range ss {
				if err := w.Add(s.labels, rowsOf(s.rows, false)); err != nil {
					rt.Fatal(err)
				}
			}
			if _, err := w.Close(); err != nil {
				rt.Fatal(err)
			}
			r := open(t, out.Bytes())
			if err := r.Verify(context.Background()); err != nil {
				rt.Fatal(err)
			}
			texts[i] = everything(t, r)
		}
		if !slices.Equal(texts[0], texts[1]) {
			rt.Fatalf("%q with knowledge, %q without", texts[0], texts[1])
		}
		if s := p.k.Stats(); s.Bytes < 0 || s.Bytes > p.limit || s.Parts == 0 != (s.Bytes == 0) {
			rt.Fatalf("%+v", s)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.SampledFrom(pairs).Draw(rt, "limit")
		same(rt, p, sorted(drawStreams(rt)))
	})
	for _, p := range pairs { // what was drawn may have had nothing in common
		for range 2 {
			same(t, p, sorted([]stream{traced(1, 300, nil), traced(2, 100, nil)}))
		}
	}
	if s := pairs[2].k.Stats(); s.Hits == 0 {
		t.Fatalf("nothing was of use: %+v", s)
	}
	if s := pairs[0].k.Stats(); s.Hits > 0 || s.Evictions == 0 {
		t.Fatalf("there was no room: %+v", s)
	}
}

// everything is all of a block's rows and runs as text.
func everything(t testing.TB, r *block.Reader) (out []string) {
	err := r.Each(context.Background(), func(ls model.Labels, rows *model.Rows) error {
		for _, s := range texts(t, rows) {
			out = append(out, ls.String()+s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Streams() {
		for _, run := range r.Runs(i, -1<<63, 1<<63-1) {
			out = append(out, fmt.Sprint(run))
		}
	}
	return out
}

func TestKnowledgeIsBounded(t *testing.T) {
	const limit = 256 << 10
	k := block.NewKnowledge(limit)
	w := block.NewWriter(&bytes.Buffer{}, block.Meta{}, block.Options{Knowledge: k})
	for i := range 40 {
		w.Reset(&bytes.Buffer{}, block.Meta{ID: "b", Tenant: fmt.Sprint("t", i)})
		rows := rowsOf([]row{{time: 1, line: fmt.Sprintf("request %d of user %d", i, i)}}, false)
		if err := w.Add(model.Labels{{Name: "app", Value: "a"}}, rows); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := k.Stats()
	if s.Bytes > limit || s.Evictions == 0 || s.Misses != 40 || s.Parts == 0 || s.Parts+int(s.Evictions) != 40 {
		t.Fatalf("%+v", s)
	}
}

// Writers that work at the same time share it, each part one at a time.
func TestKnowledgeIsShared(t *testing.T) {
	k := block.NewKnowledge(1 << 20)
	var wg sync.WaitGroup
	for n := range 3 {
		wg.Go(func() {
			w := block.NewWriter(io.Discard, block.Meta{}, block.Options{Knowledge: k})
			for i := range 8 {
				var out bytes.Buffer
				w.Reset(&out, block.Meta{ID: "b", Tenant: "t"})
				rows := rowsOf([]row{{time: 1, line: fmt.Sprintf("request %d of writer %d", i, n)}, {time: 2, line: "done"}}, false)
				err := w.Add(model.Labels{{Name: "app", Value: fmt.Sprint("a", i%2)}}, rows)
				if err == nil {
					_, err = w.Close()
				}
				var r *block.Reader
				if err == nil {
					r, err = block.Open(context.Background(), &memory{b: out.Bytes()}, int64(out.Len()))
				}
				if err == nil {
					err = r.Verify(context.Background())
				}
				if err != nil {
					t.Errorf("writer %d, block %d: %v", n, i, err)
				}
			}
		})
	}
	wg.Wait()
	if s := k.Stats(); s.Hits+s.Misses != 24 || s.Parts != 2 {
		t.Fatalf("%+v", s)
	}
}

// Of lines with many templates no more is kept for other blocks than of others, though a section
// of the same block would be given them.
func TestKnowledgeOfManyTemplatesIsSmall(t *testing.T) {
	k := block.NewKnowledge(64 << 20)
	var ss []stream
	for i := range 20 {
		s := stream{labels: model.Labels{{Name: "app", Value: fmt.Sprintf("app-%02d", i)}}}
		for n := range 500 * 4 {
			w := 500*i + n/4
			s.rows = append(s.rows, row{time: int64(n), line: "word " + letters(w/676) + letters(w)})
		}
		ss = append(ss, s)
	}
	write(t, ss, block.Meta{ID: "b", Tenant: "t"}, block.Options{RowGroupBytes: 40 << 10, NoGrams: true, Knowledge: k}, 1000)
	if s := k.Stats(); s.Parts != 1 || s.Bytes > 1<<20 {
		t.Errorf("%+v", s)
	}
}
