package engine

import (
	"slices"
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
)

// piece is an interval of a stream and who holds rows of it. Sessions of one
// class hold the same rows, so one of them is read: the first that has not
// failed. Rows of different classes may be copies of each other and are united
// one by one.
type piece struct {
	start, end int64 // start <= t < end
	classes    [][]place
	// extents are the times between which the rows of each class lie; nil: there is one
	// class. A piece may hold hundreds that overlap the next ones only: each is to be read
	// no sooner and no further than it has rows.
	extents []TimeRange
}

// from appends who is to be read to dst, and when, or, in lost, a session that failed
// and has no equal.
func (p *piece) from(dst []reading, failed []bool) (_ []reading, lost int) {
	lost = -1
	for k, c := range p.classes {
		i := slices.IndexFunc(c, func(pl place) bool { return !failed[pl.session] })
		if i < 0 {
			lost = int(c[0].session)
			continue
		}
		r := reading{c[i], TimeRange{p.start, p.end}}
		if p.extents != nil {
			r.Start, r.End = max(p.start, p.extents[k].Start), min(p.end, p.extents[k].End)
		}
		dst = append(dst, r)
	}
	return dst, lost
}

type place struct {
	session, stream int32
}

// reading is what is read of a place.
type reading struct {
	place
	TimeRange
}

// unionStream is a stream over all sessions. Its pieces ascend and do not touch.
type unionStream struct {
	labels model.Labels
	// What the stream holds at most, each set of equal runs counted once.
	runs        int
	rows, bytes uint64
	skipped     int // runs that need not be read, as an equal one is
	// known is what is known of its rows: the runs that are read, and one run for
	// each piece of several classes, the sum of theirs.
	known  []Run
	pieces []piece
}

// unite plans how the streams of sessions are read: per stream, of runs that are
// equal in all sessions one is chosen, runs whose times do not touch are read as
// they are, and those that overlap and differ are united row by row. names are
// the sessions' names: the choice depends on them and on the labels alone, so
// that it spreads over the sessions and yet is the same for each page of a query.
// The result ascends by labels; of gives the number in it of each session's
// streams, -1 if it has nothing of one. What it takes is claimed from h, which keeps
// the claim for the result; both are nil if that is refused.
func unite(names []string, lists []listing, start, end int64, h *holder) (out []unionStream, of [][]int32) {
	largest, holding := 0, 0
	total := 0
	for _, l := range lists {
		if l.len() > 0 {
			holding++
		}
		largest, total = max(largest, l.len()), total+l.len()
	}
	scratch := holder{mem: h.mem}
	defer scratch.release()
	if !h.claim(placeSize*total) || !scratch.claim(numberSize*largest) {
		return nil, nil
	}
	if holding < 2 {
		if !h.claim(streamSize * largest) {
			return nil, nil
		}
		return uniteOne(lists, start, end, h)
	}
	all := numbering{first: make(map[uint64]int32, largest)}
	of = make([][]int32, len(lists))
	var holders []int32
	for s, l := range lists {
		of[s] = make([]int32, l.len())
		for i := range of[s] {
			id := all.id(l, i)
			if int(id) == len(holders) {
				holders = append(holders, 0)
			}
			holders[id]++
			of[s][i] = id
		}
	}
	if !scratch.claim(numberSize*(len(holders)-largest)) || !h.claim(streamSize*len(holders)+all.size) {
		return nil, nil
	}
	// The places of each stream, by session.
	places := make([][]place, len(holders))
	slab := make([]place, 0, total)
	for i, n := range holders {
		places[i] = slab[len(slab) : len(slab) : len(slab)+int(n)]
		slab = slab[:len(slab)+int(n)]
	}
	for s := range of {
		for i, id := range of[s] {
			places[id] = append(places[id], place{int32(s), int32(i)})
		}
	}
	order := make([]int32, len(holders))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return all.sets[a].Compare(all.sets[b]) })
	w := uniter{ranking: newRanking(names), copies: findCopies(lists, places), read: make([]bool, len(lists))}
	number := make([]int32, len(holders))
	out = make([]unionStream, 0, len(order))
	var runs []placedRun
	var buf []Run
	for i, id := range order {
		if i%slabSize == 0 {
			if !h.claim(w.size) {
				return nil, nil
			}
			w.size = 0
		}
		if at := places[id]; len(at) == 1 {
			u, ok := alone(all.sets[id], lists[at[0].session], at, start, end, &w.size)
			if number[id] = -1; ok {
				number[id] = int32(len(out))
				out = append(out, u)
			}
			continue
		}
		runs = runs[:0]
		spans := false
		for _, pl := range places[id] {
			of := lists[pl.session].runs(&buf, int(pl.stream))
			spans = spans || len(of) == 0
			for _, r := range of {
				if r.MaxTime >= start && r.MinTime < end {
					runs = append(runs, placedRun{r, pl})
				}
			}
		}
		number[id] = int32(len(out))
		switch {
		case len(runs) > 0:
			out = append(out, w.stream(all.sets[id], runs, start, end))
		case spans:
			out = append(out, unionStream{labels: all.sets[id]})
		default:
			number[id] = -1
		}
	}
	if !h.claim(w.size) {
		return nil, nil
	}
	for s := range of {
		for i, id := range of[s] {
			of[s][i] = number[id]
		}
	}
	return out, of
}

// What a plan takes, in bytes, the tasks that ask for all of it included.
const (
	placeSize  = int(unsafe.Sizeof(place{})) + 4              // of each stream of each session
	streamSize = int(unsafe.Sizeof(unionStream{})) + taskSize // of each stream
	pieceSize  = int(unsafe.Sizeof(piece{}))
	classSize  = int(unsafe.Sizeof([]place{}) + unsafe.Sizeof(TimeRange{}))
	runSize    = int(unsafe.Sizeof(Run{}))
	aloneSize  = pieceSize + classSize // of a stream of one session besides
	// numberSize is of each stream while the plan is made: its place in a map, its labels, and lists.
	numberSize = 96
)

// uniteOne is unite if one session at most has streams.
func uniteOne(lists []listing, start, end int64, h *holder) (out []unionStream, of [][]int32) {
	only := slices.IndexFunc(lists, func(l listing) bool { return l.len() > 0 })
	of = make([][]int32, len(lists))
	if only < 0 {
		return nil, of
	}
	l := lists[only]
	out, of[only] = make([]unionStream, 0, l.len()), make([]int32, l.len())
	places := make([]place, l.len())
	size := 0
	for i := range places {
		if i%slabSize == 0 {
			if !h.claim(size) {
				return nil, nil
			}
			size = 0
		}
		places[i] = place{int32(only), int32(i)}
		labels := l.labels(nil, i)
		if l.makes() {
			size += labelsSize(labels)
		}
		u, ok := alone(labels, l, places[i:i+1:i+1], start, end, &size)
		if of[only][i] = -1; ok {
			of[only][i] = int32(len(out))
			out = append(out, u)
		}
	}
	if !h.claim(size) {
		return nil, nil
	}
	return out, of
}

// alone is a stream of one session; ok is false if it has no run within the range. It adds
// to size what it takes.
func alone(labels model.Labels, l listing, at []place, start, end int64, size *int) (u unionStream, ok bool) {
	runs := l.runs(nil, int(at[0].stream))
	*size += aloneSize
	if l.makes() {
		*size += runSize * len(runs)
	}
	u = unionStream{labels: labels, known: runs}
	for len(u.known) > 0 && u.known[0].MaxTime < start {
		u.known = u.known[1:]
	}
	for len(u.known) > 0 && u.known[len(u.known)-1].MinTime >= end {
		u.known = u.known[:len(u.known)-1]
	}
	if u.runs = len(u.known); u.runs == 0 {
		return u, len(runs) == 0
	}
	for _, r := range u.known {
		u.rows += r.Rows
		u.bytes += r.Bytes
	}
	made := &struct {
		pieces  [1]piece
		classes [1][]place
	}{classes: [1][]place{at}}
	made.pieces[0] = piece{start: max(u.known[0].MinTime, start), end: min(u.known[u.runs-1].MaxTime+1, end), classes: made.classes[:]}
	u.pieces = made.pieces[:]
	return u, true
}

// numbering numbers label sets.
type numbering struct {
	first map[uint64]int32 // by hash; the newest of those that have it
	next  []int32          // the one before of equal hash, or -1
	sets  []model.Labels
	size  int // bytes of sets that were made for it
	buf   model.Labels
}

// id returns the number of the labels of a stream.
func (n *numbering) id(l listing, stream int) int32 {
	labels := l.labels(&n.buf, stream)
	h := labels.Fingerprint()
	before, ok := n.first[h]
	if !ok {
		before = -1
	}
	for id := before; id >= 0; id = n.next[id] {
		if n.sets[id].Equal(labels) {
			return id
		}
	}
	if l.makes() {
		labels = slices.Clone(labels)
		n.size += labelsSize(labels)
	}
	id := int32(len(n.sets))
	n.first[h], n.next, n.sets = id, append(n.next, before), append(n.sets, labels)
	return id
}
