package compactor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// flip changes a byte of a block, counted from its end if at is negative.
func (e *env) flip(b catalog.Block, at int) {
	e.Helper()
	body, err := objstore.ReadAll(e.Context(), e.bucket.Bucket, catalog.Key(b), 1<<20)
	e.must(err)
	if at < 0 {
		at += len(body)
	}
	body = append([]byte(nil), body...)
	body[at] ^= 0x40
	e.must(objstore.PutBytes(e.Context(), e.bucket.Bucket, catalog.Key(b), body))
}

// stale is three days of which a rule that needs rows read takes a part.
func (e *env) stale() (blocks []catalog.Block) {
	e.Helper()
	e.limits.RetentionForce = true
	e.limits.RetentionStream = []limits.RetentionStream{{Selector: `{app="x"} |= "request"`, Period: 24 * time.Hour}}
	for n := range 3 {
		list := some("x", n*24*60, 20)
		for i := range list {
			if i%2 == 0 {
				list[i].line = "kept"
			}
		}
		blocks = append(blocks, e.put(day.AddDate(0, 0, n), list...))
	}
	e.pass(5 * 24 * time.Hour)
	e.must(e.loader.Refresh(e.Context()))
	return blocks
}

// TestDryRunsAreBounded: as many as may read blocks at once do, others are refused with
// what to do, and one that is given up makes room.
func TestDryRunsAreBounded(t *testing.T) {
	e := start(t)
	e.stale()
	began := make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(e.tenant())
	defer cancel()
	e.bucket.set(func() {
		e.bucket.before = func(op, key string) error {
			if _, err := catalog.ParseKey(key); op == "get" && err == nil {
				began <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
	})
	ask := func(ctx context.Context, exact bool) error {
		_, err := e.service.RetentionDryRun(ctx, &storagev1.RetentionDryRunRequest{Exact: exact})
		return err
	}
	done := make(chan error, 2)
	for range maxDryRuns / exactDryRun {
		go func() { done <- ask(ctx, true) }()
		<-began
	}
	for _, exact := range []bool{true, false} {
		err := ask(e.tenant(), exact)
		if st := rpcerr.ToStatus(err); st.Code() != codes.ResourceExhausted || !rpcerr.Is(err, rpcerr.Overloaded) || !strings.Contains(st.Message(), "try again") {
			t.Errorf("one too many: %v", err)
		}
	}
	if n := testutil.ToFloat64(e.service.metrics.dryRuns); n != 2 {
		t.Errorf("%v are reading", n)
	}
	cancel()
	for range maxDryRuns / exactDryRun {
		if err := <-done; err == nil {
			t.Error("one that was given up has an answer")
		}
	}
	e.bucket.set(func() { e.bucket.before = nil })
	e.must(ask(e.tenant(), true))
	if n, refused := testutil.ToFloat64(e.service.metrics.dryRuns), testutil.ToFloat64(e.service.metrics.refusedDryRuns); n != 0 || refused != 2 {
		t.Errorf("%v are reading, %v were refused", n, refused)
	}
}

// TestDryRunOverDamage: blocks that are damaged, of which rows are damaged and that have
// vanished are named, the others answered; retention takes from the others, too.
func TestDryRunOverDamage(t *testing.T) {
	e := start(t)
	blocks := e.stale()
	ask := func(exact bool) *storagev1.RetentionDryRunResponse {
		t.Helper()
		r, err := e.service.RetentionDryRun(e.tenant(), &storagev1.RetentionDryRunRequest{Exact: exact})
		e.must(err)
		return r
	}
	if r := ask(true); r.GetIncomplete() || len(r.GetUnread()) > 0 || len(r.GetSteps()) != 3 {
		t.Fatalf("nothing is damaged: %v", r)
	}
	// Its rows.
	e.flip(blocks[0], 40)
	r := ask(false)
	if r.GetIncomplete() {
		t.Errorf("no rows are read: %v", r.GetUnread())
	}
	r = ask(true)
	if !r.GetIncomplete() || len(r.GetUnread()) != 1 || r.GetUnread()[0].GetBlock().GetId() != string(blocks[0].ID) || r.GetUnread()[0].GetError() == "" {
		t.Fatalf("damaged rows: %v", r.GetUnread())
	}
	if s := r.GetSteps(); len(s) != 3 || !s[0].GetEstimated() || s[1].GetEstimated() || s[1].GetEntries() != 10 {
		t.Errorf("steps: %v", s)
	}
	// Its footer, which is known to the catalog.
	e.flip(blocks[1], -40)
	e.service, _, e.reg = e.compactor(func(_ *Config, d *Deps) { d.Loader = e.loader })
	for _, exact := range []bool{false, true} {
		r = ask(exact)
		n := 1
		if exact {
			n = 2
		}
		if !r.GetIncomplete() || len(r.GetUnread()) != n || r.GetUnread()[0].GetBlock().GetId() != string(blocks[1].ID) || len(r.GetSteps()) != 2 {
			t.Fatalf("damaged footer, exact %v: %v", exact, r)
		}
	}
	// What is damaged does not keep the third from being rewritten, nor the list of
	// deletes from being told.
	if err := e.service.Cycle(e.Context()); err == nil || !strings.Contains(err.Error(), catalog.Key(blocks[1])) {
		t.Errorf("a cycle over damage: %v", err)
	}
	if r = ask(false); len(r.GetSteps()) != 1 || r.GetSteps()[0].GetBlock().GetId() != string(blocks[0].ID) {
		t.Errorf("the third was to be rewritten: %v", r.GetSteps())
	}
	if _, err := e.service.CreateDelete(e.tenant(), &storagev1.CreateDeleteRequest{Query: `{app="x"} |= "request"`}); err != nil {
		t.Fatal(err)
	}
	list, err := e.service.ListDeletes(e.tenant(), &storagev1.ListDeletesRequest{})
	if err != nil || len(list.GetDeletes()) != 1 || list.GetDeletes()[0].GetBlocksPending() != 3 {
		t.Errorf("deletes: %v, %v", list, err)
	}
	// One that is gone.
	e.must(e.bucket.Bucket.Delete(e.Context(), catalog.Key(blocks[0])))
	r = ask(false)
	vanished := false
	for _, u := range r.GetUnread() {
		vanished = vanished || u.GetBlock().GetId() == string(blocks[0].ID) && strings.Contains(u.GetError(), "vanished")
	}
	if !r.GetIncomplete() || !vanished {
		t.Errorf("a block that vanished: %v", r.GetUnread())
	}
}

// TestRetentionBySizeOverDamage: the oldest goes by size though it cannot be read, and is
// not said to be left alone.
func TestRetentionBySizeOverDamage(t *testing.T) {
	e := start(t)
	blocks := e.stale()
	e.limits.RetentionStream = nil
	e.limits.RetentionSize = conf.ByteSize(blocks[1].Size + blocks[2].Size)
	e.flip(blocks[0], -40)
	r, err := e.service.RetentionDryRun(e.tenant(), &storagev1.RetentionDryRunRequest{Exact: true})
	e.must(err)
	if s := r.GetSteps(); len(s) != 1 || s[0].GetBlock().GetId() != string(blocks[0].ID) || s[0].GetRewrite() || r.GetIncomplete() {
		t.Errorf("dry run: %v", r)
	}
	e.cycle()
	if n := len(e.live()); n != 2 {
		t.Errorf("%d blocks", n)
	}
}
