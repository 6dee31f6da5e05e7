package match_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/block/match"
)

// system is the lines of one system as a section, as its bytes alone, and as lines that
// are compressed in pieces.
type system struct {
	name      string
	raw       int // bytes of the lines, with what ends them
	bytes     []byte
	footer    int
	matrix    []byte
	zipped    [][]byte
	questions []question
	section   *lines.Section // opened
	region    *grams.Region
}

const zippedPiece = 256 << 10

// systems are made once for each size of the row groups.
var systems = map[int]func() []*system{
	1 << 20: sync.OnceValue(func() []*system { return makeSystems(1<<20, column.LevelDefault) }),
	4 << 20: sync.OnceValue(func() []*system { return makeSystems(4<<20, column.LevelBetter) }),
}

func makeSystems(size int, level column.Level) (out []*system) {
	dir := os.Getenv("WEIR_SAMPLES")
	if dir == "" {
		dir = samples
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".log")
		blocks, err := load(path, size)
		if err != nil {
			panic(err)
		}
		late(blocks)
		out = append(out, newSystem(name, blocks, level))
	}
	if len(out) == 0 {
		out = append(out, newSystem("made", service(30000), level))
	}
	return out
}

// late makes the entries' times a little later than those in the lines, as they are where
// lines are sent on, and ascending.
func late(blocks []block) {
	rng := rand.New(rand.NewPCG(5, 6))
	last := int64(0)
	for i := range blocks {
		for k, t := range blocks[i].times {
			if t += 1e6 + int64(rng.ExpFloat64()*30e6); t <= last {
				t = last + 1 + int64(rng.ExpFloat64()*20e3)
			}
			blocks[i].times[k], last = t, t
		}
	}
}

func newSystem(name string, blocks []block, level column.Level) *system {
	fail := failer{}
	built := buildAt(fail, level, blocks)
	n, err := lines.FooterSize(built.bytes)
	if err != nil {
		panic(err)
	}
	s := &system{name: name, raw: rawBytes(blocks), bytes: built.bytes, footer: int(n), matrix: built.matrix,
		questions: questions(name, blocks), section: built.section, region: built.region}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	var piece []byte
	for i := range blocks {
		for k := range blocks[i].lines.Len() {
			if piece = append(append(piece, blocks[i].lines.At(k)...), '\n'); len(piece) >= zippedPiece {
				s.zipped = append(s.zipped, w.EncodeAll(piece, nil))
				piece = piece[:0]
			}
		}
	}
	s.zipped = append(s.zipped, w.EncodeAll(piece, nil))
	return s
}

type failer struct{}

func (failer) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// open opens the section's footer and its gram matrix.
func (s *system) open() (*lines.Section, *grams.Region, error) {
	section, err := lines.OpenFooter(s.bytes[len(s.bytes)-s.footer:], int64(len(s.bytes)))
	if err != nil {
		return nil, nil, err
	}
	region, err := grams.Open(s.matrix, true)
	return section, region, err
}

func (s *system) body(section *lines.Section, i int) (*lines.Body, error) {
	k := &section.Blocks[i]
	return section.Body(i, s.bytes[k.Offset:k.Offset+k.Size])
}

// count counts the rows that match a filter, in bodies that are opened for it.
func (s *system) count(section *lines.Section, region *grams.Region, f match.Filter) (rows int, err error) {
	p, err := match.Compile([]match.Filter{f})
	if err != nil {
		return 0, err
	}
	sp := p.Section(section, region)
	var bm match.Bitmap
	for i := range section.Blocks {
		n := section.Blocks[i].Rows
		if known, ok := sp.Count(i); ok {
			rows += known
			continue
		}
		body, err := s.body(section, i)
		if err != nil {
			return 0, err
		}
		if err := sp.Rows(i, body, 0, n, &bm); err != nil {
			return 0, err
		}
		rows += bm.Count()
	}
	return rows, nil
}

// scan counts the lines that match in pieces that are decompressed.
func (s *system) scan(d *zstd.Decoder, pieces [][]byte, f match.Filter) (rows, size int, err error) {
	p, err := match.Compile([]match.Filter{f})
	if err != nil {
		return 0, 0, err
	}
	var piece []byte
	for _, z := range pieces {
		if piece, err = d.DecodeAll(z, piece[:0]); err != nil {
			return 0, 0, err
		}
		size += len(piece)
		for rest := piece; len(rest) > 0; {
			i := bytes.IndexByte(rest, '\n')
			if p.Match(rest[:i]) {
				rows++
			}
			rest = rest[i+1:]
		}
	}
	return rows, size, nil
}

const minute = 60e9

type minuteClass struct {
	minute int64
	class  int
}

// perMinute counts rows by minute and by whether their template speaks of errors.
func (s *system) perMinute(section *lines.Section, _ *grams.Region) (map[minuteClass]int, error) {
	out := map[minuteClass]int{}
	classes := make([]uint8, len(section.Table.Templates))
	for i := range classes {
		if bytes.Contains(section.Table.Templates[i].Text, []byte("rror")) {
			classes[i] = 1
		}
	}
	for i := range section.Blocks {
		k := &section.Blocks[i]
		own := make([]uint8, len(k.Templates))
		for t, c := range k.Templates {
			own[t] = classes[c.Template]
			if k.MinTime/minute == k.MaxTime/minute {
				out[minuteClass{k.MinTime / minute, int(own[t])}] += int(c.Rows)
			}
		}
		if k.MinTime/minute == k.MaxTime/minute {
			continue
		}
		body, err := s.body(section, i)
		if err != nil {
			return nil, err
		}
		times, err := body.SharedTimes()
		if err != nil {
			return nil, err
		}
		templates, err := body.RowTemplates()
		if err != nil {
			return nil, err
		}
		var counts [2]int
		at, next := int64(0), int64(math.MinInt64)
		for r, t := range times {
			if t >= next || t < next-minute {
				for class, n := range counts {
					if n > 0 {
						out[minuteClass{at, class}] += n
					}
				}
				counts = [2]int{}
				at = t / minute
				next = (at + 1) * minute
			}
			counts[own[templates[r]]]++
		}
		for class, n := range counts {
			if n > 0 {
				out[minuteClass{at, class}] += n
			}
		}
	}
	return out, nil
}

// BenchmarkClasses answers one filter of each class over each system and reports the
// geometric mean over the systems, in gigabytes of lines per second of CPU time; the log
// has each system's. A footer is opened for every filter, or is kept open; bodies are
// opened in either case. In 0.9 of every class brute force must be slower: all lines
// decompressed and looked at.
func BenchmarkClasses(b *testing.B) {
	for _, size := range []int{4 << 20, 1 << 20} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			all := systems[size]()
			for _, kept := range []bool{false, true} {
				b.Run(fmt.Sprintf("kept=%v", kept), func(b *testing.B) {
					for _, class := range classesOf(all) {
						b.Run(strings.NewReplacer(" ", "-", ",", "").Replace(class), func(b *testing.B) { answer(b, all, class, kept) })
					}
					b.Run("per-minute", func(b *testing.B) {
						overSystems(b, all, "", func(s *system) (int, error) {
							section, region, err := s.section, s.region, error(nil)
							if !kept {
								section, region, err = s.open()
							}
							if err == nil {
								_, err = s.perMinute(section, region)
							}
							return s.raw, err
						})
					})
				})
			}
		})
	}
	b.Run("brute-force", func(b *testing.B) {
		all := systems[4<<20]()
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		for _, class := range classesOf(all) {
			b.Run(strings.NewReplacer(" ", "-", ",", "").Replace(class), func(b *testing.B) {
				overSystems(b, all, class, func(s *system) (int, error) {
					f, ok := s.question(class)
					if !ok {
						return 0, nil
					}
					pieces := s.zipped
					if f.Any[0].Regexp != "" || f.Any[0].Fold {
						pieces = pieces[:min(len(pieces), 4)] // the others take as long
					}
					rows, size, err := s.scan(d, pieces, f)
					if err == nil && len(pieces) == len(s.zipped) {
						var got int
						if got, err = s.count(s.section, s.region, f); err == nil && got != rows {
							err = fmt.Errorf("%v in %s: %d rows, brute force finds %d", f, s.name, got, rows)
						}
					}
					return size, err
				})
			})
		}
	})
}

func (s *system) question(class string) (match.Filter, bool) {
	for _, q := range s.questions {
		if q.class == class {
			return q.filter, true
		}
	}
	return match.Filter{}, false
}

// classesOf returns the classes that any system has.
func classesOf(all []*system) (out []string) {
	seen := map[string]bool{}
	for _, s := range all {
		for _, q := range s.questions {
			if !seen[q.class] {
				seen[q.class] = true
				out = append(out, q.class)
			}
		}
	}
	return out
}

func answer(b *testing.B, all []*system, class string, kept bool) {
	overSystems(b, all, class, func(s *system) (int, error) {
		f, ok := s.question(class)
		if !ok {
			return 0, nil
		}
		section, region := s.section, s.region
		if !kept {
			var err error
			if section, region, err = s.open(); err != nil {
				return 0, err
			}
		}
		_, err := s.count(section, region, f)
		return s.raw, err
	})
}

// overSystems runs a question over each system for a while and reports the geometric mean
// of the gigabytes that it answers for per second of CPU time.
func overSystems(b *testing.B, all []*system, class string, ask func(*system) (bytes int, err error)) {
	const atLeast = 20e-3 // seconds
	took, size := make([]float64, len(all)), make([]float64, len(all))
	for b.Loop() {
		for i, s := range all {
			from := cpu()
			for {
				n, err := ask(s)
				if err != nil {
					b.Fatal(err)
				}
				size[i] += float64(n) / 1e9
				if n == 0 || cpu()-from > atLeast {
					break
				}
			}
			took[i] += cpu() - from
		}
	}
	var detail strings.Builder
	sum, n := 0.0, 0
	for i, s := range all {
		if size[i] > 0 {
			speed := size[i] / took[i]
			sum += math.Log(speed)
			n++
			fmt.Fprintf(&detail, " %s %.4g", s.name, speed)
			if f, ok := s.question(class); ok {
				fmt.Fprintf(&detail, " for %q;", cmp.Or(f.Any[0].Literal, f.Any[0].Regexp))
			}
		}
	}
	b.Logf("GB per second of CPU time:%s", detail.String())
	b.ReportMetric(math.Exp(sum/float64(n)), "GB/cpu-s")
}
