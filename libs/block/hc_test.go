package block_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// manyStreams makes streams of 20 lines each, spread over a day, of the lines of a
// file, or of made ones.
func manyStreams(n int, lines [][]byte) []stream {
	ss := make([]stream, n)
	t0 := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	step := int64(24*time.Hour) / int64(20*n)
	for id := range ss {
		ss[id].labels = model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("svc-%03d", id%500)}, {Name: "env", Value: "prod"},
			{Name: "pod", Value: fmt.Sprintf("svc-%03d-%08x", id%500, uint32(id)*2654435761)}})
	}
	for i := range 20 * n {
		line := lines[i%len(lines)]
		at := t0 + int64(i)*step
		x := row{time: at, batch: t0 + int64(i/1000+1)*1000*step, line: string(line)}
		for _, w := range []string{"error", "warn", "info"} {
			if bytes.Contains(bytes.ToLower(line), []byte(w)) {
				x.derived, x.version = map[string]string{"detected_level": w}, 1
				break
			}
		}
		ss[i%n].rows = append(ss[i%n].rows, x)
	}
	slices.SortFunc(ss, func(a, b stream) int { return block.Compare(a.labels, b.labels) })
	return ss
}

// Many streams of few lines cost little. WEIR_HC names a file of lines to measure with.
func TestManyStreams(t *testing.T) {
	n, lines := 2000, [][]byte{[]byte("level=info msg=\"request done\""), []byte("ERROR no such user 7"), []byte("warn: 12ms")}
	if name := os.Getenv("WEIR_HC"); name != "" {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n, lines = hcStreams(), bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	}
	ss := manyStreams(n, lines)
	for _, ordered := range []bool{false, true} {
		o := block.Options{}
		if ordered {
			o.Level = column.LevelBetter
			o.RowGroupBytes = 8 << 20
		}
		begin := time.Now()
		b, info := write(t, ss, block.Meta{ID: "b", Tenant: "t", Ordered: ordered}, o, 1000)
		took := time.Since(begin)
		m := &memory{b: b}
		begin = time.Now()
		r, err := block.Open(context.Background(), m, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ordered %v: %d bytes of lines, %d bytes, %.1f MB/s; index %.1f bytes a stream; %d sections, %d row groups; opened by %d reads of %d bytes in %v, %d bytes of memory",
			ordered, info.RawBytes, len(b), float64(info.RawBytes)/1e6/took.Seconds(), float64(info.IndexSize)/float64(info.Streams),
			info.Sections, info.RowGroups, m.reads, m.bytes, time.Since(begin), r.MemorySize())
		t.Logf("%+v", r.Sizes())
		begin = time.Now()
		if err := r.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Logf("verified, %.1f MB/s", float64(info.RawBytes)/1e6/time.Since(begin).Seconds())
		if per := float64(info.IndexSize) / float64(info.Streams); per > 40 {
			t.Errorf("%.1f bytes a stream in the index", per)
		}
	}
}

// hcStreams is how many streams are measured: WEIR_HC_STREAMS, or 50,000.
func hcStreams() int {
	if n, err := strconv.Atoi(os.Getenv("WEIR_HC_STREAMS")); err == nil {
		return n
	}
	return 50000
}

// A writer that wrote another block writes the same bytes, whatever labels that had: many
// with values of their own, or other names.
func TestWriterResetManyStreams(t *testing.T) {
	many := manyStreams(1200, [][]byte{[]byte("x=1")})
	few := manyStreams(40, [][]byte{[]byte("y=2")})
	for i := range few {
		few[i].labels = model.NewLabels([]model.Label{{Name: "app", Value: "a"}, {Name: fmt.Sprint("name", i%35), Value: fmt.Sprint(i)}})
	}
	slices.SortFunc(few, func(a, b stream) int { return block.Compare(a.labels, b.labels) })
	var buf bytes.Buffer
	w := block.NewWriter(&buf, block.Meta{}, block.Options{NoGrams: true})
	for i, ss := range [][]stream{many, few, few, many} {
		want, _ := write(t, ss, block.Meta{ID: "b", Tenant: "t"}, block.Options{NoGrams: true}, 1000)
		buf.Reset()
		w.Reset(&buf, block.Meta{ID: "b", Tenant: "t"})
		for _, s := range ss {
			if err := w.Add(s.labels, rowsOf(s.rows, false)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf.Bytes(), want) {
			t.Fatalf("block %d: other bytes", i)
		}
		r := open(t, want)
		for k := range ss {
			if !r.Labels(k).Equal(ss[k].labels) {
				t.Fatalf("stream %d is %s, not %s", k, r.Labels(k), ss[k].labels)
			}
		}
	}
}

// Rows that a row group does not have are not carried.
func TestCarryBeyond(t *testing.T) {
	ls := model.Labels{{Name: "app", Value: "a"}}
	b, _ := write(t, oneStream(row{time: 1, line: "a 1"}, row{time: 2, line: "a 2"}), block.Meta{ID: "b"}, block.Options{}, 2)
	r := open(t, b)
	s, err := r.ReadSection(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.ReadRowGroup(context.Background(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []int{2, 3, 5000} {
		w := block.NewWriter(&bytes.Buffer{}, block.Meta{ID: "c", Ordered: true}, block.Options{})
		if err := w.CarryRuns(ls, r.Runs(0, 0, 10)); err != nil {
			t.Fatal(err)
		}
		if err := w.Carry(ls, r.Carry(g), 0, to, 6); (err == nil) != (to == 2) {
			t.Errorf("to row %d: %v", to, err)
		}
	}
}
