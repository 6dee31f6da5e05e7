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
	list.List // of *entry
	size      int64
}

// Shares of the cache.
const (
	ofSections  = iota // what all row groups of a section need: up to half of the cache
	ofRowGroups        // of which there are far more bytes than memory
	shares
)

// recentShare is which part of its share is for parts that were loaded lately.
const recentShare = 8

// staleAfter is how many times the bytes that there is room for are loaded until a part that
// was not asked for meanwhile gives way to one that was never there before.
const staleAfter = 4

func (k kind) share() int {
	if k == kindSection || k == kindProgram || k == kindFields {
		return ofSections
	}
	return ofRowGroups
}

// recentLimit returns how many bytes of a share parts take that were loaded lately, when
// they are asked to leave.
func (c *Cache) recentLimit(share int) int64 {
	if share == ofSections {
		return c.limit / 2 / recentShare
	}
	return c.limit / recentShare
}

// insert puts a part that was loaded in front. Call with mu held.
func (c *Cache) insert(e *entry) {
	e.before = c.gone.at(e.key)
	c.ask(e)
	e.queue = &c.shares[e.key.kind.share()].recent
	e.place = e.queue.PushFront(e)
	e.queue.size += e.size
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
		s.recent.Remove(e.place)
		s.recent.size -= e.size
		e.queue, e.place = &s.kept, s.kept.PushFront(e)
		s.kept.size += e.size
	}
}

// evict drops parts until the rest fits, but not the one that is asked for. Call with
// mu held.
func (c *Cache) evict(asked *entry) {
	for c.size > c.limit {
		first := ofRowGroups
		if s := &c.shares[ofSections]; s.recent.size+s.kept.size > c.limit/2 {
			first = ofSections
		}
		e := c.choose(first, asked)
		if e == nil {
			e = c.choose(shares-1-first, asked)
		}
		if e == nil {
			break
		}
		c.gone.note(e.key, e.asked)
		c.drop(e)
		c.metrics.evictions.Inc()
	}
}

// choose returns the part of a share that goes next; nil: there is none but the one that is
// asked for. Call with mu held.
func (c *Cache) choose(share int, asked *entry) *entry {
	s := &c.shares[share]
	newer, older := s.recent.last(asked), s.kept.last(asked)
	switch {
	case newer == nil:
		return older
	case older == nil:
		return newer
	case s.recent.size <= c.recentLimit(share), newer.before > older.asked, c.loaded-older.loaded > staleAfter*c.limit:
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
