package distributor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/tenant"
)

// TestR24PushedIntoDeletedRange: an entry that a delete would take is refused and not
// swallowed; others of its request are stored.
func TestR24PushedIntoDeletedRange(t *testing.T) {
	store := tombstone.NewStore(objstore.NewMemory(nil), func() time.Time { return now }, 0)
	d, err := tombstone.New(now, rand.Reader, "t", `{app="x"} |= "secret" | detected_level="error"`, now.Add(-time.Hour).UnixNano(), now.UnixNano())
	if err == nil {
		err = store.Create(t.Context(), d)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 1, 1)
	s := c.distributor(limits.Default())
	s.gone.deletes = store
	defer s.gone.reads.Wait()
	rows := model.Rows{}
	for i, line := range []string{"error secret", "error public", "secret info", "error secret", strings.Repeat("x", 300<<10), "error secret", "error secret"} {
		rows.Times = append(rows.Times, now.Add(time.Duration(i-4)*20*time.Minute).UnixNano())
		rows.Lines.AppendString(line)
	}
	// Times: -80m, -60m, -40m, -20m, 0 (too long), +20m, and the last is at the end of the range.
	rows.Times[5], rows.Times[6] = now.Add(-10*time.Minute).UnixNano(), now.UnixNano()
	ctx := tenant.NewContext(t.Context(), "t")
	resp, err := s.Write(ctx, request(`{app="x"}`, rows))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, r := range resp.GetRejections() {
		got += fmt.Sprint(r.GetRow(), "+", r.GetCount(), " ", pushv1.RejectReason(r.GetReason()), "; ")
	}
	want := "3+1 REJECT_REASON_DELETED_RANGE; 4+1 REJECT_REASON_LINE_TOO_LONG; 5+1 REJECT_REASON_DELETED_RANGE; "
	if got != want || resp.GetAcceptedEntries() != 4 || resp.GetRejectedEntries() != 3 {
		t.Errorf("got %s, want %s; %d accepted", got, want, resp.GetAcceptedEntries())
	}
	if n := len(c.replicas["ingester-0"].entries()); n != 4 {
		t.Errorf("%d entries are stored", n)
	}
	// Another tenant's entries are none of its business.
	rows.Times, rows.Lines = rows.Times[3:4], model.Strings{}
	rows.Lines.AppendString("error secret")
	if resp, err := s.Write(tenant.NewContext(t.Context(), "u"), request(`{app="x"}`, rows)); err != nil || resp.GetRejectedEntries() != 0 {
		t.Error(resp, err)
	}
}

// away is a store that does not answer.
type away struct{ asked atomic.Int32 }

func (a *away) Current(context.Context, string) (*tombstone.Set, error) {
	a.asked.Add(1)
	return nil, errors.New("the store is away")
}

// TestStoreIsAway: pushes go on, and the store is not asked at each of them.
func TestStoreIsAway(t *testing.T) {
	c := newCluster(t, 1, 1)
	s := c.distributor(limits.Default())
	a := &away{}
	s.gone.deletes = a
	for i := range 20 {
		rows := model.Rows{Times: []int64{now.UnixNano() + int64(i)}}
		rows.Lines.AppendString("x")
		if resp, err := s.Write(tenant.NewContext(t.Context(), "t"), request(`{app="x"}`, rows)); err != nil || resp.GetAcceptedEntries() != 1 {
			t.Fatal(resp, err)
		}
	}
	s.gone.reads.Wait()
	if n := a.asked.Load(); n != 1 {
		t.Errorf("the store was asked %d times", n)
	}
	s.gone.now = func() time.Time { return now.Add(time.Hour) }
	s.gone.sweep()
	if len(s.gone.tenants) != 0 {
		t.Error("an idle tenant is not forgotten")
	}
}

// TestR25OlderThanRetention: what retention has ended is refused, by entry.
func TestR25OlderThanRetention(t *testing.T) {
	l := limits.Default()
	l.RetentionPeriod = 48 * time.Hour
	l.RetentionStream = []limits.RetentionStream{
		{Selector: `{app="x"} | detected_level="debug"`, Priority: 1, Period: time.Hour},
		{Selector: `{app="keep"}`, Priority: 2},
	}
	c := newCluster(t, 1, 1)
	s := c.distributor(l)
	write := func(app, line string, age time.Duration) uint32 {
		t.Helper()
		rows := model.Rows{Times: []int64{now.Add(-age).UnixNano()}}
		rows.Lines.AppendString(line)
		resp, err := s.Write(tenant.NewContext(t.Context(), "t"), request(`{app="`+app+`"}`, rows))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.GetRejections() {
			return r.GetReason()
		}
		return 0
	}
	const old = uint32(pushv1.RejectReason_REJECT_REASON_TOO_OLD)
	for _, x := range []struct {
		app, line string
		age       time.Duration
		want      uint32
	}{
		{"x", "info", 47 * time.Hour, 0}, {"x", "info", 49 * time.Hour, old},
		{"x", "level=debug", 30 * time.Minute, 0}, {"x", "level=debug", 2 * time.Hour, old},
		{"y", "level=debug", 2 * time.Hour, 0}, {"keep", "level=debug", 2000 * time.Hour, 0},
	} {
		if got := write(x.app, x.line, x.age); got != x.want {
			t.Errorf("%+v: reason %d", x, got)
		}
	}
}
