package ingester

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

// An append that a query makes larger than a message comes in pieces, the last of
// which moves the position.
func TestFollowCutsLargeAppends(t *testing.T) {
	n := start(t, t.TempDir(), 1<<30)
	s, err := n.client.Follow(ctx(t), &ingestv1.FollowRequest{Query: `{s=~".+"} | json`})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	const rows = 20_000
	var times []int64
	var lines []string
	for i := range rows {
		times = append(times, int64(i+1))
		lines = append(lines, fmt.Sprintf(`{"a_long_name_of_a_field":%d,"b_long_name_of_a_field":%d,"c_long_name_of_a_field":%d}`, i, i, i))
	}
	if _, err := n.ingest(1, "small", []int64{1}, `{"n":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ingest(2, "large", times, lines...); err != nil {
		t.Fatal(err)
	}
	got, last, pieces := 0, first.GetPosition(), 0
	for last < first.GetPosition()+2 {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		k := len(m.GetRows().GetTimes())
		got += k
		if m.GetPosition() == last && k > 0 {
			pieces++
		}
		last = m.GetPosition()
	}
	if got != rows+1 || pieces == 0 {
		t.Errorf("%d rows in %d pieces, want %d", got, pieces, rows+1)
	}
	// Whoever comes back from where it was told to has lost nothing.
	s, err = n.client.Follow(ctx(t), &ingestv1.FollowRequest{Query: `{s=~".+"} | json`, Incarnation: first.GetIncarnation(), Position: first.GetPosition()})
	if err != nil {
		t.Fatal(err)
	}
	for got = 0; got < rows+1; {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got += len(m.GetRows().GetTimes())
	}
}

// A tail sees every row once, whatever is cut meanwhile, and one that comes back finds
// rows that have left the head.
func TestFollowGoesOnOverCuts(t *testing.T) {
	n := start(t, t.TempDir(), 1<<20)
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	s, err := n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s=~".+"}`})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	const pushes = 40
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range pushes {
			if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, fmt.Sprint("line ", i)); err != nil {
				t.Error(err)
			}
			if i%7 == 3 {
				if err := n.flush(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	collect := func(s ingestv1.IngestService_FollowClient) (lines []string) {
		for len(lines) < pushes {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.GetLost() {
				t.Error("lost")
			}
			slab := model.Strings{Ends: m.GetRows().GetLineEnds(), Slab: m.GetRows().GetSlab()}
			for i := range slab.Len() {
				lines = append(lines, string(slab.At(i)))
			}
		}
		return lines
	}
	var want []string
	for i := range pushes {
		want = append(want, fmt.Sprint("line ", i))
	}
	if got := collect(s); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	wg.Wait()
	s, err = n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s=~".+"}`, Incarnation: first.GetIncarnation(), Position: first.GetPosition()})
	if err != nil {
		t.Fatal(err)
	}
	if got := collect(s); !slices.Equal(got, want) {
		t.Errorf("resumed: got %q", got)
	}
}

// A tail that comes back too late, or after a restart, is told what it has missed.
func TestFollowSaysWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<20)
	push := func(i int) {
		t.Helper()
		if _, err := n.ingest(int64(i+1), "a", []int64{int64(i)}, fmt.Sprint("line ", i)); err != nil {
			t.Fatal(err)
		}
	}
	lost := func(at uint64) (bool, uint64) {
		t.Helper()
		c, cancel := context.WithCancel(ctx(t))
		defer cancel()
		s, err := n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s=~".+"}`, Incarnation: n.svc.incarnation, Position: at})
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m.GetLost(), m.GetPosition()
	}
	push(0)
	push(1)
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	push(2)
	if is, _ := lost(1); is {
		t.Error("lost what is in memory")
	}
	n.svc.gens.forget(time.Now(), 0)
	if is, at := lost(2); !is || at != 3 {
		t.Errorf("lost: %t, position %d; want 3", is, at)
	}
	if is, _ := lost(3); is {
		t.Error("lost although nothing is missing behind it")
	}
	n.close()
	n = start(t, dir, 1<<20)
	if is, at := lost(2); !is || at != 3 {
		t.Errorf("after a restart: lost %t, position %d; want 3", is, at)
	}
	if is, _ := lost(3); is {
		t.Error("lost after a restart although nothing is missing")
	}
	// One that is overtaken while it reads is told, too.
	f := &follower{service: n.svc, tenant: "t", match: func(model.Labels) bool { return true }, stream: &sent{}}
	f.position = 0
	if err := f.step(t.Context(), 2); err != nil || !f.stream.(*sent).last.GetLost() || f.position != 2 {
		t.Errorf("%v, %v, position %d", err, f.stream.(*sent).last, f.position)
	}
}

// sent keeps the last message.
type sent struct {
	ingestv1.IngestService_FollowServer
	last    *ingestv1.FollowResponse
	sending func() // if any, called by Send
}

func (s *sent) Context() context.Context { return context.Background() }

func (s *sent) Send(m *ingestv1.FollowResponse) error {
	if s.last = m; s.sending != nil {
		s.sending()
	}
	return nil
}

// A tail that comes back finds what is in blocks only, in order and without the copies
// that came between, after a restart too.
func TestFollowReadsTheLog(t *testing.T) {
	dir := t.TempDir()
	keep := func(c *Config, _ *Deps) { c.TailLog, c.WALSegmentSize = 64<<20, 1<<20 }
	n := startWith(t, dir, 1<<20, keep, nil)
	var want []string
	push := func(i int) {
		t.Helper()
		for range 1 + i%2 { // every other one is pushed again
			if _, err := n.ingest(int64(i+1), fmt.Sprint("stream ", i%3), []int64{int64(i)}, fmt.Sprint("line ", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	follow := func(at uint64, count int) (lines []string) {
		t.Helper()
		c, cancel := context.WithCancel(ctx(t))
		defer cancel()
		s, err := n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s=~".+"} |= "line"`, Incarnation: n.svc.incarnation, Position: at})
		if err != nil {
			t.Fatal(err)
		}
		for last := uint64(0); len(lines) < count || last < n.svc.log.NextLSN(); {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if m.GetLost() {
				t.Fatalf("lost behind %d", at)
			}
			last = m.GetPosition()
			slab := model.Strings{Ends: m.GetRows().GetLineEnds(), Slab: m.GetRows().GetSlab()}
			for i := range slab.Len() {
				lines = append(lines, string(slab.At(i)))
			}
		}
		return lines
	}
	const pushes = 30
	for i := range pushes {
		push(i)
		want = append(want, fmt.Sprint("line ", i))
		if i%10 == 9 {
			if err := n.flush(); err != nil {
				t.Fatal(err)
			}
			n.svc.gens.forget(time.Now(), 0)
		}
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			n.close()
			n = startWith(t, dir, 1<<20, keep, nil)
		}
		if got := follow(1, pushes); !slices.Equal(got, want) {
			t.Errorf("restarted %t: from the beginning %q", restarted, got)
		}
		// Pushes take one and two records by turns.
		if got := follow(1+15, pushes-10); !slices.Equal(got, want[10:]) {
			t.Errorf("restarted %t: from the tenth on %q", restarted, got)
		}
	}
	// What the log no longer has is said.
	n.svc.cfg.TailLog = 0
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	push(pushes)
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	n.svc.gens.forget(time.Now(), 0)
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	s, err := n.client.Follow(c, &ingestv1.FollowRequest{Query: `{s=~".+"}`, Incarnation: n.svc.incarnation, Position: 1})
	if err != nil {
		t.Fatal(err)
	}
	for lost := false; !lost; {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		lost = m.GetLost()
	}
}

// A tail that finds nothing for long hears where its ingester is, wherever that reads, and
// one that waits for its turn to read hears that it waits.
func TestFollowIsNeverSilentForLong(t *testing.T) {
	n := startWith(t, t.TempDir(), 1<<20, func(c *Config, _ *Deps) { c.TailLog = 64 << 20 }, nil)
	const pushes = 3
	for i := range int64(pushes) {
		if _, err := n.ingest(i+1, "a", []int64{i}, "line"); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range []string{"memory", "the log"} {
		told := uint64(pushes)
		if in == "the log" {
			if err := n.flush(); err != nil {
				t.Fatal(err)
			}
			n.svc.gens.forget(time.Now(), 0)
			told = 1 // where it began
		}
		for _, quiet := range []time.Duration{0, followIdle} {
			stream := &sent{}
			f := &follower{service: n.svc, tenant: "t", match: func(model.Labels) bool { return false }, stream: stream, position: 1, sent: time.Now().Add(-quiet)}
			if err := f.step(t.Context(), pushes); err != nil || f.position != pushes {
				t.Fatalf("%s: position %d, %v", in, f.position, err)
			}
			if said := stream.last != nil; said != (quiet > 0) || said && (stream.last.GetLost() || stream.last.GetPosition() != told+1) {
				t.Errorf("%s, quiet for %s: sent %v", in, quiet, stream.last)
			}
		}
	}
	for what, position := range map[string]uint64{"begins": 0, "goes on": 7, "is in the middle of an append": 6} {
		synctest.Test(t, func(t *testing.T) {
			s := &Service{logReaders: make(chan struct{}, 1), incarnation: "i"}
			s.logReaders <- struct{}{}
			stream := &sent{}
			f := &follower{service: s, stream: stream, position: position, told: 6, newest: 9, reads: position > 0}
			stream.sending = func() { // another takes the turn of one that sends
				if stream.sending = nil; position > 0 {
					s.logReaders <- struct{}{}
				}
			}
			done := make(chan error)
			go func() {
				if position == 0 {
					done <- f.awaitReader(t.Context())
					return
				}
				done <- f.send(&ingestv1.FollowResponse{Rows: &ingestv1.Rows{Times: []int64{1}}})
			}()
			time.Sleep(2*followIdle + time.Second)
			synctest.Wait()
			heard := stream.last.GetPosition() == position+1 && stream.last.GetRows() == nil && time.Since(f.sent) <= followIdle
			if heard != (position != 6) {
				t.Errorf("one that %s: sent %v, %s ago", what, stream.last, time.Since(f.sent))
			}
			<-s.logReaders
			if err := <-done; err != nil || !f.reads {
				t.Errorf("one that %s: %v, reads %v", what, err, f.reads)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f := &follower{service: &Service{logReaders: make(chan struct{})}, stream: &sent{}}
	if err := f.awaitReader(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// The log is kept for a quarter of an hour, as far as it has room.
func TestKeptLog(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	k := keptLog{bytes: 100}
	all := func(uint64, int64) uint64 { return 1 }
	step := func(wait time.Duration, needed, want uint64, oldest func(uint64, int64) uint64) {
		t.Helper()
		at = at.Add(wait)
		if got := k.from(needed, at, oldest); got != want {
			t.Errorf("kept from %d on, want %d", got, want)
		}
	}
	step(0, 10, 1, all)
	step(time.Second, 20, 1, all)
	step(tailMemory-2*time.Second, 30, 1, all)
	step(time.Second, 40, 10, all) // what was in blocks a quarter of an hour ago goes
	step(tailMemory/2, 50, 10, all)
	step(tailMemory/2, 60, 30, all)
	step(time.Hour, 70, 60, all)
	step(0, 70, 65, func(needed uint64, bytes int64) uint64 {
		if needed != 70 || bytes != 100 {
			t.Errorf("asked for %d bytes below %d", bytes, needed)
		}
		return 65
	})
	if len(k.marks) > 3 {
		t.Errorf("%d marks", len(k.marks))
	}
}
