package engine

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

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
			lost = c[0].session
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
	session, stream int
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
// streams, -1 if it has nothing of one.
func unite(names []string, streams [][]Stream, start, end int64) (out []unionStream, of [][]int32) {
	if out, of = uniteOne(streams, start, end); of != nil {
		return out, of
	}
	largest := 0
	total := 0
	for s := range streams {
		largest, total = max(largest, len(streams[s])), total+len(streams[s])
	}
	all := numbering{first: make(map[uint64]int32, largest)}
	of = make([][]int32, len(streams))
	var holders []int32
	for s := range streams {
		of[s] = make([]int32, len(streams[s]))
		for i := range streams[s] {
			id := all.id(streams[s][i].Labels)
			if int(id) == len(holders) {
				holders = append(holders, 0)
			}
			holders[id]++
			of[s][i] = id
		}
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
			places[id] = append(places[id], place{s, i})
		}
	}
	order := make([]int32, len(holders))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return all.sets[a].Compare(all.sets[b]) })
	w := uniter{ranking: newRanking(names), copies: findCopies(streams, places), read: make([]bool, len(streams))}
	number := make([]int32, len(holders))
	out = make([]unionStream, 0, len(order))
	var runs []placedRun
	for _, id := range order {
		if at := places[id]; len(at) == 1 {
			u, ok := alone(&streams[at[0].session][at[0].stream], at, start, end)
			if number[id] = -1; ok {
				number[id] = int32(len(out))
				out = append(out, u)
			}
			continue
		}
		runs = runs[:0]
		spans := false
		for _, pl := range places[id] {
			st := &streams[pl.session][pl.stream]
			spans = spans || len(st.Runs) == 0
			for _, r := range st.Runs {
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
	for s := range of {
		for i, id := range of[s] {
			of[s][i] = number[id]
		}
	}
	return out, of
}

// uniteOne is unite if one session has all streams; else of is nil.
func uniteOne(streams [][]Stream, start, end int64) (out []unionStream, of [][]int32) {
	only := -1
	for s := range streams {
		if len(streams[s]) > 0 {
			if only >= 0 {
				return nil, nil
			}
			only = s
		}
	}
	of = make([][]int32, len(streams))
	if only < 0 {
		return nil, of
	}
	out, of[only] = make([]unionStream, 0, len(streams[only])), make([]int32, len(streams[only]))
	places := make([]place, len(streams[only]))
	for i := range streams[only] {
		places[i] = place{only, i}
		u, ok := alone(&streams[only][i], places[i:i+1:i+1], start, end)
		if of[only][i] = -1; ok {
			of[only][i] = int32(len(out))
			out = append(out, u)
		}
	}
	return out, of
}

// alone is a stream of one session; ok is false if it has no run within the range.
func alone(st *Stream, at []place, start, end int64) (u unionStream, ok bool) {
	u = unionStream{labels: st.Labels, known: st.Runs}
	for len(u.known) > 0 && u.known[0].MaxTime < start {
		u.known = u.known[1:]
	}
	for len(u.known) > 0 && u.known[len(u.known)-1].MinTime >= end {
		u.known = u.known[:len(u.known)-1]
	}
	if u.runs = len(u.known); u.runs == 0 {
		return u, len(st.Runs) == 0
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
}

func (n *numbering) id(labels model.Labels) int32 {
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
	id := int32(len(n.sets))
	n.first[h], n.next, n.sets = id, append(n.next, before), append(n.sets, labels)
	return id
}

type placedRun struct {
	Run
	place
}

// group is equal runs.
type group struct {
	Run
	places []place
}

// uniter unites streams one after the other. There may be a great many that each have little:
// what is kept of one takes no more than it must.
type uniter struct {
	ranking
	copies  copies
	read    []bool // of sessions: that its place of the stream is read
	sums    []placedRun
	groups  []group
	known   []Run
	pieces  []piece
	places  []place
	classes [][]place
}

// slabSize is for how many streams' places memory is set aside at a time.
const slabSize = 1024

// placesOf returns a list of one place.
func (w *uniter) placesOf(p place) []place {
	if len(w.places) == cap(w.places) {
		w.places = make([]place, 0, slabSize)
	}
	n := len(w.places)
	w.places = append(w.places, p)
	return w.places[n : n+1 : n+1]
}

// classesOf returns a list of one class.
func (w *uniter) classesOf(places []place) [][]place {
	if len(w.classes) == cap(w.classes) {
		w.classes = make([][]place, 0, slabSize)
	}
	n := len(w.classes)
	w.classes = append(w.classes, places)
	return w.classes[n : n+1 : n+1]
}

func (w *uniter) stream(labels model.Labels, runs []placedRun, start, end int64) unionStream {
	w.of(labels)
	u := unionStream{labels: labels}
	// Mostly a stream is in one session.
	if only := runs[0].place; !slices.ContainsFunc(runs, func(r placedRun) bool { return r.place != only }) {
		u.known = make([]Run, len(runs))
		for i, r := range runs {
			u.rows += r.Rows
			u.bytes += r.Bytes
			u.known[i] = r.Run
		}
		u.runs = len(runs)
		u.pieces = []piece{{start: max(runs[0].MinTime, start), end: min(runs[len(runs)-1].MaxTime+1, end), classes: w.classesOf(w.placesOf(only))}}
		return u
	}
	slices.SortStableFunc(runs, func(a, b placedRun) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime),
			cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.session, b.session))
	})
	groups := w.groups[:0]
	for _, r := range runs {
		if n := len(groups); n > 0 && groups[n-1].Run.sameAs(r.Run) {
			groups[n-1].places = append(groups[n-1].places, r.place)
			continue
		}
		groups = append(groups, group{r.Run, w.placesOf(r.place)})
	}
	w.groups = groups
	u.known, u.pieces = w.known[:0], w.pieces[:0]
	for i := 0; i < len(groups); {
		// groups[i:j] are connected by overlaps.
		j, last := i+1, groups[i].MaxTime
		for j < len(groups) && groups[j].MinTime <= last {
			last = max(last, groups[j].MaxTime)
			j++
		}
		u.addPiece(groups[i:j], last, w)
		i = j
	}
	// Runs may reach beyond what is asked for.
	kept := u.pieces[:0]
	for _, p := range u.pieces {
		p.start, p.end = max(p.start, start), min(p.end, end)
		if p.start < p.end {
			kept = append(kept, p)
		}
	}
	w.known, w.pieces = u.known, u.pieces
	u.known, u.pieces = append(make([]Run, 0, len(u.known)), u.known...), append(make([]piece, 0, len(kept)), kept...)
	return u
}

// sameAs reports whether both runs of one stream are known to be the same rows. A
// digest of 0 says nothing.
func (r Run) sameAs(o Run) bool {
	return r.Digest != 0 && r.MinTime == o.MinTime && r.MaxTime == o.MaxTime && r.Rows == o.Rows && r.Digest == o.Digest
}

// addPiece adds the piece of groups that are connected by overlaps.
func (u *unionStream) addPiece(groups []group, last int64, w *uniter) {
	if len(groups) == 1 {
		g := groups[0]
		slices.SortFunc(g.places, w.compare)
		u.runs++
		u.skipped += len(g.places) - 1
		u.rows += g.Rows
		u.bytes += g.Bytes
		u.known = append(u.known, g.Run)
		if !u.joins(g.places, last+1) {
			u.pieces = append(u.pieces, piece{start: g.MinTime, end: last + 1, classes: w.classesOf(g.places)})
		}
		return
	}
	classes := withoutSums(w.copies.leave(w.classesOfRows(groups)))
	for i := range groups {
		for _, pl := range groups[i].places {
			w.read[pl.session] = false
		}
	}
	for _, c := range classes {
		w.read[c.places[0].session] = true
	}
	// Those that are left may not overlap any more.
	slices.SortStableFunc(classes, func(a, b group) int { return cmp.Compare(a.MinTime, b.MinTime) })
	for i := 0; i < len(classes); {
		j, last := i+1, classes[i].MaxTime
		for j < len(classes) && classes[j].MinTime <= last {
			last = max(last, classes[j].MaxTime)
			j++
		}
		n := 0
		for n < len(groups) && groups[n].MinTime <= last {
			n++
		}
		u.addClasses(groups[:n], classes[i:j], last, w)
		i, groups = j, groups[n:]
	}
	u.addClasses(groups, nil, last, w) // what is skipped
}

// classesOfRows returns the places that have groups, with the sums of their runs. Digests
// add up, so sessions that cut the same rows into other runs are found equal: one class.
func (w *uniter) classesOfRows(groups []group) []group {
	sums := w.sums[:0]
	for i := range groups {
		for _, pl := range groups[i].places {
			sums = append(sums, placedRun{groups[i].Run, pl})
		}
	}
	w.sums = sums
	slices.SortStableFunc(sums, func(a, b placedRun) int { return w.compare(a.place, b.place) })
	n := 0
	for _, r := range sums {
		if n > 0 && sums[n-1].place == r.place {
			sums[n-1].Run = sums[n-1].plus(r.Run, false)
			continue
		}
		sums[n] = r
		n++
	}
	var classes []group
	equal := make(map[Run]int, n) // the class of known rows
	for _, r := range sums[:n] {
		sum := r.Run
		sum.Bytes = 0 // says nothing about which rows there are
		i, ok := equal[sum]
		if !ok || sum.Digest == 0 {
			i = len(classes)
			classes = append(classes, group{Run: r.Run})
			equal[sum] = i
		}
		classes[i].places = append(classes[i].places, r.place)
	}
	return classes
}

// addClasses adds the piece of classes that are connected by overlaps, and counts groups that
// end no later.
func (u *unionStream) addClasses(groups, classes []group, last int64, w *uniter) {
	for i := range groups {
		g := &groups[i]
		read := 0
		for _, pl := range g.places {
			if w.read[pl.session] {
				read++
			}
		}
		u.runs += read
		u.skipped += len(g.places) - read
		if read > 0 {
			u.rows += g.Rows
			u.bytes += g.Bytes
			if len(classes) == 1 {
				u.known = append(u.known, g.Run)
			}
		}
	}
	switch len(classes) {
	case 0:
	case 1:
		c := &classes[0]
		if !u.joins(c.places, last+1) {
			u.pieces = append(u.pieces, piece{start: c.MinTime, end: last + 1, classes: w.classesOf(c.places)})
		}
	default:
		p := piece{start: classes[0].MinTime, end: last + 1}
		// Some rows may be there several times. Who has the same rows as often, by the sum
		// of their hashes, has the same rows.
		var known Run
		for i, c := range classes {
			p.classes = append(p.classes, c.places)
			p.extents = append(p.extents, TimeRange{c.MinTime, c.MaxTime + 1})
			known = known.plus(c.Run, i == 0)
		}
		u.known = append(u.known, known)
		u.pieces = append(u.pieces, p)
	}
}

// joins makes the last piece reach up to end, if it is held by just these places.
func (u *unionStream) joins(places []place, end int64) bool {
	n := len(u.pieces)
	if n == 0 || len(u.pieces[n-1].classes) != 1 || !slices.Equal(u.pieces[n-1].classes[0], places) {
		return false
	}
	u.pieces[n-1].end = end
	return true
}

// plus adds a run; a digest of 0, which says nothing, stays.
func (r Run) plus(o Run, first bool) Run {
	if first {
		return o
	}
	if r.Digest != 0 && o.Digest != 0 {
		r.Digest += o.Digest
	} else {
		r.Digest = 0
	}
	r.MinTime, r.MaxTime = min(r.MinTime, o.MinTime), max(r.MaxTime, o.MaxTime)
	r.Rows += o.Rows
	r.Bytes += o.Bytes
	return r
}

// ranking ranks sessions for a stream by rendezvous hashing.
type ranking struct {
	names  []string
	hashes []uint64
	stream uint64
}

func newRanking(names []string) ranking {
	r := ranking{names: names, hashes: make([]uint64, len(names))}
	for i, n := range names {
		r.hashes[i] = xxhash.Sum64String(n)
	}
	return r
}

// of makes it a ranking for a stream.
func (r *ranking) of(labels model.Labels) { r.stream = labels.Fingerprint() }

func (r *ranking) weight(session int) uint64 {
	w := (r.hashes[session] ^ r.stream) * 0x9e3779b97f4a7c15
	return w ^ w>>32
}

// compare orders places, the preferred first.
func (r *ranking) compare(a, b place) int {
	return cmp.Or(cmp.Compare(r.weight(b.session), r.weight(a.session)),
		cmp.Compare(r.names[a.session], r.names[b.session]), cmp.Compare(a.session, b.session))
}
