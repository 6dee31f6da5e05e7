package ingester

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
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
	if err := f.step(2); err != nil || !f.stream.(*sent).last.GetLost() || f.position != 2 {
		t.Errorf("%v, %v, position %d", err, f.stream.(*sent).last, f.position)
	}
}

// sent keeps the last message.
type sent struct {
	ingestv1.IngestService_FollowServer
	last *ingestv1.FollowResponse
}

func (s *sent) Send(m *ingestv1.FollowResponse) error { s.last = m; return nil }
