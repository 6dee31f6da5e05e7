package grams

import (
	"encoding/binary"

	"github.com/weir-logs/weir/libs/block/template"
)

// maxAlone is how long slots are at most whose pieces are told apart by two words.
const maxAlone = 16 - before - behind

// value is a short slot with what is around it, and its length.
type value struct{ a, b, n uint64 }

// alone gathers the grams of a short slot of the line from start to end, unless they were
// lately; false: they are not told by it and the bytes next to it.
func (b *Builder) alone(slab []byte, start, end uint32, s template.Slot, news *uint8) bool {
	first, n := s.Start(), s.Len()
	if n > maxAlone || first < start+before+1 || first+n+behind > end || int(first)+16-before > len(slab) {
		return false
	}
	// No run of digits or dots goes on around it, nor does one of digits end right before
	// the byte that is in between.
	t := slab[first-before-1 : first+n+1]
	if inRun[t[before]] || inRun[t[len(t)-1]] || inRun[t[0]] && inRun[t[1]] && inRun[t[2]] {
		return false
	}
	t = slab[first-before:][:16]
	v := value{binary.LittleEndian.Uint64(t), binary.LittleEndian.Uint64(t[8:]), uint64(n)}
	if size := n + before + behind; size < 8 {
		v.a, v.b = v.a<<(64-8*size&63)>>(64-8*size&63), 0
	} else {
		v.b &= 1<<(8*size-64) - 1
	}
	h := (v.a ^ v.b*0xD6E8FEB86659FD93 ^ v.n) * golden
	e := &b.alones[(h^h>>32)>>20%uint64(len(b.alones))]
	if *e == v {
		*news = 0
		return true
	}
	*e = v
	*news++
	b.sink.piece(t[:n+before+behind], int(n+before))
	return true
}
