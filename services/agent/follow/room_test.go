package follow

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Where nobody waits for a descriptor no file rests, however long it was idle, nobody is asked to
// give one up, and what is written just before a deletion is read as ever.
func TestNoneRestsWhereThereIsRoom(t *testing.T) {
	for seed := range 10 {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		c := newCrowd(t, 5, 0)
		c.seed = seed
		c.settle()
		for range 40 {
			for range rng.IntN(4) {
				r := c.all[rng.IntN(len(c.all))]
				if r.write(1); rng.IntN(3) > 0 {
					continue
				}
				if rng.IntN(2) == 0 {
					r.rotate()
				} else if err := os.Remove(r.path); err != nil {
					t.Fatal(err)
				}
				c.look(false) // a file that comes and goes between two looks is none's concern
				r.write(1)
				c.look(false)
			}
			c.step(1)
			c.turns(time.Now().Add(time.Hour))
			if n := c.budget.asked(time.Now()); n != 0 || c.freed != nil || len(c.awaited) > 0 {
				t.Fatalf("%d descriptors are asked for", n)
			}
			for _, f := range c.order {
				if f.f == nil || f.wants {
					t.Fatalf("%s rests", f.pos.Path)
				}
			}
		}
		c.settle()
		if rested, late := testutil.ToFloat64(c.m.resting)+testutil.ToFloat64(c.m.goneResting), testutil.ToFloat64(c.m.postponed); rested+late != 0 {
			t.Errorf("%v files rested, %v looks were for nothing", rested, late)
		}
	}
}

// Files that rest, are open, or never had a descriptor, are rotated more than once between two
// looks, with lines in those that bear a path only between them.
func TestRotatedTwiceWhileResting(t *testing.T) {
	for seed := range 15 {
		rng := rand.New(rand.NewPCG(uint64(seed), 3))
		c := newCrowd(t, 3+rng.IntN(6), 1+rng.IntN(3))
		c.seed = seed
		if rng.IntN(3) > 0 {
			c.settle()
		} else {
			c.step(1) // what was renamed before nobody asks for
		}
		for range 6 {
			for _, r := range c.all {
				if rng.IntN(2) == 0 {
					continue
				}
				for range 1 + rng.IntN(3) {
					if rng.IntN(2) == 0 {
						r.write(1)
					}
					if r.rotate(); rng.IntN(3) > 0 {
						r.write(1)
					}
				}
			}
			c.step(1 + rng.IntN(3))
		}
		c.settle()
		if n := testutil.ToFloat64(c.m.goneResting); n != 0 {
			t.Errorf("%v files are gone (seed %d)", n, seed)
		}
	}
}

// However many files were read before a start, and however many looks it takes until all have had
// a descriptor, each look for what they are called now lists their folder once.
func TestKnownAreLookedForTogether(t *testing.T) {
	c := newCrowd(t, 30, 0)
	c.settle()
	for _, r := range c.all {
		r.rotate()
	}
	c.restart()
	c.budget = NewBudget(2)
	listed, dir := 0, filepath.Dir(c.path)
	at := time.Now().Add(-time.Hour) // it is as it was for longer than its time is coarse
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	c.before = func(name string) error {
		if name == dir {
			listed++
		}
		return nil
	}
	for range 3 {
		c.lack, listed = nil, 0
		if c.findKnown(c.match()); listed > 2 || c.lack == nil {
			t.Fatalf("the folder was listed %d times (%v)", listed, c.lack)
		}
	}
	c.before = nil
	c.settle()
}

// Files that were renamed before a start and have a rest are renamed again while they are looked
// for, after their folder was listed: their rest comes first all the same.
func TestRenamedSinceListed(t *testing.T) {
	c := newCrowd(t, 6, 0)
	c.settle()
	for _, r := range c.all {
		r.write(1)
		r.rotate()
		r.write(1)
	}
	c.restart()
	renamed := false
	c.before = func(name string) error {
		if name == filepath.Dir(c.path) || renamed {
			return nil
		}
		renamed = true
		for _, r := range c.all {
			r.rotate()
			r.write(1)
		}
		return nil
	}
	c.findKnown(c.match())
	for _, r := range c.all {
		if f := c.at(r.path); f == nil || f.f.Name() != r.path+".2" {
			t.Errorf("the rest of %s is not found", filepath.Base(r.path))
		}
	}
	c.settle()
}
