package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// ringPage is what these tests look at of the front's /ring.
type ringPage struct {
	Table   string                                      `json:"table_digest"`
	Members []struct{ Name, Incarnation, State string } `json:"members"`
	Missing []struct{ Name, Incarnation, State string } `json:"missing"`
}

func (s *scenario) ring() (ringPage, error) { return ringOf(s.Front) }

func ringOf(n *harness.Node) (p ringPage, err error) {
	code, body, err := n.Get("/ring")
	if err == nil && code != 200 {
		err = fmt.Errorf("/ring: %d %s", code, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), &p)
	}
	return p, err
}

func (s *scenario) incarnation(name string) string {
	s.t.Helper()
	p, err := s.ring()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range p.Members {
		if m.Name == name {
			return m.Incarnation
		}
	}
	s.t.Fatalf("%s is not a member", name)
	return ""
}

// TestRule20WipeOneAfterTheOther removes the data directory of one ingester after the
// other under load. Each comes back empty, the others flush what they shared with it,
// and only then may the next go: nothing is lost, and no answer is short.
func TestRule20WipeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.load.ResetGap()
	for _, n := range s.Ingesters {
		before := s.incarnation(n.Name)
		n.Kill()
		if err := os.RemoveAll(n.Dir); err != nil {
			t.Fatal(err)
		}
		s.stored(20)
		s.readUnderLoad()
		n.Start()
		n.AwaitReady()
		s.AwaitHealthy(3)
		harness.Until(t, func() error {
			p, err := s.ring()
			if err != nil {
				return err
			}
			if len(p.Missing) > 0 {
				return fmt.Errorf("not healed: %+v", p.Missing)
			}
			for _, m := range p.Members {
				if m.Name == n.Name && m.Incarnation == before {
					return fmt.Errorf("the new data directory of %s is not known", n.Name)
				}
			}
			return nil
		})
		s.allStore()
		s.readUnderLoad()
		s.noGap("one wiped")
	}
	v := s.check()
	p := s.load.Pushes()
	t.Logf("3 wiped, %d requests stored, %d failed: %s", p.Stored, p.Failed, v)
}
