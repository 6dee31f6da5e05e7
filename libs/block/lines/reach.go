package lines

import (
	"math"

	"github.com/weir-logs/weir/libs/block/column"
)

// checkFrames finds how far the columns reach in each frame, which is what it may hold, and
// checks what all of them may hold together: whoever reads the whole block decompresses that.
func (b *Body) checkFrames() error {
	b.reach = make([]uint32, len(b.frames))
	b.memory += 4 * len(b.reach)
	total := 0
	add := func(c *column.Info) error {
		if c.Size == 0 {
			return nil
		}
		if int(c.Frame) >= len(b.reach) {
			return column.Corrupt("frame %d of %d", c.Frame, len(b.reach))
		}
		if end := int(c.Offset) + int(c.Size); end > int(b.reach[c.Frame]) {
			total += end - int(b.reach[c.Frame])
			b.reach[c.Frame] = uint32(min(end, math.MaxUint32))
		}
		if limit := b.info.payloadLimit(); total > 2*limit || int(b.reach[c.Frame]) > limit {
			return column.Corrupt("frames of %d bytes and more for %d bytes of lines", total, b.info.Bytes)
		}
		return nil
	}
	if err := add(&b.tid); err != nil {
		return err
	}
	for i := range b.columns {
		if err := add(&b.columns[i]); err != nil {
			return err
		}
	}
	return nil
}

// frameLimit returns the most bytes that a frame's payload may have.
func (b *Body) frameLimit(n int) int {
	if n == int(b.timesAt) {
		return b.info.payloadLimit()
	}
	return int(b.reach[n])
}
