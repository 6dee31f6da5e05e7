//go:build !race

// The race detector takes memory of its own.

package head

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// load makes requests of a kind.
func load(kind string, n int) func(i int) []Block {
	block := func(stream string, times []int64, lines []string, meta []model.Column) Block {
		ls := model.NewLabels([]model.Label{{Name: "app", Value: stream}, {Name: "service_name", Value: stream}})
		b := Block{Labels: ls, Text: ls.String()}
		b.Rows.Times = times
		for i, l := range lines {
			b.Rows.Lines.AppendString(l)
			b.Rows.Positions = append(b.Rows.Positions, uint32(i))
		}
		b.Rows.Metadata = meta
		for i := range times {
			b.Rows.Hashes = append(b.Rows.Hashes, b.Rows.Hash(i))
		}
		return b
	}
	return func(i int) []Block {
		switch kind {
		case "one stream each", "many streams":
			return []Block{block(fmt.Sprintf("stream-%08d", i), []int64{int64(i)}, []string{"hello"}, nil)}
		case "few rows each":
			return []Block{block(fmt.Sprintf("stream-%08d", i%(n/20)), []int64{int64(i)}, []string{"hello"}, nil)}
		case "many labels":
			b := block("x", []int64{int64(i)}, []string{"hello"}, nil)
			var ls []model.Label
			for k := range 15 {
				ls = append(ls, model.Label{Name: fmt.Sprintf("label_%02d", k), Value: fmt.Sprintf("value-%d-%08d", k, i)})
			}
			b.Labels = model.NewLabels(ls)
			b.Text = b.Labels.String()
			return []Block{b}
		case "empty lines":
			return []Block{block("x", []int64{int64(i)}, []string{""}, nil)}
		case "one time":
			return []Block{block("x", []int64{1}, []string{fmt.Sprintf("%08d", i)}, nil)}
		case "late":
			return []Block{block("x", []int64{int64(n - i)}, []string{fmt.Sprintf("%08d", i)}, nil)}
		case "many metadata names":
			var meta []model.Column
			for k := range 128 {
				c := model.Column{Name: fmt.Sprintf("name_%08d_%03d", i, k)}
				c.Append(0, []byte("v"))
				meta = append(meta, c)
			}
			return []Block{block("x", []int64{int64(i)}, []string{"hello"}, meta)}
		case "many metadata names and streams":
			var meta []model.Column
			for k := range 20 {
				c := model.Column{Name: fmt.Sprintf("name_%03d", k)}
				c.Append(0, []byte("v"))
				meta = append(meta, c)
			}
			return []Block{block(fmt.Sprintf("stream-%08d", i), []int64{int64(i)}, []string{"hello"}, meta)}
		case "plain":
			return []Block{block("x", []int64{int64(i)}, []string{strings.Repeat("x", 150)}, nil)}
		}
		panic(kind)
	}
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What the head counts is at least most of what it takes, or its limit means
// nothing.
func TestSizeIsWhatIsTaken(t *testing.T) {
	for _, c := range []struct {
		kind string
		n    int
	}{
		{"one stream each", 10_000}, {"many streams", 10_000}, {"few rows each", 40_000}, {"many labels", 5_000}, {"empty lines", 40_000}, {"one time", 40_000}, {"late", 40_000},
		{"many metadata names", 200}, {"many metadata names and streams", 2_000}, {"plain", 40_000},
	} {
		t.Run(c.kind, func(t *testing.T) {
			request := load(c.kind, c.n)
			before := heapBytes()
			h := New()
			for i := range c.n {
				blocks := request(i)
				size, cost := h.Size(), h.MaxCost("t", blocks)
				h.Append("t", blocks, 1, uint64(i+1))
				if grown := h.Size() - size; grown > cost {
					t.Fatalf("request %d: grown by %d, MaxCost is %d", i, grown, cost)
				}
			}
			if found := []*syntax.Matcher{{Name: "none", Type: syntax.Eq, Value: "x"}}; strings.HasPrefix(c.kind, "many streams") {
				if _, err := h.Store("t").Open(t.Context(), found, 0, 1); err != nil { // makes the index of labels
					t.Fatal(err)
				}
			}
			taken := heapBytes() - before - int64(cap(h.tails.ring))*int64(unsafe.Sizeof(dirtyStream{})) // of fixed size
			t.Logf("counted %d KiB, taken %d KiB: %.2f", h.Size()>>10, taken>>10, float64(taken)/float64(h.Size()))
			if taken > h.Size()*5/4 {
				t.Errorf("%d bytes are taken, %d counted", taken, h.Size())
			}
			runtime.KeepAlive(h)
		})
	}
}

// TestSizeOfManyTenants: what many tenants take that have little each is about what is counted.
func TestSizeOfManyTenants(t *testing.T) {
	for _, rows := range []int{17, 66, 132, 300} {
		before := heapBytes()
		h := New()
		seq := uint64(0)
		for i := range 100 {
			for k := range rows {
				ls := model.Labels{{Name: "s", Value: fmt.Sprint(k % 7)}}
				b := Block{Labels: ls, Text: ls.String()}
				b.Rows.Times, b.Rows.Positions, b.Rows.Hashes = []int64{int64(k)}, []uint32{0}, []uint64{uint64(k)}
				b.Rows.Lines.AppendString(strings.Repeat("x", 1000))
				seq++
				h.Append(fmt.Sprint("tenant ", i), []Block{b}, 1, seq)
			}
		}
		taken := heapBytes() - before - int64(cap(h.tails.ring))*int64(unsafe.Sizeof(dirtyStream{})) // of fixed size
		t.Logf("%d rows: counted %d KiB, taken %d KiB: %.2f", rows, h.Size()>>10, taken>>10, float64(taken)/float64(h.Size()))
		if taken > h.Size()*3/2 {
			t.Error("too little is counted")
		}
		runtime.KeepAlive(h)
	}
}

// What a snapshot counts towards the memory of a query is about what it takes.
func TestSizeOfSnapshotsIsWhatTheyTake(t *testing.T) {
	for kind, n := range map[string]int{"many streams": 3_000, "few rows each": 20_000, "many labels": 1_000, "many metadata names": 200} {
		h := New()
		request := load(kind, n)
		for i := range n {
			h.Append("t", request(i), 1, uint64(i+1))
		}
		open := func(m *engine.Memory) (engine.Snapshot, error) {
			return h.Store("t").Open(engine.WithMemory(t.Context(), m), nil, 0, int64(n+1))
		}
		if sn, err := open(nil); err != nil { // sorts the streams
			t.Fatal(err)
		} else {
			sn.Close()
		}
		m := engine.NewMemory(0)
		before := heapBytes()
		sn, err := open(m)
		if err != nil {
			t.Fatal(err)
		}
		taken := heapBytes() - before
		t.Logf("%s: counted %d KiB, taken %d KiB: %.2f", kind, m.Held()>>10, taken>>10, float64(m.Held())/float64(taken))
		if slack := int64(16 << 10); m.Held() < taken*4/5-slack || m.Held() > taken*5/4+slack {
			t.Errorf("%s: %d bytes are counted, %d taken", kind, m.Held(), taken)
		}
		peak := m.Peak()
		runtime.KeepAlive(h)
		sn.Close()
		sn.Close()
		if m.Held() != 0 {
			t.Errorf("%s: %d bytes are held once it is closed", kind, m.Held())
		}
		m = engine.NewMemory((peak - 1) / 2) // lists may take twice that
		if _, err := open(m); !errors.Is(err, engine.ErrMemory) || m.Held() != 0 {
			t.Errorf("%s: %v within %d bytes of %d, %d held", kind, err, (peak-1)/2, peak, m.Held())
		}
	}
}
