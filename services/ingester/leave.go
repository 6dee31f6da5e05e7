package ingester

import (
	"time"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// StopWrites makes the ingester refuse all writes until it is started anew. It returns when
// those that were in work are done, so that a flush that follows has all that was ever
// acknowledged. Reads, tails and uploads go on.
func (s *Service) StopWrites() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.leaving = true
}

// beginWrite returns what to call when a write is done.
func (s *Service) beginWrite() (done func(), err error) {
	s.writing.RLock()
	if s.leaving {
		s.writing.RUnlock()
		return nil, rpcerr.New(rpcerr.ReadOnly, "the ingester is leaving the cluster").WithRetry(time.Second)
	}
	return s.writing.RUnlock, nil
}
