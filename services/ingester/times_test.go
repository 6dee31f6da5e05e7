package ingester

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// What began at a time or later is behind the position that is told for it, and of what was
// before no more than a burst; what is not known is said.
func TestTimesOfRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1_700_000_000, 0)
		first := rapid.SampledFrom([]uint64{1, 50}).Draw(t, "first")
		ts := times{before: first - 1, from: start}
		at, lsn := start, first
		all := map[uint64]time.Time{} // of the records that are there
		gaps := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 70 * time.Millisecond, burst, time.Second, 5 * time.Minute}), 1, 60).Draw(t, "gaps")
		for _, gap := range gaps {
			at = at.Add(gap)
			if lsn > first && rapid.IntRange(0, 9).Draw(t, "fail") == 0 { // the last few have failed
				lsn -= uint64(rapid.IntRange(1, min(3, int(lsn-first))).Draw(t, "failed"))
			}
			ts.note(lsn, at)
			all[lsn] = at
			for later := range all {
				if later > lsn {
					delete(all, later)
				}
			}
			lsn++
		}
		asked := start.Add(time.Duration(rapid.Int64Range(-int64(time.Second), int64(at.Sub(start)+time.Second)).Draw(t, "asked")))
		if rapid.Bool().Draw(t, "exactly") {
			asked = all[rapid.Uint64Range(first, lsn-1).Draw(t, "of")]
		}
		position, known := ts.since(asked)
		if position >= lsn {
			t.Fatalf("position %d of %d", position, lsn)
		}
		for l, began := range all {
			if known && l <= position && !began.Before(asked) {
				t.Fatalf("record %d of %s is missed, since %s", l, began, asked)
			}
			if known && l > position && began.Before(asked.Add(-burst)) && position != ts.before {
				t.Fatalf("record %d of %s is told, since %s", l, began, asked)
			}
		}
		if old := at.Sub(asked) < tailMemory && !asked.Before(start); !known && old {
			t.Fatalf("what began since %s is not known at %s", asked, at)
		}
		if known && asked.Before(start) && first > 1 {
			t.Fatal("what an earlier process has appended is known")
		}
		if n := len(ts.bursts); n > int(tailMemory/burst)+2 {
			t.Fatalf("%d bursts", n)
		}
	})
}

// The number of a record that failed long after it was begun is given to another, which is not
// missed: it is behind the position that is told.
func TestTimesOfARecordThatFailsLate(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	ts := times{from: at}
	ts.note(1, at)
	ts.note(2, at)
	at = at.Add(2 * tailMemory)
	ts.note(3, at)
	ts.note(2, at) // 2 and 3 have failed
	if position, known := ts.since(at); position != 1 || !known {
		t.Errorf("position %d, known %v", position, known)
	}
}

// followed calls Follow and returns the first message, and the lines of the rows up to a
// position.
func (n *node) followed(req *ingestv1.FollowRequest, upto uint64) (first *ingestv1.FollowResponse, rows int) {
	n.t.Helper()
	req.Query = `{s=~".+"}`
	s, err := n.client.Follow(ctx(n.t), req)
	if err != nil {
		n.t.Fatal(err)
	}
	m, err := s.Recv()
	if err != nil {
		n.t.Fatal(err)
	}
	for first = m; m.GetPosition() <= upto; {
		if m, err = s.Recv(); err != nil {
			n.t.Fatal(err)
		}
		rows += len(m.GetRows().GetTimes())
	}
	return first, rows
}

// Whoever follows since a time by the ingester's clock gets all that came since, and is told
// where that cannot be known.
func TestFollowSince(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	push := func(i int64) {
		t.Helper()
		if _, err := n.ingest(i, "a", []int64{i}, "line"); err != nil {
			t.Fatal(err)
		}
	}
	clock := func() *ingestv1.ProcessClock {
		t.Helper()
		resp, err := n.client.Clock(ctx(t), &ingestv1.ClockRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetClock()
	}
	push(1)
	for began := time.Now(); time.Since(began) < burst; { // the next is not of its burst
		push(1)
	}
	records := n.svc.log.NextLSN() - 1
	since := clock()
	push(2)
	push(3)
	if first, rows := n.followed(&ingestv1.FollowRequest{Since: since}, records+2); first.GetLost() || rows != 2 {
		t.Errorf("lost %v, %d rows", first.GetLost(), rows)
	}
	// Before the process there was nothing.
	since.Nanos = -1
	if first, rows := n.followed(&ingestv1.FollowRequest{Since: since}, records+2); first.GetLost() || rows != 3 {
		t.Errorf("lost %v, %d rows", first.GetLost(), rows)
	}
	earlier := clock()
	n.close()
	n = start(t, dir, 1<<30)
	push(4)
	for what, c := range map[string]*ingestv1.ProcessClock{"an earlier process": earlier, "before this one": {Id: clock().GetId(), Nanos: -1}} {
		if first, rows := n.followed(&ingestv1.FollowRequest{Since: c}, records+3); !first.GetLost() || rows != 1 {
			t.Errorf("%s: lost %v, %d rows", what, first.GetLost(), rows)
		}
	}
	if first, rows := n.followed(&ingestv1.FollowRequest{Since: &ingestv1.ProcessClock{Id: clock().GetId()}}, records+3); first.GetLost() || rows != 1 {
		t.Errorf("since it began: lost %v, %d rows", first.GetLost(), rows)
	}
	// Of another data directory of the name nothing is known, but all of this process.
	if first, rows := n.followed(&ingestv1.FollowRequest{Incarnation: "another", Position: 70}, records+3); !first.GetLost() || rows != 1 {
		t.Errorf("another incarnation: lost %v, %d rows", first.GetLost(), rows)
	}
}

// Tails of an ingester that takes no more writes are told when they have all, and counted
// until then.
func TestFollowersAreToldTheLast(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	if _, err := n.ingest(1, "a", []int64{1}, "line"); err != nil {
		t.Fatal(err)
	}
	var all []ingestv1.IngestService_FollowClient
	for _, position := range []uint64{0, 1} { // one is behind
		s, err := n.client.Follow(ctx(t), &ingestv1.FollowRequest{Query: `{s=~".+"}`, Position: position, Incarnation: n.svc.incarnation})
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil || m.GetLast() {
			t.Fatalf("%v, %v", m, err)
		}
		all = append(all, s)
	}
	if got := n.svc.TailsBehind(); got != 2 {
		t.Errorf("%d tails are behind", got)
	}
	n.svc.StopWrites()
	for i, s := range all {
		rows := 0
		for last := false; !last; {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			rows += len(m.GetRows().GetTimes())
			last = m.GetLast()
		}
		if rows != i {
			t.Errorf("tail %d has %d rows", i, rows)
		}
	}
	for n.svc.TailsBehind() != 0 { // it is counted when the message is sent
		time.Sleep(time.Millisecond)
	}
	// A message in the middle does not say it.
	f := &follower{service: n.svc, stream: &sent{}, newest: 2, ended: true, last: true}
	for position, last := range map[uint64]bool{1: false, 2: true} {
		f.position = position
		if err := f.send(&ingestv1.FollowResponse{}); err != nil || f.stream.(*sent).last.GetLast() != last {
			t.Errorf("at %d: %v, %v", position, err, f.stream.(*sent).last)
		}
	}
}
