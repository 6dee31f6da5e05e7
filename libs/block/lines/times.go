package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
)

// Times gives the times of rows, and reads those that are asked for. It is for one
// goroutine at a time. The first error is kept.
type Times struct {
	body *Body
	all  []int64
	rows []int64 // of the part that was asked for last
	from int
	err  error
}

// Times returns the times of the body's rows.
func (b *Body) Times() *Times { return &Times{body: b} }

// All reads the times of all rows: for who asks for most of them.
func (t *Times) All() {
	if t.all == nil && t.err == nil {
		t.all, t.err = t.body.SharedTimes()
	}
}

// Err returns why times could not be read.
func (t *Times) Err() error { return t.err }

// At returns the time of a row; after an error any.
func (t *Times) At(row int) int64 {
	if t.all != nil {
		return t.all[row]
	}
	if uint(row-t.from) < uint(len(t.rows)) {
		return t.rows[row-t.from]
	}
	if t.err == nil && !t.load(row) {
		return t.all[row]
	}
	if t.err != nil {
		return 0
	}
	return t.rows[row-t.from]
}

// load gets the part of a row, or all of them; false: these.
func (t *Times) load(row int) bool {
	b := t.body
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, from, err := b.timesNear(row)
	if t.err = at(b.block, err); err == nil && from == 0 && len(rows) == b.info.Rows {
		t.all = rows
		return false
	}
	t.rows, t.from = rows, from
	return true
}

// timePages returns the times' pages, opened; nil: all times are here or come at once.
func (b *Body) timePages() (*pages, error) {
	p := b.paged[b.timesAt]
	if b.times != nil || p == nil || b.frames[b.timesAt] != nil {
		return nil, nil
	}
	if p.times == nil {
		head, err := b.readHead(p)
		if err != nil {
			return nil, err
		}
		if err := b.openTimes(p, head); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// openTimes opens the head of the times' pages.
func (b *Body) openTimes(p *pages, head []byte) (err error) {
	if p.times, err = column.OpenTimesPages(head, b.info.Rows, b.info.RunEnds, p.count); err == nil {
		b.memory += p.times.MemorySize()
	}
	return err
}

// decodeTimes returns the times of all rows.
func (b *Body) decodeTimes() ([]int64, error) {
	k := b.info
	times := make([]int64, 0, k.Rows)
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	p := b.paged[b.timesAt]
	if p == nil {
		all, err := b.frameIn(buf, b.timesAt)
		if err != nil {
			return nil, err
		}
		return column.DecodeTimes(times, all, k.Rows, k.RunEnds)
	}
	from := p.at[0] - p.head
	all, _, err := b.span(p.number, from, p.at[len(p.parts)])
	if err != nil {
		return nil, err
	}
	if p.times == nil {
		head, err := column.ReadFrame(all[:p.head], b.frameLimit(p.number))
		if err != nil {
			return nil, err
		}
		if err := b.openTimes(p, head); err != nil {
			return nil, err
		}
	}
	for i := range p.times.Parts() {
		var part []byte
		if i < len(p.parts) { // the last row may be a run of its own
			if part, err = column.ReadPageIn(*buf, all[p.at[i]-from:p.at[i+1]-from], p.parts[i]); err != nil {
				return nil, err
			}
			keepScratch(buf, all, part)
		}
		if times, err = p.times.Decode(times, i, part); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// timesNear returns the times of rows from one on, among them those of a row.
func (b *Body) timesNear(row int) ([]int64, int, error) {
	p, err := b.timePages()
	if err != nil {
		return nil, 0, err
	}
	if p == nil {
		all, err := b.sharedTimes()
		return all, 0, err
	}
	k := p.times.Part(row)
	from, _ := p.times.Rows(k)
	if p.rows == nil {
		p.rows = make([][]int64, p.times.Parts())
		b.keep(p, 24*len(p.rows))
	}
	if p.rows[k] == nil {
		page, _, err := b.span(p.number, p.at[k], p.at[k+1])
		if err != nil {
			return nil, 0, err
		}
		part, err := column.ReadPage(page, p.parts[k])
		if err != nil {
			return nil, 0, err
		}
		rows, err := p.times.Decode(nil, k, part)
		if err != nil {
			return nil, 0, err
		}
		if err := b.checkTimes(rows); err != nil {
			return nil, 0, err
		}
		p.rows[k] = rows
		b.keep(p, 8*len(rows))
	}
	return p.rows[k], from, nil
}

// Within narrows rows [from, to) of ascending times to those with start <= time < end.
func (t *Times) Within(from, to int, start, end int64) (int, int) {
	from = t.search(from, to, start)
	return from, t.search(from, to, end)
}

// search returns the first of rows [from, to), of ascending times, that is at a time or
// later; to if there is none.
func (t *Times) search(from, to int, at int64) int {
	if from < to {
		from, to = t.narrow(from, to, at)
	}
	for from < to && t.err == nil {
		if mid := int(uint(from+to) >> 1); t.At(mid) < at {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from
}

// narrow leaves the rows of one part that search looks for the first row in.
func (t *Times) narrow(from, to int, when int64) (int, int) {
	if t.all != nil || t.err != nil {
		return from, to
	}
	b := t.body
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.timePages()
	if t.err = at(b.block, err); p == nil {
		return from, to
	}
	// What is known without a part is the time of the row before each.
	first, last := p.times.Part(from), p.times.Part(to-1)
	for first < last {
		mid := int(uint(first+last+1) >> 1)
		if row, _ := p.times.Rows(mid); p.times.Before(mid) < when {
			first, from = mid, max(from, row)
		} else {
			last, to = mid-1, min(to, row-1)
		}
	}
	return from, to
}

// TimesOf gives times that are here.
func TimesOf(all []int64) *Times { return &Times{all: all} }
