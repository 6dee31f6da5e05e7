package remote_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/model"
)

// A server whose plan of streams is more than a call may hold says so, and sends none.
func TestPlansOfServersStayWithinMemory(t *testing.T) {
	var all []engine.Source
	for i, s := range stores() {
		all = append(all, engine.Local(s, string(rune('a'+i))))
	}
	union := engine.Union("u", all...)
	for memory, ok := range map[int64]bool{0: true, 1 << 20: true, 200: false, 500: false} {
		var refused atomic.Int64
		src, _ := dialServer(t, &server{src: union, memory: memory, refused: func() { refused.Add(1) }})
		s, err := src.Open(context.Background(), nil, 0, 600*sec)
		if err == nil {
			s.Close()
		}
		if ok != (err == nil) || !ok && !errors.Is(err, engine.ErrLimit) || ok != (refused.Load() == 0) {
			t.Errorf("within %d bytes: %v, %d refused", memory, err, refused.Load())
		}
	}
}

// Lists of streams of servers count towards the memory of whoever asks, until the session is
// closed: about what they take.
func TestListsOfServersCount(t *testing.T) {
	var all []enginetest.Entry
	for i := range 5000 {
		ls := model.NewLabels([]model.Label{{Name: "app", Value: "a"}, {Name: "pod", Value: fmt.Sprintf("pod-%06d", i)}})
		for k := range int64(2) {
			all = append(all, enginetest.Entry{Labels: ls, Time: k * 300 * sec, Line: "x", BatchTime: 1, Position: uint32(k)})
		}
	}
	src, _ := dial(t, engine.Local(enginetest.NewStore(all...), "s"))
	m := engine.NewMemory(0)
	s, err := src.Open(engine.WithMemory(context.Background(), m), nil, 0, 600*sec)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, st := range s.Streams() {
		size += 48 + 40*len(st.Runs)
		for _, l := range st.Labels {
			size += 32 + len(l.Name) + len(l.Value)
		}
	}
	if held := int(m.Held()); len(s.Streams()) != 5000 || held < size || held > size*5/4 {
		t.Errorf("%d bytes are counted of %d streams that take %d", held, len(s.Streams()), size)
	}
	peak := m.Peak()
	for range 2 {
		if err := s.Close(); err != nil || m.Held() != 0 {
			t.Errorf("%d bytes are held of a closed session, %v", m.Held(), err)
		}
	}
	m = engine.NewMemory((peak - 1) / 2) // lists may take twice that
	if _, err := src.Open(engine.WithMemory(context.Background(), m), nil, 0, 600*sec); !errors.Is(err, engine.ErrMemory) || m.Held() != 0 {
		t.Errorf("%v within half of what is needed, %d bytes are held", err, m.Held())
	}
}
