package remote_test

import (
	"context"
	"errors"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
)

// The list of a server's streams counts towards the memory of the call there, and towards
// that of the query here.
func TestStreamsCountTowardsMemory(t *testing.T) {
	var all []engine.Source
	for i, s := range stores() {
		all = append(all, engine.Local(s, string(rune('a'+i))))
	}
	union := engine.Union("u", all...)
	for _, c := range []struct {
		there, here int64
		ok          bool
	}{{0, 0, true}, {1 << 20, 1 << 20, true}, {500, 0, false}, {8000, 0, false}, {0, 500, false}} {
		src, _ := dialServer(t, &server{src: union, memory: c.there})
		m := engine.NewMemory(c.here)
		s, err := src.Open(engine.WithMemory(context.Background(), m), nil, 0, 600*sec)
		switch {
		case c.ok && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.ok:
			if m.Held() < 7*100 || m.Held() > 100_000 {
				t.Errorf("%+v: %d bytes are held", c, m.Held())
			}
			s.Close()
		case !errors.Is(err, engine.ErrLimit):
			t.Errorf("%+v: %v", c, err)
		}
		if m.Held() != 0 {
			t.Errorf("%+v: %d bytes are held at the end", c, m.Held())
		}
	}
}
