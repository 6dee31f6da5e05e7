package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// TestKillWhileBlocksAreCompacted kills a process that cuts, uploads, compacts and
// removes blocks all the time, some of them for a delete: nothing acknowledged is lost
// or doubled, and what was deleted stays deleted.
func TestKillWhileBlocksAreCompacted(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed(t), 2))
	n := crashes(t, 5)
	node := harness.New(t, "all", "", "--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=1s", "--ingester.cut-size=256KiB",
		"--ingester.upload-interval=1s", "--ingester.keep-uploaded=1s", "--compactor.interval=1s", "--compactor.merge-size=1",
		"--compactor.max-wait=1s", "--compactor.max-sources=4", "--compactor.rewrite-delay=0s", "--compactor.delete-delay=0s")
	// Nothing is sent again later: entries that a delete takes would be refused.
	load := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: rng.Uint64(), Batch: 20, Pause: 20 * time.Millisecond}
	gone := map[checker.ID]bool{}
	var merges, removed, deletes float64
	for i := range n {
		node.Start()
		node.AwaitReady()
		if i > 0 && i%2 == 0 { // nothing is under way now
			deleteSome(t, node, uint32(i%4), uint32(i/2), gone)
			deletes++
		}
		stop := load.Start()
		pressed := press(node.HTTP)
		if i == 0 {
			grown(t, node, "weir_compactor_merges_total", "weir_compactor_deleted_blocks_total")
		}
		time.Sleep(time.Duration(500+rng.IntN(1500)) * time.Millisecond)
		mark := load.History.Mark()
		r, err := harness.Read(harness.Context(t), node.Client(), rng.IntN(2) == 0, 5000)
		if err != nil {
			t.Fatal(err)
		}
		if err := load.History.Judge(mark, r, gone).Err(); err != nil {
			t.Fatalf("after %d kills, under load: %v", i, err)
		}
		merges += node.Metric("weir_compactor_merges_total", `result="success"`)
		removed += node.Metric("weir_compactor_deleted_blocks_total")
		node.Kill()
		pressed()
		stop()
	}
	if err := load.Err(); err != nil {
		t.Error(err)
	}
	node.Start()
	node.AwaitReady()
	before := check(t, node, load.History, gone)
	harness.Until(t, func() error { return post(node.HTTP, "/flush") })
	harness.Until(t, func() error { return post(node.HTTP, "/compact") })
	v := check(t, node, load.History, gone)
	if before.Rows != v.Rows {
		t.Errorf("%d rows before the last compaction, %d after it", before.Rows, v.Rows)
	}
	list, err := node.Client().Storage().ListDeletes(harness.Context(t), &storagev1.ListDeletesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list.GetDeletes() {
		if d.GetState() != storagev1.DeleteState_DELETE_STATE_DONE {
			t.Errorf("the delete %s is %s", d.GetQuery(), d.GetState())
		}
	}
	if merges == 0 || removed == 0 || float64(len(list.GetDeletes())) != deletes {
		t.Errorf("%v merges, %v blocks removed, %d deletes", merges, removed, len(list.GetDeletes()))
	}
	t.Logf("%d kills, %v merges, %v blocks removed, %v deletes of %d entries: %s", n, merges, removed, deletes, len(gone), v)
}

// deleteSome deletes ten entries of a writer. Nobody may be sending them.
func deleteSome(t *testing.T, node *harness.Node, writer, ten uint32, gone map[checker.ID]bool) {
	t.Helper()
	// A delete ends at its creation, to the millisecond.
	time.Sleep(2 * time.Millisecond)
	if _, err := node.Client().Storage().CreateDelete(harness.Context(t), &storagev1.CreateDeleteRequest{
		Query: fmt.Sprintf(`{service_name="%s"} |~ " w=%d q=%d[0-9] "`, checker.Service, writer, ten)}); err != nil {
		t.Fatal(err)
	}
	for seq := range uint32(10) {
		gone[checker.ID{Writer: writer, Seq: ten*10 + seq}] = true
	}
}

// press makes a node flush and compact without an end, until the returned function is
// called.
func press(addr string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, path := range []string{"/flush", "/compact"} {
		wg.Go(func() {
			for ctx.Err() == nil {
				if post(addr, path) != nil {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func post(addr, path string) error {
	c := http.Client{Timeout: harness.Patience}
	resp, err := c.Post("http://"+addr+path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return nil
}
