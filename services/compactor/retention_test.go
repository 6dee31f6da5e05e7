package compactor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"

	"github.com/prometheus/client_golang/prometheus"
)

// value returns the sum of a metric over its labels.
func value(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// days puts a block of entries into each of n days that end with the first.
func (e *env) days(n, size int) (byDay [][]entry) {
	for d := range n {
		list := some("x", -d*24*60, size)
		e.put(day.AddDate(0, 0, -d), list...)
		byDay = append(byDay, list)
	}
	return byDay
}

func (e *env) dryRun() *storagev1.RetentionDryRunResponse {
	e.Helper()
	r, err := e.service.RetentionDryRun(e.tenant(), &storagev1.RetentionDryRunRequest{})
	e.must(err)
	return r
}

// TestRetentionByAge: old days go, a share of the tenant at a time.
func TestRetentionByAge(t *testing.T) {
	e := start(t)
	byDay := e.days(20, 100)
	e.cycle()
	e.wantEntries(join(byDay...)...)
	e.limits.RetentionPeriod = 5 * 24 * time.Hour
	dry := e.dryRun()
	if n := len(dry.GetSteps()); n != 15 || dry.GetBytesExpired() == 0 || dry.GetBytesPerCycle() != uint64(0.2*float64(dry.GetBytes())) {
		t.Fatalf("dry run: %d steps, %v", n, dry)
	}
	e.wantEntries(join(byDay...)...)
	left := len(e.live())
	for range 40 {
		e.pass(time.Hour)
		e.cycle()
		n := len(e.live())
		if left-n > 1+left/4 {
			t.Fatalf("%d of %d blocks went in a cycle", left-n, left)
		}
		left = n
		if left <= 5 {
			break
		}
	}
	e.wantEntries(join(byDay[:5]...)...)
	if n := len(e.dryRun().GetSteps()); n != 0 {
		t.Errorf("%d steps are left", n)
	}
}

// TestR25ClockJumps: the own clock is years ahead, the store has seen no such time:
// nothing expires.
func TestR25ClockJumps(t *testing.T) {
	e := start(t)
	byDay := e.days(3, 10)
	e.limits.RetentionPeriod, e.limits.RetentionForce = 30*24*time.Hour, true
	e.mu.Lock()
	e.time = e.time.AddDate(10, 0, 0)
	e.mu.Unlock()
	for range 5 {
		e.cycle()
	}
	e.wantEntries(join(byDay...)...)
	e.mu.Lock()
	e.store = e.time
	e.mu.Unlock()
	e.pass(time.Hour) // now the store has seen it, too
	e.cycle()
	e.wantEntries()
}

// TestQuietStoreAges: a store that nobody writes to is asked for its time, and
// retention goes on. One without a clock of its own ages while the process runs, not
// because a clock is set, and does so over restarts.
func TestQuietStoreAges(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		own     bool
		passes  time.Duration // of each day's time, by a clock that nobody sets
		restart bool          // every ten days
		kept    bool
	}{
		{"store's clock", false, 0, false, false},
		{"runs", true, day, false, false},
		{"runs, is restarted", true, day, true, false},
		{"clock jumps every day", true, 0, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var elapsed time.Duration
			deps := func(_ *Config, d *Deps) {
				d.OwnClock, d.Elapsed = c.own, func() time.Duration { return elapsed }
			}
			e := start(t, deps)
			byDay := e.days(1, 10)
			e.limits.RetentionPeriod, e.limits.RetentionForce = 30*day, true
			for i := range 40 {
				e.mu.Lock()
				e.time, e.store = e.time.Add(day), e.store.Add(day)
				e.mu.Unlock()
				if elapsed += c.passes; c.restart && i%10 == 5 {
					elapsed = 0
					e.service, e.loader, e.reg = e.compactor(deps)
				}
				e.cycle()
			}
			if c.kept {
				e.wantEntries(join(byDay...)...)
			} else {
				e.wantEntries()
			}
		})
	}
}

// TestR25MistakeCostsAShare: a period of an hour instead of a month takes a share of
// the tenant in a cycle, however often cycles come.
func TestR25MistakeCostsAShare(t *testing.T) {
	e := start(t)
	byDay := e.days(20, 100)
	e.pass(24 * time.Hour)
	e.cycle()
	before := len(e.live())
	e.limits.RetentionPeriod = time.Hour
	for range 10 { // less than an interval of retention passes
		e.pass(6*time.Minute + 1)
		e.cycle()
	}
	if n := len(e.live()); before-n > before/4 || n == before {
		t.Fatalf("%d of %d blocks are left", n, before)
	}
	if value(t, e.reg, "weir_compactor_held_back_bytes") == 0 {
		t.Error("nothing says that retention waits")
	}
	// Put right in time, the rest stays.
	left := e.entries()
	e.limits.RetentionPeriod = 0
	for range 10 {
		e.pass(time.Hour)
		e.cycle()
	}
	if got := e.entries(); len(got) != len(left) || len(got) == 0 {
		t.Errorf("%d of %d entries", len(got), len(left))
	}
	// With force all goes at once.
	e.limits.RetentionPeriod, e.limits.RetentionForce = time.Hour, true
	e.pass(time.Hour)
	e.cycle()
	e.wantEntries()
	_ = byDay
}

// TestRetentionOfStreamsAndLevels: a part of a block goes by rewriting it, once.
func TestRetentionOfStreamsAndLevels(t *testing.T) {
	e := start(t)
	e.limits.RetentionPeriod, e.limits.RetentionForce = 90*24*time.Hour, true
	e.limits.RetentionStream = []limits.RetentionStream{
		{Selector: `{app="noisy"}`, Priority: 1, Period: 2 * 24 * time.Hour},
		{Selector: `{app=~".+"} | detected_level="debug"`, Period: 3 * 24 * time.Hour},
	}
	var keep, debug []entry
	for i := range 100 {
		x := entry{app: "x", at: time.Duration(i) * time.Minute, line: fmt.Sprint("line ", i), level: "info"}
		if i%3 == 0 {
			x.level = "debug"
			debug = append(debug, x)
		} else {
			keep = append(keep, x)
		}
	}
	noisy := some("noisy", 0, 50)
	e.put(day, join(keep, debug, noisy)...)
	e.pass(24 * time.Hour)
	e.cycle()
	e.wantEntries(join(keep, debug, noisy)...)
	e.pass(26 * time.Hour)
	dry := e.dryRun()
	if s := dry.GetSteps(); len(s) != 1 || !s[0].GetRewrite() || s[0].GetEntries() != 50 || !strings.Contains(s[0].GetReason(), "noisy") {
		t.Fatalf("dry run: %v", s)
	}
	e.cycle()
	e.wantEntries(join(keep, debug)...)
	e.pass(24 * time.Hour)
	e.cycle()
	e.wantEntries(keep...)
	// What was done is not done again.
	merges := e.service.merges()
	for range 5 {
		e.pass(24 * time.Hour)
		e.cycle()
	}
	if n := e.service.merges(); n != merges {
		t.Errorf("%d merges more", n-merges)
	}
	// New rules concern what is there already.
	e.limits.RetentionStream = append(e.limits.RetentionStream, limits.RetentionStream{Selector: `{app="x"} |= "line 1"`, Priority: 7, Period: 24 * time.Hour})
	e.pass(time.Hour)
	e.cycle()
	var rest []entry
	for _, x := range keep {
		if !strings.Contains(x.line, "line 1") {
			rest = append(rest, x)
		}
	}
	e.wantEntries(rest...)
}

// TestDryRunSaysWhatGoes: what an exact dry run counts is what goes, where rules with
// filters and priorities concern the same streams; without it that is an estimate, and says
// so. All rules that have ended are named.
func TestDryRunSaysWhatGoes(t *testing.T) {
	e := start(t)
	e.limits.RetentionForce = true
	e.limits.RetentionStream = []limits.RetentionStream{
		{Selector: `{app="kept"} |= "line 1"`, Priority: 2, Period: 0},
		{Selector: `{app=~".+"} | detected_level="debug"`, Priority: 1, Period: 24 * time.Hour},
		{Selector: `{app="short"}`, Period: 2 * 24 * time.Hour},
	}
	for n := range 2 {
		var all []entry
		for _, app := range []string{"kept", "long", "short"} {
			for i := range 100 {
				level := "info"
				if i%3 == 0 {
					level = "debug"
				}
				all = append(all, entry{app: app, at: time.Duration(n)*24*time.Hour + time.Duration(i)*time.Minute, line: fmt.Sprint("line ", i), level: level})
			}
		}
		e.put(time.Time{}, all...)
	}
	e.pass(3 * 24 * time.Hour)
	e.limits.RetentionPeriod = 0
	before := len(e.entries())
	ask := func(exact bool) (n uint64, steps []*storagev1.RetentionStep) {
		r, err := e.service.RetentionDryRun(e.tenant(), &storagev1.RetentionDryRunRequest{Exact: exact})
		e.must(err)
		for _, s := range r.GetSteps() {
			n += s.GetEntries()
			if s.GetEstimated() != (s.GetRewrite() && !exact) {
				t.Errorf("exact %v: %v", exact, s)
			}
		}
		return n, r.GetSteps()
	}
	estimate, _ := ask(false)
	want, steps := ask(true)
	if estimate == want || len(steps) != 2 {
		t.Fatalf("%d entries by estimate, %d, steps %v", estimate, want, steps)
	}
	if why := steps[0].GetReason(); !strings.Contains(why, "short") || !strings.Contains(why, "debug") {
		t.Errorf("why: %s", why)
	}
	e.cycle()
	if gone := before - len(e.entries()); gone != int(want) || gone == 0 {
		t.Errorf("%d entries went, the dry run said %d", gone, want)
	}
	if n, steps := ask(true); n != 0 {
		t.Errorf("%d more would go: %v", n, steps)
	}
}

// TestRetentionBySize: the oldest days go until the rest fits, and replicas count once.
func TestRetentionBySize(t *testing.T) {
	e := start(t)
	byDay := e.days(10, 100)
	e.pass(24 * time.Hour)
	e.cycle()
	total := e.dryRun().GetBytes()
	e.limits.RetentionSize = conf.ByteSize(total / 2)
	dry := e.dryRun()
	if n := len(dry.GetSteps()); n < 4 || n > 6 || !strings.Contains(dry.GetSteps()[0].GetReason(), "oldest") {
		t.Fatalf("dry run: %v", dry)
	}
	for range 30 {
		e.pass(time.Hour)
		e.cycle()
	}
	n := len(e.live())
	if n < 4 || n > 6 {
		t.Fatalf("%d days are left", n)
	}
	e.wantEntries(join(byDay[:n]...)...)
	if got := e.dryRun().GetBytes(); got > total/2 {
		t.Errorf("%d of %d bytes", got, total/2)
	}
	// Copies that wait for their merge take no room.
	e.put(day, byDay[0]...)
	e.put(day, byDay[0]...)
	if s := e.dryRun().GetSteps(); len(s) != 0 {
		t.Errorf("copies count: %v", s)
	}
}

// TestWhollyRemovedBlock: rewriting that leaves nothing leaves a block without rows,
// which goes after those that it replaced.
func TestWhollyRemovedBlock(t *testing.T) {
	e := start(t)
	e.limits.RetentionForce = true
	e.limits.RetentionStream = []limits.RetentionStream{{Selector: `{app="x"} |= "request"`, Period: 2 * 24 * time.Hour}}
	e.put(day, some("x", 0, 10)...)
	e.put(time.Time{}, some("x", 24*60, 10)...)
	e.pass(5 * 24 * time.Hour)
	for range 5 {
		e.cycle()
		e.wantEntries()
		e.pass(25 * time.Hour)
	}
	e.cycle()
	if keys := e.objects(); len(keys) != 0 {
		t.Errorf("objects: %v", keys)
	}
}
