package cluster

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// postRing asks the front to do something to a member, and returns what it answers.
func (s *scenario) postRing(action, name string) (int, string) {
	s.t.Helper()
	resp, err := http.PostForm("http://"+s.Front.HTTP+"/ring", url.Values{"action": {action}, "name": {name}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// forget forgets an ingester that is dead, as soon as the others agree, and waits until
// the front knows two.
func (s *scenario) forget(n *harness.Node) {
	s.t.Helper()
	harness.Until(s.t, func() error {
		code, body := s.postRing("forget", n.Name)
		if code != http.StatusNoContent {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	p, err := s.ring()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range p.Members {
		if m.Name == n.Name && m.State != "forgotten" {
			s.t.Errorf("%s is %s", m.Name, m.State)
		}
	}
	s.AwaitHealthy(2)
}

// TestForgetOne gives up an ingester that does not come back: not while it is alive, and
// not before the others have flushed. Nothing is lost, and its data directory does not
// return.
func TestForgetOne(t *testing.T) {
	t.Parallel()
	s := start(t)
	tail := harness.StartTail(t, s.client, s.load.History)
	n := s.Ingesters[2]
	if code, body := s.postRing("forget", n.Name); code != http.StatusConflict {
		t.Fatalf("it is alive, and forgetting it answers %d %s", code, body)
	}
	n.Kill()
	s.forget(n)
	s.stored(50)
	s.readUnderLoad()
	v := s.check()
	t.Logf("one forgotten: %s", v)
	tail.Check(t)
	n.Start()
	if code := n.AwaitExit(); code == 0 {
		t.Error("it ended as if all were well")
	}
	if log := n.Log(); !strings.Contains(log, "forgotten") && !strings.Contains(log, "given up") {
		t.Errorf("it ended with\n%s", log)
	}
}
