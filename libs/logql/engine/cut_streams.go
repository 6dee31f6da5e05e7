package engine

import (
	"cmp"
	"context"
	"slices"
)

// Parted is an Indexed snapshot that knows which of its streams another one has rows of
// at the same times, and that can be taken apart.
type Parted interface {
	Indexed
	// Touching returns which streams this snapshot and another one, of the same matchers
	// and times, have rows of at the same times. ok is false if that is not known, or if
	// those that differ are most of the streams of one of them. Without copies there are
	// no copies: streams that are some just touch.
	Touching(ctx context.Context, other Snapshot, copies bool) (t Touches, ok bool, err error)
	// Part returns the rows of some of the streams, which ascend, or of all, if streams
	// is nil, with start <= time < end. It is to be closed before this snapshot.
	Part(streams []int, start, end int64) Snapshot
}

// Touches are streams of two snapshots, all lists ascending. Each that both have, and of
// which a run of one touches a run of the other, is in Own and Others, unless one of them
// has all runs of the other: then the other is a copy. If both have the same, the own is.
type Touches struct {
	Own, Others            []int
	OwnCopies, OtherCopies []int
}

// Parter is a Session that can be taken apart.
type Parter interface {
	Session
	// Touching is Parted's of this session's snapshot and that of another one, if both have
	// one.
	Touching(ctx context.Context, other Session, copies bool) (t Touches, ok bool, err error)
	// Part returns some of the streams, by ascending numbers, as a session of its own, which
	// is to be closed before this one. ok is false if that cannot be done.
	Part(streams []int) (_ Session, ok bool)
}

// Touching implements Parter.
func (s *localSession) Touching(ctx context.Context, other Session, copies bool) (Touches, bool, error) {
	a, b := partedOf(s), partedOf(other)
	if a == nil || b == nil {
		return Touches{}, false, nil
	}
	return a.Touching(ctx, b, copies)
}

// Part implements Parter.
func (s *localSession) Part(streams []int) (Session, bool) {
	p, ok := s.indexed.(Parted)
	if !ok {
		return nil, false
	}
	return s.part(p, streams, s.start, s.end), true
}

func (s *localSession) part(p Parted, streams []int, start, end int64) *localSession {
	out := &localSession{source: s.source, matchers: s.matchers, snap: p.Part(streams, start, end), start: start, end: end, workers: s.workers}
	out.held.mem = s.held.mem
	if out.indexed, _ = out.snap.(Indexed); out.indexed != nil {
		out.held.claim(numberOfStream * out.indexed.Extent().Streams)
	}
	return out
}

// partedOf returns the snapshot of a session, or of that which it wraps, if it is Parted.
func partedOf(s Session) Parted {
	if l, ok := wholeOf(s).(*localSession); ok && l.indexed != nil {
		p, _ := l.indexed.(Parted)
		return p
	}
	return nil
}

// member is a session that has rows, and which of its streams others have at the same times.
type member struct {
	link
	touching []int
	copies   []int // another one has all rows of; they are left out there
}

// members returns the sessions that have rows if all others are known to have those of
// few of their streams at the same times, but for copies, if those are to be left out;
// else nil.
func (u *united) members(ctx context.Context, copies bool) []member {
	var all []member
	for i, s := range u.sessions {
		if s == nil {
			continue
		}
		if u.failed[i] {
			return nil
		}
		m := member{link: link{session: i}}
		if w := wholeOf(s); w != nil {
			ok := false
			if m.Extent, ok = w.extent(); !ok {
				return nil
			}
			m.of = w
		} else {
			m.Extent, m.list = u.extentOf(i)
		}
		if m.Streams > 0 {
			all = append(all, m)
		}
	}
	if len(all) < 2 || len(all) > maxCut {
		return nil
	}
	for i := range all {
		a := &all[i]
		for k := range all[:i] {
			b := &all[k]
			if a.MinTime > b.MaxTime || b.MinTime > a.MaxTime {
				continue
			}
			p, is := u.sessions[a.session].(Parter)
			if !is {
				return nil
			}
			t, ok, err := p.Touching(ctx, u.sessions[b.session], copies)
			if !ok || err != nil {
				return nil // whoever reads them meets the error again
			}
			a.touching, b.touching = append(a.touching, t.Own...), append(b.touching, t.Others...)
			// Of equal ones the first stays, so of all that have some rows one does.
			a.copies, b.copies = append(a.copies, t.OwnCopies...), append(b.copies, t.OtherCopies...)
		}
	}
	for i := range all {
		m := &all[i]
		slices.Sort(m.touching)
		slices.Sort(m.copies)
		m.copies = slices.Compact(m.copies)
		m.touching = leave(slices.Compact(m.touching), m.copies)
		if 2*len(m.touching) > m.Streams {
			return nil
		}
	}
	return all
}

// cutStreams makes a chain of sessions that overlap in time, if they hardly have rows of
// the same streams at the same times: of each the streams that no other one has then, and
// a union of all the rest. What fails there has no copy anywhere else, unless streams were
// left out as copies, which they are not once what was given out is known by numbers.
func (s *unionSession) cutStreams() bool {
	members := s.members(s.ctx, !s.off)
	if members == nil {
		return false
	}
	cut := united{held: holder{mem: s.held.mem}}
	var made []Session
	add := func(l link, of Session, name string) {
		l.session = len(cut.sessions)
		cut.sessions, cut.names = append(cut.sessions, of), append(cut.names, name)
		cut.chain = append(cut.chain, l)
	}
	part := func(m *member, streams []int) (Session, link) {
		p, ok := s.sessions[m.session].(Parter)
		if !ok {
			return nil, link{}
		}
		of, ok := p.Part(streams)
		if !ok {
			return nil, link{}
		}
		made = append(made, of)
		w := wholeOf(of)
		e, _ := w.extent()
		return of, link{Extent: e, of: w}
	}
	inner := &unionSession{start: s.start, end: s.end, ctx: s.ctx, cancel: func(error) {}}
	inner.off = s.off
	var tangled []Session
	var names []string
	lasting := true
	for i := range members {
		m := &members[i]
		of, l, name := s.sessions[m.session], m.link, s.names[m.session]
		lasting = lasting && len(m.copies) == 0
		if len(m.touching)+len(m.copies) > 0 {
			alone := leave(without(m.Streams, m.touching), m.copies)
			if of, l = part(m, alone); of == nil {
				closeAll(made)
				return false
			}
		}
		if len(m.touching) > 0 {
			those, _ := part(m, m.touching)
			if those == nil {
				closeAll(made)
				return false
			}
			tangled, names = append(tangled, those), append(names, name)
		}
		if l.Streams > 0 {
			add(l, of, name)
		}
	}
	if len(tangled) > 0 {
		inner.united = newUnited(len(tangled), s.held.mem)
		copy(inner.sessions, tangled)
		copy(inner.names, names)
		e, ok := inner.extent()
		// What it opens itself is closed before what it is made of.
		made = append([]Session{innerCuts{inner}}, made...)
		if !ok {
			closeAll(made)
			return false
		}
		add(link{Extent: e, of: inner}, inner, "sources that overlap")
	}
	slices.SortFunc(cut.chain, func(a, b link) int { return cmp.Compare(a.MinTime, b.MinTime) })
	for i := 1; i < len(cut.chain); i++ {
		cut.chain[i].first = cut.chain[i-1].first + cut.chain[i-1].Streams
	}
	n := len(cut.sessions)
	cut.streams, cut.failed, cut.causes, cut.mixed = make([][]Stream, n), make([]bool, n), make([]error, n), true
	spare := s.united
	s.united = cut
	s.spare, s.made, s.lasting = &spare, made, lasting
	return true
}

// innerCuts closes what a union was cut into, but not what it is of.
type innerCuts struct{ *unionSession }

func (s innerCuts) Close() error {
	s.uncut(&s.united)
	s.united.held.release()
	return nil
}

// without returns the numbers below n that are not among some, which ascend.
func without(n int, some []int) []int {
	out := make([]int, 0, n-len(some))
	for i := range n {
		if len(some) > 0 && some[0] == i {
			some = some[1:]
			continue
		}
		out = append(out, i)
	}
	return out
}

// leave returns those of a list, which is overwritten, that are not among some; both ascend.
func leave(list, some []int) []int {
	if len(some) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(n int) bool {
		for len(some) > 0 && some[0] < n {
			some = some[1:]
		}
		return len(some) > 0 && some[0] == n
	})
}
