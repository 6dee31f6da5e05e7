package lines

import "github.com/weir-logs/weir/libs/block/column"

// searched is what is known of a column from searches of it.
type searched struct {
	times   int
	windows *column.Windows
}

// Windows returns the windows of column i of Columns, if there are any by now.
func (b *Body) Windows(i int) *column.Windows {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.searched == nil {
		return nil
	}
	return b.searched[i].windows
}

// Searched notes that column i of Columns was searched. Once it was so often that its windows
// are worth while, as it takes so many searches' time to make them, they are made and kept
// with the body.
func (b *Body) Searched(i, often int, windows func() *column.Windows) {
	if b.searchedTimes(i) != often {
		return
	}
	if w := windows(); w != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.searched[i].windows = w
		b.memory += w.MemorySize()
	}
}

func (b *Body) searchedTimes(i int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.searched == nil {
		b.searched = make([]searched, len(b.columns))
		b.memory += 16 * len(b.columns)
	}
	b.searched[i].times++
	return b.searched[i].times
}
