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
