package blockstore

import (
	"container/list"
	"hash/maphash"
)

// share is parts that make room for each other. Those that were loaded lately come first,
// by when they were asked for. What leaves them stays if there is room, or if it was there
// before, and since then another part that stayed was not asked for: that one goes instead.
// So queries that pass over more parts than there is room for, one after the other, find
// those that stayed whenever they come again, what is asked for once drives out nothing, and
// what is asked for twice takes the place of what is not asked for any more. What was not
// asked for while several times as much was loaded as there is room for gives way to anything.
type share struct {
	recent, kept queue
}

// queue is parts, the one to go first at the back.
type queue struct {
	list.List     // of *entry
	of        int // share
	size      int64
}

func (s *share) size() int64 { return s.recent.size + s.kept.size }

// Shares of the cache.
const (
	ofSections  = iota // what all row groups of a section need: up to half of the cache
	ofRowGroups        // of which there are far more bytes than memory
	ofEmptied          // what stayed of row groups: up to half, of what is left by sections and recent row groups
	shares
)

// most returns how many bytes a share takes at most while others need the rest.
func (c *Cache) most(share int) int64 {
	switch share {
	case ofSections:
		return c.limit / 2
	case ofEmptied:
		return min(c.limit/2, c.limit-c.limit/recentShare-min(c.shares[ofSections].size(), c.most(ofSections)))
	}
	return c.limit
}

// recentShare is which part of its share is for parts that were loaded lately.
const recentShare = 8

// staleAfter is how many times the bytes that there is room for are loaded until a part that
// was not asked for meanwhile gives way to one that was never there before, and emptiedStale how
// many times as long what stayed of row groups does, which is the smaller by that or more.
const (
	staleAfter   = 4
	emptiedStale = 8
)

func (k kind) share() int {
	if k == kindSection || k == kindProgram || k == kindFields {
		return ofSections
	}
	return ofRowGroups
}

// recentLimit returns how many bytes of a share parts take that were loaded lately, when
// they are asked to leave.
func (c *Cache) recentLimit(share int) int64 {
	return c.most(share) / recentShare
}

// insert puts a part in front of those of a share. Call with mu held.
func (c *Cache) insert(e *entry, share int) {
	e.queue = &c.shares[share].recent
	e.place = e.queue.PushFront(e)
	e.queue.size += e.size
}

// remove takes a part out of its share. Call with mu held.
func (c *Cache) remove(e *entry) {
	e.queue.Remove(e.place)
	e.queue.size -= e.size
}

// used notes that a part was asked for. Call with mu held.
func (c *Cache) used(e *entry) {
	c.ask(e)
	e.queue.MoveToFront(e.place)
}

func (c *Cache) ask(e *entry) {
	c.clock++
	e.asked, e.loaded = c.clock, c.loaded
}

// settle has the parts stay that leave those of a share that were loaded lately, once the
// others made room for them, but not the one that is asked for. Call with mu held.
func (c *Cache) settle(share int, asked *entry) {
	s := &c.shares[share]
	for s.recent.size > c.recentLimit(share) {
		e := s.recent.last(nil)
		if e == asked {
			return
		}
		c.remove(e)
		e.queue, e.place = &s.kept, s.kept.PushFront(e)
		s.kept.size += e.size
	}
}

// evict drops parts until the rest fits, but not the one that is asked for. Call with
// mu held.
func (c *Cache) evict(asked *entry) {
	for c.size > c.limit {
		order := [...]int{ofRowGroups, ofEmptied, ofSections}
		for i, share := range order {
			if c.shares[share].size() > c.most(share) {
				order[0], order[i] = share, order[0]
				break
			}
		}
		var e *entry
		for _, share := range order {
			if e = c.choose(share, asked); e != nil {
				break
			}
		}
		if e == nil {
			break
		}
		c.leave(e, asked)
	}
}

// leave drops a part, but for what stays of it. asked is as of evict. Call with mu held.
func (c *Cache) leave(e, asked *entry) {
	c.metrics.evictions.Inc()
	x, is := e.part.(emptier)
	var p part
	if is && !e.alone && e.queue.of != ofEmptied {
		p = x.emptied()
	}
	if p == nil {
		c.gone.note(e.key, e.asked)
		c.drop(e)
		return
	}
	e.part, e.left = p, e.asked
	c.resize(e, int64(p.MemorySize()))
	c.remove(e)
	c.insert(e, ofEmptied)
	// Others make room before it may stay, or it does.
	for c.shares[ofEmptied].size() > c.most(ofEmptied) {
		goes := c.choose(ofEmptied, asked)
		if goes == nil {
			break
		}
		c.leave(goes, asked)
	}
	c.settle(ofEmptied, nil)
}

// choose returns the part of a share that goes next; nil: there is none but the one that is
// asked for. Call with mu held.
func (c *Cache) choose(share int, asked *entry) *entry {
	s := &c.shares[share]
	newer, older := s.recent.last(asked), s.kept.last(asked)
	stale := staleAfter * c.limit
	if share == ofEmptied {
		stale *= emptiedStale
	}
	switch {
	case newer == nil:
		return older
	case older == nil:
		return newer
	case s.recent.size <= c.recentLimit(share), newer.before > older.asked, c.loaded-older.loaded > stale:
		return older
	}
	return newer
}

// last returns the part at the back, but not the one that is asked for.
func (q *queue) last(asked *entry) *entry {
	e := q.Back()
	if e != nil && e.Value == asked {
		e = e.Prev()
	}
	if e == nil {
		return nil
	}
	return e.Value.(*entry)
}

// gone is when parts that are not there any more were asked for last. Of a few at a time,
// those with the same place, that which was asked for last the longest ago is forgotten.
type gone struct {
	seed  maphash.Seed
	parts [1 << 10][4]struct{ hash, asked uint64 }
}

func (g *gone) note(k key, asked uint64) {
	h := maphash.Comparable(g.seed, k)
	some := &g.parts[h%uint64(len(g.parts))]
	oldest := &some[0]
	for i := range some {
		p := &some[i]
		if p.hash == h {
			oldest = p
			break
		}
		if p.asked < oldest.asked {
			oldest = p
		}
	}
	oldest.hash, oldest.asked = h, asked
}

// at returns when a part was asked for last; 0: that is not known.
func (g *gone) at(k key) uint64 {
	h := maphash.Comparable(g.seed, k)
	for _, p := range g.parts[h%uint64(len(g.parts))] {
		if p.hash == h {
			return p.asked
		}
	}
	return 0
}
