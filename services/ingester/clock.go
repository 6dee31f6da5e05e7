package ingester

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// processClock is what the deadlines of requests are by. It runs evenly whatever is done
// to the machine's clock, and while the process is stopped. One who was told it knows by
// its own clock when a deadline will be over here.
type processClock struct {
	id    uint64
	began time.Time // with a monotonic reading
}

func newProcessClock(random io.Reader) (processClock, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return processClock{}, err
	}
	return processClock{binary.LittleEndian.Uint64(b[:]), time.Now()}, nil
}

// tell returns the clock as it is now.
func (s *Service) tell() *ingestv1.ProcessClock {
	return &ingestv1.ProcessClock{Id: s.clock.id, Nanos: int64(time.Since(s.clock.began)), UnixNanos: s.now().UnixNano()}
}

// Clock implements ingestv1.IngestServiceServer.
func (s *Service) Clock(context.Context, *ingestv1.ClockRequest) (*ingestv1.ClockResponse, error) {
	if err := s.readable(); err != nil {
		return nil, err
	}
	return &ingestv1.ClockResponse{Clock: s.tell()}, nil
}

// until returns how long a request may still be appended.
func (s *Service) until(deadline *ingestv1.ProcessClock) (time.Duration, error) {
	if deadline.GetId() != s.clock.id {
		return 0, rpcerr.New(rpcerr.Conflict, "the request's deadline is by the clock of another process, which this ingester was before it restarted")
	}
	left := time.Duration(deadline.GetNanos()) - time.Since(s.clock.began)
	if left <= 0 {
		return 0, s.late()
	}
	return left, nil
}

func (s *Service) late() error {
	s.metrics.late.Inc()
	return rpcerr.New(rpcerr.Timeout, "the request came to be stored after its deadline")
}
