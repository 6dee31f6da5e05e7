package grams_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

type block struct {
	lines  model.Strings
	times  []int64
	values []string
}

const start = int64(1772368215e9)

func (b *block) add(line string) {
	b.lines.AppendString(line)
	b.times = append(b.times, start+int64(len(b.times))*1e6)
}

func build(t interface{ Fatal(...any) }, share float64, blocks []block) ([]byte, []byte) {
	g := grams.NewBuilder(share)
	b := lines.NewBuilder(column.LevelFastest)
	b.SetGrams(g)
	for i := range blocks {
		for _, v := range blocks[i].values {
			g.AddValue([]byte("trace"), []byte(v))
		}
		if _, err := b.Add(&blocks[i].lines, blocks[i].times, nil); err != nil {
			t.Fatal(err)
		}
	}
	return b.Finish(), g.Finish()
}

// made is lines of many shapes.
func made(r *rand.Rand, n int) (b block) {
	words := []string{"failed", "user", "GET", "/api/v1", "Kernel", "ſtreet", "k8s", "dead", "beef", "a1b2", "cafe.", "abcdefab x", "0123456789abcdef", "."}
	for range n {
		var s strings.Builder
		for range r.IntN(9) {
			switch r.IntN(9) {
			case 0:
				fmt.Fprintf(&s, "%d", r.Uint64()>>r.IntN(64))
			case 1:
				fmt.Fprintf(&s, "%x", r.Uint64()>>r.IntN(64))
			case 2:
				fmt.Fprintf(&s, "%d.%d.%d.%d", r.IntN(300), r.IntN(300), r.IntN(20), r.IntN(256))
			case 3:
				fmt.Fprintf(&s, "%X%x", r.Uint64(), r.Uint64())
			case 4:
				s.WriteByte(byte(r.IntN(256)))
			case 5:
				s.WriteByte(" .:-=\""[r.IntN(6)])
			default:
				s.WriteString(words[r.IntN(len(words))])
			}
		}
		b.add(s.String())
	}
	return b
}

// A matrix built from pieces is the one built from whole lines by the definition.
func TestPiecesGiveTheBitsOfWholeLines(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		var blocks []block
		for range 1 + r.IntN(5) {
			blocks = append(blocks, made(r, 1+r.IntN(600)))
		}
		for _, share := range []float64{0.05, 1} {
			_, matrix := build(t, share, blocks)
			region, err := grams.Open(matrix, true)
			if err != nil {
				t.Fatal(err)
			}
			if region.Blocks() != len(blocks) {
				t.Fatalf("%d blocks of %d", region.Blocks(), len(blocks))
			}
			for i := range blocks {
				if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
					t.Fatalf("seed %d, share %g, block %d: %s", seed, share, i, diff)
				}
			}
		}
	}
}

// So is one of lines that differ from the ones before by a byte next to a run of digits,
// which is shorter or longer by it: grams of another class are looked at again.
func TestRunsOfDigitsThatGetShorterOrLonger(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 9))
		var b block
		for range 200 {
			n := 11 + 8*r.IntN(2)
			digits := fmt.Sprintf("%020d", r.Uint64())[20-n:]
			for _, c := range "axbxgf"[r.IntN(3):] {
				b.add(fmt.Sprintf("id %c%s end %s%c", c, digits, digits, c))
			}
		}
		for _, share := range []float64{0.05, 0.2, 1} {
			_, matrix := build(t, share, []block{b})
			region, err := grams.Open(matrix, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := grams.Compare(region, 0, &b.lines); diff != "" {
				t.Fatalf("seed %d, share %g: %s", seed, share, diff)
			}
		}
	}
}

// So is one of lines with short slots, some of which are next to digits and dots.
func TestShortSlotsGiveTheBitsOfWholeLines(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 12))
		form := ""
		for range 8 {
			form += []string{"%d", "%x", "%03d", "id%d", "1000.7.%d"}[r.IntN(5)] + []string{".", ".", "-", "-", ":", " ", "=", " behind "}[r.IntN(8)]
		}
		var b block
		for range 1500 {
			values := make([]any, 8)
			for i := range values {
				values[i] = []int{r.IntN(3), 1000 + r.IntN(2), 0xabc00 + r.IntN(2), r.IntN(2000)}[r.IntN(4)]
			}
			b.add(fmt.Sprintf("key "+form, values...))
		}
		for _, share := range []float64{0.05, 1} {
			_, matrix := build(t, share, []block{b})
			region, err := grams.Open(matrix, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := grams.Compare(region, 0, &b.lines); diff != "" {
				t.Fatalf("seed %d, share %g, %s: %s", seed, share, form, diff)
			}
		}
	}
}

// So is one of lines of which templates and shapes are known from the section before,
// some of whose words are long.
func TestKnownLinesGiveTheBitsOfWholeLines(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 4))
		g := grams.NewBuilder(grams.DefaultShare)
		b := lines.NewBuilder(column.LevelFastest)
		b.SetGrams(g)
		for section := range 4 {
			g.Reset()
			if section > 0 {
				b.Begin(b.Learnt(r.IntN(2) == 0))
			}
			var blocks []block
			for range 1 + r.IntN(3) {
				k := made(r, r.IntN(100))
				for range 800 {
					agent := make([]string, 1+r.IntN(12))
					for i := range agent {
						agent[i] = []string{"Mozilla/5.0", "deadbeef", "(X11;", "like", "ab.1.2", "KHTML", strings.Repeat("word", r.IntN(9))}[r.IntN(7)]
					}
					k.add(fmt.Sprintf(`GET /%s/%d "%s" %x`, strings.Repeat("path", r.IntN(12))+string(rune('a'+r.IntN(26))), r.IntN(1e6), strings.Join(agent, " "), r.Uint32()))
				}
				blocks = append(blocks, k)
				if _, err := b.Add(&k.lines, k.times, nil); err != nil {
					t.Fatal(err)
				}
			}
			b.Finish()
			region, err := grams.Open(g.Finish(), true)
			if err != nil {
				t.Fatal(err)
			}
			for i := range blocks {
				if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
					t.Fatalf("seed %d, section %d, block %d: %s", seed, section, i, diff)
				}
			}
		}
	}
}

// samples are real logs, used where they are at hand.
var samples = filepath.Join("..", "..", "..", "..", "shared", "corpus", "samples")

func TestSamplesGiveTheBitsOfWholeLines(t *testing.T) {
	paths, _ := filepath.Glob(filepath.Join(samples, "*.log"))
	if len(paths) == 0 {
		t.Skip("no samples in " + samples)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var blocks []block
			for len(data) > 0 && len(blocks) < 6 {
				var b block
				for len(data) > 0 && len(b.lines.Slab) < 256<<10 {
					line, rest, _ := bytes.Cut(data, []byte("\n"))
					b.add(string(line))
					data = rest
				}
				blocks = append(blocks, b)
			}
			section, matrix := build(t, grams.DefaultShare, blocks)
			region, err := grams.Open(matrix, true)
			if err != nil {
				t.Fatal(err)
			}
			for i := range blocks {
				if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
					t.Fatalf("block %d: %s", i, diff)
				}
			}
			t.Logf("%.1f%% of stored, %s", 100*float64(len(matrix))/float64(len(section)), grams.Describe(region))
		})
	}
}

// No block that holds a needle is ever ruled out.
func TestNeedlesAreFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var blocks []block
	for range 70 { // more than one group
		blocks = append(blocks, made(r, 60))
	}
	_, matrix := build(t, grams.DefaultShare, blocks)
	region, err := grams.Open(matrix, true)
	if err != nil {
		t.Fatal(err)
	}
	ruled, draws := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		b := &blocks[rapid.IntRange(0, len(blocks)-1).Draw(t, "block")]
		line := b.lines.At(rapid.IntRange(0, b.lines.Len()-1).Draw(t, "row"))
		from := rapid.IntRange(0, len(line)).Draw(t, "from")
		needle := line[from : from+rapid.IntRange(0, len(line)-from).Draw(t, "length")]
		set := region.Needle(needle, false)
		for i := range blocks {
			if !set.Has(i) {
				ruled++
				if bytes.Contains(blocks[i].lines.Slab, needle) && contains(&blocks[i].lines, needle) {
					t.Fatalf("block %d holds %q", i, needle)
				}
			}
		}
		lower := []byte(strings.ToLower(string(needle)))
		if !regexp.MustCompile(`^[\x00-\x7f]*$`).Match(lower) {
			return
		}
		re := regexp.MustCompile("(?i)" + regexp.QuoteMeta(string(lower)))
		set = region.Needle(lower, true)
		for i := range blocks {
			if !set.Has(i) && matches(&blocks[i].lines, re) {
				t.Fatalf("block %d holds %v", i, re)
			}
		}
	})
	if draws >= 100 && ruled == 0 { // else it was run for less
		t.Error("no block was ever ruled out")
	}
}

// Needles in runs of digits that are no longer than what is asked for are found, and more is
// ruled out than without it.
func TestNeedlesAreFoundInShortRuns(t *testing.T) {
	ruled, more := 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 8))
		var blocks []block
		for range 4 {
			blocks = append(blocks, made(r, 150))
		}
		_, matrix := build(t, []float64{0.005, 0.02, 0.05}[r.IntN(3)], blocks)
		region, err := grams.Open(matrix, true)
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			block := r.IntN(len(blocks))
			line := bytes.Clone(blocks[block].lines.At(r.IntN(blocks[block].lines.Len())))
			for i, c := range line {
				if c-'A' < 26 {
					line[i] = c | 0x20
				}
			}
			if len(line) == 0 {
				continue
			}
			from := r.IntN(len(line))
			to := from + 1 + r.IntN(len(line)-from)
			// The longest run that the needle has a part of.
			most, run := 0, 0
			for i := 0; i <= len(line); i++ {
				if i < len(line) && strings.IndexByte("0123456789abcdef", line[i]) >= 0 {
					run++
					continue
				}
				if i > from && i-run < to {
					most = max(most, run)
				}
				run = 0
			}
			set, all := region.NeedleIn(line[from:to], false, most), region.Needle(line[from:to], false)
			if !set.Has(block) {
				t.Fatalf("seed %d: block %d holds %q in a run of %d: %q", seed, block, line[from:to], most, line)
			}
			for i := range blocks {
				if set.Has(i) && !all.Has(i) {
					t.Fatalf("seed %d: block %d may hold %q in a run of %d, and may not", seed, i, line[from:to], most)
				}
				if !set.Has(i) {
					ruled++
				}
				if !set.Has(i) && all.Has(i) {
					more++
					if !grams.OpenRuns(line[from:to]) {
						t.Fatalf("seed %d: runs in %q may be longer than it", seed, line[from:to])
					}
				}
			}
		}
	}
	if more == 0 || ruled == more {
		t.Errorf("%d ruled out, %d because runs are short", ruled, more)
	}
}

func contains(s *model.Strings, needle []byte) bool {
	for i := range s.Len() {
		if bytes.Contains(s.At(i), needle) {
			return true
		}
	}
	return false
}

func matches(s *model.Strings, re *regexp.Regexp) bool {
	for i := range s.Len() {
		if re.Match(s.At(i)) {
			return true
		}
	}
	return false
}

func TestValues(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	var blocks []block
	for i := range 40 {
		b := made(r, 300)
		for k := range 200 {
			b.values = append(b.values, fmt.Sprintf("%032x", i*1000+k))
		}
		blocks = append(blocks, b)
	}
	_, matrix := build(t, grams.DefaultShare, blocks)
	region, err := grams.Open(matrix, true)
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i := range blocks {
		for _, v := range blocks[i].values {
			if !region.HasValue(i, []byte("trace"), []byte(v)) {
				t.Fatalf("block %d lacks %s", i, v)
			}
			if region.HasValue((i+1)%len(blocks), []byte("trace"), []byte(v)) {
				wrong++
			}
			if region.HasValue(i, []byte("span"), []byte(v)) {
				wrong++
			}
		}
	}
	if wrong > 40*200*2/8 {
		t.Errorf("%d of %d values are said to be where they are not", wrong, 40*200*2)
	}
}

func TestDamageIsRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	_, matrix := build(t, 0.01, []block{made(r, 30), made(r, 30)})
	for i := range matrix {
		for _, x := range []byte{1, 0x80, 0xff} {
			matrix[i] ^= x
			if _, err := grams.Open(matrix, true); !errors.Is(err, column.ErrCorrupt) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			matrix[i] ^= x
		}
	}
	for n := range matrix {
		if _, err := grams.Open(matrix[:n], true); !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("%d bytes of %d: %v", n, len(matrix), err)
		}
	}
}

// Golden matrices are read for ever.
func TestGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(77, 77))
	blocks := []block{made(r, 200), made(r, 200), made(r, 200)}
	blocks[1].values = []string{"4bf92f3577b34da6a3ce929d0e0e4736"}
	withIDs := []block{ids(r, 100), ids(r, 100)}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		_, matrix := build(t, grams.DefaultShare, withIDs)
		if err := os.WriteFile(filepath.Join("testdata", "matrix-v1-chosen.golden"), matrix, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, chosen := range map[string]bool{"matrix-v1.golden": false, "matrix-v1-chosen.golden": true} {
		blocks := blocks
		if chosen {
			blocks = withIDs
		}
		matrix, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		region, err := grams.Open(matrix, chosen)
		if err != nil {
			t.Fatal(name, err)
		}
		for i := range blocks {
			// Values set bits besides those of lines, so block 1 is not compared.
			if i != 1 {
				if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
					t.Errorf("%s, block %d: %s", name, i, diff)
				}
			}
		}
		if !chosen && !region.HasValue(1, []byte("trace"), []byte(blocks[1].values[0])) {
			t.Errorf("%s: the value is missing", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 1))
	_, matrix := build(f, 0.01, []block{made(r, 30), made(r, 30)})
	f.Add(matrix, []byte("needle 123456"))
	f.Fuzz(func(t *testing.T, b, needle []byte) {
		region, err := grams.Open(grams.Reseal(b), true)
		if err != nil {
			if !errors.Is(err, column.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		region.Needle(needle, false)
		region.Needle(needle, true)
		region.Value(needle, needle)
	})
}

// FuzzLines builds matrices of arbitrary lines.
func FuzzLines(f *testing.F) {
	f.Add([]byte("abcdef0123 1.2.3.4.5 zz\nabcdef0 x\nabcdef01234567890abcdef01 10.0.0.1\nabcd 1abcdef gh"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b block
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			b.add(string(line))
			if len(b.times) == lines.MaxRows {
				break
			}
		}
		blocks := []block{b, b}
		_, matrix := build(t, 1, blocks)
		region, err := grams.Open(matrix, true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range blocks {
			if diff := grams.Compare(region, i, &blocks[i].lines); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// Lines of one shape in blocks of a few rows: grams that only one of them has.
func TestFewRows(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 4))
		var b block
		n := 1 + r.IntN(9)
		for range 2 + r.IntN(3) {
			x := r.Uint64()
			b.add(fmt.Sprintf("id=%0*x, from %d.%d.%d.7:99 beadfeed%d cafe x", n, x>>(64-4*n), x&7, x>>3&7, x>>6&7, x>>9&15))
		}
		_, matrix := build(t, 1, []block{b})
		region, err := grams.Open(matrix, true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := grams.Compare(region, 0, &b.lines); diff != "" {
			t.Fatalf("seed %d: %s: %q", seed, diff, b.lines.Slab)
		}
	}
}
