package querier

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// nowhere takes the responses of a tail.
type nowhere struct{ grpc.ServerStream }

func (nowhere) Send(*tailv1.TailResponse) error { return nil }

// BenchmarkTailEntry is what a tail spends on an entry: one of 500 in a message, in 20
// streams with a field of metadata each.
func BenchmarkTailEntry(b *testing.B) {
	expr, err := syntax.ParseCanonical(`{a="b"}`)
	if err != nil {
		b.Fatal(err)
	}
	const rows, sets = 500, 20
	m := message(1, 150)
	m.Rows = &ingestv1.Rows{}
	for i := range sets {
		m.Rows.NewLabels = append(m.Rows.NewLabels, &ingestv1.RowLabels{
			Labels: []*ingestv1.Pair{
				{Name: "cluster", Value: []byte("eu-1")}, {Name: "namespace", Value: []byte("shop")}, {Name: "pod", Value: fmt.Appendf(nil, "checkout-%d", i)},
			},
			Metadata: []*ingestv1.Pair{{Name: "trace_id", Value: fmt.Appendf(nil, "%032x", i)}},
		})
	}
	line := make([]byte, 150)
	for i := range rows {
		m.Rows.Times = append(m.Rows.Times, int64(i))
		m.Rows.Labels = append(m.Rows.Labels, uint32(i%sets))
		m.Rows.Slab = append(m.Rows.Slab, line...)
		m.Rows.LineEnds = append(m.Rows.LineEnds, uint32(len(m.Rows.Slab)))
		m.Rows.Hashes = append(m.Rows.Hashes, uint64(i))
	}
	sel := expr.(*syntax.LogSelector)
	t := &tail{
		query: sel, hash: queryHash(sel), stream: nowhere{}, holders: 1, seen: newSeen(nil, time.Now()),
		cursor: &tailCursor{Positions: map[string]position{}},
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += rows {
		t.takeMessage("a", m)
		if err := t.send(); err != nil {
			b.Fatal(err)
		}
	}
}
