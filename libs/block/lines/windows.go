package lines

import (
	"math"
	"sync"

	"github.com/weir-logs/weir/libs/block/column"
)

// learned is what searches of a row group's lines found out about them. It stays when what was
// read of them goes. Safe for concurrent use.
type learned struct {
	mu       sync.Mutex
	searched []uint8                   // by column, how often it was, up to what makes windows; nil: none was
	windows  map[int32]*column.Windows // by column
	sketches []sketch                  // by frame; nil: none was asked for
	searches uint64                    // that asked for them
	memory   int
}

// windowSize is what windows take in a map, about.
const windowSize = 32

// Here reports whether the values of column i of Columns were read.
func (b *Body) Here(i int) bool {
	c := &b.columns[i]
	b.mu.Lock()
	defer b.mu.Unlock()
	return c.Size == 0 || b.openedAt(i) != nil || b.alone[c] != nil || int(c.Frame) < len(b.frames) && b.frames[c.Frame] != nil
}

func (l *learned) memorySize() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory
}

// any reports whether there was a search.
func (l *learned) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.searched != nil || l.sketches != nil
}

// Windows returns the windows of column i of Columns, if there are any by now.
func (b *Body) Windows(i int) *column.Windows {
	l := b.learned
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.windows[int32(i)]
}

// Searched notes that column i of Columns was searched. Once it was so often that its windows
// are worth while, as it takes so many searches' time to make them, they are made and kept,
// also by bodies that Emptied returns. read says that the column had to be read for the search,
// which takes as long as many: the second time it is enough.
func (b *Body) Searched(i, often int, read bool, windows func() *column.Windows) {
	l := b.learned
	n := 1
	if read {
		n = (often + 1) / 2
	}
	if !l.count(i, len(b.columns), n, often) {
		return
	}
	if w := windows(); w != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.windows == nil {
			l.windows = map[int32]*column.Windows{}
		}
		l.windows[int32(i)] = w
		l.memory += w.MemorySize() + windowSize
	}
}

// count counts n searches of a column of some, and reports whether it was searched often by
// that, and not before.
func (l *learned) count(i, columns, n, often int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.searched == nil {
		l.searched = make([]uint8, columns)
		l.memory += columns
	}
	had := int(l.searched[i])
	l.searched[i] = uint8(min(had+n, often, math.MaxUint8))
	return had < often && had+n >= often
}

// Emptied returns a body of the same block of which nothing has been read. It has the
// directory and what searches found out, and shares them with b: who asks no more than these
// tell reads nothing. nil: searches found out nothing, or b has no way to read its block
// again. It waits for nobody who uses b.
func (b *Body) Emptied() *Body {
	if b.read == nil || !b.learned.any() {
		return nil
	}
	e := &Body{
		section: b.section, info: b.info, block: b.block, size: b.size, read: b.read, offsets: b.offsets, timesAt: b.timesAt, reach: b.reach,
		tid: b.tid, columns: b.columns, numbers: b.numbers, within: b.within, learned: b.learned, least: b.least, memory: b.least,
		frames: make([][]byte, len(b.frames)),
	}
	if b.paged != nil {
		e.paged = make(map[uint32]*pages, len(b.paged))
		for n, p := range b.paged {
			e.paged[n] = p.unread()
		}
	}
	return e
}

// EmptiedSize returns about how many bytes of memory a body takes that Emptied returns. Those
// that take no more have nothing that was read.
func (b *Body) EmptiedSize() int { return b.least + b.learned.memorySize() }
