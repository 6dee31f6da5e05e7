package blockstore_test

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// corpus is blocks that needles are looked for in.
type corpus struct {
	cache  *blockstore.Cache
	stores []*blockstore.Store
	files  []*blockFile
	sample []string // lines
}

// blockFile is a block in a file of the local disk.
type blockFile struct {
	file *os.File
	read atomic.Int64 // bytes
}

func (*blockFile) Near() bool { return true }

func (f *blockFile) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	f.read.Add(int64(n))
	b := make([]byte, n)
	_, err := f.file.ReadAt(b, off)
	return b, err
}

// drop has the system forget the file's pages.
func (f *blockFile) drop(b *testing.B) {
	const dontNeed = 4
	if _, _, e := syscall.Syscall6(syscall.SYS_FADVISE64, f.file.Fd(), 0, 0, dontNeed, 0, 0); e != 0 {
		b.Fatal(e)
	}
}

// openCorpus opens the blocks of a store in files, under $WEIR_BLOCKS. The cache for parts of
// them has $WEIR_BLOCKS_CACHE MiB, or room for all.
func openCorpus(b *testing.B) *corpus {
	dir := os.Getenv("WEIR_BLOCKS")
	if dir == "" {
		b.Skip("WEIR_BLOCKS names no directory of blocks")
	}
	room := 8 << 10
	if s := os.Getenv("WEIR_BLOCKS_CACHE"); s != "" {
		var err error
		if room, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	c := &corpus{cache: blockstore.NewCache(int64(room)<<20, nil)}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "index" {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		b.Cleanup(func() { file.Close() })
		info, err := file.Stat()
		if err != nil {
			return err
		}
		f := &blockFile{file: file}
		r, err := block.Open(context.Background(), f, info.Size())
		if err != nil {
			return err
		}
		c.files = append(c.files, f)
		c.stores = append(c.stores, blockstore.NewStore(r, c.cache))
		return c.take(r)
	})
	if err != nil || len(c.stores) == 0 {
		b.Fatal("no blocks", err)
	}
	return c
}

// take takes a sample of the lines of a block.
func (c *corpus) take(r *block.Reader) error {
	rnd := rand.New(rand.NewPCG(7, 7))
	for group := 0; group < r.RowGroups(); group += 5 {
		n, _ := r.Place(group)
		s, err := r.ReadSection(context.Background(), n)
		if err != nil {
			return err
		}
		body, err := r.ReadBody(context.Background(), s, group)
		if err != nil {
			return err
		}
		rows := map[uint32]bool{}
		for range 30 {
			rows[uint32(rnd.IntN(body.Info().Rows))] = true
		}
		var list []uint32
		for row := range rows {
			list = append(list, row)
		}
		slices.Sort(list)
		var out model.Rows
		if err := body.Select(list, &out); err != nil {
			return err
		}
		for i := range out.Lines.Ends {
			c.sample = append(c.sample, string(out.Lines.At(i)))
		}
	}
	return nil
}

// count returns how many lines of the corpus a filter keeps.
func (c *corpus) count(b *testing.B, f *syntax.LineFilter) int {
	type part struct {
		of     engine.Counter
		number int
	}
	var parts []part
	for _, s := range c.stores {
		sn, err := s.Open(context.Background(), nil, math.MinInt64, math.MaxInt64)
		if err != nil {
			b.Fatal(err)
		}
		defer sn.Close()
		sel := sn.(engine.Selective).Select(context.Background(), &engine.Need{Filters: []*syntax.LineFilter{f}}).(engine.Counter)
		for n := range sel.Parts() {
			parts = append(parts, part{sel, n})
		}
	}
	var rows atomic.Int64
	engine.Spread(len(parts), func(i int) {
		p := parts[i]
		if _, _, err := p.of.Count(p.number, func(int64) (int, int64) { return 0, math.MaxInt64 }, func(_, _, n int) error { rows.Add(int64(n)); return nil }); err != nil {
			b.Error(err)
		}
	})
	return int(rows.Load())
}

func text(r *rand.Rand, alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

const hexDigits, alphanumeric = "0123456789abcdef", "0123456789abcdefghijklmnopqrstuvwxyz"

var syllables = []string{"bar", "con", "tru", "flex", "gor", "min", "pel", "zan", "qui", "vor", "tem", "lus", "kra", "dis", "fum", "wex", "ion", "ate"}

// needles are of one kind; those of the second part are cut out of lines.
var needleKinds = []struct {
	name string
	make func(r *rand.Rand, sample []string) string
}{
	{"absent-hex16", func(r *rand.Rand, _ []string) string { return text(r, hexDigits, 16) }},
	{"absent-zq20", func(r *rand.Rand, _ []string) string { return "zq" + text(r, alphanumeric, 18) }},
	{"absent-uuid", func(r *rand.Rand, _ []string) string {
		return text(r, hexDigits, 8) + "-" + text(r, hexDigits, 4) + "-4" + text(r, hexDigits, 3) + "-a" + text(r, hexDigits, 3) + "-" + text(r, hexDigits, 12)
	}},
	{"absent-word", func(r *rand.Rand, _ []string) (s string) {
		for len(s) < 10 {
			s += syllables[r.IntN(len(syllables))]
		}
		return s
	}},
	{"absent-pod", func(r *rand.Rand, _ []string) string {
		return []string{"checkout", "payments", "frontend", "ingester"}[r.IntN(4)] + "-" + text(r, hexDigits, 10) + "-" + text(r, "bcdfghjklmnpqrstvwxz2456789", 5)
	}},
	{"absent-path", func(r *rand.Rand, _ []string) string {
		return []string{"/static/img/", "/api/v2/", "/var/lib/", "/usr/share/"}[r.IntN(4)] + syllables[r.IntN(len(syllables))] + syllables[r.IntN(len(syllables))] + "/" + syllables[r.IntN(len(syllables))]
	}},
	{"absent-dotted", func(r *rand.Rand, _ []string) string {
		return fmt.Sprintf("%d.%d.%d.", 10+r.IntN(200), r.IntN(256), r.IntN(256))
	}},
	{"id-hex>=16", cutID(func(s string) bool { return len(s) >= 16 && hexOnly(s) && !digitsOnly(s) }, 0)},
	{"id-hex9-15", cutID(func(s string) bool { return len(s) >= 9 && len(s) < 16 && hexOnly(s) && !digitsOnly(s) }, 0)},
	{"id-hex6-8", cutID(func(s string) bool { return len(s) >= 6 && len(s) < 9 && hexOnly(s) && !digitsOnly(s) }, 0)},
	{"id-alnum>=9", cutID(func(s string) bool { return len(s) >= 9 && !hexOnly(s) }, 0)},
	{"id-alnum6-8", cutID(func(s string) bool { return len(s) >= 6 && len(s) < 9 && !hexOnly(s) }, 0)},
	{"id-digits>=11", cutID(func(s string) bool { return len(s) >= 11 && digitsOnly(s) }, 0)},
	{"id-digits8-10", cutID(func(s string) bool { return len(s) >= 8 && len(s) < 11 && digitsOnly(s) }, 0)},
	{"id-digits6-7", cutID(func(s string) bool { return len(s) >= 6 && len(s) < 8 && digitsOnly(s) }, 0)},
	{"piece-hex8", cutID(func(s string) bool { return len(s) >= 10 && hexOnly(s) && !digitsOnly(s) }, 8)},
	{"piece-hex12", cutID(func(s string) bool { return len(s) >= 14 && hexOnly(s) && !digitsOnly(s) }, 12)},
	{"piece-digits8", cutID(func(s string) bool { return len(s) >= 10 && digitsOnly(s) }, 8)},
}

func hexOnly(s string) bool    { return strings.Trim(s, hexDigits) == "" }
func digitsOnly(s string) bool { return strings.Trim(s, "0123456789") == "" }

// cutID cuts identifiers that are as wanted out of lines, or pieces of n bytes.
func cutID(wanted func(string) bool, n int) func(r *rand.Rand, sample []string) string {
	return func(r *rand.Rand, sample []string) string {
		for range 3000 {
			ids := strings.FieldsFunc(sample[r.IntN(len(sample))], func(c rune) bool { return !strings.ContainsRune(alphanumeric+"ABCDEFGHIJKLMNOPQRSTUVWXYZ", c) })
			ids = slices.DeleteFunc(ids, func(s string) bool { return !strings.ContainsAny(s, "0123456789") || !wanted(s) })
			if len(ids) == 0 {
				continue
			}
			s := ids[r.IntN(len(ids))]
			if n > 0 {
				at := 1 + r.IntN(len(s)-n-1)
				s = s[at : at+n]
			}
			return s
		}
		return ""
	}
}

func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}

// BenchmarkNeedles looks for rare and absent needles of each kind in all of a corpus, the
// footers of which are open: in row groups that are, and ones that have to be opened, from
// files of which the system has no pages. Row groups are searched in parallel, as queriers do.
// It reports milliseconds a needle, of all time and of CPU time, and what was read.
func BenchmarkNeedles(b *testing.B) {
	c := openCorpus(b)
	for _, kind := range needleKinds {
		b.Run(kind.name, func(b *testing.B) {
			needles := c.needles(b, kind.make)
			for _, opened := range []bool{true, false} {
				b.Run(fmt.Sprintf("open=%v", opened), func(b *testing.B) { c.measure(b, needles, opened) })
			}
		})
	}
}

// mostNeedles is how many needles of a kind there are.
const mostNeedles = 30

// needles makes needles that few lines hold.
func (c *corpus) needles(b *testing.B, make func(r *rand.Rand, sample []string) string) (out []*syntax.LineFilter) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 4 * mostNeedles {
		if s := make(r, c.sample); s != "" && len(out) < mostNeedles {
			f := &syntax.LineFilter{Op: syntax.LineContains, Alternatives: []syntax.LineMatch{{Text: s}}}
			if c.count(b, f) <= 40 {
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 {
		b.Skip("no such needles")
	}
	return out
}

func (c *corpus) measure(b *testing.B, needles []*syntax.LineFilter, opened bool) {
	var cpu, wall []float64
	hits, read := 0, 0
	for b.Loop() {
		for _, f := range needles {
			c.cache.Drop(!opened)
			for _, f := range c.files {
				if f.read.Store(0); !opened {
					f.drop(b)
				}
			}
			from, begun := cpuTime(), time.Now()
			hits += c.count(b, f)
			cpu, wall = append(cpu, cpuTime()-from), append(wall, time.Since(begun).Seconds()*1e3)
			for _, f := range c.files {
				read += int(f.read.Load())
			}
		}
	}
	report := func(all []float64, unit string) {
		sum := 0.0
		for _, x := range all {
			sum += x
		}
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], "median-"+unit)
		b.ReportMetric(sum/float64(len(all)), "mean-"+unit)
	}
	report(wall, "ms")
	report(cpu, "cpu-ms")
	b.ReportMetric(float64(read)/float64(len(wall))/1e3, "kB/needle")
	b.ReportMetric(float64(hits)/float64(len(wall)), "hits")
}
