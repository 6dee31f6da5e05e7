package compactor

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

func (e *env) create(query string) *storagev1.Delete {
	e.Helper()
	r, err := e.service.CreateDelete(e.tenant(), &storagev1.CreateDeleteRequest{Query: query})
	e.must(err)
	return r.GetDelete()
}

func (e *env) list() []*storagev1.Delete {
	e.Helper()
	r, err := e.service.ListDeletes(e.tenant(), &storagev1.ListDeletesRequest{})
	e.must(err)
	return r.GetDeletes()
}

func (e *env) cancel(id string) error {
	_, err := e.service.CancelDelete(e.tenant(), &storagev1.CancelDeleteRequest{Id: id})
	return err
}

// TestDelete follows a delete from its creation to its proof.
func TestDelete(t *testing.T) {
	e := start(t)
	x, y := some("x", 0, 100), some("y", 0, 50)
	e.put(day, join(x, y)...)
	e.put(day, some("x", 50, 50)...) // copies
	e.put(day.AddDate(0, 0, -1), some("y", -24*60, 20)...)
	d := e.create(`{app="x"} |~ "request [0-9] "`)
	if d.GetState() != storagev1.DeleteState_DELETE_STATE_RECEIVED || d.GetId() == "" {
		t.Fatalf("%v", d)
	}
	// R 24: no row goes before rewriting starts, whatever merges there are.
	e.pass(20 * time.Hour)
	e.cycle()
	e.wantEntries(join(x, y, some("y", -24*60, 20))...)
	if l := e.list(); len(l) != 1 || l[0].GetState() != storagev1.DeleteState_DELETE_STATE_RECEIVED || l[0].GetBlocksPending() != 1 || l[0].GetBytesPending() == 0 {
		t.Fatalf("%v", l)
	}
	e.pass(5 * time.Hour)
	e.cycle()
	e.wantEntries(join(x[10:], y, some("y", -24*60, 20))...)
	l := e.list()
	if len(l) != 1 || l[0].GetState() != storagev1.DeleteState_DELETE_STATE_DONE || l[0].GetBlocksDone() != 1 || l[0].GetRemovedEntries() != 10 || len(l[0].GetRemovals()) != 1 {
		t.Fatalf("%v", l)
	}
	if r := l[0].GetRemovals()[0]; r.GetEntries() != 10 || r.GetBlock() == "" || len(r.GetSources()) == 0 {
		t.Errorf("%v", r)
	}
	if err := e.cancel(d.GetId()); !rpcerr.Is(err, rpcerr.Conflict) {
		t.Error(err)
	}
	// A block without streams of it was not touched.
	merges := e.service.merges()
	e.pass(time.Hour)
	e.cycle()
	if e.service.merges() != merges {
		t.Error("blocks are rewritten again")
	}
	// What comes late with old entries is rewritten, too.
	e.put(day, join(x[:10], some("z", 0, 2))...)
	if l := e.list(); l[0].GetState() != storagev1.DeleteState_DELETE_STATE_REWRITING || l[0].GetBlocksPending() != 1 {
		t.Errorf("%v", l)
	}
	e.cycle()
	e.wantEntries(join(x[10:], y, some("z", 0, 2), some("y", -24*60, 20))...)
	if l := e.list(); l[0].GetRemovedEntries() != 20 {
		t.Errorf("%v", l)
	}
	for range 3 {
		e.pass(25 * time.Hour)
		e.cycle()
	}
	e.wantEntries(join(x[10:], y, some("z", 0, 2), some("y", -24*60, 20))...)
}

// TestR24CancelUntilStart: a delete that was cancelled removes nothing; of cancelling
// and starting at once one wins, and both sides know which.
func TestR24CancelUntilStart(t *testing.T) {
	e := start(t)
	x := some("x", 0, 100)
	e.put(day, x...)
	d := e.create(`{app="x"}`)
	e.pass(23 * time.Hour)
	e.cycle()
	e.must(e.cancel(d.GetId()))
	e.must(e.cancel(d.GetId())) // again is no harm
	l := e.list()
	if len(l) != 1 || l[0].GetState() != storagev1.DeleteState_DELETE_STATE_CANCELLED || !l[0].GetCancelled().AsTime().Equal(e.now()) || l[0].GetBlocksPending() != 0 {
		t.Errorf("cancelled: %v", l)
	}
	for range 4 {
		e.pass(24 * time.Hour)
		e.cycle()
	}
	e.wantEntries(x...)
	if l := e.list(); len(l) != 0 {
		t.Errorf("%v", l)
	}
	if err := e.cancel("nothing"); !rpcerr.Is(err, rpcerr.NotFound) {
		t.Error(err)
	}
	if err := e.cancel(d.GetId()); !rpcerr.Is(err, rpcerr.NotFound) {
		t.Errorf("what was cancelled days ago is still known: %v", err)
	}

	for range 20 {
		e := start(t, func(c *Config, _ *Deps) { c.RewriteDelay = 0 })
		e.put(day, x...)
		d := e.create(`{app="x"}`)
		e.pass(time.Second)
		other, _, _ := e.compactor()
		done := make(chan error)
		go func() {
			_, err := other.CancelDelete(e.tenant(), &storagev1.CancelDeleteRequest{Id: d.GetId()})
			done <- err
		}()
		cycled := e.service.Cycle(t.Context())
		err := <-done
		e.must(cycled)
		e.cycle()
		switch {
		case err == nil:
			e.wantEntries(x...)
		case rpcerr.Is(err, rpcerr.Conflict):
			e.wantEntries()
		default:
			t.Fatal(err)
		}
	}
}

// TestR24FooterListsWhatWasApplied: a merge of a block that a delete was applied to
// with one that it was not applied to does not claim it.
func TestR24FooterListsWhatWasApplied(t *testing.T) {
	e := start(t, func(c *Config, _ *Deps) { c.RewriteDelay = 0; c.MaxSources = 2 })
	e.put(day, some("x", 0, 20)...)
	d := e.create(`{app="x"} |= "request 1 "`)
	e.pass(time.Second)
	e.cycle()
	if b := e.live(); len(b) != 1 || !strings.Contains(strings.Join(b[0].Tombstones, " "), d.GetId()) {
		t.Fatalf("%+v", b)
	}
	e.put(day, some("x", 0, 5)...) // brings the entry back
	e.pass(24 * time.Hour)
	blind, _, _ := e.compactor(func(c *Config, _ *Deps) { c.MaxSources = 2 })
	// A compactor that does not know of the delete merges them: its view is from before.
	blind.deps.Tombstones = tombstone.NewStore(&faults{Bucket: e.bucket.Bucket, stale: func(key string) bool { return strings.Contains(key, "/deletes/") }}, e.now, 0)
	e.must(blind.Compact(t.Context()))
	b := e.live()
	if len(b) != 1 || strings.Contains(strings.Join(b[0].Tombstones, " "), d.GetId()) {
		t.Fatalf("%+v", b)
	}
	e.cycle()
	if got := e.entries(); strings.Contains(strings.Join(got, "\n"), "request 1 ") {
		t.Error("the entry is back")
	}
}

// TestR24Retire: a delete stays in force until every data directory has confirmed it
// or was forgotten, and every block that could bring entries back is gone.
func TestR24Retire(t *testing.T) {
	var list []tombstone.Incarnation
	e := start(t, func(c *Config, d *Deps) {
		c.RewriteDelay = 0
		d.Incarnations = func(context.Context, []*tombstone.Tombstone) ([]tombstone.Incarnation, error) { return list, nil }
	})
	list = []tombstone.Incarnation{{ID: "a"}, {ID: "b"}, {ID: "c", Forgotten: day}}
	e.put(day, some("x", 0, 20)...)
	d := e.create(`{app="x"} |= "request 1 "`)
	step := func(want int, what string) {
		t.Helper()
		e.pass(25 * time.Hour)
		e.cycle()
		if n := len(e.list()); n != want {
			t.Fatalf("%s: %d deletes", what, n)
		}
	}
	list[0].Confirmed = []string{d.GetId()}
	step(1, "one has not confirmed")
	step(1, "one has not confirmed")
	list[1].Confirmed = []string{d.GetId()}
	// A block that nobody has rewritten could bring it back.
	e.put(day, some("x", 0, 3)...)
	e.bucket.set(func() {
		e.bucket.before = func(op, key string) error {
			if op == "put" && isBlock(key) {
				return errFault
			}
			return nil
		}
	})
	e.pass(time.Hour)
	if err := e.service.Cycle(t.Context()); !errors.Is(err, errFault) {
		t.Fatal(err)
	}
	if n := len(e.list()); n != 1 {
		t.Fatalf("a block waits: %d deletes", n)
	}
	e.bucket.set(func() { e.bucket.before = nil })
	step(1, "sources are still there")
	step(0, "all is done")
	if got := e.entries(); strings.Contains(strings.Join(got, "\n"), "request 1 ") || len(got) != 19 {
		t.Error("the entry is back")
	}
}

// TestDeleteCrashes: a compactor that is killed at any step of a delete leaves it to
// be finished; what is on record was removed, no more and no less.
func TestDeleteCrashes(t *testing.T) {
	seen := map[string]bool{}
	for n := 1; ; n++ {
		e := start(t, func(c *Config, _ *Deps) { c.RewriteDelay = 0 })
		x, y := some("x", 0, 30), some("y", 0, 5)
		e.put(day, join(x, y)...)
		e.create(`{app="x"} |~ "request [0-9] "`)
		e.pass(time.Second)
		left := n
		killed, _, _ := e.compactor(func(c *Config, d *Deps) {
			c.RewriteDelay = 0
			d.Step = func(step string) error {
				if left--; left <= 0 {
					seen[step] = true
					return errCrash
				}
				return nil
			}
		})
		err := killed.Cycle(t.Context())
		if err != nil && !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		for range 3 {
			e.cycle()
			e.pass(25 * time.Hour)
		}
		e.wantEntries(join(x[10:], y)...)
		if l := e.list(); len(l) != 1 || l[0].GetRemovedEntries() != 10 || l[0].GetState() != storagev1.DeleteState_DELETE_STATE_DONE {
			t.Fatalf("crash at step %d: %v", n, l)
		}
		if err == nil {
			wantSteps(t, seen, "start delete", "write", "prove", "put", "read back", "announce", "record removal")
			return
		}
	}
}

func TestDeleteIsRefused(t *testing.T) {
	e := start(t)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(e.now().Add(d)) }
	for _, c := range []struct {
		r      *storagev1.CreateDeleteRequest
		reason rpcerr.Reason
	}{
		{&storagev1.CreateDeleteRequest{Query: `{`}, rpcerr.ParseError},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"} |~ "("`}, rpcerr.ParseError},
		{&storagev1.CreateDeleteRequest{Query: `rate({a="b"}[1m])`}, rpcerr.ParseError},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"} | json | x="1"`}, rpcerr.InvalidArgument},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"} | line_format "x"`}, rpcerr.InvalidArgument},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"}`, End: at(time.Hour)}, rpcerr.InvalidArgument},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"}`, Start: at(time.Hour)}, rpcerr.InvalidArgument},
		{&storagev1.CreateDeleteRequest{Query: `{a="b"}`, Start: at(-time.Hour), End: at(-2 * time.Hour)}, rpcerr.InvalidArgument},
		{&storagev1.CreateDeleteRequest{Query: `{a="` + strings.Repeat("x", 1<<20) + `"}`}, rpcerr.LimitExceeded},
	} {
		if _, err := e.service.CreateDelete(e.tenant(), c.r); !rpcerr.Is(err, c.reason) {
			t.Errorf("%.50s: %v, want %s", c.r, err, c.reason)
		}
	}
	if _, err := e.service.CreateDelete(t.Context(), &storagev1.CreateDeleteRequest{Query: `{a="b"}`}); err == nil {
		t.Error("no tenant is no error")
	}
	// A time just now is now: the clock of a delete has milliseconds.
	if _, err := e.service.CreateDelete(e.tenant(), &storagev1.CreateDeleteRequest{Query: `{a="b"}`, End: at(0)}); err != nil {
		t.Error(err)
	}
	// Another tenant's is not to be seen.
	other := tenant.NewContext(t.Context(), "u")
	if r, err := e.service.ListDeletes(other, &storagev1.ListDeletesRequest{}); err != nil || len(r.GetDeletes()) != 0 {
		t.Error(r, err)
	}
	if _, err := e.service.CancelDelete(other, &storagev1.CancelDeleteRequest{Id: e.list()[0].GetId()}); !rpcerr.Is(err, rpcerr.NotFound) {
		t.Error(err)
	}
}

func TestListBlocks(t *testing.T) {
	e := start(t)
	a := e.put(day, some("x", 0, 10)...)
	b := e.put(time.Time{}, some("x", 600, 10)...)
	r, err := e.service.ListBlocks(e.tenant(), &storagev1.ListBlocksRequest{})
	e.must(err)
	if l := r.GetBlocks(); len(l) != 2 || l[0].GetId() != string(a.ID) || l[0].GetEntries() != 10 || l[0].GetBytes() != uint64(a.Size) || l[1].GetPartition() != nil {
		t.Errorf("%v", r)
	}
	r, err = e.service.ListBlocks(e.tenant(), &storagev1.ListBlocksRequest{Start: timestamppb.New(day.Add(5 * time.Hour))})
	e.must(err)
	if l := r.GetBlocks(); len(l) != 1 || l[0].GetId() != string(b.ID) {
		t.Errorf("%v", r)
	}
}

// TestDamagedDeleteIsNamed: whoever asks about deletes, or for merges, is told which object
// is in the way, and nothing is decided about it; without it all goes on.
func TestDamagedDeleteIsNamed(t *testing.T) {
	e := start(t)
	e.put(day, some("x", 0, 10)...)
	key := catalog.DeletesPrefix("t") + e.create(`{app="x"}`).GetId()
	e.must(objstore.PutBytes(t.Context(), e.bucket, key, []byte("garbage")))
	e.service, e.loader, e.reg = e.compactor() // knows nothing of before
	_, err := e.service.ListDeletes(e.tenant(), &storagev1.ListDeletesRequest{})
	for what, err := range map[string]error{"list": err, "cancel": e.cancel(path.Base(key)), "compact": e.service.Compact(t.Context())} {
		if !rpcerr.Is(err, rpcerr.DataLoss) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", what, err)
		}
	}
	e.must(e.bucket.Delete(t.Context(), key))
	if l := e.list(); len(l) != 0 {
		t.Errorf("without it: %v", l)
	}
	e.must(e.service.Compact(t.Context()))
}

// TestCancelledAreListed: those that were cancelled are in the list for a day, among the
// others by creation, a hundred at most; how many a tenant may cancel has a bound.
func TestCancelledAreListed(t *testing.T) {
	e := start(t)
	e.put(day, some("x", 0, 10)...)
	var ids []string
	for i := range maxCancelled + 5 {
		d := e.create(`{app="x"}`)
		ids = append(ids, d.GetId())
		if i != 50 {
			e.must(e.cancel(d.GetId()))
		}
		e.pass(time.Minute)
	}
	l := e.list()
	if len(l) != maxCancelled+1 {
		t.Fatalf("%d deletes", len(l))
	}
	for i, d := range l { // the newest, and the one in force
		want := storagev1.DeleteState_DELETE_STATE_CANCELLED
		if i+4 == 50 {
			want = storagev1.DeleteState_DELETE_STATE_RECEIVED
		}
		if d.GetId() != ids[i+4] || d.GetState() != want {
			t.Fatalf("%d: %v", i, d)
		}
	}
	e.pass(tombstone.KeepCancelled)
	if l := e.list(); len(l) != 1 || l[0].GetId() != ids[50] {
		t.Errorf("a day later: %v", l)
	}
}

// TestRefusedDeletesAreCounted: by the limit at which they were.
func TestRefusedDeletesAreCounted(t *testing.T) {
	e := start(t)
	var ids []string
	for range tombstone.MaxInForce {
		x, err := tombstone.New(e.now(), e.rand, "t", `{app="x"}`, 0, 1)
		e.must(err)
		body, err := x.Encode()
		e.must(err)
		e.must(objstore.PutBytes(t.Context(), e.bucket, catalog.DeletesPrefix("t")+x.ID, body))
		ids = append(ids, x.ID)
	}
	refused := func(limit string) {
		t.Helper()
		if _, err := e.service.CreateDelete(e.tenant(), &storagev1.CreateDeleteRequest{Query: `{app="x"}`}); !rpcerr.Is(err, rpcerr.LimitExceeded) {
			t.Errorf("%s: %v", limit, err)
		}
		if n := testutil.ToFloat64(e.service.metrics.refused.WithLabelValues(limit)); n != 1 {
			t.Errorf("%s: %v are counted", limit, n)
		}
	}
	refused("in_force")
	for _, id := range ids {
		e.must(e.service.deps.Tombstones.Cancel(t.Context(), "t", id, "me"))
	}
	refused("cancelled")
}
