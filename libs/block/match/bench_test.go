package match_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Benchmarks are over logs in $WEIR_SAMPLES, NAME.log with the entries' times in
// NAME.ts, else over the samples, else over made lines. Speeds are in bytes of lines
// per second of CPU time, not of the clock.
func corpora(b *testing.B, blockBytes int, run func(b *testing.B, blocks []block)) {
	dir := os.Getenv("WEIR_SAMPLES")
	if dir == "" {
		dir = samples
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	if len(paths) == 0 {
		b.Run("made", func(b *testing.B) { run(b, service(30000)) })
	}
	for _, path := range paths {
		b.Run(strings.TrimSuffix(filepath.Base(path), ".log"), func(b *testing.B) {
			blocks, err := load(path, blockBytes)
			if err != nil {
				b.Fatal(err)
			}
			run(b, blocks)
		})
	}
}

func load(path string, blockBytes int) ([]block, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	times, _ := os.ReadFile(strings.TrimSuffix(path, ".log") + ".ts")
	var blocks []block
	now := start
	for len(data) > 0 {
		var k block
		for len(data) > 0 && len(k.lines.Slab) < blockBytes && k.lines.Len() < lines.MaxRows {
			line, rest, _ := bytes.Cut(data, []byte("\n"))
			data = rest
			now += 1e7
			t := now
			if len(times) > 0 {
				s, rest, _ := bytes.Cut(times, []byte("\n"))
				times = rest
				if t, err = strconv.ParseInt(string(s), 10, 64); err != nil {
					return nil, err
				}
			} else {
				t = timeOf(line, now)
			}
			k.add(string(line), t)
		}
		blocks = append(blocks, k)
	}
	return blocks, nil
}

// service is lines as services write them.
func service(rows int) []block {
	var blocks []block
	for i := range rows {
		if i%10000 == 0 {
			blocks = append(blocks, block{})
		}
		x := uint64(i) * 0x9E3779B97F4A7C15
		b := &blocks[len(blocks)-1]
		t := start + int64(i)*10e6 + int64(x>>44)
		switch i % 4 {
		case 0:
			b.add(fmt.Sprintf(`level=info component=api msg="request done" method=GET path=/v1/items/%d status=%d duration=%dms trace=%016x`, x%5000, 200+x>>60, x>>54, x), t)
		case 1:
			b.add(fmt.Sprintf(`{"level":"debug","worker":%d,"queue":"orders","depth":%d,"peer":"10.3.%d.%d"}`, x%16, x>>50, x>>32&255, x>>40&255), t)
		case 2:
			b.add(fmt.Sprintf("accepted connection from 192.168.%d.%d:%d", x>>8&255, x>>16&255, 1024+x>>48), t)
		default:
			b.add(fmt.Sprintf("level=warn component=cache msg=\"slow eviction\" shard=%d took=%d.%03ds", x%32, x>>62, x>>50%1000), t)
		}
	}
	return blocks
}

func rawBytes(blocks []block) (n int) {
	for i := range blocks {
		n += len(blocks[i].lines.Slab) + len(blocks[i].times)
	}
	return n
}

func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// measure runs a benchmark's loop and reports megabytes per second of CPU time.
func measure(b *testing.B, bytes int, f func()) {
	n := 0
	from := cpu()
	for b.Loop() {
		f()
		n++
	}
	if took := cpu() - from; took > 0 {
		b.ReportMetric(float64(bytes)*float64(n)/1e6/took, "MB/cpu-s")
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, with := range []bool{true, false} {
		b.Run(fmt.Sprintf("grams=%v", with), func(b *testing.B) {
			corpora(b, 4<<20, func(b *testing.B, blocks []block) {
				g := grams.NewBuilder(grams.DefaultShare)
				builder := lines.NewBuilder(column.LevelDefault)
				if with {
					builder.SetGrams(g)
				}
				size, matrix := 0, 0
				measure(b, rawBytes(blocks), func() {
					builder.Reset()
					g.Reset()
					for i := range blocks {
						if _, err := builder.Add(&blocks[i].lines, blocks[i].times, nil); err != nil {
							b.Fatal(err)
						}
					}
					size, matrix = len(builder.Finish()), len(g.Finish())
				})
				b.ReportMetric(float64(rawBytes(blocks))/float64(size+matrix), "ratio")
				b.ReportMetric(100*float64(matrix)/float64(size+matrix), "grams-%")
			})
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	corpora(b, 4<<20, func(b *testing.B, blocks []block) {
		s := build(b, blocks)
		var rows model.Rows
		measure(b, rawBytes(blocks), func() {
			for i := range s.section.Blocks {
				rows.Times, rows.Lines.Ends, rows.Lines.Slab = rows.Times[:0], rows.Lines.Ends[:0], rows.Lines.Slab[:0]
				if err := s.section.Decode(i, &rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// Ratio at block sizes: everything included.
func BenchmarkBlockSize(b *testing.B) {
	for _, size := range []int{1 << 20, 2 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			corpora(b, size, func(b *testing.B, blocks []block) {
				var s *store
				measure(b, rawBytes(blocks), func() { s = buildAt(b, column.LevelDefault, blocks) })
				b.ReportMetric(float64(rawBytes(blocks))/float64(len(s.bytes)+len(s.matrix)), "ratio")
				b.ReportMetric(float64(len(s.bytes))/float64(len(blocks))/1e3, "kB/block")
				n := int64(0)
				for _, k := range s.section.Blocks {
					n += k.Size
				}
				b.ReportMetric(float64(len(s.bytes)-int(n))/1e3, "kB-footer")
			})
		})
	}
}
