package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// reading reads the last seconds again and again until stop is called: every answer must
// be there, and complete. It returns how many there were.
func (s *scenario) reading() (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		v := checker.Verifier{Client: s.client, History: s.load.History}
		for ctx.Err() == nil {
			now := time.Now().UnixNano()
			one, cancel := context.WithTimeout(context.Background(), harness.Patience)
			w, err := v.Verify(one, checker.Span{From: now - int64(10*time.Second), To: now + int64(time.Minute)}, 3000)
			cancel()
			if err == nil {
				err = w.Err()
			}
			if err != nil {
				s.t.Errorf("while it is scaled: %v", err)
			}
			n++
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	stop = func() int {
		cancel()
		wg.Wait()
		return n
	}
	s.t.Cleanup(func() { stop() }) // it must not report to a test that is over
	return stop
}

// TestScale goes from three ingesters to five and back, under load and with queries: every
// answer is complete at every moment, and nothing is lost.
func TestScale(t *testing.T) {
	t.Parallel()
	scale(t)
}

func scale(t *testing.T, change ...func(*harness.Cluster)) {
	s := &scenario{Cluster: harness.NewCluster(t, 5), t: t}
	for _, f := range change {
		f(s.Cluster)
	}
	s.StartSome(s.Ingesters[:3]...)
	s.begin(&checker.Load{Seed: 1, Batch: 20})
	stop := s.reading()
	for i, n := range s.Ingesters[3:] {
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(4 + i)
		s.stored(50)
	}
	// The oldest goes first, then one that came late.
	for i, n := range []*harness.Node{s.Ingesters[0], s.Ingesters[4]} {
		n.Terminate()
		harness.Until(t, func() error {
			code, body := s.postRing("forget", n.Name)
			if code != http.StatusNoContent {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
		s.AwaitHealthy(4 - i)
		s.stored(50)
	}
	reads := stop()
	p := s.load.Pushes()
	t.Logf("3 → 5 → 3, %d requests stored, %d failed, %d times read meanwhile: %s", p.Stored, p.Failed, reads, s.check())
}
