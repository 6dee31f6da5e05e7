package weir

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// What was placed by a former factor counts until it is in the store, and the store is not
// asked before nothing of the kind can come any more.
func TestFormerFactorIsGivenUpAfterAFlush(t *testing.T) {
	self := ring.Member{Name: "a", Incarnation: "i", Roles: ring.Ingester, GRPCAddr: "127.0.0.1:1", State: ring.Active,
		MinVersion: 1, MaxVersion: 1, Version: 1, ReplicationFactor: 3, Factors: ring.FactorsOf(1, 3)}
	table, _, err := ring.Table{}.Put(self)
	if err != nil {
		t.Fatal(err)
	}
	view := ring.NewView(table, nil, ring.Config{ReplicationFactor: 3})
	at, flushes := time.Unix(1_700_000_000, 0), 0
	flushErr := errors.New("the store is away")
	var kept []ring.Factors
	var h held
	f := &factors{
		held: &h,
		log:  slog.New(slog.DiscardHandler), self: func() ring.Member { return self }, view: func() *ring.View { return view },
		now:   func() time.Time { return at },
		flush: func(context.Context) error { flushes++; return flushErr },
		drop:  func(keep ring.Factors) error { kept = append(kept, keep); self.Factors &= keep; return nil },
	}
	step := func(wait time.Duration, wantFlushes, wantDrops int) {
		t.Helper()
		at = at.Add(wait)
		f.pass(t.Context())
		if flushes != wantFlushes || len(kept) != wantDrops {
			t.Fatalf("%d flushes, %d drops, want %d and %d", flushes, len(kept), wantFlushes, wantDrops)
		}
	}
	step(0, 0, 0)
	step(factorMargin-1, 0, 0)
	step(1, 1, 0) // the flush fails
	flushErr = nil
	step(time.Second, 2, 1)
	if self.Factors != ring.FactorsOf(3) {
		t.Fatalf("factors %v", self.Factors.Slice())
	}
	step(time.Hour, 2, 1)
	// Another one that comes up begins the wait anew.
	self.Factors |= ring.FactorsOf(5)
	step(time.Hour, 2, 1)
	self.Factors |= ring.FactorsOf(1)
	step(factorMargin, 2, 1)
	step(factorMargin, 3, 2)
}

// However late an entry comes that was placed by a former factor, the factor is not dropped
// before the entry is in the store.
func TestFormerFactorOfALateWrite(t *testing.T) {
	self := ring.Member{Name: "a", Incarnation: "i", Roles: ring.Ingester, GRPCAddr: "127.0.0.1:1", State: ring.Active,
		MinVersion: 1, MaxVersion: 1, Version: 1, ReplicationFactor: 3, Factors: ring.FactorsOf(1, 3)}
	table, _, err := ring.Table{}.Put(self)
	if err != nil {
		t.Fatal(err)
	}
	view := ring.NewView(table, nil, ring.Config{ReplicationFactor: 3})
	at, stored, flushed, drops := time.Unix(1_700_000_000, 0), 0, 0, 0
	var h held
	during := func() {}
	f := &factors{
		log: slog.New(slog.DiscardHandler), self: func() ring.Member { return self }, view: func() *ring.View { return view },
		now: func() time.Time { return at }, held: &h,
		flush: func(context.Context) error { flushed = stored; during(); return nil },
		drop: func(keep ring.Factors) error {
			if self.Factors &= keep; !self.Factors.Has(1) {
				drops++
			}
			if flushed < stored {
				t.Errorf("dropped with %d entries in the store of %d", flushed, stored)
			}
			return nil
		},
	}
	begin := func(rf int) func() {
		t.Helper()
		done, err := h.begin(rf, func(rf int) error { self.Factors |= ring.FactorsOf(rf); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return func() { stored++; done() }
	}
	pass := func(wait time.Duration, want int) {
		t.Helper()
		at = at.Add(wait)
		if f.pass(t.Context()); drops != want {
			t.Fatalf("dropped %d times, want %d", drops, want)
		}
	}
	pass(0, 0)
	done := begin(1)
	pass(time.Hour, 0) // it is in work
	done()
	during = func() { begin(1)() }
	pass(time.Hour, 0) // one came behind the flush
	var end func()
	during = func() { end = begin(1) }
	pass(0, 0)
	during = func() {}
	pass(0, 0) // and is in work
	end()
	pass(0, 1)
	begin(3)() // the one in use does not matter
	pass(time.Hour, 1)
	begin(1)()
	pass(0, 1)
	pass(factorMargin, 2)

	if _, err := h.begin(1, func(int) error { return errors.New("the disk is full") }); err == nil {
		t.Error("begun without a note")
	}
	if _, working := h.seen(ring.FactorsOf(1, 3)); working {
		t.Error("writes are in work")
	}
	if done, err := h.begin(99, nil); err != nil {
		t.Error(err)
	} else {
		done()
	}
}
