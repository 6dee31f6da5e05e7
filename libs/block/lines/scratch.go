package lines

import (
	"sync"

	"github.com/weir-logs/weir/libs/block/column"
)

// scratch is memory for payloads that nobody needs once they are decoded.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is how much of it is kept for the next one.
const maxScratch = 1 << 20

// keepScratch keeps the memory of a payload that was decoded from what was read, if it is not
// that, and more than there is: what was decoded into buf has no more room than it takes.
func keepScratch(buf *[]byte, read, payload []byte) {
	if n := cap(payload); n > cap(*buf) && n <= maxScratch && !within(read, payload) {
		*buf = payload[:0]
	}
}

// frameIn is frame that does not keep the payload, which may be in buf then.
func (b *Body) frameIn(buf *[]byte, n uint32) ([]byte, error) {
	if int(n) >= len(b.frames) || b.frames[n] != nil || b.paged[n] != nil {
		return b.frame(n)
	}
	frame, _, err := b.span(int(n), b.offsets[n], b.offsets[n+1])
	if err != nil {
		return nil, err
	}
	p, err := column.ReadFrameIn(*buf, frame, b.frameLimit(int(n)))
	if err == nil {
		keepScratch(buf, frame, p)
	}
	return p, err
}
