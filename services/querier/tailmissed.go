package querier

import (
	"maps"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// missed knows of which ingesters a tail may lack entries. That matters where it lacks as
// many of the holders of a stream as may have acknowledged an entry without the others:
// those that it does not lack send what it has.
type missed struct {
	anywhere bool // streams are not only where the ring has them
	members  map[string]*miss
}

// miss is what may be missing of one ingester.
type miss struct {
	view   *ring.View // the last that it was in; nil: it was in none that is known
	reason string
	from   time.Time // what it had appended by then was sent
	open   bool      // what it appends now is missing as long as it is not heard of
	hole   time.Time // what it appended before is missing for good; zero: nothing
	told   bool      // that was said
	awaits bool      // there is no more to say than that what is missing comes when it is back
}

// lacks notes that an ingester is not heard of any more.
func (s *missed) lacks(name string, now miss) {
	x := s.members[name]
	if x != nil && x.open {
		return
	}
	if now.open = true; x != nil {
		now.hole = x.hole
		if !x.told {
			now.from, now.awaits = x.from, false
		}
	}
	s.members[name] = &now
}

// lost notes that what an ingester had appended by a time is missing for good. That is said
// even of one of which something else was.
func (s *missed) lost(name string, now miss, at time.Time) {
	if x := s.members[name]; x != nil && (x.open || !x.told) {
		now.from, now.told = x.from, x.told && x.reason == now.reason
	}
	now.hole = at
	s.members[name] = &now
}

// seen notes the members as they are now.
func (s *missed) seen(view *ring.View) {
	if len(s.members) == 0 {
		return
	}
	for _, m := range view.Ingesters() {
		if x := s.members[m.Name]; x != nil && x.open {
			x.view = view
		}
	}
}

// back notes that an ingester goes on where it was.
func (s *missed) back(name string) {
	if x := s.members[name]; x != nil && x.open {
		if x.open = false; x.hole.IsZero() {
			delete(s.members, name)
		}
	}
}

// settle forgets of whom nothing matters any more: all others have sent what they had
// appended until no copy of what is missing could be stored any more. It returns their
// names.
func (s *missed) settle(told time.Time) (names []string) {
	for name, x := range s.members {
		if x.hole.IsZero() || told.Sub(x.hole) < writePeriod {
			continue
		}
		if x.hole = (time.Time{}); !x.open {
			delete(s.members, name)
			names = append(names, name)
		}
	}
	return names
}

// complete reports whether the tail lacks nothing for all that, as the members are now.
func (s *missed) complete(now *ring.View) bool {
	judged := map[*ring.View]bool{}
	for _, x := range s.members {
		switch {
		case x.view == nil && len(s.members) >= smallestQuorum(now):
			return false
		case x.view == nil || judged[x.view]:
			continue
		}
		judged[x.view] = true
		if !completeBy(x.view, s.anywhere, func(m *ring.Member) bool { return s.members[m.Name] == nil }) {
			return false
		}
	}
	return true
}

// without is complete for when another ingester is lacking, too.
func (s *missed) without(name string, view *ring.View) bool {
	with := missed{s.anywhere, maps.Clone(s.members)}
	with.lacks(name, miss{view: view})
	return with.complete(view)
}

// untold returns of whom it was not said yet that something may be missing, by name, and
// takes it for said.
func (s *missed) untold() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		if x := s.members[name]; !x.told {
			x.told = true
			names = append(names, name)
		}
	}
	return names
}

// smallestQuorum is the least number of ingesters that may have acknowledged an entry.
func smallestQuorum(v *ring.View) int {
	q := v.Quorum()
	for _, rf := range v.Factors().Slice() {
		q = min(q, ring.Config{ReplicationFactor: rf}.Quorum())
	}
	return q
}

func completeBy(v *ring.View, anywhere bool, answered func(*ring.Member) bool) bool {
	ok, _ := v.Complete(answered)
	if anywhere {
		ok, _ = v.CompleteAnywhere(answered)
	}
	return ok
}
