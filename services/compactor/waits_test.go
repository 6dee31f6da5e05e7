package compactor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/objstore"
)

// A merge that always panics or fails is tried in ever fewer cycles, is made when it can be,
// and does not keep another one waiting. Who asks for it gets it tried at once. No cycle
// counts as good meanwhile, and each says why the merge fails.
func TestFailingMergeWaits(t *testing.T) {
	for _, panics := range []bool{true, false} {
		broken, attempts := true, 0
		e := start(t, func(_ *Config, d *Deps) {
			d.Step = func(name string) error {
				if name != "prove" || !broken {
					return nil
				}
				attempts++
				if panics {
					panic("in a step")
				}
				return errors.New("no room")
			}
		})
		m, why := e.service.metrics, "no room"
		if panics {
			why = "a panic"
		}
		began := testutil.ToFloat64(m.lastSuccess)
		if began != float64(e.now().Unix()) {
			t.Errorf("before the first cycle, the last good one was at %v", began)
		}
		e.put(day, some("x", 0, 100)...)
		e.put(day, some("x", 50, 100)...)
		e.pass(48 * time.Hour)
		var tried []int
		for i := range 20 {
			before := attempts
			err := e.service.Cycle(t.Context())
			if err == nil || !strings.Contains(err.Error(), "tenant t: merge of 2026-03-01") || !strings.Contains(err.Error(), why) {
				t.Fatalf("cycle %d: %v", i, err)
			}
			if waits := "waits after " + strconv.Itoa(len(tried)) + " failures"; strings.Contains(err.Error(), waits) != (attempts == before) {
				t.Errorf("cycle %d, %d attempts: %v", i, attempts-before, err)
			}
			if attempts > before {
				tried = append(tried, i)
			}
			if got, want := testutil.ToFloat64(m.waiting), i > 0 && i != 2 && i != 6 && i != 14; (got == 1) != want {
				t.Errorf("%v merges wait after cycle %d", got, i)
			}
		}
		if !slices.Equal(tried, []int{0, 1, 3, 7, 15}) {
			t.Errorf("tried in cycles %v", tried)
		}
		if good, last := testutil.ToFloat64(m.cycles.WithLabelValues("success")), testutil.ToFloat64(m.lastSuccess); good != 0 || last != began {
			t.Errorf("%v cycles of a merge that fails were good, the last at %v; it began at %v", good, last, began)
		}
		e.wantEntries(some("x", 0, 150)...)
		before := attempts
		if err := e.service.Compact(t.Context()); err == nil || !strings.Contains(err.Error(), why) || attempts != before+1 {
			t.Errorf("%d attempts when it was asked for: %v", attempts-before, err)
		}
		broken = false
		// Another one is made while it waits.
		e.put(day.Add(24*time.Hour), some("y", 24*60, 100)...)
		e.put(day.Add(24*time.Hour), some("y", 24*60+50, 100)...)
		e.pass(24 * time.Hour)
		if err := e.service.Cycle(t.Context()); err == nil || strings.Contains(err.Error(), "2026-03-02") {
			t.Error(err)
		}
		if n := len(e.live()); n != 3 {
			t.Errorf("%d live blocks, want two that wait and another day's merge", n)
		}
		if err := e.service.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.cycle()
		if n := len(e.live()); n != 2 {
			t.Errorf("%d live blocks", n)
		}
		if good, want := testutil.ToFloat64(m.lastSuccess), float64(e.now().Unix()); good != want {
			t.Errorf("the last good cycle was at %v, want %v", good, want)
		}
		if n, left := testutil.ToFloat64(m.waiting), len(e.service.waits.sets); n != 0 || left != 0 {
			t.Errorf("%v merges wait, %d are remembered", n, left)
		}
	}
}

// A merge that fails keeps nobody from the rounds of merges that are made for who asks, and
// is not tried in all of them.
func TestCompactGoesOn(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.MaxSources = 2 })
	bad := catalog.Key(e.put(day, some("x", 0, 100)...))
	e.put(day, some("x", 50, 100)...)
	for i := range 8 {
		e.put(day.Add(24*time.Hour), some("y", 24*60+10*i, 10)...)
	}
	e.pass(72 * time.Hour)
	var mu sync.Mutex
	reads := 0
	e.bucket.set(func() {
		e.bucket.before = func(op, key string) error {
			if op == "get" && key == bad {
				mu.Lock()
				defer mu.Unlock()
				if reads++; reads > 1 { // the first lists it
					return errors.New("no such luck")
				}
			}
			return nil
		}
	})
	if err := e.service.Compact(t.Context()); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Error(err)
	}
	e.bucket.set(func() { e.bucket.before = nil })
	if n := len(e.live()); n != 3 {
		t.Errorf("%d live blocks, want two whose merge fails and the merge of eight", n)
	}
	if reads > 1+3 {
		t.Errorf("the merge that fails was tried %d times", reads-1)
	}
}

// Failures that say nothing about a merge do not make it wait, attempts are never more than
// maxWait cycles apart, and what is not planned any more is forgotten.
func TestWaits(t *testing.T) {
	w := waits{sets: map[uint64]*wait{}}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, fmt.Errorf("put: %w", objstore.ErrUnavailable), nil} {
		w.begin()
		if w.note(1, err); w.over(1) != nil || w.end() != 0 || len(w.sets) > 0 {
			t.Errorf("it waits after: %v", err)
		}
	}
	failed, last, most := errors.New("no"), uint64(0), uint64(0)
	for range 1000 {
		w.begin()
		if w.over(1) == nil {
			if last > 0 {
				most = max(most, w.cycle-last)
			}
			last = w.cycle
			w.note(1, failed)
		}
		w.end()
	}
	if most != maxWait+1 {
		t.Errorf("attempts are up to %d cycles apart", most)
	}
	w.begin()
	if err := w.over(1); !errors.Is(err, failed) {
		t.Errorf("it does not wait, or for another reason: %v", err)
	}
	if w.over(2) != nil || w.end() != 1 {
		t.Error("another one waits")
	}
	w.note(1, nil)
	w.begin()
	if w.over(1) != nil || w.end() != 0 {
		t.Error("it waits after success")
	}
	w.note(1, failed)
	w.begin()
	if w.end(); len(w.sets) > 0 {
		t.Error("what is not planned is remembered")
	}
	task := func(ids ...string) (t compact.Task) {
		for _, id := range ids {
			t.Sources = append(t.Sources, compact.Block{Block: catalog.Block{ID: catalog.ID(id)}})
		}
		return t
	}
	of := setOf(task("a", "b"))
	if again := setOf(task("a", "b")); again != of || of == setOf(task("a")) || of == setOf(task("ab")) {
		t.Error("sets are not told apart by their sources")
	}
}
