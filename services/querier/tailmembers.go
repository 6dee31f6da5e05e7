package querier

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/ring"
)

// What is said of an ingester of which entries may be missing.
const (
	newText     = "was not known as the tail began: what only it had taken by now is missing"
	downText    = "was not heard of as the tail began: what only it had taken by now is missing"
	awaitedText = "was not heard of as the tail went on: what only it has comes when it is back"
	awayText    = "has not been heard of for a minute: what only it has comes when it is back"
	leftText    = "has left before all was sent that it had: what only it had is missing"
	lostText    = "no longer knows all that came behind what it had sent: what only it had of that is missing"
)

// clocksApart is how far the clock of a querier may be behind that of the one where a tail
// began.
const clocksApart = 15 * time.Second

// join says from where on to follow an ingester that the tail learns of. What the others
// send without it suffices, or else all is asked of it since the tail began.
func (t *tail) join(f *follower, view *ring.View) {
	if t.missed.without(f.name, view) {
		t.missed.lacks(f.name, t.miss(f.name, newText))
		return
	}
	f.since = t.since
}

// miss is what may be missing of an ingester from now on.
func (t *tail) miss(name, reason string) miss {
	from := t.since
	if at := t.seen.told[name]; at.After(from) {
		from = at
	}
	return miss{view: t.views[name], reason: reason, from: from, awaits: reason == awayText || reason == awaitedText}
}

// leavers notes the ingesters that the cursor names and that are no members any more.
func (t *tail) leavers(view *ring.View) {
	for name, at := range t.cursor.Positions {
		if at.Done != 0 || t.following[name] || t.missed.members[name] != nil {
			continue
		}
		// One that is not known at all may be known soon.
		if m, known := view.Table().Get(name); known && (m.State.Gone() || !m.Stores()) || !known && time.Since(t.began) > awayFor {
			t.left(name)
		}
	}
}

// left notes that an ingester is no member any more.
func (t *tail) left(name string) {
	if t.cursor.Positions[name].Done != 0 {
		t.missed.back(name) // it said itself that it had no more
		return
	}
	t.missed.lost(name, t.miss(name, leftText), time.Now())
	if t.missed.members[name].told {
		t.done(name)
	}
}

// done notes that nothing is owed of what an ingester had that has left.
func (t *tail) done(name string) {
	if at, ok := t.cursor.Positions[name]; ok && !t.following[name] {
		at.Done = time.Now().Unix()
		t.cursor.Positions[name] = at
	}
}

// forget forgets the ingesters that have left so long ago that nobody comes back who has
// what they had.
func (t *tail) forget(now time.Time) {
	for name, at := range t.cursor.Positions {
		if at.Done != 0 && !t.following[name] && t.missed.members[name] == nil && now.Sub(time.Unix(at.Done, 0)) > doneFor {
			delete(t.cursor.Positions, name)
			delete(t.views, name)
		}
	}
}

// heard notes what an event says of its ingester.
func (t *tail) heard(ev tailEvent) {
	name, now := ev.ingester, time.Now()
	switch {
	case ev.left:
		delete(t.following, name)
		t.left(name)
	case ev.away:
		t.missed.lacks(name, t.miss(name, awayText))
	case ev.now:
		if x := t.missed.members[name]; x != nil && x.open {
			t.missed.lost(name, t.miss(name, x.reason), now)
		}
	case slices.ContainsFunc(ev.messages, (*ingestv1.FollowResponse).GetLost):
		t.missed.lost(name, t.miss(name, lostText), now)
	default:
		t.missed.back(name)
		return
	}
	t.tellMissed(t.service.deps.Ring.View())
}

// tellMissed says what may be missing, if something may.
func (t *tail) tellMissed(view *ring.View) {
	if len(t.missed.members) == 0 || t.missed.complete(view) {
		return
	}
	for _, name := range t.missed.untold() {
		x, through := t.missed.members[name], time.Now()
		if !x.open {
			through = x.hole
			t.done(name)
		}
		t.dropped = append(t.dropped, &tailv1.Dropped{
			From: timestamppb.New(x.from), Through: timestamppb.New(through), Reason: "ingester " + name + " " + x.reason, Awaited: x.awaits,
		})
	}
}
