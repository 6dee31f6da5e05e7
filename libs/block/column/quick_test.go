package column

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A compressor that is to be quick makes the frames of the level for new blocks, no harder
// one's, and after that its own again. All of them read the same.
func TestQuick(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	var text []byte
	for i := range 4000 {
		text = fmt.Appendf(text, "request %d of user-%04x took %d ms\n", i, r.IntN(9000), r.IntN(400))
	}
	for _, c := range []struct{ level, quick Level }{
		{LevelDefault, LevelDefault}, {LevelFastest, LevelFastest}, {LevelBetter, LevelDefault}, {LevelBest, LevelDefault},
	} {
		k := NewCompressor(c.level)
		for i, quick := range []bool{false, true, false, true, true, false} {
			k.SetQuick(quick)
			level := c.level
			if quick {
				level = c.quick
			}
			got, want := k.AppendFrame(nil, text), NewCompressor(level).AppendFrame(nil, text)
			if !bytes.Equal(got, want) {
				t.Fatalf("level %d, frame %d: %d bytes, not the %d of level %d", c.level, i, len(got), len(want), level)
			}
			if back, err := ReadFrame(got, len(text)); err != nil || !bytes.Equal(back, text) {
				t.Fatalf("level %d, frame %d: %v", c.level, i, err)
			}
		}
	}
}
