package querier

import (
	"math"
	"time"
)

// queue decides which whole queries run and which wait. It is pure: it knows no clock
// and starts nothing, and its callers serialise their calls.
//
// A query has a cost and, by that, a lane: small or heavy. Some places are kept for
// small ones, so that these never wait for heavy ones alone; where there are several
// places and heavy ones wait, small ones leave them one. Within a lane tenants take
// turns by what the queries that they started have cost so far: whoever has had least
// is next, and of a tenant's queries the oldest. A tenant that had nothing to do gains
// nothing by it.
type queue struct {
	limits  queueLimits
	running [lanes]int
	cost    int64 // of heavy ones that run
	waiting [lanes]int
	tenants map[string]*share
	clock   int64 // what the tenant that started a query last had had before it
	last    lane  // of that query
	seq     uint64
}

// queueLimits bound a queue.
type queueLimits struct {
	places  int   // queries that run at once, at least 1
	kept    int   // of these, places that heavy queries never take; less than places
	cost    int64 // of heavy queries that run at once; one of more runs as the only heavy one
	small   int64 // queries of at most this cost are small
	waiting int   // queries that wait at once
}

type lane int

const (
	small lane = iota
	heavy
	lanes
)

// share is what a tenant has had and wants.
type share struct {
	had     int64 // cost of its queries, on the scale of queue.clock
	running int
	waiting [lanes][]*ticket // the oldest first
}

func (s *share) idle() bool {
	return s.running == 0 && len(s.waiting[small])+len(s.waiting[heavy]) == 0
}

// ticket is the place of a query. The queue owns its fields but the last two, which are
// its caller's.
type ticket struct {
	tenant string
	cost   int64
	lane   lane
	runs   bool
	gone   bool
	seq    uint64

	started   chan struct{}
	startedAt time.Time
}

// leastCost is what a query counts for at least: the cheapest ones take turns, too.
const leastCost = 1 << 20

func newQueue(l queueLimits) *queue {
	return &queue{limits: l, tenants: map[string]*share{}, last: heavy}
}

// refusal is why a query may not wait.
type refusal int

const (
	admitted    refusal = iota
	queueFull           // too many wait
	tenantsFull         // too many of the tenant wait
)

// enter takes a query in. most is how many of its tenant's may wait. Those that start
// now, which may be this one, are returned.
func (q *queue) enter(t *ticket, most int) ([]*ticket, refusal) {
	s := q.tenants[t.tenant]
	if s == nil {
		s = &share{}
	}
	t.cost = min(max(t.cost, leastCost), math.MaxInt64/1024)
	t.lane = heavy
	if t.cost <= max(q.limits.small, leastCost) {
		t.lane = small
	}
	q.seq++
	t.seq = q.seq
	if !q.mayStart(t) || q.waiting[t.lane] > 0 {
		switch {
		case len(s.waiting[small])+len(s.waiting[heavy]) >= most:
			return nil, tenantsFull
		case q.waiting[small]+q.waiting[heavy] >= q.limits.waiting:
			return nil, queueFull
		}
	}
	if s.idle() {
		s.had = max(s.had, q.clock)
	}
	q.tenants[t.tenant] = s
	s.waiting[t.lane] = append(s.waiting[t.lane], t)
	q.waiting[t.lane]++
	return q.start(), admitted
}

// leave takes a query out, whether it runs or waits. It returns those that start now.
func (q *queue) leave(t *ticket) []*ticket {
	s := q.tenants[t.tenant]
	if t.gone || s == nil {
		return nil
	}
	t.gone = true
	if t.runs {
		s.running--
		q.running[t.lane]--
		if t.lane == heavy {
			q.cost -= t.cost
		}
	} else {
		list := s.waiting[t.lane]
		for i := range list {
			if list[i] == t {
				s.waiting[t.lane] = append(list[:i:i], list[i+1:]...)
				q.waiting[t.lane]--
				break
			}
		}
	}
	started := q.start()
	q.forget()
	return started
}

// weigh corrects the cost of a query that runs, once more is known of it.
func (q *queue) weigh(t *ticket, cost int64) []*ticket {
	s := q.tenants[t.tenant]
	cost = min(max(cost, leastCost), math.MaxInt64/1024)
	if t.gone || !t.runs || s == nil || cost <= t.cost {
		return nil
	}
	s.had += cost - t.cost
	if t.lane == heavy {
		q.cost += cost - t.cost
	} else if cost > q.limits.small {
		q.running[small]--
		q.running[heavy]++
		q.cost += cost
		t.lane = heavy
	}
	t.cost = cost
	return q.start()
}

// mayStart reports whether there is a place for a query.
func (q *queue) mayStart(t *ticket) bool {
	free := q.limits.places - q.running[small] - q.running[heavy]
	if free <= 0 {
		return false
	}
	if t.lane == small {
		return free > 1 || q.limits.places == 1 || q.running[heavy] > 0 || q.waiting[heavy] == 0
	}
	return q.running[heavy] < q.limits.places-q.limits.kept && (q.running[heavy] == 0 || q.cost+t.cost <= q.limits.cost)
}

// start starts what may start, the lanes taking turns.
func (q *queue) start() (started []*ticket) {
	for {
		l := small + heavy - q.last
		t := q.next(l)
		if t == nil || !q.mayStart(t) {
			l = q.last
			if t = q.next(l); t == nil || !q.mayStart(t) {
				return started
			}
		}
		s := q.tenants[t.tenant]
		s.waiting[l] = s.waiting[l][1:]
		q.waiting[l]--
		s.running++
		q.running[l]++
		if l == heavy {
			q.cost += t.cost
		}
		q.clock = max(q.clock, s.had)
		s.had += t.cost
		q.last = l
		t.runs = true
		started = append(started, t)
	}
}

// next is the query of a lane whose turn it is.
func (q *queue) next(l lane) (next *ticket) {
	if q.waiting[l] == 0 {
		return nil
	}
	var of *share
	for _, s := range q.tenants {
		if len(s.waiting[l]) == 0 {
			continue
		}
		t := s.waiting[l][0]
		if of == nil || s.had < of.had || s.had == of.had && t.seq < next.seq {
			of, next = s, t
		}
	}
	return next
}

// forget drops tenants about whom nothing is to be known: those whose turn would be
// the same if they were new.
func (q *queue) forget() {
	all := q.running[small]+q.running[heavy]+q.waiting[small]+q.waiting[heavy] == 0
	if all {
		q.clock = 0
	}
	for name, s := range q.tenants {
		if s.idle() && (all || s.had <= q.clock) {
			delete(q.tenants, name)
		}
	}
}
