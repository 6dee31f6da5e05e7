//go:build !race

// The race detector takes memory of its own.

package engine

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/weir-logs/weir/libs/model"
)

// made is a listing of streams that are made as those of an index are.
type made struct{ listed }

func (m made) makes() bool { return true }

func (m made) labels(buf *model.Labels, i int) model.Labels {
	if buf == nil {
		return slices.Clone(m.listed[i].Labels)
	}
	*buf = append((*buf)[:0], m.listed[i].Labels...)
	return *buf
}

func (m made) runs(buf *[]Run, i int) []Run {
	if buf == nil {
		return slices.Clone(m.listed[i].Runs)
	}
	*buf = append((*buf)[:0], m.listed[i].Runs...)
	return *buf
}

// othersTake is what anything else in the process may take or give back meanwhile.
const othersTake = 32 << 10

func heapBytes() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// manyStreams returns streams of several labels, of every step-th number, each with runs from
// a time on.
func manyStreams(n, step, runs int, from int64, digest uint64) []Stream {
	out := make([]Stream, 0, n)
	for i := 0; i < n*step; i += step {
		st := Stream{Labels: model.Labels{{Name: "app", Value: "app"}, {Name: "env", Value: "prod"}, {Name: "pod", Value: fmt.Sprintf("pod-%08d", i)}, {Name: "service_name", Value: "app"}}}
		for k := range int64(runs) {
			st.Runs = append(st.Runs, Run{from + 100*k, from + 100*k + 90, 10, 1000, digest + uint64(k)})
		}
		st.Runs = slices.Clip(st.Runs)
		out = append(out, st)
	}
	return out
}

// What a plan counts is about what it takes, whatever sessions have of each other's streams.
func TestSizeOfPlansIsWhatTheyTake(t *testing.T) {
	const n = 3_000
	for _, c := range []struct {
		name  string
		lists func() [][]Stream // made for each: all that there are is looked at to find out what is taken
	}{
		{"one session", func() [][]Stream { return [][]Stream{manyStreams(n, 1, 1, 0, 1)} }},
		{"one session, many runs", func() [][]Stream { return [][]Stream{manyStreams(n/4, 1, 20, 0, 1)} }},
		{"equal", func() [][]Stream {
			return [][]Stream{manyStreams(n, 1, 1, 0, 1), manyStreams(n, 1, 1, 0, 1), manyStreams(n, 1, 1, 0, 1)}
		}},
		{"one after the other", func() [][]Stream {
			return [][]Stream{manyStreams(n, 1, 1, 0, 1), manyStreams(n, 1, 1, 1000, 2), manyStreams(n, 1, 1, 2000, 3)}
		}},
		{"overlap", func() [][]Stream {
			return [][]Stream{manyStreams(n, 1, 1, 0, 1), manyStreams(n, 1, 1, 50, 2), manyStreams(n, 1, 1, 80, 3)}
		}},
		{"overlap, many runs", func() [][]Stream { return [][]Stream{manyStreams(n/4, 1, 10, 0, 1), manyStreams(n/4, 1, 10, 50, 70)} }},
		{"others", func() [][]Stream { return [][]Stream{manyStreams(n, 2, 1, 0, 1), manyStreams(n, 3, 1, 50, 2)} }},
	} {
		for _, makes := range []bool{false, true} {
			var lists []listing
			var names []string
			for i, l := range c.lists() {
				names = append(names, fmt.Sprint("s", i))
				if makes {
					lists = append(lists, made{l})
				} else {
					lists = append(lists, listed(l))
				}
			}
			h := holder{mem: NewMemory(0)}
			before := heapBytes()
			union, of := unite(names, lists, 0, 1<<40, &h)
			tasks := allTasks(len(union), 0, 1<<40)
			taken := heapBytes() - before
			t.Logf("%s, made %v: counted %d KiB, taken %d KiB: %.2f", c.name, makes, h.claimed>>10, taken>>10, float64(h.claimed)/float64(taken))
			if h.claimed < taken*88/100-othersTake || h.claimed > taken*115/100+othersTake {
				t.Errorf("%s, made %v: %d bytes are counted, %d taken", c.name, makes, h.claimed, taken)
			}
			runtime.KeepAlive([]any{union, of, tasks, lists})
		}
	}
}

// So does what is gathered of many sessions, and the list of one.
func TestSizeOfListsIsWhatTheyTake(t *testing.T) {
	const n = 20_000
	lists := [][]Stream{manyStreams(n, 2, 1, 0, 1), manyStreams(n, 3, 1, 0, 1)}
	mem := NewMemory(0)
	before := heapBytes()
	g := gathered[model.Labels]{mem: mem, compare: model.Labels.Compare, size: SeriesSize}
	for _, l := range lists {
		for _, st := range l {
			ls := slices.Clone(st.Labels)
			for i := range ls {
				ls[i].Name, ls[i].Value = string([]byte(ls[i].Name)), string([]byte(ls[i].Value))
			}
			if err := g.add(ls); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.merge(); err != nil {
			t.Fatal(err)
		}
	}
	taken := heapBytes() - before
	if held := int(mem.Held()); held < taken*80/100 || held > taken*125/100 {
		t.Errorf("%d bytes are counted of what was gathered, %d taken", held, taken)
	}
	if len(g.all) >= 2*n || len(g.all) <= n {
		t.Errorf("%d streams", len(g.all))
	}
	runtime.KeepAlive([]any{g.all, lists})
	before = heapBytes()
	list := manyStreams(n, 1, 3, 0, 1)
	taken = heapBytes() - before - n*16 // texts are shared in lists
	if size := listSize(list); size < taken*85/100 || size > taken*125/100 {
		t.Errorf("%d bytes are counted of a list, %d taken", listSize(list), taken)
	}
	runtime.KeepAlive(list)
}
