package engine

import (
	"cmp"
	"math"
	"slices"
	"unsafe"

	"github.com/weir-logs/weir/libs/model"
)

// Extent is what a snapshot holds at most.
type Extent struct {
	MinTime, MaxTime int64 // both inclusive
	Streams          int   // 0: nothing is held, and the rest says nothing
	Bytes            uint64
}

// Indexed is a Snapshot that knows its streams one by one, so that questions that are
// about all of them need no list. Numbers of streams are those of Streams.
type Indexed interface {
	Snapshot
	Extent() Extent
	// Labels returns the labels of a stream.
	Labels(stream int) model.Labels
	// AppendLabels appends them to dst, AppendRuns the runs of the stream, as in Streams.
	AppendLabels(dst model.Labels, stream int) model.Labels
	AppendRuns(dst []Run, stream int) []Run
	// Bounds returns the first and the last time of the runs of a stream.
	Bounds(i int) (least, greatest int64)
	// Values returns values of a label, and which of them a stream has: of(i) is 0 if
	// none, otherwise one more than its number. Values may be there several times, and
	// no stream may have one.
	Values(name string) (values []string, of func(stream int) uint32)
}

// whole is a session that can answer for all its streams without making a list of
// them: requests that leave Streams nil. The numbers in its answers are known to
// labelsOf. Once Streams was called they are indices into that.
type whole interface {
	Session
	extent() (e Extent, ok bool) // false: it has to be listed
	labelsOf(stream int) model.Labels
}

// wholeOf returns the session, or that which it wraps, if it is whole.
func wholeOf(s Session) whole {
	for s != nil {
		if w, ok := s.(whole); ok {
			return w
		}
		u, ok := s.(interface{ Unwrap() Session })
		if !ok {
			return nil
		}
		s = u.Unwrap()
	}
	return nil
}

// link is a session that holds rows that no other one has: of times, or of streams at these
// times, that no other one has rows of.
type link struct {
	session int
	Extent
	first int            // the number that its first stream has over all links
	of    whole          // nil: it is listed
	list  []model.Labels // of those
}

func (l *link) labelsOf(stream int) model.Labels {
	if l.of != nil {
		return l.of.labelsOf(stream)
	}
	return l.list[stream]
}

// least returns how many streams the link has at least: links of a union may have the same.
func (l *link) least() (n int) {
	u, ok := l.of.(*unionSession)
	if !ok || u.chain == nil {
		return l.Streams
	}
	for i := range u.chain {
		n = max(n, u.chain[i].least())
	}
	return n
}

// disjoint returns the sessions, ascending by time, if none has rows of times that
// another one has rows of. Then no row can be there twice, and which streams there are
// does not matter.
func (u *united) disjoint() (chain []link, ok bool) {
	chain = []link{}
	for i, s := range u.sessions {
		if s == nil {
			continue
		}
		l := link{session: i}
		if w := wholeOf(s); w != nil {
			if l.Extent, ok = w.extent(); !ok {
				return nil, false
			}
			l.of = w
		} else {
			l.Extent, l.list = u.extentOf(i)
		}
		if l.Streams > 0 {
			chain = append(chain, l)
		}
	}
	slices.SortFunc(chain, func(a, b link) int { return cmp.Compare(a.MinTime, b.MinTime) })
	for i := 1; i < len(chain); i++ {
		if chain[i].MinTime <= chain[i-1].MaxTime {
			return nil, false
		}
		chain[i].first = chain[i-1].first + chain[i-1].Streams
	}
	return chain, true
}

// extentOf returns what a session holds that is listed, and the labels of its streams.
func (u *united) extentOf(session int) (e Extent, labels []model.Labels) {
	list := u.listed(session)
	u.held.claim(int(unsafe.Sizeof(model.Labels{})) * len(list))
	labels = make([]model.Labels, len(list))
	e.MinTime, e.MaxTime = math.MaxInt64, math.MinInt64
	for i, st := range list {
		labels[i] = st.Labels
		for _, r := range st.Runs {
			e.MinTime, e.MaxTime = min(e.MinTime, r.MinTime), max(e.MaxTime, r.MaxTime)
			e.Bytes += r.Bytes
		}
	}
	if e.MinTime <= e.MaxTime {
		e.Streams = len(list)
	}
	return e, labels
}

// listed returns the streams of a session.
func (u *united) listed(i int) []Stream {
	if u.sessions[i] != nil && u.streams[i] == nil {
		u.streams[i] = u.sessions[i].Streams()
	}
	return u.streams[i]
}

// linkOf returns the link that has a stream of that number.
func (u *united) linkOf(stream int) *link {
	i, found := slices.BinarySearchFunc(u.chain, stream, func(l link, n int) int { return cmp.Compare(l.first, n) })
	if !found {
		i--
	}
	return &u.chain[i]
}

// labelsOf returns the labels of a stream of the union.
func (u *united) labelsOf(stream int) model.Labels {
	if u.chain != nil {
		l := u.linkOf(stream)
		return l.labelsOf(stream - l.first)
	}
	return u.union[stream].labels
}

// wholeShares is shares of a chain.
func (u *united) wholeShares() []share {
	out := make([]share, 0, len(u.chain))
	for i := range u.chain {
		if l := &u.chain[i]; !u.failed[l.session] {
			out = append(out, share{session: l.session, link: l})
		}
	}
	return out
}

// leaves calls f with the sessions that hold what s does, s itself if it is not a
// union.
func leaves(s Session, f func(Session)) {
	if u, ok := wholeOf(s).(*unionSession); ok {
		for _, s := range u.sessions {
			leaves(s, f)
		}
		return
	}
	if s != nil {
		f(s)
	}
}
