package ingester

import (
	"fmt"
	"testing"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
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
