package block_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// BenchmarkSmallBlock is a block of one row: what each block costs besides its rows.
func BenchmarkSmallBlock(b *testing.B) {
	rows := rowsOf([]row{{time: 1, line: "level=info msg=\"request done\""}}, false)
	ls := model.Labels{{Name: "app", Value: "a"}}
	b.ReportAllocs()
	w := block.NewWriter(io.Discard, block.Meta{}, block.Options{})
	for b.Loop() {
		w.Reset(io.Discard, block.Meta{ID: "b", Tenant: "t"})
		if err := w.Add(ls, rows); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallStreams is a block of 50,000 streams of four rows, of 500 services whose
// lines are of 14 kinds: CPU time of a row. Files of lines, one of each kind, are taken
// from WEIR_SAMPLES.
func BenchmarkSmallStreams(b *testing.B) {
	const streams, services, rows = 50000, 500, 4
	kinds := lineKinds(b)
	next := make([]int, len(kinds))
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	ls, all := make([]model.Labels, streams), make([]*model.Rows, streams)
	for i := range all {
		service := i / (streams / services)
		ls[i] = model.NewLabels([]model.Label{{Name: "app", Value: fmt.Sprintf("svc-%03d", service)}, {Name: "env", Value: "prod"},
			{Name: "pod", Value: fmt.Sprintf("svc-%03d-%05d-%08x", service, i, uint32(i)*2654435761)}})
		var rs []row
		k := service % len(kinds)
		for n := range rows {
			x := row{time: begin + int64(n)*3600e9 + int64(i)*60e6, batch: begin + int64(n)*3600e9 + int64(i%7)*1e9, line: string(kinds[k][next[k]%len(kinds[k])])}
			if next[k]++; bytes.Contains(bytes.ToLower([]byte(x.line)), []byte("info")) {
				x.derived, x.version = map[string]string{"detected_level": "info"}, 1
			}
			rs = append(rs, x)
		}
		all[i] = rowsOf(rs, false)
		all[i].Hashes = make([]uint64, rows)
		for n := range rows {
			all[i].Hashes[n] = all[i].Hash(n)
		}
	}
	w := block.NewWriter(io.Discard, block.Meta{}, block.Options{Knowledge: block.NewKnowledge(32 << 20), NarrowRuns: true})
	size := int64(0)
	b.ReportAllocs()
	from := userTime()
	for b.Loop() {
		w.Reset(io.Discard, block.Meta{ID: "b", Tenant: "t"})
		for i := range all {
			if err := w.Add(ls[i], all[i]); err != nil {
				b.Fatal(err)
			}
		}
		info, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		size = info.Size
	}
	b.ReportMetric((userTime()-from).Seconds()*1e6/float64(b.N)/(streams*rows), "CPUus/row")
	b.ReportMetric(float64(size)/(streams*rows), "B/row")
}

// lineKinds is lines of some kinds.
func lineKinds(b *testing.B) (kinds [][][]byte) {
	paths, err := filepath.Glob(filepath.Join(os.Getenv("WEIR_SAMPLES"), "*.log"))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		data = data[:min(len(data), 4<<20)]
		kinds = append(kinds, bytes.Split(data[:max(0, bytes.LastIndexByte(data, '\n'))], []byte("\n")))
	}
	for k := len(kinds); k < 14; k++ {
		var lines [][]byte
		for i := range 20000 {
			x := uint64(i+k<<20) * 0x9E3779B97F4A7C15
			at := time.Unix(1772323200+int64(i), 0).UTC().Format(time.RFC3339)
			lines = append(lines, fmt.Appendf(nil, "%s INFO kind%d.Part%d: %s of request %016x from 10.%d.%d.7 took %dms by worker-%d", at, k, x>>60,
				[]string{"reading", "writing", "closing", "no such file"}[x>>40&3], x, x>>32&255, x>>24&255, x>>54, x>>50&31))
		}
		kinds = append(kinds, lines)
	}
	return kinds
}

// BenchmarkOpen opens a block of 50,000 streams.
func BenchmarkOpen(b *testing.B) {
	data, _ := write(b, manyStreams(50000, [][]byte{[]byte("x")})[:], block.Meta{ID: "b"}, block.Options{NoGrams: true}, 100)
	m := &memory{b: data}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.Open(context.Background(), m, int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSlice reads the lines of one second of one stream, about 100, out of a block
// whose footers are in memory and which is on a disk: bytes read and CPU time by size of
// row groups. Files of lines, NAME.log with times in nanoseconds in NAME.ts, are taken from
// WEIR_SAMPLES.
func BenchmarkSlice(b *testing.B) {
	samples, _ := filepath.Glob(filepath.Join(os.Getenv("WEIR_SAMPLES"), "*.log"))
	if os.Getenv("WEIR_SAMPLES") == "" || len(samples) == 0 {
		samples = []string{""}
	}
	for _, o := range []struct {
		name string
		block.Options
	}{
		{"1MiB", block.Options{RowGroupBytes: 1 << 20}},
		{"1MiB-pages", block.Options{RowGroupBytes: 1 << 20, Pages: true}},
		{"4MiB", block.Options{RowGroupBytes: 4 << 20, Level: column.LevelBetter}},
		{"4MiB-pages", block.Options{RowGroupBytes: 4 << 20, Level: column.LevelBetter, Pages: true}},
	} {
		for _, sample := range samples {
			name := o.name
			if sample != "" {
				name += "/" + strings.TrimSuffix(filepath.Base(sample), ".log")
			}
			b.Run(name, func(b *testing.B) { benchSlice(b, sliceRows(sample), o.Options) })
		}
	}
}

// disk is memory of which a short read takes not much longer than its bytes.
type disk struct{ memory }

func (*disk) Near() bool { return true }

func benchSlice(b *testing.B, rows *model.Rows, o block.Options) {
	var out bytes.Buffer
	w := block.NewWriter(&out, block.Meta{ID: "b", Tenant: "t", Ordered: true}, o)
	if err := w.Add(model.Labels{{Name: "app", Value: "a"}}, rows); err != nil {
		b.Fatal(err)
	}
	info, err := w.Close()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	m := &disk{memory{b: out.Bytes()}}
	r, err := block.Open(ctx, m, info.Size)
	if err != nil {
		b.Fatal(err)
	}
	s, err := r.ReadSection(ctx, 0)
	if err != nil {
		b.Fatal(err)
	}
	m.bytes = 0
	seconds := (info.MaxTime - info.MinTime) / 1e9
	var dst model.Rows
	begin := userTime()
	n := 0
	for i := int64(0); b.Loop(); i++ {
		from := info.MinTime + i*7919%seconds*1e9
		dst.Times, dst.Lines.Slab, dst.Lines.Ends = dst.Times[:0], dst.Lines.Slab[:0], dst.Lines.Ends[:0]
		for _, span := range r.Spans(0, from, from+1e9) {
			if least, greatest := r.GroupTimes(span.Group); greatest < from || least >= from+1e9 {
				continue
			}
			body, err := r.ReadBody(ctx, s, span.Group)
			if err != nil {
				b.Fatal(err)
			}
			times := body.Times()
			from, to := times.Within(span.From, span.To, from, from+1e9)
			if err := times.Err(); err != nil {
				b.Fatal(err)
			}
			if err := body.Rows(from, to, &dst); err != nil {
				b.Fatal(err)
			}
		}
		n += dst.Len()
	}
	per := 1 / float64(b.N)
	b.ReportMetric((userTime()-begin).Seconds()*1e3*per, "CPUms/op")
	b.ReportMetric(float64(m.bytes)/1e3*per, "KBread/op")
	b.ReportMetric(float64(n)*per, "lines/op")
	b.ReportMetric(float64(info.RawBytes+info.Rows)/float64(info.Size), "ratio")
}

// sliceRows is 16 MB of lines, 100 a second: made ones, or those of a file.
func sliceRows(path string) *model.Rows {
	rows := &model.Rows{}
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	add := func(line []byte) {
		rows.Times = append(rows.Times, begin+int64(len(rows.Times))*10e6)
		rows.Lines.Append(line)
	}
	if data, err := os.ReadFile(path); err == nil {
		for line := range bytes.Lines(data[:min(len(data), 16<<20)]) {
			add(bytes.TrimSuffix(line, []byte("\n")))
		}
		stamps, _ := os.ReadFile(strings.TrimSuffix(path, ".log") + ".ts")
		spread(rows.Times, bytes.Fields(stamps))
		return rows
	}
	for i := 0; len(rows.Lines.Slab) < 16<<20; i++ {
		x := uint64(i) * 0x9E3779B97F4A7C15
		at := time.Unix(0, begin+int64(i)*10e6).UTC().Format("2006-01-02 15:04:05.000")
		add(fmt.Appendf(nil, "%s %5d INFO dfs.DataNode$PacketResponder: PacketResponder %d for block blk_%d terminating, took %dms", at, x>>52, x>>62, x, x>>54))
	}
	return rows
}

// spread gives rows the times that are written, on average 100 in a second, ascending.
func spread(times []int64, stamps [][]byte) {
	if len(stamps) < len(times) {
		return
	}
	first, last := times[0], int64(0)
	for i := range times {
		x, err := strconv.ParseInt(string(stamps[i]), 10, 64)
		if err != nil {
			return
		}
		if last = max(x, last); i == 0 {
			first = last
		}
		times[i] = last
	}
	each := 10e6 * float64(len(times)) / float64(last-first)
	for i := range times {
		times[i] = first + int64(float64(times[i]-first)*each)
	}
}

// userTime returns the CPU time that the process took so far.
func userTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano())
}
