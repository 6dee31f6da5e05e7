package compact_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
)

// entry is a row as the naive twin knows it.
type entry struct {
	app, line, meta string
	time            int64
	copyNo          uint32

	batch    int64 // 0: not known
	position uint32
	level    string // derived
	version  uint32
}

func (e entry) identity() string {
	return fmt.Sprintf("%s|%d|%s|%s|%d", e.app, e.time, e.line, e.meta, e.copyNo)
}

func (e entry) labels() model.Labels {
	return model.NewLabels([]model.Label{{Name: "app", Value: e.app}})
}

func (e entry) row() *model.Rows {
	r := &model.Rows{Times: []int64{e.time}}
	r.Lines.AppendString(e.line)
	if e.meta != "" {
		r.Metadata = []model.Column{{Name: "m"}}
		r.Metadata[0].AppendString(0, e.meta)
	}
	if e.copyNo > 0 {
		r.Copies = []uint32{e.copyNo}
	}
	return r
}

func (e entry) hash() uint64 { return e.row().Hash(0) }

// source is a block in memory: entries by stream, each ascending by key.
type source struct {
	id      string
	streams map[string][]entry
	ordered bool
	batch   int               // rows a batch
	broken  func(*model.Rows) // damages what is read
	read    int
}

func (s *source) ID() catalog.ID { return catalog.ID(s.id) }

func (s *source) Streams() (out []compact.Stream) {
	for _, app := range slices.Sorted(maps.Keys(s.streams)) {
		st := compact.Stream{Labels: entry{app: app}.labels()}
		for _, e := range s.streams[app] {
			const slot = 4
			if n := len(st.Runs); n == 0 || st.Runs[n-1].MinTime/slot != e.time/slot {
				st.Runs = append(st.Runs, block.Run{MinTime: e.time})
			}
			r := &st.Runs[len(st.Runs)-1]
			r.MaxTime = e.time
			r.Rows++
			r.Bytes += uint64(len(e.line))
			r.Digest += e.hash()
		}
		out = append(out, st)
	}
	return out
}

func (s *source) Each(_ context.Context, start, end int64, skip func(int) bool, yield func(model.Labels, *model.Rows, int, int) error) error {
	for i, app := range slices.Sorted(maps.Keys(s.streams)) {
		if skip(i) {
			continue
		}
		for part := range slices.Chunk(s.streams[app], s.batch) {
			if version := part[0].version; slices.ContainsFunc(part, func(e entry) bool { return e.version != version }) {
				panic("one batch, several versions")
			}
			r := &model.Rows{}
			level, meta := model.Column{Name: "level", Version: part[0].version}, model.Column{Name: "m"}
			copies := false
			for k, e := range part {
				r.Times = append(r.Times, e.time)
				r.Lines.AppendString(e.line)
				if e.meta != "" {
					meta.AppendString(k, e.meta)
				}
				level.AppendString(k, e.level)
				r.Copies = append(r.Copies, e.copyNo)
				copies = copies || e.copyNo > 0
				if !s.ordered {
					r.BatchTimes = append(r.BatchTimes, e.batch)
				}
				r.Positions = append(r.Positions, e.position)
				s.read++
			}
			if !copies {
				r.Copies = nil
			}
			meta.Finish(len(part))
			if meta.Values.Len() > 0 {
				r.Metadata = []model.Column{meta}
			}
			r.Derived = []model.Column{level}
			if s.broken != nil {
				s.broken(r)
			}
			if err := r.Check(); err != nil {
				panic(err)
			}
			if err := yield(entry{app: app}.labels(), r, 0, r.Len()); err != nil {
				return err
			}
		}
	}
	return nil
}

// result is what a merge wrote.
type result struct {
	t       interface{ Fatalf(string, ...any) }
	entries []entry
	last    model.OrderKey
	app     string
	fail    error
	lenient bool // about the order
}

func (w *result) Add(ls model.Labels, r *model.Rows) error {
	if w.fail != nil {
		return w.fail
	}
	if err := r.Check(); err != nil {
		w.t.Fatalf("%v", err)
	}
	app := ls.Get("app")
	if app < w.app {
		w.t.Fatalf("stream %s after %s", app, w.app)
	}
	for i := range r.Len() {
		k := r.Key(i)
		if app == w.app && k.Compare(w.last) <= 0 && !w.lenient {
			w.t.Fatalf("key %+v after %+v", k, w.last)
		}
		w.app, w.last = app, k
		e := entry{app: app, time: r.Times[i], line: string(r.Lines.At(i)), copyNo: r.Copy(i), batch: k.BatchTime, position: k.Position}
		for _, l := range r.AppendMetadata(nil, i) {
			e.meta = l.Value
		}
		for _, c := range r.Derived {
			e.level, e.version = string(c.At(i)), c.Version
		}
		if k.Hash != e.hash() {
			w.t.Fatalf("hash of %+v", e)
		}
		w.entries = append(w.entries, e)
	}
	return nil
}

func (w *result) streams() []compact.Stream {
	s := &source{streams: map[string][]entry{}}
	for _, e := range w.entries {
		s.streams[e.app] = append(s.streams[e.app], e)
	}
	return s.Streams()
}

func drawSource(t *rapid.T, i int) *source {
	name := fmt.Sprint("s", i)
	s := &source{id: name, streams: map[string][]entry{}, batch: rapid.IntRange(1, 5).Draw(t, name+"batch"), ordered: rapid.IntRange(0, 3).Draw(t, name+"ordered") == 0}
	version := uint32(rapid.IntRange(1, 2).Draw(t, name+"version"))
	for range rapid.IntRange(0, 40).Draw(t, name+"n") {
		e := entry{
			app: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "app"), line: rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "line"),
			meta: rapid.SampledFrom([]string{"", "k"}).Draw(t, "meta"), time: int64(rapid.IntRange(0, 11).Draw(t, "time")),
			copyNo: uint32(rapid.IntRange(0, 5).Draw(t, "copy") / 5), batch: int64(rapid.IntRange(1, 3).Draw(t, "batch")), position: uint32(rapid.IntRange(0, 9).Draw(t, "position")),
			version: version, level: fmt.Sprint("by rule ", version),
		}
		if !slices.ContainsFunc(s.streams[e.app], func(o entry) bool { return o.identity() == e.identity() }) {
			s.streams[e.app] = append(s.streams[e.app], e)
		}
	}
	for _, list := range s.streams {
		sortEntries(list)
		if s.ordered {
			place := uint32(0)
			for i := range list {
				if place++; i == 0 || list[i-1].time != list[i].time {
					place = 0
				}
				list[i].batch, list[i].position = 0, place
			}
		}
	}
	return s
}

func sortEntries(list []entry) {
	slices.SortStableFunc(list, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.time, b.time), cmp.Compare(a.batch, b.batch), cmp.Compare(a.position, b.position), cmp.Compare(a.hash(), b.hash()))
	})
}

type remover struct{ *selection.Selection }

func (r remover) Name() string { return r.String() }
func (r remover) ForStream(ls model.Labels) compact.RowRemover {
	if !r.Stream(ls) {
		return nil
	}
	return rowRemover{r.Selection.ForStream(ls)}
}

type rowRemover struct{ *selection.Rows }

func (r rowRemover) Remove(rows *model.Rows, i int) bool { return r.Match(rows, i) }

// TestMerge compares merges with the naive union: a map of entries.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sources []compact.Source
		var all []*source
		for i := range rapid.IntRange(1, 4).Draw(t, "sources") {
			s := drawSource(t, i)
			if i > 0 && rapid.Bool().Draw(t, "replica") { // the same block again
				s = &source{id: s.id, streams: all[0].streams, ordered: all[0].ordered, batch: s.batch}
			}
			all = append(all, s)
			sources = append(sources, s)
		}
		var removes []compact.Remover
		gone := func(entry) bool { return false }
		if rapid.Bool().Draw(t, "removes") {
			sel, err := selection.Parse(`{app=~"a|b"} |= "x"`)
			if err != nil {
				t.Fatal(err)
			}
			removes = append(removes, remover{sel})
			gone = func(e entry) bool { return e.app != "c" && strings.Contains(e.line, "x") }
		}
		fix := rapid.Bool().Draw(t, "fix")
		m, err := compact.NewMerge(sources, removes, fix, block.Compare)
		if err != nil {
			t.Fatal(err)
		}
		cuts := []int64{compact.MinTime, compact.MaxTime}
		for range rapid.IntRange(0, 2).Draw(t, "cuts") {
			cuts = append(cuts, int64(rapid.IntRange(0, 12).Draw(t, "cut")))
		}
		slices.Sort(cuts)
		var got []entry
		var results [][]compact.Stream
		for i := range len(cuts) - 1 {
			w := &result{t: t}
			if err := m.Run(context.Background(), cuts[i], cuts[i+1], w); err != nil {
				t.Fatal(err)
			}
			for _, e := range w.entries {
				if e.time < cuts[i] || e.time >= cuts[i+1] && cuts[i+1] != compact.MaxTime {
					t.Fatalf("%+v in part %d of %v", e, i, cuts)
				}
			}
			got = append(got, w.entries...)
			results = append(results, w.streams())
		}
		if err := errors.Join(m.Prove(), m.ProveResults(results...)); err != nil {
			t.Fatal(err)
		}

		want := map[string]entry{}
		in, copies, removed := 0, 0, 0
		for _, s := range all {
			for _, list := range s.streams {
				for _, e := range list {
					in++
					o, ok := want[e.identity()]
					if !ok {
						want[e.identity()] = e
						continue
					}
					copies++
					if e.version > o.version {
						o.level, o.version = e.level, e.version
					}
					if cmp.Or(cmp.Compare(e.batch, o.batch), cmp.Compare(e.position, o.position)) < 0 {
						o.batch, o.position = e.batch, e.position
					}
					want[e.identity()] = o
				}
			}
		}
		var list []entry
		for _, e := range want {
			if gone(e) {
				removed++
				continue
			}
			list = append(list, e)
		}
		sortEntries(list)
		slices.SortStableFunc(got, func(a, b entry) int { return cmp.Compare(a.app, b.app) })
		for i := range list {
			if i >= len(got) {
				break
			}
			// Equal runs are read once: the copies' batch times are taken to be equal,
			// as those of replicas are.
			if fix {
				place := uint32(0)
				for k := i; k > 0 && list[k-1].app == list[i].app && list[k-1].time == list[i].time; k-- {
					place++
				}
				if got[i].batch != 0 || got[i].position != place {
					t.Fatalf("order was not fixed: %+v at place %d", got[i], place)
				}
			}
		}
		strip := func(list []entry) []string {
			var out []string
			for _, e := range list {
				id := e.identity() + e.level
				if !fix {
					id += fmt.Sprint(e.batch, " ", e.position)
				}
				out = append(out, id)
			}
			return out
		}
		if a, b := strip(got), strip(list); !slices.Equal(a, b) && distinctRuns(all) {
			t.Fatalf("got  %q\nwant %q", a, b)
		}
		if a, b := identities(got), identities(list); !slices.Equal(a, b) {
			t.Fatalf("got  %q\nwant %q", a, b)
		}
		r := m.Report()
		if int(r.RowsIn) != in || int(r.RowsOut) != len(list) || int(r.Copies) != copies || int(r.Removed) != removed {
			t.Fatalf("report %+v, want %d in, %d out, %d copies, %d removed", r, in, len(list), copies, removed)
		}
	})
}

// distinctRuns reports whether no two sources have equal runs, but for those that
// are the same block.
func distinctRuns(all []*source) bool {
	type key struct {
		app string
		run block.Run
	}
	seen := map[key]int{}
	for i, s := range all {
		if i > 0 && len(s.streams) > 0 && fmt.Sprintf("%p", s.streams) == fmt.Sprintf("%p", all[0].streams) {
			continue
		}
		for _, st := range s.Streams() {
			for _, r := range st.Runs {
				k := key{st.Labels.Get("app"), r}
				if _, ok := seen[k]; ok {
					return false
				}
				seen[k] = i
			}
		}
	}
	return true
}

func identities(list []entry) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.identity())
	}
	slices.Sort(out)
	return out
}

func sample(n int) *source {
	s := &source{id: "a", batch: 3, streams: map[string][]entry{}}
	for i := range n {
		s.streams["a"] = append(s.streams["a"], entry{app: "a", line: fmt.Sprint("line ", i), time: int64(i / 2), batch: 5, position: uint32(i)})
	}
	return s
}

// TestR14MergeProves: rows that are lost, doubled or changed between a source and
// the result are found before anything is stored.
func TestR14MergeProves(t *testing.T) {
	for name, damage := range map[string]func(r *model.Rows){
		"a row is lost": func(r *model.Rows) {
			*r = model.Rows{Times: r.Times[:1], Lines: model.Strings{Ends: r.Lines.Ends[:1], Slab: r.Lines.Slab[:r.Lines.Ends[0]]}, BatchTimes: r.BatchTimes[:1], Positions: r.Positions[:1]}
		},
		"a byte is changed": func(r *model.Rows) { r.Lines.Slab[0] ^= 1 },
		"a time is changed": func(r *model.Rows) { r.Times[0]-- },
	} {
		s := sample(9)
		s.broken = damage
		m, err := compact.NewMerge([]compact.Source{s}, nil, true, block.Compare)
		if err != nil {
			t.Fatal(err)
		}
		w := &result{t: t, lenient: true}
		if err := m.Run(t.Context(), compact.MinTime, compact.MaxTime, w); err != nil {
			t.Fatal(name, err)
		}
		if err := m.Prove(); !errors.Is(err, compact.ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := sample(9)
	m, _ := compact.NewMerge([]compact.Source{s}, nil, false, block.Compare)
	w := &result{t: t}
	if err := errors.Join(m.Run(t.Context(), compact.MinTime, compact.MaxTime, w), m.Prove()); err != nil {
		t.Fatal(err)
	}
	w.entries[3].line = "changed when it was written"
	if err := m.ProveResults(w.streams()); !errors.Is(err, compact.ErrProof) {
		t.Errorf("a changed result: %v", err)
	}
	w.entries = append(w.entries[:3], w.entries[4:]...)
	if err := m.ProveResults(w.streams()); !errors.Is(err, compact.ErrProof) {
		t.Errorf("a result without a row: %v", err)
	}
}

// TestEqualRunsAreReadOnce: a replica's rows need not be read at all.
func TestEqualRunsAreReadOnce(t *testing.T) {
	a, b := sample(1000), sample(1000)
	m, err := compact.NewMerge([]compact.Source{a, b}, nil, true, block.Compare)
	if err != nil {
		t.Fatal(err)
	}
	w := &result{t: t}
	if err := errors.Join(m.Run(t.Context(), compact.MinTime, compact.MaxTime, w), m.Prove()); err != nil {
		t.Fatal(err)
	}
	if b.read != 0 || len(w.entries) != 1000 || m.Report().Copies != 1000 {
		t.Errorf("%d rows of the replica were read, %d came out, %+v", b.read, len(w.entries), m.Report())
	}
}

// TestR5CopyTakesItsSmallestPlace: the order of equal times is that of the first
// batch that brought them, and a row that has lost its batch time comes first.
func TestR5CopyTakesItsSmallestPlace(t *testing.T) {
	of := func(id string, ordered bool, list ...entry) *source {
		for i := range list {
			list[i].app = "a"
		}
		return &source{id: id, ordered: ordered, batch: 9, streams: map[string][]entry{"a": list}}
	}
	a := of("a", false, entry{line: "x", batch: 3}, entry{line: "y", batch: 7})
	b := of("b", false, entry{line: "y", batch: 2, position: 4}, entry{line: "z", batch: 4})
	c := of("c", true, entry{line: "w"}, entry{line: "v", position: 1})
	for _, fix := range []bool{false, true} {
		m, _ := compact.NewMerge([]compact.Source{a, b, c}, nil, fix, block.Compare)
		w := &result{t: t}
		if err := errors.Join(m.Run(t.Context(), compact.MinTime, compact.MaxTime, w), m.Prove()); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range w.entries {
			got += e.line
			if fix != (e.batch == 0 && e.line != "w" && e.line != "v") && e.line != "w" && e.line != "v" {
				t.Errorf("fix %t: %+v", fix, e)
			}
		}
		if got != "wvyxz" {
			t.Errorf("fix %t: order %s, want wvyxz", fix, got)
		}
	}
}

func TestErrorsEndAMerge(t *testing.T) {
	s := sample(100)
	m, _ := compact.NewMerge([]compact.Source{s, sample(7)}, nil, true, block.Compare)
	full := errors.New("disk full")
	if err := m.Run(t.Context(), compact.MinTime, compact.MaxTime, &result{t: t, fail: full}); !errors.Is(err, full) {
		t.Error(err)
	}
}
