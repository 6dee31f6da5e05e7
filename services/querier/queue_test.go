package querier

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naive is the queue's rules over one list of all queries, without any bookkeeping but
// what each tenant has had.
type naive struct {
	limits queueLimits
	all    []*ticket // its own copies, by seq
	had    map[string]int64
	clock  int64
	last   lane
}

func (n *naive) count(f func(*ticket) bool) (k int) {
	for _, t := range n.all {
		if f(t) {
			k++
		}
	}
	return k
}

func (n *naive) active(tenant string) bool {
	return n.count(func(t *ticket) bool { return t.tenant == tenant }) > 0
}

func (n *naive) may(t *ticket) bool {
	running := func(l lane) int { return n.count(func(t *ticket) bool { return t.runs && t.lane == l }) }
	var cost int64
	for _, o := range n.all {
		if o.runs && o.lane == heavy {
			cost += o.cost
		}
	}
	free := n.limits.places - running(small) - running(heavy)
	heavyWaits := n.count(func(t *ticket) bool { return !t.runs && t.lane == heavy }) > 0
	switch {
	case free <= 0:
		return false
	case t.lane == small:
		return n.limits.places == 1 || free > 1 || running(heavy) > 0 || !heavyWaits
	}
	return running(heavy) < n.limits.places-n.limits.kept && (running(heavy) == 0 || cost+t.cost <= n.limits.cost)
}

func (n *naive) start() (started []uint64) {
	for {
		var pick *ticket
		for _, l := range []lane{1 - n.last, n.last} {
			waiting := slices.DeleteFunc(slices.Clone(n.all), func(t *ticket) bool { return t.runs || t.lane != l })
			slices.SortFunc(waiting, func(a, b *ticket) int {
				return cmp.Or(cmp.Compare(n.had[a.tenant], n.had[b.tenant]), cmp.Compare(a.seq, b.seq))
			})
			if len(waiting) > 0 && n.may(waiting[0]) {
				pick = waiting[0]
				break
			}
		}
		if pick == nil {
			return started
		}
		pick.runs, n.last = true, pick.lane
		n.clock = max(n.clock, n.had[pick.tenant])
		n.had[pick.tenant] += pick.cost
		started = append(started, pick.seq)
	}
}

// The queue starts what the naive one starts, in the same order, and keeps its bounds.
func TestQueueAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.IntRange(1, 6).Draw(t, "places")
		l := queueLimits{
			places: places, kept: rapid.IntRange(0, places-1).Draw(t, "kept"), small: 2 << 20,
			cost: rapid.Int64Range(1, 40<<20).Draw(t, "cost"), waiting: rapid.IntRange(0, 8).Draw(t, "waiting"),
		}
		q, n := newQueue(l), &naive{limits: l, had: map[string]int64{}, last: heavy}
		var live []*ticket
		same := func(got []*ticket) {
			t.Helper()
			var seqs []uint64
			for _, s := range got {
				seqs = append(seqs, s.seq)
			}
			if want := n.start(); !slices.Equal(seqs, want) {
				t.Fatalf("started %v, want %v", seqs, want)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "do") == 0 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				gone := live[i]
				n.all = slices.DeleteFunc(n.all, func(o *ticket) bool { return o.seq == gone.seq })
				started := q.leave(gone)
				same(started)
				live = slices.Delete(live, i, i+1)
				if len(live) == 0 {
					n.had, n.clock = map[string]int64{}, 0
				}
				if again := q.leave(gone); again != nil {
					t.Fatal("a query left twice")
				}
				continue
			}
			tk := &ticket{tenant: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "tenant")), cost: rapid.Int64Range(0, 20<<20).Draw(t, "cost")}
			most := rapid.IntRange(0, 6).Draw(t, "most")
			waits := n.count(func(o *ticket) bool { return !o.runs })
			waitsOfTenant := n.count(func(o *ticket) bool { return !o.runs && o.tenant == tk.tenant })
			started, why := q.enter(tk, most)
			own := *tk
			own.runs = false
			before := n.count(func(o *ticket) bool { return !o.runs && o.lane == own.lane })
			room := before == 0 && n.may(&own)
			switch {
			case why == admitted:
				if !n.active(tk.tenant) {
					n.had[tk.tenant] = max(n.had[tk.tenant], n.clock)
				}
				n.all = append(n.all, &own)
				live = append(live, tk)
				same(started)
				if !room && (waitsOfTenant >= most || waits >= l.waiting) {
					t.Fatalf("%d wait, %d of the tenant: one more was let in", waits, waitsOfTenant)
				}
			case why == tenantsFull && waitsOfTenant < most, why == queueFull && waits < l.waiting, room:
				t.Fatalf("refused (%d) while %d wait, %d of the tenant, room %v", why, waits, waitsOfTenant, room)
			}
			if r := q.running[small] + q.running[heavy]; r > l.places || q.running[heavy] > l.places-l.kept {
				t.Fatalf("%v run in %d places, of which %d are kept", q.running, l.places, l.kept)
			}
			if q.running[heavy] > 1 && q.cost > l.cost {
				t.Fatalf("heavy ones of %d run, more than %d", q.cost, l.cost)
			}
			if len(q.tenants) > len(live)+4 {
				t.Fatalf("%d tenants are remembered", len(q.tenants))
			}
		}
	})
}

// Between any two tenants that always want more, what they get differs by the cost of
// a few queries at most, however many one of them queues.
func TestQueueIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := rapid.IntRange(1, 5).Draw(t, "places")
		const most = 20 << 20
		q := newQueue(queueLimits{places: places, small: 1 << 40, cost: 1 << 40, waiting: 1 << 20})
		costs := rapid.SliceOfN(rapid.Int64Range(1<<20, most), 1, 20).Draw(t, "costs")
		var running []*ticket
		got, made := map[string]int64{}, 0
		add := func(tenant string, n int) {
			for range n {
				tk := &ticket{tenant: tenant, cost: costs[made%len(costs)]}
				made++
				started, why := q.enter(tk, 1<<20)
				if why != admitted {
					t.Fatal("refused")
				}
				for _, s := range started {
					got[s.tenant] += s.cost
				}
				running = append(running, started...)
			}
		}
		crowd := rapid.IntRange(1, 300).Draw(t, "crowd")
		add("crowd", crowd+400)
		add("few", 400)
		got = map[string]int64{}
		for range 200 {
			i := rapid.IntRange(0, len(running)-1).Draw(t, "ends")
			ends := running[i]
			running = slices.Delete(running, i, i+1)
			for _, s := range q.leave(ends) {
				got[s.tenant] += s.cost
				running = append(running, s)
			}
			// The crowd started first, in all places.
			if d := got["crowd"] - got["few"]; d > 2*most || -d > int64(places+2)*most {
				t.Fatalf("the crowd got %d, the few %d", got["crowd"], got["few"])
			}
		}
	})
}

// A single query does not wait behind another tenant's thousands, nor a small one
// behind heavy ones; and heavy ones get their turn however many small ones there are.
func TestQueueStarvesNobody(t *testing.T) {
	l := queueLimits{places: 4, kept: 1, small: 4 << 20, cost: 1 << 40, waiting: 1 << 20}
	q := newQueue(l)
	enter := func(tenant string, cost int64) (*ticket, []*ticket) {
		tk := &ticket{tenant: tenant, cost: cost}
		started, why := q.enter(tk, 1<<20)
		if why != admitted {
			t.Fatalf("refused: %d", why)
		}
		return tk, started
	}
	var running []*ticket
	for range 2000 {
		_, started := enter("crowd", 100<<20)
		running = append(running, started...)
	}
	if len(running) != 3 {
		t.Fatalf("%d heavy ones run", len(running))
	}
	for range 2000 { // one of them takes the kept place, and the others wait
		_, started := enter("crowd", 1<<20)
		running = append(running, started...)
	}
	one, _ := enter("single", 100<<20)
	needle, _ := enter("single", 1<<20)
	for i := range running {
		q.leave(running[i])
	}
	if !one.runs || !needle.runs {
		t.Errorf("with four places freed: heavy %v, small %v of the single tenant run", one.runs, needle.runs)
	}

	q = newQueue(l)
	running = nil
	for range 100 {
		_, started := enter("a", 1<<20)
		running = append(running, started...)
	}
	big, _ := enter("a", 100<<20)
	for range 2 {
		running = append(running[1:], q.leave(running[0])...)
	}
	if !big.runs {
		t.Error("a heavy query waits behind small ones")
	}
}

// A query that turns out heavier than it was taken for counts as that from then on.
func TestQueueWeighs(t *testing.T) {
	q := newQueue(queueLimits{places: 2, kept: 1, small: 4 << 20, cost: 1 << 30, waiting: 10})
	first := &ticket{tenant: "a"}
	if started, _ := q.enter(first, 1); len(started) != 1 || first.lane != small {
		t.Fatal("it does not start as a small one")
	}
	q.weigh(first, 100<<20)
	if first.lane != heavy || q.cost != 100<<20 || q.running != [lanes]int{0, 1} {
		t.Errorf("lane %d, cost %d, running %v", first.lane, q.cost, q.running)
	}
	second := &ticket{tenant: "b", cost: 100 << 20}
	if started, _ := q.enter(second, 1); started != nil {
		t.Error("a heavy one takes the place that is kept")
	}
	if started := q.leave(first); len(started) != 1 || q.cost != 100<<20 {
		t.Errorf("%d start, cost %d", len(started), q.cost)
	}
	if q.leave(second); q.cost != 0 || len(q.tenants) != 0 {
		t.Errorf("left: cost %d, %d tenants", q.cost, len(q.tenants))
	}
}
