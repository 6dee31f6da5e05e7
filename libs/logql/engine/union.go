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
}

// from appends who is to be read to dst, or, in lost, a session that failed and
// has no equal.
func (p *piece) from(dst []place, failed []bool) (_ []place, lost int) {
	lost = -1
	for _, c := range p.classes {
		i := slices.IndexFunc(c, func(pl place) bool { return !failed[pl.session] })
		if i < 0 {
			lost = c[0].session
			continue
		}
		dst = append(dst, c[i])
	}
	return dst, lost
}

type place struct {
	session, stream int
}

// unionStream is a stream over all sessions. Its pieces ascend and do not touch.
type unionStream struct {
	labels model.Labels
	// What the stream holds at most, each set of equal runs counted once.
	runs        int
	rows, bytes uint64
	skipped     int // runs that need not be read, as an equal one is
	pieces      []piece
}

// unite plans how the streams of sessions are read: per stream, of runs that are
// equal in all sessions one is chosen, runs whose times do not touch are read as
// they are, and those that overlap and differ are united row by row. names are
// the sessions' names: the choice depends on them and on the labels alone, so
// that it spreads over the sessions and yet is the same for each page of a query.
// The result ascends by labels.
func unite(names []string, streams [][]Stream, start, end int64) []unionStream {
	next := make([]int, len(streams))
	var out []unionStream
	for {
		var labels model.Labels
		found := false
		for s := range streams {
			if next[s] < len(streams[s]) && (!found || streams[s][next[s]].Labels.Compare(labels) < 0) {
				labels, found = streams[s][next[s]].Labels, true
			}
		}
		if !found {
			return out
		}
		var runs []placedRun
		spans := false
		for s := range streams {
			if next[s] == len(streams[s]) || !streams[s][next[s]].Labels.Equal(labels) {
				continue
			}
			spans = spans || len(streams[s][next[s]].Runs) == 0
			for _, r := range streams[s][next[s]].Runs {
				if r.MaxTime >= start && r.MinTime < end {
					runs = append(runs, placedRun{r, place{s, next[s]}})
				}
			}
			next[s]++
		}
		switch {
		case len(runs) > 0:
			out = append(out, uniteStream(names, labels, runs, start, end))
		case spans:
			out = append(out, unionStream{labels: labels})
		}
	}
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

func uniteStream(names []string, labels model.Labels, runs []placedRun, start, end int64) unionStream {
	slices.SortStableFunc(runs, func(a, b placedRun) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime),
			cmp.Compare(a.Rows, b.Rows), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.session, b.session))
	})
	u := unionStream{labels: labels}
	var groups []group
	for _, r := range runs {
		if n := len(groups); n > 0 && groups[n-1].Run.sameAs(r.Run) {
			groups[n-1].places = append(groups[n-1].places, r.place)
			continue
		}
		groups = append(groups, group{r.Run, []place{r.place}})
	}
	order := preference(names, labels)
	for i := 0; i < len(groups); {
		// groups[i:j] are connected by overlaps.
		j, last := i+1, groups[i].MaxTime
		for j < len(groups) && groups[j].MinTime <= last {
			last = max(last, groups[j].MaxTime)
			j++
		}
		u.addPiece(groups[i:j], last, order)
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
	u.pieces = kept
	return u
}

// sameAs reports whether both runs of one stream are known to be the same rows. A
// digest of 0 says nothing.
func (r Run) sameAs(o Run) bool {
	return r.Digest != 0 && r.MinTime == o.MinTime && r.MaxTime == o.MaxTime && r.Rows == o.Rows && r.Digest == o.Digest
}

// addPiece adds the piece of groups that are connected by overlaps.
func (u *unionStream) addPiece(groups []group, last int64, order []int) {
	better := func(a, b place) int { return cmp.Compare(order[a.session], order[b.session]) }
	// A session's runs do not touch each other, so their digests add up, and
	// sessions that cut the same rows into other runs are found equal too.
	var classes []group
	sums := map[place]Run{}
	var places []place
	for _, g := range groups {
		for _, pl := range g.places {
			sum, ok := sums[pl]
			if !ok {
				places = append(places, pl)
			}
			sums[pl] = sum.plus(g.Run, !ok)
		}
	}
	slices.SortFunc(places, better)
	for _, pl := range places {
		i := slices.IndexFunc(classes, func(c group) bool { return c.Run.sameAs(sums[pl]) })
		if i < 0 {
			classes = append(classes, group{Run: sums[pl]})
			i = len(classes) - 1
		}
		classes[i].places = append(classes[i].places, pl)
	}
	p := piece{start: groups[0].MinTime, end: last + 1}
	for _, c := range classes {
		p.classes = append(p.classes, c.places)
	}
	for _, g := range groups {
		if len(classes) > 1 {
			u.rows += g.Rows
			u.bytes += g.Bytes
		}
		for _, pl := range g.places {
			if slices.ContainsFunc(classes, func(c group) bool { return c.places[0] == pl }) {
				u.runs++
			} else {
				u.skipped++
			}
		}
	}
	if len(classes) == 1 {
		u.rows += classes[0].Rows
		u.bytes += classes[0].Bytes
	}
	// Neighbours that are held alike are one piece.
	if n := len(u.pieces); n > 0 && len(classes) == 1 {
		q := &u.pieces[n-1]
		if len(q.classes) == 1 && slices.Equal(q.classes[0], p.classes[0]) {
			q.end = p.end
			return
		}
	}
	u.pieces = append(u.pieces, p)
}

// plus adds a run that does not touch r; a digest of 0, which says nothing, stays.
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

// preference ranks sessions for a stream by rendezvous hashing.
func preference(names []string, labels model.Labels) []int {
	f := labels.Fingerprint()
	weight := make([]uint64, len(names))
	byWeight := make([]int, len(names))
	for i, n := range names {
		weight[i] = (xxhash.Sum64String(n) ^ f) * 0x9e3779b97f4a7c15
		weight[i] ^= weight[i] >> 32
		byWeight[i] = i
	}
	slices.SortStableFunc(byWeight, func(a, b int) int {
		return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(names[a], names[b]))
	})
	rank := make([]int, len(names))
	for r, i := range byWeight {
		rank[i] = r
	}
	return rank
}
