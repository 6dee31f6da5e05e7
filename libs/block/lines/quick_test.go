package lines_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// A block with few rows of each template is compressed no harder than a new one; other
// blocks of the section, its footer and what else its writer compresses are not part of that.
func TestFewRowsOfEachTemplateAreCompressedQuickly(t *testing.T) {
	build := func(level column.Level, templates int) (b *lines.Builder, block, rest []byte) {
		r := rand.New(rand.NewPCG(1, 3))
		var text model.Strings
		var times []int64
		for i := range 3000 {
			line := fmt.Appendf(nil, "sent %d bytes of user-%04x to %x", i, r.IntN(9000), r.Uint64())
			for bit := range 11 { // two words in a place do not vary
				line = append(line, ' ', "yn"[i%templates>>bit&1])
			}
			text.Append(line)
			times = append(times, int64(i))
		}
		b = lines.NewBuilder(level)
		stats, err := b.Add(&text, times, nil)
		if err != nil {
			t.Fatal(err)
		}
		if few := len(times) < 8*stats.Templates; few != (templates > 1) {
			t.Fatalf("%d templates", stats.Templates)
		}
		all := b.Finish()
		return b, all[:stats.Bytes], all[stats.Bytes:]
	}
	for _, templates := range []int{1, 1500} {
		b, block, rest := build(column.LevelBetter, templates)
		_, quick, quickRest := build(column.LevelDefault, templates)
		if got := bytes.Equal(block, quick); got != (templates > 1) {
			t.Errorf("%d templates: quick is %t", templates, got)
		}
		if templates > 1 && bytes.Equal(rest, quickRest) {
			t.Error("the footer is quick")
		}
		want := column.NewCompressor(column.LevelBetter).AppendFrame(nil, block)
		if !bytes.Equal(b.Compressor().AppendFrame(nil, block), want) {
			t.Errorf("%d templates: the compressor is left quick", templates)
		}
	}
}

// Where columns are cut into pages a dictionary is for values that recur more often than
// elsewhere.
func TestDictionariesOfPagesAreForWhatRecursOften(t *testing.T) {
	var text model.Strings
	var times []int64
	for i := range 4000 {
		text.Append(fmt.Appendf(nil, "user %c%c%c5 came", 'a'+i%700/100, 'a'+i%100/10, 'a'+i%10)) // of 700
		times = append(times, int64(i))
	}
	dictionaries := func(b *lines.Builder) (n int) {
		b.Reset()
		if _, err := b.Add(&text, times, nil); err != nil {
			t.Fatal(err)
		}
		section := b.Finish()
		s, err := lines.Open(section)
		if err != nil {
			t.Fatal(err)
		}
		body, err := s.Body(0, section[:s.Blocks[0].Size])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range body.Columns() {
			if c.Kind == column.Dict {
				n++
			}
		}
		return n
	}
	for _, level := range []column.Level{column.LevelDefault, column.LevelFastest, column.LevelBetter} {
		b := lines.NewBuilder(level)
		for _, pages := range []bool{false, true, false} {
			b.SetPages(pages)
			want := 1
			if pages && level == column.LevelBetter {
				want = 0
			}
			if n := dictionaries(b); n != want {
				t.Errorf("level %d, pages: %v: %d dictionaries, not %d", level, pages, n, want)
			}
		}
	}
}
