package scrub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a store with blocks, and a clock that sleeping moves.
type env struct {
	testing.TB
	bucket *objstoretest.Faults
	blocks []catalog.Block
	now    time.Time
	state  string
	log    bytes.Buffer
}

func start(t *testing.T, n int) *env {
	e := &env{TB: t, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), state: filepath.Join(t.TempDir(), "scrub")}
	e.bucket = &objstoretest.Faults{Bucket: objstore.NewMemory(func() time.Time { return e.now })}
	random := rand.NewChaCha8([32]byte{1})
	for i := range n {
		id, err := catalog.NewID(e.now, random)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "t"}, block.Options{})
		rows := &model.Rows{}
		for k := range 500 {
			rows.Times, rows.BatchTimes, rows.Positions = append(rows.Times, int64(k)), append(rows.BatchTimes, 1), append(rows.Positions, uint32(k))
			rows.Lines.AppendString(fmt.Sprintf("block %d line %d is %x", i, k, k*k*7919))
		}
		if err := w.Add(model.NewLabels([]model.Label{{Name: "app", Value: "x"}}), rows); err != nil {
			t.Fatal(err)
		}
		info, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		e.blocks = append(e.blocks, info.Catalog())
		if err := objstore.PutBytes(t.Context(), e.bucket, catalog.Key(e.blocks[i]), body.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// run runs a scrubber until n blocks were looked at, and returns their keys in order.
func (e *env) run(n int) (keys []string, reg *prometheus.Registry) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	reg = prometheus.NewRegistry()
	e.bucket.Before = func(_ context.Context, op, key string) error {
		if op != "get" {
			e.Errorf("%s of %s", op, key)
		}
		if len(keys) == 0 || keys[len(keys)-1] != key {
			keys = append(keys, key)
		}
		return nil
	}
	s := New(Options{
		Bucket: e.bucket, Blocks: func() []catalog.Block { return e.blocks }, Every: 7 * 24 * time.Hour, State: e.state, Reg: reg,
		Now: func() time.Time { return e.now }, Log: slog.New(slog.NewTextHandler(&e.log, nil)),
		Sleep: func(ctx context.Context, d time.Duration) error {
			if e.now = e.now.Add(d); len(keys) > n {
				cancel()
			}
			return ctx.Err()
		},
	})
	if err := s.Run(ctx); err != nil {
		e.Fatal(err)
	}
	return keys[:n], reg
}

// All blocks come in turn, a restart goes on where it was, and rates are kept.
func TestRounds(t *testing.T) {
	e := start(t, 7)
	seen := map[string]int{}
	began := e.now
	for range 7 {
		keys, _ := e.run(2)
		for _, k := range keys {
			seen[k]++
		}
	}
	for _, b := range e.blocks {
		if seen[catalog.Key(b)] != 2 {
			t.Errorf("%d times %s", seen[catalog.Key(b)], catalog.Key(b))
		}
	}
	total := int64(0)
	for _, b := range e.blocks {
		total += b.Size
	}
	if took := e.now.Sub(began); took < time.Duration(float64(2*total)/minRate*float64(time.Second)) {
		t.Errorf("two rounds took %s", took)
	}
}

func TestDamageIsReported(t *testing.T) {
	e := start(t, 4)
	bad := catalog.Key(e.blocks[2])
	e.bucket.Flip = func(key string) bool { return key == bad }
	_, reg := e.run(4)
	damaged := func(reg *prometheus.Registry, n int) {
		t.Helper()
		want := fmt.Sprintf("# HELP weir_scrub_damaged_blocks Blocks that were found damaged when they were checked last.\n# TYPE weir_scrub_damaged_blocks gauge\nweir_scrub_damaged_blocks %d\n", n)
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "weir_scrub_damaged_blocks"); err != nil {
			t.Error(err)
		}
	}
	if damaged(reg, 1); strings.Count(e.log.String(), "level=ERROR") == 0 || !strings.Contains(e.log.String(), bad) {
		t.Error(e.log.String())
	}
	// It is still there.
	if _, err := e.bucket.Bucket.Stat(t.Context(), bad); err != nil {
		t.Error(err)
	}
	e.bucket.Flip = nil
	_, reg = e.run(4)
	damaged(reg, 0)
}

// A panic while a block is checked is no damage, and others are checked.
func TestPanicIsNoDamage(t *testing.T) {
	e := start(t, 4)
	bad := catalog.Key(e.blocks[2])
	e.bucket.Flip = func(key string) bool {
		if key == bad {
			panic("in a read")
		}
		return false
	}
	keys, reg := e.run(9)
	if len(keys) != 9 || !strings.Contains(e.log.String(), "block="+bad) || !strings.Contains(e.log.String(), "scrub_test.go") {
		t.Errorf("%d blocks were looked at; the log says %s", len(keys), &e.log)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`# HELP weir_scrub_damaged_blocks Blocks that were found damaged when they were checked last.
# TYPE weir_scrub_damaged_blocks gauge
weir_scrub_damaged_blocks 0
`), "weir_scrub_damaged_blocks"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "weir_scrub_panics_total"); n != 1 || err != nil {
		t.Error(n, err)
	}
}
