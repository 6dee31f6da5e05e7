package querier

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/tenant"
)

// awayRing is a ring of which no member answers.
type awayRing struct{ view *ring.View }

func (a awayRing) View() *ring.View { return a.view }
func (awayRing) Ingester(*ring.Member) (ingestv1.IngestServiceClient, error) {
	return nil, errors.New("it is away")
}

// Each answer that may lack something is refused, or says what it lacks where that was
// asked for.
func TestNoAnswerIsSilentlyPartial(t *testing.T) {
	s := New(DefaultConfig(), func() Deps {
		r := awayRing{threeMembers(t, nil)}
		return Deps{Log: slog.New(slog.DiscardHandler), Ring: r, Ingesters: r, Limits: defaults{}, Memory: 1 << 30, Now: func() time.Time { return day }}
	}())
	type answer interface{ GetWarnings() []string }
	const sel = `{app="a"}`
	for name, ask := range map[string]func(ctx context.Context, partial bool) (answer, error){
		"Query": func(ctx context.Context, p bool) (answer, error) {
			return s.Query(ctx, &queryv1.QueryRequest{Query: `count_over_time(` + sel + `[5m])`, Partial: p})
		},
		"QueryRange": func(ctx context.Context, p bool) (answer, error) {
			return s.QueryRange(ctx, &queryv1.QueryRangeRequest{Query: sel, Partial: p})
		},
		"Labels": func(ctx context.Context, p bool) (answer, error) {
			return s.Labels(ctx, &queryv1.LabelsRequest{Partial: p})
		},
		"LabelValues": func(ctx context.Context, p bool) (answer, error) {
			return s.LabelValues(ctx, &queryv1.LabelValuesRequest{Name: "app", Partial: p})
		},
		"Series": func(ctx context.Context, p bool) (answer, error) {
			return s.Series(ctx, &queryv1.SeriesRequest{Selectors: []string{sel}, Partial: p})
		},
		"Stats": func(ctx context.Context, p bool) (answer, error) {
			return s.Stats(ctx, &queryv1.StatsRequest{Selector: sel, Partial: p})
		},
		"Volume": func(ctx context.Context, p bool) (answer, error) {
			return s.Volume(ctx, &queryv1.VolumeRequest{Selector: sel, Partial: p})
		},
		"VolumeRange": func(ctx context.Context, p bool) (answer, error) {
			return s.VolumeRange(ctx, &queryv1.VolumeRangeRequest{Selector: sel, Partial: p})
		},
		"DetectedLabels": func(ctx context.Context, p bool) (answer, error) {
			return s.DetectedLabels(ctx, &queryv1.DetectedLabelsRequest{Selector: sel, Partial: p})
		},
		"DetectedFields": func(ctx context.Context, p bool) (answer, error) {
			return s.DetectedFields(ctx, &queryv1.DetectedFieldsRequest{Query: sel, Partial: p})
		},
		"DetectedFieldValues": func(ctx context.Context, p bool) (answer, error) {
			return s.DetectedFieldValues(ctx, &queryv1.DetectedFieldValuesRequest{Name: "n", Query: sel, Partial: p})
		},
		"Patterns": func(ctx context.Context, p bool) (answer, error) {
			return s.Patterns(ctx, &queryv1.PatternsRequest{Query: sel, Partial: p})
		},
		"Explain": func(ctx context.Context, p bool) (answer, error) {
			return s.Explain(ctx, &queryv1.ExplainRequest{Query: &queryv1.QueryRangeRequest{Query: sel, Partial: p}})
		},
	} {
		ctx := tenant.NewContext(t.Context(), "t")
		if resp, err := ask(ctx, false); err == nil {
			t.Errorf("%s: no error, but %v", name, resp)
		}
		resp, err := ask(ctx, true)
		if err != nil {
			t.Errorf("%s, in part: %v", name, err)
			continue
		}
		text := strings.Join(resp.GetWarnings(), "\n")
		for _, member := range []string{"a", "b", "c"} {
			if !strings.Contains(text, "ingester "+member) && !strings.Contains(text, member+": ") {
				t.Errorf("%s: nothing of member %s in %q", name, member, text)
			}
		}
	}
}
