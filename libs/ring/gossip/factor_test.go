package gossip

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/ring"
)

func other(name string, rf uint32, version uint64) ring.Member {
	m := member(name)
	m.ReplicationFactor, m.Version = rf, version
	return m
}

// An ingester that was configured otherwise follows the others, and says what its entries
// were placed by until they are in the store.
func TestFactorFollowsTheOthers(t *testing.T) {
	c, _, spread := opened(t)
	if got := c.View().Config().ReplicationFactor; got != 3 {
		t.Fatalf("factor %d", got)
	}
	*spread = nil
	if err := c.Merge(tableOf(t, other("b", 1, 1), other("c", 1, 1))); err != nil {
		t.Fatal(err)
	}
	if err := c.refresh(); err != nil {
		t.Fatal(err)
	}
	v, self := c.View(), c.Self()
	if v.Config().ReplicationFactor != 1 || v.Configured().ReplicationFactor != 3 || self.Factors != ring.FactorsOf(1, 3) {
		t.Fatalf("config %+v, self %+v", v.Config(), self)
	}
	if in, _ := v.Table().Get("self"); in != self || !slices.Contains(*spread, "self active") {
		t.Fatalf("the table has %+v, told %v", in, *spread)
	}
	warnings := strings.Join(c.RingStatus().Warnings, "\n")
	if !strings.Contains(warnings, "self (3)") || !strings.Contains(warnings, "[1 3]") {
		t.Fatalf("warnings %s", warnings)
	}

	if err := c.HoldFactor(5); err != nil || c.Self().Factors != ring.FactorsOf(1, 3, 5) || !c.View().Factors().Has(5) {
		t.Fatal(err, c.Self())
	}
	if err := c.DropFactors(ring.FactorsOf(5)); err != nil || c.Self().Factors != ring.FactorsOf(1, 5) {
		t.Fatal(err, c.Self())
	}
	if err := c.DropFactors(0); err != nil || c.Self().Factors != ring.FactorsOf(1) {
		t.Fatal(err, c.Self())
	}
	// The others' word of an older record changes nothing.
	old := member("self")
	old.Factors = ring.FactorsOf(7)
	if err := c.Merge(tableOf(t, old)); err != nil || c.Self().Factors != ring.FactorsOf(1) {
		t.Fatal(err, c.Self())
	}
}

// A factor is not held before the file has it, whoever saves it.
func TestHeldFactorIsSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCore(member("self"), ring.Config{ReplicationFactor: 3}, Deps{})
	c.path = filepath.Join(dir, "members")
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	saved := func() ring.Factors {
		t.Helper()
		table, err := loadTable(c.path)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := table.Get("self")
		return m.Factors
	}
	// A save is going on, which another call waits for.
	c.refreshMu.Lock()
	held := make(chan error, 2)
	for range 2 {
		go func() { held <- c.HoldFactor(5) }()
	}
	for !c.Self().Factors.Has(5) {
		runtime.Gosched()
	}
	if err := c.HoldFactor(3); err != nil { // it is saved
		t.Error(err)
	}
	if len(held) > 0 {
		t.Error("it is held before it is saved")
	}
	c.refreshMu.Unlock()
	for range 2 {
		if err := <-held; err != nil || !saved().Has(5) {
			t.Error(err, saved().Slice())
		}
	}
	// A save has failed: the next call does not pass for one that has succeeded.
	aside := dir + ".aside"
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.HoldFactor(7); err == nil {
			t.Error("a factor is held that is not saved")
		}
	}
	if err := os.Rename(aside, dir); err != nil {
		t.Fatal(err)
	}
	if err := c.HoldFactor(7); err != nil || !saved().Has(7) {
		t.Error(err, saved().Slice())
	}
	// What was dropped is held anew.
	if err := c.DropFactors(0); err != nil || saved() != ring.FactorsOf(3) {
		t.Error(err, saved().Slice())
	}
	if err := c.HoldFactor(7); err != nil || saved() != ring.FactorsOf(3, 7) {
		t.Error(err, saved().Slice())
	}
}

func TestFactorsOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "members")
	run := func(rf int, path string) *core {
		c := newCore(member("self"), ring.Config{ReplicationFactor: rf}, Deps{})
		c.path = path
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := run(1, path)
	after := run(3, path)
	if got := after.Self().Factors; got != ring.FactorsOf(1, 3) {
		t.Fatalf("factors %v", got.Slice())
	}
	// Nor are they lost with the file: the others know.
	lost := run(3, filepath.Join(t.TempDir(), "members"))
	if err := lost.Merge(after.View().Table()); err != nil {
		t.Fatal(err)
	}
	if got := lost.Self().Factors; got != ring.FactorsOf(1, 3) {
		t.Fatalf("factors %v", got.Slice())
	}
	if before.Self().Factors != ring.FactorsOf(1) {
		t.Fatal(before.Self())
	}
}

// Members that store nothing have no say, and use what the ingesters do.
func TestFactorOfAStatelessMember(t *testing.T) {
	self := member("gateway")
	self.Roles, self.Incarnation = ring.Gateway, ring.EphemeralPrefix+"x"
	c := newCore(self, ring.Config{ReplicationFactor: 1}, Deps{})
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	if err := c.Merge(tableOf(t, other("a", 3, 1))); err != nil {
		t.Fatal(err)
	}
	if err := c.refresh(); err != nil {
		t.Fatal(err)
	}
	if v := c.View(); v.Config().ReplicationFactor != 3 || v.Factors() != ring.FactorsOf(3) || c.Self().Factors != 0 {
		t.Fatalf("%+v, factors %v, self %+v", v.Config(), v.Factors().Slice(), c.Self())
	}
}
