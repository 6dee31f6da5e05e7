package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// ask asks a body for something, in one of the ways that there are, as r has it. ref is a
// body of the same rows.
func ask(b, ref *lines.Body, r *rand.Rand) (string, error) {
	rows := ref.Info().Rows
	c := r.IntN(len(ref.Columns()))
	signed := ref.Columns()[c].Kind == column.Signed
	from := r.IntN(rows)
	to := from + r.IntN(min(rows-from, 1+rows>>r.IntN(8))+1)
	list := []uint32{uint32(from)}
	for x := from + 1 + r.IntN(70); x < rows; x += 1 + r.IntN(1+rows/20) {
		list = append(list, uint32(x))
	}
	switch what := r.IntN(13); what {
	case 0:
		v, err := b.Values(c)
		if err != nil || signed {
			return "", err
		}
		out := []byte{}
		for i := range v.Len() {
			out = append(v.Append(out, i), '|')
		}
		return string(out), nil
	case 1:
		p, err := b.Frame(c)
		if k := &b.Columns()[c]; err == nil && k.Size > 0 {
			if uint64(len(p)) < uint64(k.Offset)+uint64(k.Size) {
				return "", column.Corrupt("a column behind its frame")
			}
			p = p[k.Offset:][:k.Size]
		}
		return string(p), err
	case 2:
		p, err := b.Text(c)
		return string(p), err
	case 3, 4:
		v, err := ref.Values(c)
		if err != nil || signed {
			return "", err
		}
		text := v.Append(nil, r.IntN(v.Len()))
		if what == 3 {
			out := ""
			err = b.Find(c, text, func(n int) { out += fmt.Sprint(n, " ") })
			return out, err
		}
		// A text that is there as it is may be there; others may, too.
		if k := v.Info().Kind; k != column.Bytes {
			return "", nil
		}
		search := new(uint64)
		for range 2 {
			if may, err := b.FrameMay(c, text, search); err != nil || !may {
				return "not there", err
			}
			search = new(uint64)
		}
		return "", nil
	case 5:
		p, err := b.RowTemplates()
		return fmt.Sprint(p), err
	case 6:
		p, err := b.SharedTimes()
		return fmt.Sprint(p), err
	case 7:
		t, out := b.Times(), ""
		for _, row := range list {
			out += fmt.Sprint(t.At(int(row)), " ")
		}
		return out, t.Err()
	case 8:
		slots := make([]uint32, 1+r.IntN(len(ref.Info().Templates)))
		for i := range slots {
			slots[i] = uint32(r.IntN(4))
		}
		v, has, err := b.SlotValues(slots)
		if err != nil {
			return "", err
		}
		out := fmt.Append(nil, has)
		for i := range v.Len() {
			out = append(v.Append(out, i), '|')
		}
		return string(out), nil
	case 9:
		p, err := b.SharedLengths()
		return fmt.Sprint(p), err
	case 10:
		p, err := b.Printer()
		if err != nil {
			return "", err
		}
		out := []byte{}
		for row := from; row < to && err == nil; row++ {
			out, err = p.Append(out, row)
		}
		return string(out), err
	case 11:
		var out model.Rows
		err := b.Select(list, &out)
		return fmt.Sprint(out.Times, string(out.Lines.Slab), out.Lines.Ends), err
	}
	var out model.Rows
	err := b.Rows(from, to, &out)
	return fmt.Sprint(out.Times, string(out.Lines.Slab), out.Lines.Ends), err
}

// A body with pages says what one without says, whichever way it is asked, in whatever
// order, by several at a time, though reads fail; and it keeps nothing that it does not
// count.
func TestPagesSayWhatColumnsSay(t *testing.T) { eachPaged(t, testPagesSayWhatColumnsSay) }

func testPagesSayWhatColumnsSay(t *testing.T, buildPaged func(fataler, column.Level, []block) []byte) {
	blocks := append(goldenBlocks()[:2], made(997), wide(600), pagedBlock())
	blocks[2].runs = []uint32{100, 500, 997}
	open := func(section []byte) *lines.Section {
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	data := build(t, column.LevelFastest, blocks)
	s := open(data)
	pagedData := buildPaged(t, column.LevelFastest, blocks)
	paged := open(pagedData)
	failure := errors.New("the disk is away")
	failed, draws := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		draws++
		i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
		ref, err := s.Body(i, data[s.Blocks[i].Offset:][:s.Blocks[i].Size])
		if err != nil {
			t.Fatal(err)
		}
		b := pagedData[paged.Blocks[i].Offset:][:paged.Blocks[i].Size]
		fails := rapid.IntRange(1, 20).Draw(t, "read that fails")
		var reads [][]byte
		sparse := rapid.Bool().Draw(t, "sparse")
		var body *lines.Body
		if sparse {
			off, _ := paged.Directory(i)
			number := 0
			body, err = paged.SparseBody(i, b[off:], func(from, n int) ([]byte, error) {
				if number++; number%fails == 0 && fails > 2 {
					return b[from : from+n/2], failure
				}
				reads = append(reads, bytes.Clone(b[from:from+n]))
				return reads[len(reads)-1], nil
			})
		} else {
			body, err = paged.Body(i, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		seeds := rapid.SliceOfN(rapid.Uint64(), 1, 3).Draw(t, "seeds of those who ask")
		steps := rapid.IntRange(1, 8).Draw(t, "steps")
		wrong := make([]error, len(seeds))
		missed := make([]int, len(seeds))
		var wg sync.WaitGroup
		for k, seed := range seeds {
			wg.Go(func() {
				for step := range uint64(steps) {
					want, wantErr := ask(ref, ref, rand.New(rand.NewPCG(seed, step)))
					got, err := ask(body, ref, rand.New(rand.NewPCG(seed, step)))
					switch {
					case errors.Is(err, failure):
						missed[k]++
					case (err == nil) != (wantErr == nil):
						wrong[k] = fmt.Errorf("step %d: %v, not %v", step, err, wantErr)
					case got != want && err == nil:
						wrong[k] = fmt.Errorf("step %d: %.300q, not %.300q", step, got, want)
					}
				}
			})
		}
		wg.Wait()
		if err := errors.Join(wrong...); err != nil {
			t.Fatal(err)
		}
		for _, n := range missed {
			failed += n
		}
		if body.Ahead() > 0 {
			t.Fatal("what was read ahead is kept")
		}
		for _, p := range reads {
			if n := body.Kept(p); n > 0 && n < len(p)-24 {
				t.Fatalf("%d bytes of a read of %d are kept, and the others with them", n, len(p))
			}
		}
		if m, held := body.MemorySize(), body.Held(); m < held {
			t.Fatalf("%d bytes of memory, of which frames take %d", m, held)
		}
		// Once all was asked for, it has the memory that whoever asked for all at once has.
		var rows model.Rows
		for err = failure; errors.Is(err, failure); {
			err = body.Rows(0, ref.Info().Rows, &rows)
		}
		if err != nil || !slices.Equal(rows.Times, blocks[i].times) || !bytes.Equal(rows.Lines.Slab, blocks[i].lines.Slab) {
			t.Fatalf("%v, or other rows", err)
		}
	})
	if draws >= 100 && failed == 0 && !t.Failed() { // else it was run for less
		t.Error("no read failed")
	}
}

// Whatever a block with pages says of itself, with checksums that are right: rows or an
// error that says that it is damage, whichever way it is asked.
func TestChangedPagesOnEveryPath(t *testing.T) { eachPaged(t, testChangedPagesOnEveryPath) }

func testChangedPagesOnEveryPath(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	section := build(t, column.LevelFastest, []block{pagedBlock()})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := s.Body(0, section[:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	lines.Edit(section, func(_ int, b []byte) []byte {
		sizes = append(sizes, len(b))
		return b
	})
	rapid.Check(t, func(t *rapid.T) {
		directory := len(sizes) - 2
		number := rapid.OneOf(rapid.Just(directory), rapid.IntRange(0, directory)).Draw(t, "frame")
		at := rapid.IntRange(0, max(0, sizes[number]-1)).Draw(t, "byte")
		cut := rapid.IntRange(0, 3).Draw(t, "cut")
		put := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "put")
		edited := lines.Edit(section, func(n int, b []byte) []byte {
			if n == number {
				b = slices.Replace(b, min(at, len(b)), min(at+cut, len(b)), put...)
			}
			return b
		})
		s, err := lines.Open(edited)
		if err != nil {
			return
		}
		off, n := s.Directory(0)
		body, err := s.SparseBody(0, edited[off:][:n], func(from, n int) ([]byte, error) { return edited[from : from+n : from+n], nil })
		r := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		for step := 0; err == nil && step < 12; step++ {
			seed := r.Uint64()
			for range 2 { // what failed may be asked for again
				if _, err := ask(body, ref, rand.New(rand.NewPCG(seed, 0))); err != nil && !errors.Is(err, column.ErrCorrupt) {
					t.Fatal(err)
				}
			}
		}
		if err != nil && !errors.Is(err, column.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// Few rows of a block whose distinct values are not what is said of them, with checksums that
// are right: the second who asks is told what the first one was.
func TestDamagedPagesStayDamaged(t *testing.T) { eachPaged(t, testDamagedPagesStayDamaged) }

func testDamagedPagesStayDamaged(t *testing.T, build func(fataler, column.Level, []block) []byte) {
	edits := 0
	section := lines.EditColumns(build(t, column.LevelFastest, []block{pagedBlock()}), func(columns []column.Info) {
		for i := range columns {
			if v := columns[i].Values; v != nil {
				v.N++
				edits++
			}
		}
	})
	s, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Body(0, section[:s.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := body.Rows(60, 66, &model.Rows{}); edits == 0 || !errors.Is(err, column.ErrCorrupt) {
			t.Fatalf("%d descriptions changed: %v", edits, err)
		}
	}
}

// Times that are not as they should be are that whenever they are asked for, also once all of
// the block was read.
func TestChangedTimesAreAskedForAgain(t *testing.T) {
	section := pagedSection(t)
	whole, err := lines.Open(section)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := whole.Body(0, section[:whole.Blocks[0].Size])
	if err != nil {
		t.Fatal(err)
	}
	edited := lines.Edit(section, func(n int, b []byte) []byte {
		if n == 33 { // the directory
			b = slices.Delete(slices.Clone(b), 2, 3)
		}
		return b
	})
	s, err := lines.Open(edited)
	if err != nil {
		t.Fatal(err)
	}
	off, n := s.Directory(0)
	body, err := s.SparseBody(0, edited[off:][:n], func(from, n int) ([]byte, error) { return edited[from : from+n : from+n], nil })
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 0x39))
	for range 12 {
		seed := r.Uint64()
		for range 2 {
			if _, err := ask(body, ref, rand.New(rand.NewPCG(seed, 0))); err != nil && !errors.Is(err, column.ErrCorrupt) {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if _, err := body.SharedTimes(); !errors.Is(err, column.ErrCorrupt) {
			t.Error(err)
		}
	}
}
