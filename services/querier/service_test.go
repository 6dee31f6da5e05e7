package querier

import (
	"context"
	"testing"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/ring"
)

// answering is a source of one incarnation.
type answering struct {
	incarnation string
	closed      *bool
}

func (answering) Name() string { return "x" }
func (a answering) Open(context.Context, []*syntax.Matcher, int64, int64) (engine.Session, error) {
	return answeringSession{answering: a}, nil
}

type answeringSession struct {
	engine.Session
	answering
}

func (s answeringSession) Opened() *ingestv1.Opened {
	return &ingestv1.Opened{Incarnation: s.incarnation}
}
func (s answeringSession) Close() error { *s.closed = true; return nil }

// An answer from another data directory than the known one is none.
func TestHoldersAreIncarnations(t *testing.T) {
	for _, known := range []string{"a", "b"} {
		closed := false
		s, err := holder{answering{"a", &closed}, known, newAsked(threeMembers(t, nil), false), func(context.Context, string, uint64) *ring.View { return threeMembers(t, nil) }}.Open(t.Context(), nil, 0, 1)
		if same := known == "a"; (err == nil) != same || (s != nil) != same || closed == same {
			t.Errorf("known as %s: %v, closed %v", known, err, closed)
		}
	}
}
