package weir

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/ring"
)

// TestR24Confirmations: a data directory confirms a delete when it was flushed after
// the delete and its local copies are gone; one that is away confirms nothing, one
// that was forgotten need not.
func TestR24Confirmations(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var table ring.Table
	for _, m := range []ring.Member{
		{Name: "a", State: ring.Active, Roles: ring.Ingester}, {Name: "b", State: ring.Active, Roles: ring.Ingester},
		{Name: "c", State: ring.Forgotten, Roles: ring.Ingester}, {Name: "q", State: ring.Active, Roles: ring.Querier},
	} {
		m.Incarnation, m.GRPCAddr, m.MinVersion, m.MaxVersion, m.Version, m.ChangedMillis = m.Name+"1", "127.0.0.1:1", 1, 1, 1, now.UnixMilli()
		var err error
		if table, _, err = table.Put(m); err != nil {
			t.Fatal(err)
		}
	}
	away := map[string]bool{"b": true}
	flushes := 0
	c := &confirmations{
		members: func() *ring.View { return ring.NewView(table, nil, ring.Config{ReplicationFactor: 1}) },
		keep:    24 * time.Hour, now: func() time.Time { return now }, flushed: map[string]time.Time{}, confirmed: map[string]map[string]time.Time{},
		flush: func(_ context.Context, m *ring.Member) error {
			if away[m.Name] {
				return errors.New("away")
			}
			flushes++
			return nil
		},
	}
	var deletes []*tombstone.Tombstone
	add := func() {
		d, err := tombstone.New(now, rand.Reader, "t", `{app="x"}`, 0, now.UnixNano())
		if err != nil {
			t.Fatal(err)
		}
		deletes = append(deletes, d)
	}
	step := func(d time.Duration, a, b, flushed int) {
		t.Helper()
		now = now.Add(d)
		list, err := c.of(t.Context(), deletes)
		if err != nil || len(list) != 3 {
			t.Fatal(list, err)
		}
		for _, i := range list {
			want := map[string]int{"a1": a, "b1": b, "c1": 0}[i.ID]
			if len(i.Confirmed) != want || i.Forgotten.IsZero() == (i.ID == "c1") {
				t.Errorf("%+v, want %d confirmed", i, want)
			}
			if want == 1 && !slices.Contains(i.Confirmed, deletes[0].ID) {
				t.Errorf("%+v", i)
			}
		}
		if flushes != flushed {
			t.Errorf("%d flushes, want %d", flushes, flushed)
		}
	}
	add()
	step(time.Minute, 0, 0, 0) // entries of it may still come in
	step(10*time.Minute, 0, 0, 1)
	step(time.Hour, 0, 0, 1)
	add()
	step(time.Hour, 0, 0, 1) // the next flush comes when the first has done its duty
	step(24*time.Hour, 1, 0, 2)
	away["b"] = false
	step(time.Hour, 1, 0, 3) // what is confirmed stays so
	step(24*time.Hour, 2, 2, 3)
}
