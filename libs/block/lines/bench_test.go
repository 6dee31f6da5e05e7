package lines_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// made is lines as many services write them, for machines without samples.
func made(rows int) block {
	var b block
	for i := range rows {
		x := uint64(i) * 0x9E3779B97F4A7C15
		switch i % 4 {
		case 0:
			b.lines.AppendString(fmt.Sprintf(`level=info component=api msg="request done" method=GET path=/v1/items/%d status=%d duration=%dms trace=%016x`, x%5000, 200+x>>60, x>>54, x))
		case 1:
			b.lines.AppendString(fmt.Sprintf(`{"level":"debug","worker":%d,"queue":"orders","depth":%d,"peer":"10.3.%d.%d"}`, x%16, x>>50, x>>32&255, x>>40&255))
		case 2:
			b.lines.AppendString(fmt.Sprintf("accepted connection from 192.168.%d.%d:%d", x>>8&255, x>>16&255, 1024+x>>48))
		default:
			b.lines.AppendString(fmt.Sprintf("level=warn component=cache msg=\"slow eviction\" shard=%d took=%d.%03ds", x%32, x>>62, x>>50%1000))
		}
		b.times = append(b.times, 1772323199e9+int64(i)*10e6+int64(x>>44))
	}
	return b
}

func benchBlocks(b *testing.B, run func(b *testing.B, blocks []block)) {
	size := 1 << 20 // as block objects cut row groups
	if n, err := strconv.Atoi(os.Getenv("WEIR_ROW_GROUP")); err == nil {
		size = n
	}
	b.Run("made", func(b *testing.B) { run(b, cut(made(30000), size)) })
	dir := os.Getenv("WEIR_SAMPLES")
	if dir == "" {
		dir = samples
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range paths {
		b.Run(strings.TrimSuffix(filepath.Base(path), ".log"), func(b *testing.B) { run(b, cut(sample(b, path, 64<<20), size)) })
	}
}

// cut cuts lines into blocks of about size bytes.
func cut(all block, size int) (blocks []block) {
	for from := 0; from < len(all.times); {
		k := block{}
		for ; from < len(all.times) && len(k.lines.Slab) < size; from++ {
			k.lines.Append(all.lines.At(from))
			k.times = append(k.times, all.times[from])
		}
		blocks = append(blocks, k)
	}
	return blocks
}

func rawBytes(blocks []block) int64 {
	n := 0
	for i := range blocks {
		n += len(blocks[i].lines.Slab) + len(blocks[i].times)
	}
	return int64(n)
}

// userTime returns the CPU time that the process took so far: other than the wall
// clock's it says something on a busy machine too.
func userTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano())
}

func BenchmarkEncode(b *testing.B) { benchEncode(b, nil) }

// BenchmarkEncodeGrams encodes with the gram matrix, as block objects have it.
func BenchmarkEncodeGrams(b *testing.B) { benchEncode(b, grams.NewBuilder(grams.DefaultShare)) }

func benchEncode(b *testing.B, g *grams.Builder) {
	benchBlocks(b, func(b *testing.B, blocks []block) {
		level := column.LevelDefault
		if os.Getenv("WEIR_LEVEL") == "better" {
			level = column.LevelBetter
		}
		builder := lines.NewBuilder(level)
		builder.SetGrams(g)
		b.SetBytes(rawBytes(blocks))
		b.ReportAllocs()
		size, templates := 0, 0
		begin := userTime()
		for b.Loop() {
			builder.Reset()
			if g != nil {
				g.Reset()
			}
			for i := range blocks {
				s, err := builder.Add(&blocks[i].lines, blocks[i].times, nil)
				if err != nil {
					b.Fatal(err)
				}
				templates = s.Templates
			}
			size = len(builder.Finish())
			if g != nil {
				size += len(g.Finish())
			}
		}
		b.ReportMetric(float64(rawBytes(blocks))*float64(b.N)/1e6/(userTime()-begin).Seconds(), "MB/CPUs")
		b.ReportMetric(float64(rawBytes(blocks))/float64(size), "ratio")
		b.ReportMetric(float64(size)/1e6, "MB")
		b.ReportMetric(float64(templates), "templates")
	})
}

func BenchmarkDecode(b *testing.B) {
	benchBlocks(b, func(b *testing.B, blocks []block) {
		s, err := lines.Open(build(b, column.LevelDefault, blocks))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(rawBytes(blocks))
		b.ReportAllocs()
		var rows model.Rows
		begin := userTime()
		for b.Loop() {
			for i := range s.Blocks {
				rows.Times, rows.Lines.Ends, rows.Lines.Slab = rows.Times[:0], rows.Lines.Ends[:0], rows.Lines.Slab[:0]
				if err := s.Decode(i, &rows); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(rawBytes(blocks))*float64(b.N)/1e6/(userTime()-begin).Seconds(), "MB/CPUs")
	})
}
