package weir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// An ingester gives up its place only when what it has is sure to be found in the store.
func TestLeave(t *testing.T) {
	for _, c := range []struct {
		what    string
		rf      int
		names   string
		dead    string
		refuses string // who cannot flush
		recover bool   // but can when it is asked again
		ended   bool   // the caller goes while it waits
		tails   int    // how often a live tail is found behind
		want    rpcerr.Reason
		steps   string
	}{
		{"all flush", 3, "abcd", "", "", false, false, 0, "", "leaving wait:2s stop flush:a flushes left"},
		{"one flushes later", 3, "abcd", "", "bc", true, false, 0, "", "leaving wait:2s stop flush:a flushes wait:2s flushes left"},
		{"two do not flush", 3, "abcd", "", "bc", false, true, 0, rpcerr.Unavailable, "leaving wait:2s stop flush:a flushes wait:2s"},
		{"one is away", 3, "abcd", "d", "", false, true, 0, rpcerr.Unavailable, "leaving wait:2s stop flush:a flushes wait:2s"},
		{"it cannot flush itself", 3, "abcd", "", "a", false, false, 0, rpcerr.Unavailable, "leaving wait:2s stop flush:a"},
		{"nobody else has a copy", 1, "ab", "", "", false, false, 0, "", "leaving wait:2s stop flush:a wait:11m0s left"},
		{"tails are behind", 3, "abcd", "", "", false, false, 2, "", "leaving wait:2s stop flush:a flushes wait:100ms wait:100ms left"},
		{"too few would be left", 3, "ab", "", "", false, false, 0, rpcerr.Conflict, ""},
		{"too few of the others are healthy", 3, "abc", "b", "", false, false, 0, rpcerr.Conflict, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newSick(t, "a", c.rf, c.names, "")
			s.dead = c.dead
			for _, n := range c.refuses {
				s.refuses[string(n)] = true
			}
			var steps []string
			step := func(format string, args ...any) {
				if text := fmt.Sprintf(format, args...); len(steps) == 0 || text != "flushes" || steps[len(steps)-1] != text {
					steps = append(steps, text)
				}
			}
			flushed := false
			l := &leaver{
				log: s.log, self: s.self, view: s.View, listed: 11 * time.Minute,
				setState: func(st ring.State) error {
					step("%s", st)
					m, _ := s.table.Get("a")
					m.State, m.Version = st, m.Version+1
					var err error
					s.table, _, err = s.table.Put(m)
					return err
				},
				stopWrites: func() { step("stop") },
				tails:      func() int { c.tails--; return max(c.tails+1, 0) },
				leave:      func(context.Context) error { step("left"); return nil },
				wait: func(_ context.Context, d time.Duration) error {
					step("wait:%s", d)
					if flushed && c.ended {
						return context.Canceled
					}
					if flushed && c.recover {
						clear(s.refuses)
					}
					return nil
				},
			}
			// Those that flush for others do so at once, each in a goroutine.
			l.flush = func(ctx context.Context, m *ring.Member) error {
				if !flushed && m.Name == "a" {
					flushed = true
					step("flush:a")
				}
				if s.refuses[m.Name] {
					return errors.New("cannot flush")
				}
				return nil
			}
			inner := l.view
			l.view = func() *ring.View {
				if flushed && !slices.Contains(steps, "left") && c.rf > 1 {
					step("flushes")
				}
				return inner()
			}
			err := l.run(t.Context())
			if got := rpcerr.ReasonOf(err); got != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v", err)
			}
			if got := fmt.Sprint(steps); got != "["+c.steps+"]" {
				t.Errorf("steps %s, want [%s]", got, c.steps)
			}
		})
	}
}
