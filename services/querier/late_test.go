package querier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// troupe is ingesters of which each sends what it is given, until it is taken down. In a
// synctest bubble.
type troupe struct {
	*ingesters
	t    *testing.T
	mu   sync.Mutex
	all  map[string]*actor
	from map[string]*ingestv1.FollowRequest // the last of each

	got     []int64
	dropped []string
	cursor  string
	pace    time.Duration // in which they send
}

type actor struct {
	appended []uint64
	last     bool // it says that nothing more comes
	lost     bool // it knows no position
	down     bool
	holds    bool // it sends nothing
}

func newTroupe(t *testing.T, rf int, names ...string) *troupe {
	tr := &troupe{t: t, pace: 100 * time.Millisecond, all: map[string]*actor{}, from: map[string]*ingestv1.FollowRequest{}}
	tr.ingesters = &ingesters{rf: rf, down: map[string]bool{}, left: map[string]bool{}, anew: map[string]string{}, follow: map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{}}
	for _, name := range names {
		tr.all[name] = &actor{}
		tr.follow[name] = func(ctx context.Context, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
			return tr.play(ctx, name, req, send)
		}
	}
	tr.know(names...)
	return tr
}

// know sets which members the querier knows.
func (tr *troupe) know(names ...string) {
	at := map[string]string{}
	for _, name := range names {
		at[name] = name
	}
	tr.members(tr.t, at)
}

func (tr *troupe) play(ctx context.Context, name string, req *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
	began := time.Now()
	at := uint64(0)
	for first := true; ctx.Err() == nil; first = false {
		tr.mu.Lock()
		a := tr.all[name]
		if a.down {
			tr.mu.Unlock()
			return status.Error(codes.Unavailable, "down")
		}
		n := uint64(len(a.appended)) + 1
		incarnation := tr.incarnation(name)
		var m *ingestv1.FollowResponse
		switch {
		case a.holds:
		case first:
			tr.from[name] = req
			switch at = req.GetPosition(); {
			case at > 0 && req.GetIncarnation() != incarnation: // all is of this process
				at = 1
				m = message(at, 1)
				m.Lost = true
			case a.lost && (at > 0 || req.GetSince() != nil):
				at = n
				m = message(at, 1)
				m.Lost = true
			case at == 0 && req.GetSince() != nil: // of which it has appended all
				at = 1
				m = message(at, 1)
			case at == 0:
				at = n
				m = message(at, 1)
			default:
				m = message(at, 1)
			}
		default:
			m = message(n, 1, a.appended[at-1:]...)
			at = n
			m.CompleteNanos = int64(time.Since(began))
			m.Last = a.last
		}
		tr.mu.Unlock()
		if m != nil {
			m.Incarnation = incarnation
			send(m)
		}
		time.Sleep(tr.pace)
	}
	return ctx.Err()
}

func (tr *troupe) change(name string, f func(*actor)) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	f(tr.all[name])
}

func (tr *troupe) append(h uint64, names ...string) {
	for _, name := range names {
		tr.change(name, func(a *actor) { a.appended = append(a.appended, h) })
	}
}

// tailFor takes what a tail sends within a time.
func (tr *troupe) tailFor(responses <-chan *tailv1.TailResponse, d time.Duration) {
	end := time.After(d)
	for {
		select {
		case m, ok := <-responses:
			if !ok {
				tr.t.Error("the tail has ended")
				return
			}
			tr.got = append(tr.got, timesOf(m)...)
			for _, x := range m.GetDropped() {
				if f, to := x.GetFrom().AsTime(), x.GetThrough().AsTime(); !f.Before(to) || to.After(time.Now()) {
					tr.t.Errorf("%s: from %s through %s", x.GetReason(), f, to)
				}
				name := strings.Fields(x.GetReason())[1]
				if x.GetAwaited() {
					name = "awaited " + name
				}
				tr.dropped = append(tr.dropped, name)
			}
			tr.cursor = m.GetCursor()
		case <-end:
			return
		}
	}
}

// expect compares what has come, and of whom it was said that something may be missing.
func (tr *troupe) expect(what string, got []int64, dropped ...string) {
	tr.t.Helper()
	slices.Sort(tr.got)
	slices.Sort(tr.dropped)
	if !slices.Equal(tr.got, got) || !slices.Equal(tr.dropped, dropped) {
		tr.t.Errorf("%s: got %v and of %q something may be missing; want %v, %q", what, tr.got, tr.dropped, got, dropped)
	}
	tr.got, tr.dropped = nil, nil
}

// leave makes a member leave, with or without having said that it has sent all.
func (tr *troupe) leave(name string, down bool, known ...string) {
	tr.left[name] = true
	tr.know(known...)
	tr.change(name, func(a *actor) { a.down = down })
}

// What an ingester took and did not send before it left is said to be missing, once, unless
// other replicas have it; and nothing where it had sent all.
func TestTailSaysWhatLeavesWithAnIngester(t *testing.T) {
	for _, last := range []bool{true, false} {
		for rf, missing := range map[int][]string{1: {"b"}, 3: nil} {
			synctest.Test(t, func(t *testing.T) {
				all := []string{"a", "b", "c"}
				tr := newTroupe(t, rf, all...)
				responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
				tr.tailFor(responses, time.Second)
				tr.append(100, all[:rf]...)
				tr.change("b", func(a *actor) { a.last = last })
				tr.tailFor(responses, time.Second)
				tr.expect("at first", []int64{100})
				tr.leave("b", true, all...)
				tr.tailFor(responses, 2*time.Minute)
				if last {
					missing = nil
				}
				tr.expect(fmt.Sprint("factor ", rf, ", last ", last), nil, missing...)
				// Whoever goes on there is told no more of it.
				stop()
				time.Sleep(time.Second)
				responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				tr.tailFor(responses, 2*time.Minute)
				tr.expect("resumed", nil)
				stop()
				time.Sleep(time.Second)
			})
		}
	}
}

// An ingester that leaves between two calls of a tail is told of, too.
func TestTailComesBackAfterAnIngesterHasLeft(t *testing.T) {
	for _, known := range []bool{true, false} { // its record is
		synctest.Test(t, func(t *testing.T) {
			tr := newTroupe(t, 1, "a", "b")
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
			tr.tailFor(responses, time.Second)
			tr.append(100, "b")
			tr.tailFor(responses, time.Second)
			tr.expect("at first", []int64{100})
			stop()
			tr.append(101, "b")
			names := []string{"a"}
			if known {
				names = append(names, "b")
			}
			tr.leave("b", true, names...)
			responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
			tr.tailFor(responses, 2*time.Minute)
			tr.expect(fmt.Sprint("known ", known), nil, "b")
			stop()
			time.Sleep(time.Second)
		})
	}
}

// One that has left matters as long as another might lack what the two shared: not when the
// others have sent all of that, whoever goes on with the tail.
func TestTailForgetsWhoHasLeft(t *testing.T) {
	for _, resumed := range []string{"", "before", "behind"} { // that it is forgotten
		for _, soon := range []bool{true, false} { // another leaves
			synctest.Test(t, func(t *testing.T) {
				all := []string{"a", "b", "c", "d"}
				tr := newTroupe(t, 3, all...)
				responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
				again := func() {
					stop()
					time.Sleep(time.Second)
					responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				}
				tr.append(100, all...)
				tr.tailFor(responses, time.Second)
				tr.append(101, all...)
				tr.tailFor(responses, time.Second)
				tr.leave("c", true, all...)
				if resumed == "before" {
					again()
				}
				tr.tailFor(responses, 2*time.Second)
				want := []string{"b", "c"}
				if !soon {
					tr.tailFor(responses, 3*writePeriod)
					if want = nil; resumed == "behind" {
						again()
						tr.tailFor(responses, 2*time.Second)
					}
				}
				tr.leave("b", true, all...)
				tr.tailFor(responses, time.Minute)
				if !slices.Contains(tr.got, 101) {
					t.Errorf("got %v", tr.got)
				}
				tr.got = nil
				tr.expect(fmt.Sprintf("resumed %q, soon %v", resumed, soon), nil, want...)
				stop()
				time.Sleep(time.Second)
			})
		}
	}
}

// Of one that is away for long it is said that what it has is missing as yet, and what it
// has comes when it is back. With other replicas nothing is said, unless as many are away
// as may have acknowledged an entry.
func TestTailSaysWhoIsAway(t *testing.T) {
	for _, holds := range []bool{true, false} {
		away := func(is bool) func(*actor) {
			return func(a *actor) { a.holds, a.down = holds && is, !holds && is }
		}
		synctest.Test(t, func(t *testing.T) {
			tr := newTroupe(t, 1, "a", "b")
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
			tr.tailFor(responses, time.Second)
			tr.change("b", away(true))
			tr.append(100, "b")
			tr.tailFor(responses, awayFor/2)
			tr.expect("not for long", nil)
			tr.tailFor(responses, 5*time.Minute)
			tr.expect("away", nil, "awaited b")
			tr.change("b", away(false))
			tr.tailFor(responses, time.Minute)
			tr.expect("back", []int64{100})
			tr.change("b", away(true))
			tr.tailFor(responses, 5*time.Minute)
			tr.expect("again", nil, "awaited b")
			tr.append(101, "b")
			tr.leave("b", true, "a", "b") // it was said that this comes
			tr.tailFor(responses, time.Minute)
			tr.expect("left", nil, "b")
			stop()
			time.Sleep(time.Second)
		})
		synctest.Test(t, func(t *testing.T) {
			tr := newTroupe(t, 3, "a", "b", "c")
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
			tr.tailFor(responses, time.Second)
			tr.change("b", away(true))
			tr.append(100, "b", "c")
			tr.tailFor(responses, 5*time.Minute)
			tr.expect("one of three", []int64{100})
			tr.change("c", away(true))
			tr.append(101, "b", "c")
			tr.tailFor(responses, 5*time.Minute)
			tr.expect("two of three", nil, "awaited b", "awaited c")
			tr.change("b", away(false))
			tr.change("c", away(false))
			tr.tailFor(responses, 2*time.Minute)
			tr.expect("back", []int64{101})
			stop()
			time.Sleep(time.Second)
		})
	}
}

// A querier that learns of an ingester after a tail has begun has all that it took since
// then, and where that cannot be known says so.
func TestTailLearnsOfAnIngester(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, resumed := range []string{"", "before", "behind"} { // that it learns of it
			synctest.Test(t, func(t *testing.T) {
				tr := newTroupe(t, 1, "a", "b")
				tr.know("a")
				began := time.Now()
				responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
				tr.tailFor(responses, time.Second)
				tr.append(100, "b")
				tr.change("b", func(a *actor) { a.lost = lost })
				earliest := began.Add(-time.Second)
				if resumed != "" {
					earliest = earliest.Add(-clocksApart)
					stop()
					time.Sleep(time.Minute)
					if resumed == "behind" {
						tr.know("a", "b")
					}
					responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				}
				tr.tailFor(responses, time.Second)
				tr.know("a", "b")
				tr.tailFor(responses, 2*time.Minute)
				if tr.append(101, "b"); lost {
					tr.tailFor(responses, time.Minute)
					tr.expect("not known, resumed "+resumed, []int64{101}, "b")
				} else {
					tr.tailFor(responses, time.Minute)
					tr.expect("known, resumed "+resumed, []int64{100, 101})
				}
				since := time.Unix(0, tr.from["b"].GetSince().GetNanos())
				if since.After(began) || since.Before(earliest) {
					t.Errorf("asked since %s of a tail that began at %s", since, began)
				}
				stop()
				time.Sleep(time.Second)
			})
		}
	}
}

// One that was down as a tail began is followed from when it is back: the others have what
// it takes before. Should one of these be lost for good meanwhile, that is said; and not if
// it had sent by then all that the two might share.
func TestTailOfOneThatWasDownAsItBegan(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			all := []string{"a", "b", "c"}
			tr := newTroupe(t, 3, all...)
			tr.down["c"] = true
			tr.know(all...)
			tr.change("c", func(a *actor) { a.down = true })
			responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
			tr.tailFor(responses, 5*time.Minute)
			tr.append(100, all...)
			tr.tailFor(responses, 5*time.Minute)
			tr.append(101, "b", "c")
			tr.down = map[string]bool{}
			tr.know(all...)
			tr.change("c", func(a *actor) { a.down = false })
			tr.tailFor(responses, time.Second)
			if r := tr.from["c"]; r == nil || r.GetPosition() != 0 || r.GetSince() != nil {
				t.Errorf("c was followed from %v", r)
			}
			tr.append(102, "a", "c")
			wait, want := time.Second, []string{"b", "c"}
			if late {
				wait, want = 2*writePeriod, nil
			}
			tr.tailFor(responses, wait)
			tr.expect("before", []int64{100, 101, 102})
			tr.leave("b", true, all...)
			tr.tailFor(responses, 10*time.Second)
			tr.expect(fmt.Sprint("late ", late), nil, want...)
			stop()
			time.Sleep(time.Second)
		})
	}
}

// One that was down as a tail began, of which something was said to be missing since another
// was away, too, is not told of again when it is followed.
func TestTailOfOneThatWasDownIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"a", "b", "c"}
		tr := newTroupe(t, 3, all...)
		tr.down["c"] = true
		tr.know(all...)
		tr.change("c", func(a *actor) { a.down = true })
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, 2*time.Minute)
		tr.change("b", func(a *actor) { a.holds = true })
		tr.tailFor(responses, 2*awayFor)
		tr.expect("two are away", nil, "awaited b", "c")
		tr.change("c", func(a *actor) { a.down = false })
		tr.tailFor(responses, time.Minute)
		tr.expect("one is back", nil)
		stop()
		time.Sleep(time.Second)
	})
}

// Of ingesters that a querier with three replicas learns of at once so many are asked for
// all since the tail began that no entry is on the others alone.
func TestTailLearnsOfManyIngesters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"a", "b", "c", "d", "e"}
		tr := newTroupe(t, 3, all...)
		tr.know("a", "b")
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, time.Second)
		tr.append(100, "c", "d")
		tr.append(101, "d", "e")
		tr.append(102, "c", "e")
		tr.know(all...)
		tr.tailFor(responses, time.Minute)
		tr.expect("then", []int64{100, 101, 102})
		now := 0
		for name := range maps.Keys(tr.all) {
			if r := tr.from[name]; strings.Contains("cde", name) && r.GetSince() == nil {
				now++
			}
		}
		if now != 1 {
			t.Errorf("%d are followed from now on", now)
		}
		stop()
		time.Sleep(time.Second)
	})
}

// Of one that had lost something before it went away not all comes when it is back.
func TestTailAwaitsNothingOfAHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"a", "b", "c"}
		tr := newTroupe(t, 3, all...)
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, time.Second)
		tr.change("b", func(a *actor) { a.down, a.lost = true, true })
		tr.tailFor(responses, time.Second)
		tr.change("b", func(a *actor) { a.down = false })
		tr.tailFor(responses, time.Second)
		tr.change("b", func(a *actor) { a.holds = true })
		tr.tailFor(responses, 2*awayFor)
		tr.expect("one of three", nil)
		tr.change("c", func(a *actor) { a.holds = true })
		tr.tailFor(responses, 2*awayFor)
		tr.expect("two of three", nil, "awaited c", "b")
		stop()
		time.Sleep(time.Second)
	})
}
