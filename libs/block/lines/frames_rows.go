package lines

import (
	"github.com/weir-logs/weir/libs/block/column"
)

// blockRows is what pages of rows need to know of a block's rows.
type blockRows struct {
	templates []uint32                       // of the rows
	columns   func(template uint32) []uint32 // of a template's slots, by their numbers
}

// layout is how the payloads of a group are placed, which the next blocks of the section
// take over.
type layout struct {
	target int // bytes of a page of rows before it is compressed; 0: frames
	left   int // blocks that it is good for
}

// cut is a group's payloads as pages of rows.
type cut struct {
	count int // rows of each page
	head  []byte
	parts []byte
	ends  []int
}

// place writes the payloads that were kept until all were there.
func (f *frames) place(kind int, rows *blockRows) {
	g := &f.groups[kind]
	payload := g.payload
	for from := 0; from < len(g.infos); {
		to, size := from, 0
		for to < len(g.infos) && (to == from || size+int(g.infos[to].Size) <= f.pages.shared) {
			size += int(g.infos[to].Size)
			to++
		}
		f.placeSome(kind, g.infos[from:to], payload[:size], rows)
		payload, from = payload[size:], to
	}
	g.payload, g.infos = g.payload[:0], g.infos[:0]
}

// placeSome writes payloads, which lie end to end.
func (f *frames) placeSome(kind int, infos []*column.Info, payload []byte, rows *blockRows) {
	l := &f.layouts[kind]
	if l.left > 0 {
		l.left--
		if l.target > 0 {
			f.cut(infos, payload, rows, l.target)
			f.writeRows(infos, payload)
		} else {
			f.placeFrames(kind, infos, payload)
		}
		return
	}
	at, n := len(f.out), len(f.sizes)
	f.placeFrames(kind, infos, payload)
	size := len(f.out) - at
	if size < f.pages.leastRows {
		return
	}
	// Bytes of a slice count for less than bytes of the block.
	best := f.pages.cost(size, size, len(payload))
	*l = layout{left: f.pages.blocks}
	for _, target := range f.pages.rows {
		f.cut(infos, payload, rows, target)
		all, read := f.estimateRows()
		unpacked := len(f.cuts.head) + len(f.cuts.parts)/len(f.cuts.ends)
		if cost := f.pages.cost(all, read, unpacked); cost < best {
			best, l.target = cost, target
		}
	}
	if l.target > 0 {
		f.out, f.sizes = f.out[:at], f.sizes[:n]
		f.cut(infos, payload, rows, l.target)
		f.writeRows(infos, payload)
	}
}

// placeFrames writes payloads in frames that they share, but for large ones.
func (f *frames) placeFrames(kind int, infos []*column.Info, payload []byte) {
	limit := f.pages.group
	if kind == 0 {
		limit = smallFrame
	}
	from, size := 0, 0 // of those that share the next frame
	write := func(to int) {
		if from == to {
			return
		}
		n := f.frame(payload[:size])
		at := uint32(0)
		for _, c := range infos[from:to] {
			c.Frame, c.Offset = n, at
			at += c.Size
		}
		payload, from, size = payload[size:], to, 0
	}
	for i, c := range infos {
		if own := kind == 0 && c.Size >= ownFrame; own || size+int(c.Size) > limit {
			if write(i); own {
				size = int(c.Size)
				write(i + 1)
				continue
			}
		}
		size += int(c.Size)
	}
	write(len(infos))
}

// cut cuts payloads into pages of rows, of some bytes each.
func (f *frames) cut(infos []*column.Info, payload []byte, rows *blockRows, target int) {
	x := &f.cuts
	x.head, x.parts, x.ends = x.head[:0], x.parts[:0], x.ends[:0]
	pagers, places := make([]*column.Pager, len(infos)), f.places
	size := 0
	for i, c := range infos {
		for len(places) <= int(c.ID) {
			places = append(places, 0)
		}
		places[c.ID] = int32(i + 1)
		p := payload[:c.Size]
		payload = payload[c.Size:]
		n := c.HeadSize()
		x.head = append(x.head, p[:n]...)
		if n < len(p) {
			pagers[i], _ = column.NewPager(c, p)
			size += len(p) - n
		}
	}
	f.places = places
	n := max(1, (size+target-1)/target)
	x.count = (len(rows.templates) + n - 1) / n
	counts := make([]uint32, len(infos))
	for from := 0; from < len(rows.templates); from += x.count {
		f.valuesIn(rows, from, min(from+x.count, len(rows.templates)), counts)
		for i, p := range pagers {
			if p != nil && counts[i] > 0 {
				x.parts = p.Append(x.parts, int(counts[i]))
			}
		}
		x.ends = append(x.ends, len(x.parts))
		clear(counts)
	}
	for _, c := range infos {
		places[c.ID] = 0
	}
}

// valuesIn counts the values that rows [from, to) have in columns, by places.
func (f *frames) valuesIn(rows *blockRows, from, to int, counts []uint32) {
	f.seen = f.seen[:0]
	for _, t := range rows.templates[from:to] {
		for len(f.rows0) <= int(t) {
			f.rows0 = append(f.rows0, 0)
		}
		if f.rows0[t] == 0 {
			f.seen = append(f.seen, t)
		}
		f.rows0[t]++
	}
	for _, t := range f.seen {
		for _, id := range rows.columns(t) {
			if int(id) < len(f.places) && f.places[id] > 0 {
				counts[f.places[id]-1] += f.rows0[t]
			}
		}
		f.rows0[t] = 0
	}
}

// estimateRows returns about how many bytes the pages of rows take, and a slice reads.
func (f *frames) estimateRows() (size, read int) {
	x := &f.cuts
	at := len(f.out)
	if len(x.head) > 0 {
		f.out = f.compress.AppendFrame(f.out, x.head)
	}
	head := len(f.out) - at
	n, raw, from := len(x.ends), 0, 0
	for i, end := range x.ends {
		if n <= 3 || i == n/4 || i == n*3/4 {
			f.out = f.compress.AppendPage(f.out, x.parts[from:end], true)
			raw += end - from
		}
		from = end
	}
	parts := len(f.out) - at - head
	f.out = f.out[:at]
	if raw == 0 {
		return head, head
	}
	parts = int(int64(parts) * int64(len(x.parts)) / int64(raw))
	return head + parts + 6*n, head + (parts+parts/8)/n
}

// writeRows writes pages of rows.
func (f *frames) writeRows(infos []*column.Info, payload []byte) {
	x := &f.cuts
	start := len(f.out)
	p := pagedFrame{number: len(f.sizes), count: x.count, rows: true}
	if len(x.head) > 0 {
		f.out = f.compress.AppendFrame(f.out, x.head)
		p.head = len(f.out) - start
	}
	from := 0
	for _, end := range x.ends {
		f.addPage(&p, x.parts[from:end], true)
		from = end
	}
	at := uint32(0)
	for _, c := range infos {
		c.Frame, c.Offset = uint32(p.number), at
		at += c.Size
	}
	f.endPages(p, start)
}
