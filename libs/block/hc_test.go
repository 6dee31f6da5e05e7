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
