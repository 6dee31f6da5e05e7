package ingester

import (
	"time"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// StopWrites makes the ingester refuse all writes until it is started anew. It returns when
// those that were in work are done, so that a flush that follows has all that was ever
// acknowledged. Reads, tails and uploads go on; tails are told that nothing more comes.
func (s *Service) StopWrites() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.leaving = true
	s.endWrites()
}

// ended reports whether all that will ever be written is visible.
func (s *Service) ended() bool { return s.writesEnded.Err() != nil }

// TailsBehind returns how many live tails have not been sent all that there is, and been
// told that it is. It is for when writes are stopped.
func (s *Service) TailsBehind() int { return int(s.owing.Load()) }

// beginWrite returns what to call when a write is done.
func (s *Service) beginWrite() (done func(), err error) {
	s.writing.RLock()
	if s.leaving {
		s.writing.RUnlock()
		return nil, rpcerr.New(rpcerr.ReadOnly, "the ingester is leaving the cluster").WithRetry(time.Second)
	}
	return s.writing.RUnlock, nil
}
