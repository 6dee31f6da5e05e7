package distributor

import (
	"context"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
)

// A frozen ingester holds a bounded part of this process' memory, and its room comes
// back when its requests are over; writes go on without it.
func TestInFlightBytesAreBounded(t *testing.T) {
	c := newCluster(t, 3, 3)
	s := c.distributor(limits.Default())
	thaw := make(chan struct{})
	c.replicas["ingester-1"].fail = func(context.Context) error { <-thaw; return nil }
	line := strings.Repeat("x", 200<<10)
	for i := range 60 {
		r := model.Rows{}
		for k := range 20 {
			r.Times = append(r.Times, now.UnixNano()+int64(i*20+k))
			r.Lines.AppendString(line)
		}
		if _, err := s.Write(ctx(), request(`{app="x"}`, r)); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	held := s.inFlight["ingester-1"].bytes
	s.mu.Unlock()
	if held > maxInFlightBytes || held == 0 { // how much depends on when the breaker opens
		t.Errorf("%d bytes are in flight to the frozen ingester", held)
	}
	close(thaw)
	s.writes.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inFlight) != 0 {
		t.Errorf("in flight: %v", s.inFlight)
	}
}
