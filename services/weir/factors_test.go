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
	f := &factors{
		log: slog.New(slog.DiscardHandler), self: func() ring.Member { return self }, view: func() *ring.View { return view },
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
