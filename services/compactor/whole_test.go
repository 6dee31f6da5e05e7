package compactor

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/limits"
)

// ofMany returns entries of 40 apps, from a minute of the day on.
func ofMany(from, n int) (list []entry) {
	for k := range 40 {
		list = append(list, some(fmt.Sprintf("app-%02d", k), from, n)...)
	}
	return list
}

// wantWhole checks that there is one live block, with lines kept whole or not, and what of
// them filters rule out.
func (e *env) wantWhole(want bool) {
	e.Helper()
	live := e.live()
	if len(live) != 1 || live[0].Level == 0 {
		e.Fatalf("live: %+v", live)
	}
	r, err := OpenBlock(e.Context(), e.bucket, live[0])
	e.must(err)
	if whole, err := r.Whole(e.Context()); err != nil || whole != want {
		e.Errorf("lines are kept whole: %v, %v", whole, err)
	}
	s, err := r.ReadSection(e.Context(), 0)
	e.must(err)
	if s.Grams == nil || !s.Grams.Needle([]byte("nowhere"), false).Empty() || s.Grams.Needle([]byte("request 1"), false).Empty() {
		e.Error("the matrix of grams does not tell")
	}
}

// TestWholeLinesStayWhole: where all lines are kept whole, and there are few for each of many
// services, a merge keeps them so; where there are more, or some are not, it finds templates.
func TestWholeLinesStayWhole(t *testing.T) {
	for _, c := range []struct {
		name         string
		below        int
		first, other bool // blocks have whole lines
		want         bool
	}{
		{"few", 31, true, true, true},
		{"more", 30, true, true, false},
		{"off", 0, true, true, false},
		{"mixed", 1000, true, false, false},
		{"with templates", 1000, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, func(cfg *Config, _ *Deps) { cfg.WholeBelow = c.below })
			e.whole = c.first
			e.put(day, ofMany(0, 20)...)
			e.whole = c.other
			e.put(day, ofMany(15, 10)...) // of which a third are copies
			e.pass(16 * time.Hour)
			e.cycle()
			e.wantEntries(ofMany(0, 25)...)
			e.wantWhole(c.want)
		})
	}
}

// TestWholeMergesRemove: deletes and retention take entries out of lines that stay whole.
func TestWholeMergesRemove(t *testing.T) {
	e := start(t)
	e.whole = true
	e.put(day, ofMany(0, 100)...)
	e.put(day, ofMany(100, 60)...)
	e.create(`{app="app-07"} |~ "request 1.[0-9]? "`)
	e.limits.RetentionStream = []limits.RetentionStream{{Selector: `{app="app-09"}`, Priority: 1, Period: 24 * time.Hour}}
	e.pass(20 * time.Hour)
	e.cycle()
	e.wantWhole(true)
	gone := func(x entry) bool { return x.app == "app-09" }
	e.wantEntries(slices.DeleteFunc(ofMany(0, 160), gone)...)
	e.pass(25 * time.Hour)
	e.cycle()
	e.wantWhole(true)
	e.wantEntries(slices.DeleteFunc(ofMany(0, 160), func(x entry) bool {
		m := int(x.at / time.Minute)
		return gone(x) || x.app == "app-07" && (m/10 == 1 || m/100 == 1)
	})...)
}
