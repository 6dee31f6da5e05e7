package querier

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// An ingester that had said that it has no more, has left and is made anew under its name has
// lost nothing: what it takes comes, and nothing is said to be missing.
func TestTailOfOneThatIsMadeAnew(t *testing.T) {
	for _, resumed := range []bool{false, true} {
		for _, last := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				tr := newTroupe(t, 1, "a", "b")
				responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
				tr.tailFor(responses, time.Second)
				tr.append(100, "b")
				tr.change("b", func(a *actor) { a.last = last })
				tr.tailFor(responses, time.Second)
				tr.leave("b", true, "a", "b")
				tr.tailFor(responses, time.Second)
				tr.know("a")
				tr.tailFor(responses, 2*time.Minute)
				if resumed {
					stop()
				}
				var missing []string
				if !last {
					missing = []string{"b"}
				}
				tr.expect("left", []int64{100}, missing...)
				tr.change("b", func(a *actor) { *a, tr.anew["b"] = actor{}, "b2" })
				tr.append(101, "b")
				tr.left["b"] = false
				tr.know("a", "b")
				if resumed {
					responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				}
				tr.tailFor(responses, 2*time.Minute)
				tr.expect(fmt.Sprintf("made anew, resumed %v, last %v", resumed, last), []int64{101})
				tr.change("b", func(a *actor) { a.down = true })
				tr.tailFor(responses, time.Second)
				tr.change("b", func(a *actor) { *a, tr.anew["b"] = actor{}, "b3" })
				tr.know("a", "b")
				if resumed {
					stop()
					responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				}
				tr.tailFor(responses, time.Minute)
				tr.expect("a new directory without a word", nil, "b")
				stop()
				time.Sleep(time.Second)
			})
		}
	}
}

// A querier that has just started may know an ingester of a cursor only later: that one is
// no gap, and is followed from where the tail was.
func TestTailWaitsForWhoIsNotKnownYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTroupe(t, 1, "a", "b")
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, time.Second)
		tr.append(100, "b")
		tr.tailFor(responses, time.Second)
		stop()
		tr.append(101, "b")
		tr.know("a")
		responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
		tr.tailFor(responses, awayFor/2)
		tr.expect("not known yet", []int64{100})
		tr.know("a", "b")
		tr.tailFor(responses, 2*awayFor)
		tr.expect("known", []int64{101})
		stop()
		time.Sleep(time.Second)
	})
}

// An ingester that has left and comes back with what it had is followed from where it was,
// for as long as a cursor names it.
func TestTailOfOneThatComesBackAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTroupe(t, 1, "a", "b")
		tr.pace = time.Second
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, 2*time.Second)
		tr.append(100, "b")
		tr.change("b", func(a *actor) { a.last = true })
		tr.tailFor(responses, 2*time.Second)
		tr.leave("b", true, "a", "b")
		tr.tailFor(responses, doneFor/2)
		stop()
		tr.append(101, "b")
		tr.change("b", func(a *actor) { a.last, a.down = false, false })
		tr.left["b"] = false
		tr.know("a", "b")
		responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
		tr.tailFor(responses, 2*time.Minute)
		if r := tr.from["b"]; r.GetPosition() != 2 || r.GetIncarnation() != "b" {
			t.Errorf("b was followed from %v", r)
		}
		tr.expect("back", []int64{100, 101})
		stop()
		time.Sleep(time.Second)
	})
}

// What one has that is away as a tail goes on comes when it is back, if the cursor names it.
func TestTailThatGoesOnAwaitsWhoIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"a", "b", "c"}
		tr := newTroupe(t, 3, all...)
		responses, stop := tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		tr.tailFor(responses, time.Minute)
		stop()
		tr.append(100, "b", "c")
		tr.change("c", func(a *actor) { a.down = true })
		responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
		tr.tailFor(responses, 10*time.Second)
		tr.expect("it goes on", []int64{100})
		tr.change("b", func(a *actor) { a.holds = true })
		tr.append(101, "b", "c")
		tr.tailFor(responses, 2*awayFor)
		tr.expect("two are away", nil, "awaited b", "awaited c")
		tr.change("c", func(a *actor) { a.down = false })
		tr.tailFor(responses, time.Minute)
		tr.expect("one is back", []int64{101})
		stop()
		time.Sleep(time.Second)
	})
}
