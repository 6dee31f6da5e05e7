package remote_test

import (
	"context"
	"errors"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
)

// A server whose plan of streams is more than a call may hold says so, and sends none.
func TestPlansOfServersStayWithinMemory(t *testing.T) {
	var all []engine.Source
	for i, s := range stores() {
		all = append(all, engine.Local(s, string(rune('a'+i))))
	}
	union := engine.Union("u", all...)
	for memory, ok := range map[int64]bool{0: true, 1 << 20: true, 200: false, 500: false} {
		src, _ := dialServer(t, &server{src: union, memory: memory})
		s, err := src.Open(context.Background(), nil, 0, 600*sec)
		if err == nil {
			s.Close()
		}
		if ok != (err == nil) || !ok && !errors.Is(err, engine.ErrLimit) {
			t.Errorf("within %d bytes: %v", memory, err)
		}
	}
}
