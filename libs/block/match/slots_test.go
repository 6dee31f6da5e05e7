package match_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block/match"
)

// slotShapes are what is put between the literals of a line: i is the line's number, r the
// source of chance, of one place in all lines of a shape k is the same.
var slotShapes = []func(r *rand.Rand, i, k int, now int64) string{
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprint(r.IntN(1200)) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprint(r.Uint64() >> r.IntN(64)) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("%0*d", 2+r.IntN(2), r.IntN(100)) },
	func(r *rand.Rand, _, k int, _ int64) string { return fmt.Sprintf("%0*d", 3+k%15, r.IntN(2000)) },
	func(r *rand.Rand, _, k int, _ int64) string {
		return []string{"p", "user-", "Ab", "x0x", "K"}[k%5] + fmt.Sprint(r.IntN(3000))
	},
	func(r *rand.Rand, _, k int, _ int64) string {
		return []string{"req", "n-", "ERR", "v1z"}[k%4] + fmt.Sprintf("%04d", r.IntN(3000))
	},
	func(r *rand.Rand, _, k int, _ int64) string {
		return fmt.Sprintf("%0*d", 17+k%4, r.Uint64()>>r.IntN(9))
	},
	func(r *rand.Rand, _, _ int, _ int64) string {
		return fmt.Sprintf("q%019d", r.Int64N(1e18)+r.Int64N(2)*8e18)
	},
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("q-%d", 1<<60+r.Int64N(1e17)) },
	func(_ *rand.Rand, i, k int, _ int64) string { return fmt.Sprint(99_990 + k%50 + i) },
	func(_ *rand.Rand, i, k int, _ int64) string { return fmt.Sprintf("s%d", 95+k%3+i) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("%016x", r.Uint64()) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("%07X", r.Uint32()>>4) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("0x%x", r.IntN(1<<20)) },
	func(r *rand.Rand, _, _ int, _ int64) string {
		return fmt.Sprintf("10.%d.%d.%d", r.IntN(3), r.IntN(256), r.IntN(256))
	},
	func(r *rand.Rand, _, _ int, _ int64) string {
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16)
	},
	func(r *rand.Rand, _, _ int, _ int64) string { return "-" + fmt.Sprint(r.IntN(30)) },
	func(r *rand.Rand, _, _ int, _ int64) string { return fmt.Sprintf("%d.%02d", r.IntN(30), r.IntN(100)) },
	func(r *rand.Rand, _, k int, _ int64) string { return fmt.Sprint(k % 1000) },
	func(r *rand.Rand, _, _ int, _ int64) string {
		return []string{"a1", "A1", "ü1", "\xff1", "1\u212a", "1\u017f", "1k", "K2", ""}[r.IntN(9)]
	},
	func(r *rand.Rand, _, k int, now int64) string { return slotTime(r, k, now) },
	func(r *rand.Rand, _, k int, now int64) string { return slotTime(r, k, now) },
}

func slotTime(r *rand.Rand, k int, now int64) string {
	off := []int64{0, 1e9, 50e9, 3600e9, 35 * 3600e9}[k%5]
	at := time.Unix(0, now-off+r.Int64N(off/2+1)).UTC()
	switch layout := []string{"2006-01-02T15:04:05.000", "2006-01-02T15:04:05.000000000Z", "2006-01-02 15:04:05,000", "2006-01-02 15:04:05", "Jan _2 15:04:05", "Mon Jan _2 15:04:05 2006", "02/Jan/2006:15:04:05 -0700", "060102 150405", "0102 15:04:05.000000", "ms", "s"}[k/5%11]; layout {
	case "ms":
		return fmt.Sprint(at.UnixMilli())
	case "s":
		return fmt.Sprint(at.Unix())
	default:
		return at.Format(layout)
	}
}

var slotLiterals = []string{"id", " user", "a", "=", ".", "-", "/x/", ": ", " request of the day ", "\"trace_id\":\"", "e", "K ", "k=", " ü ", ",", "\xff ", "\x01", "\x02 ", "+", "_", "0x", " A",
	" a text which is longer than what places of a needle are known of, by some bytes, in all of its lines "}

// shaped is lines of a few shapes, all of whose slots are of one sort each.
func shaped(r *rand.Rand) []block {
	type part struct {
		literal string
		make    func(r *rand.Rand, i, k int, now int64) string
		k       int
		rarely  bool
	}
	var shapes [][]part
	for range 1 + r.IntN(6) {
		var s []part
		for range 1 + r.IntN(6) {
			p := part{make: slotShapes[r.IntN(len(slotShapes))], k: r.IntN(1 << 20), rarely: r.IntN(8) == 0}
			for range r.IntN(3) {
				p.literal += slotLiterals[r.IntN(len(slotLiterals))]
			}
			s = append(s, p)
		}
		shapes = append(shapes, s)
	}
	now := []int64{start, 1772323199e9, 1709164790e9 /* 28 February of a leap year */, 1767225590e9 /* New Year's Eve */, 1000000000e9}[r.IntN(5)]
	var blocks []block
	for range 1 + r.IntN(3) {
		var b block
		step := []int64{1e3, 2e6, 3e8, 5e9}[r.IntN(4)]
		first := r.IntN(len(shapes)) // some blocks lack some shapes
		for i := range 1 + r.IntN([]int{40, 400, 400, 6000}[r.IntN(4)/(1+r.IntN(2))]) {
			now += r.Int64N(step)
			var line strings.Builder
			for _, p := range shapes[first+r.IntN(len(shapes)-first)] {
				line.WriteString(p.literal)
				if !p.rarely || r.IntN(10) == 0 {
					line.WriteString(p.make(r, i, p.k, now))
				}
			}
			if r.IntN(3) == 0 {
				line.WriteString(slotLiterals[r.IntN(3)])
			}
			b.add(line.String(), now)
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// cut is a text of a line, of any length, that may be changed a little.
func cut(r *rand.Rand, blocks []block) string {
	b := &blocks[r.IntN(len(blocks))]
	line := b.lines.At(r.IntN(b.lines.Len()))
	if len(line) == 0 {
		return ""
	}
	from, to := r.IntN(len(line)), len(line)
	switch r.IntN(6) {
	case 0:
		from = 0
	case 1:
	default:
		to = from + 1 + r.IntN(min(len(line)-from, []int{3, 12, 40, 200}[r.IntN(4)]))
	}
	n := bytes.Clone(line[from:to])
	at := r.IntN(len(n))
	switch r.IntN(9) {
	case 0:
		n[at] = byte(r.IntN(256))
	case 1:
		n[at] ^= 0x20
	case 2:
		n[at] = "0123456789"[r.IntN(10)]
	case 3:
		n = append(n, "0123456789 -.:a"[r.IntN(15)])
	case 4:
		n = append([]byte{"0123456789 -.:a"[r.IntN(15)]}, n...)
	case 5:
		n = append(n[:at:at], n[min(at+1, len(n)):]...)
	}
	return string(n)
}

// Whatever lies across slots, in them, or at their borders, is found in the lines that hold
// it, and in no others.
func TestSlots(t *testing.T) {
	var st stats
	for seed := range uint64(repeats(60)) {
		r := rand.New(rand.NewPCG(seed, 77))
		s := build(t, shaped(r))
		for range 20 {
			var filters []match.Filter
			for range 1 + r.IntN(4)/2 {
				f := match.Filter{Negate: r.IntN(4) == 0}
				for range 1 + r.IntN(4)/2 {
					literal := cut(r, s.blocks)
					fold := r.IntN(3) == 0
					if fold {
						literal = strings.ToValidUTF8(literal, "?")
					}
					f.Any = append(f.Any, match.Term{Literal: literal, Fold: fold})
				}
				filters = append(filters, f)
			}
			from, to := 0.0, 1.0
			if r.IntN(4) == 0 {
				from, to = r.Float64(), r.Float64()
			}
			check(named{t, seed}, s, filters, from, to, &st)
		}
	}
	t.Logf("%+v", st)
	if st.hits == 0 || st.skipped == 0 || st.all == 0 {
		t.Errorf("%+v prove little", st)
	}
}

// named says which seed failed.
type named struct {
	t    *testing.T
	seed uint64
}

func (n named) Fatalf(format string, args ...any) {
	n.t.Helper()
	n.t.Fatalf("seed %d: "+format, append([]any{n.seed}, args...)...)
}
