package compactor

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/ring"
)

// TestOwnership: of compactors that see the same members exactly one owns a
// partition, the shares are alike, and a member that goes leaves the others' as they
// are.
func TestOwnership(t *testing.T) {
	view := func(names ...string) *ring.View {
		var table ring.Table
		healthy := map[string]bool{}
		for _, n := range names {
			var err error
			table, _, err = table.Put(ring.Member{Name: n, Incarnation: n, Roles: ring.Compactor, GRPCAddr: "127.0.0.1:1", State: ring.Active, MinVersion: 1, MaxVersion: 1, Version: 1})
			if err != nil {
				t.Fatal(err)
			}
			healthy[n] = true
		}
		return ring.NewView(table, healthy, ring.Config{ReplicationFactor: 1})
	}
	e := start(t)
	owner := func(v *ring.View, self, tenant string, day time.Time) bool {
		s := e.service
		s.deps.View, s.deps.Self = func() *ring.View { return v }, func() string { return self }
		return s.owns(tenant, day)
	}
	three, two := view("a", "b", "c"), view("a", "b")
	shares := map[string]int{}
	for i := range 300 {
		tenant, at := fmt.Sprint("t", i%30), day.AddDate(0, 0, i)
		was := ""
		for _, n := range []string{"a", "b", "c"} {
			if owner(three, n, tenant, at) {
				if was != "" {
					t.Fatalf("%s and %s own %s %s", was, n, tenant, at)
				}
				was = n
			}
		}
		shares[was]++
		if was != "c" && !owner(two, was, tenant, at) {
			t.Errorf("%s %s changes its owner though %s is still there", tenant, at, was)
		}
	}
	for _, n := range []string{"a", "b", "c"} {
		if shares[n] < 60 || shares[n] > 140 {
			t.Errorf("shares: %v", shares)
		}
	}
	if !owner(view(), "a", "t", day) {
		t.Error("where nobody else is known nobody works")
	}
	e.service.deps.View = func() *ring.View { return nil }
	if e.service.owns("t", day) {
		t.Error("a process that has not joined owns something")
	}
}
