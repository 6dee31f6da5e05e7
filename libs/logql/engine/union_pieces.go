package engine

import (
	"cmp"
	"slices"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/model"
)

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
	size    int    // bytes of what was made and is not claimed
	read    []bool // of sessions: that its place of the stream is read
	sums    []placedRun
	groups  []group
	known   []Run
	pieces  []piece
	brief   []place // of the stream
	places  []place
	classes [][]place
}

// slabSize is for how many streams' places memory is set aside at a time.
const slabSize = 1024

// placesOf returns a list of one place, which lasts until the next stream.
func (w *uniter) placesOf(p place) []place {
	n := len(w.brief)
	w.brief = append(w.brief, p)
	return w.brief[n : n+1 : n+1]
}

// keep returns places that last.
func (w *uniter) keep(places []place) []place {
	n := len(w.places)
	if n+len(places) > cap(w.places) {
		n, w.places = 0, make([]place, 0, max(slabSize, len(places)))
	}
	w.size += int(unsafe.Sizeof(place{})) * len(places)
	w.places = append(w.places, places...)
	return w.places[n:len(w.places):len(w.places)]
}

// classesOf returns a list of one class.
func (w *uniter) classesOf(places []place) [][]place {
	places = w.keep(places)
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
		w.size += aloneSize + runSize*len(runs)
		u.pieces = []piece{{start: max(runs[0].MinTime, start), end: min(runs[len(runs)-1].MaxTime+1, end), classes: w.classesOf([]place{only})}}
		return u
	}
	slices.SortStableFunc(runs, func(a, b placedRun) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime),
			cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.session, b.session))
	})
	groups := w.groups[:0]
	w.brief = w.brief[:0]
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
	w.size += runSize*len(u.known) + pieceSize*len(kept)
	for i := range kept {
		w.size += classSize * len(kept[i].classes)
	}
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
			p.classes = append(p.classes, w.keep(c.places))
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

func (r *ranking) weight(session int32) uint64 {
	w := (r.hashes[session] ^ r.stream) * 0x9e3779b97f4a7c15
	return w ^ w>>32
}

// compare orders places, the preferred first.
func (r *ranking) compare(a, b place) int {
	return cmp.Or(cmp.Compare(r.weight(b.session), r.weight(a.session)),
		cmp.Compare(r.names[a.session], r.names[b.session]), cmp.Compare(a.session, b.session))
}
