package querier

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// Whatever is asked of many streams with too little memory is refused, with an error that says
// why and what to set, and counted; with enough it is answered.
func TestQuestionsAreBoundedInMemory(t *testing.T) {
	shop := newShop(t)
	var all []row
	for i := range 300 {
		all = append(all, rows(fmt.Sprintf("app-%03d", i), i, i+2)...)
	}
	shop.put(nil, all...)
	shop.refresh()
	away := awayRing{threeMembers(t, nil)}
	s := New(DefaultConfig(), Deps{
		Log: slog.New(slog.DiscardHandler), Ring: away, Ingesters: away, Limits: defaults{}, Memory: 1 << 30, Now: func() time.Time { return day.Add(time.Hour) },
		Store: &Store{Bucket: shop.bucket, Loader: shop.loader, Cache: blockstore.NewCache(1<<20, nil), Memory: 1 << 20},
	})
	enough := s.memory
	const sel = `{app=~".+"}`
	start, end := timestamppb.New(day), timestamppb.New(day.Add(time.Hour))
	type answer interface{ GetWarnings() []string }
	for name, ask := range map[string]func(ctx context.Context) (answer, error){
		"QueryRange": func(ctx context.Context) (answer, error) {
			return s.QueryRange(ctx, &queryv1.QueryRangeRequest{Query: sel, Start: start, End: end, Partial: true})
		},
		"Query": func(ctx context.Context) (answer, error) {
			return s.Query(ctx, &queryv1.QueryRequest{Query: `sum(count_over_time(` + sel + `[1h])) by (n)`, Time: end, Partial: true})
		},
		"LabelValues": func(ctx context.Context) (answer, error) {
			return s.LabelValues(ctx, &queryv1.LabelValuesRequest{Name: "app", Start: start, End: end, Partial: true})
		},
		"Labels": func(ctx context.Context) (answer, error) {
			return s.Labels(ctx, &queryv1.LabelsRequest{Start: start, End: end, Partial: true})
		},
		"Series": func(ctx context.Context) (answer, error) {
			return s.Series(ctx, &queryv1.SeriesRequest{Selectors: []string{sel}, Start: start, End: end, Partial: true})
		},
		"Stats": func(ctx context.Context) (answer, error) {
			return s.Stats(ctx, &queryv1.StatsRequest{Selector: sel, Start: start, End: end, Partial: true})
		},
		"Volume": func(ctx context.Context) (answer, error) {
			return s.Volume(ctx, &queryv1.VolumeRequest{Selector: sel, Start: start, End: end, TargetLabels: []string{"n"}, Partial: true})
		},
		"VolumeRange": func(ctx context.Context) (answer, error) {
			return s.VolumeRange(ctx, &queryv1.VolumeRangeRequest{Selector: sel, Start: start, End: end, TargetLabels: []string{"n"}, Partial: true})
		},
		"DetectedLabels": func(ctx context.Context) (answer, error) {
			return s.DetectedLabels(ctx, &queryv1.DetectedLabelsRequest{Selector: sel, Start: start, End: end, Partial: true})
		},
		"DetectedFields": func(ctx context.Context) (answer, error) {
			return s.DetectedFields(ctx, &queryv1.DetectedFieldsRequest{Query: sel, Start: start, End: end, Partial: true})
		},
		"Patterns": func(ctx context.Context) (answer, error) {
			return s.Patterns(ctx, &queryv1.PatternsRequest{Query: sel, Start: start, End: end, Partial: true})
		},
		"Explain": func(ctx context.Context) (answer, error) {
			return s.Explain(ctx, &queryv1.ExplainRequest{Query: &queryv1.QueryRangeRequest{Query: sel, Start: start, End: end, Partial: true}})
		},
	} {
		ctx := tenant.NewContext(t.Context(), "t")
		for _, memory := range []int64{enough, 1000} {
			s.memory = memory
			before := testutil.ToFloat64(s.noMemory)
			_, err := ask(ctx)
			counted := testutil.ToFloat64(s.noMemory) - before
			switch {
			case memory == enough && (err != nil || counted != 0):
				t.Errorf("%s: %v, %v refusals", name, err, counted)
			case memory < enough && (!rpcerr.Is(err, rpcerr.LimitExceeded) || !strings.Contains(fmt.Sprint(err), "memory.limit") || counted != 1):
				t.Errorf("%s within %d bytes: %v, %v refusals", name, memory, err, counted)
			}
		}
	}
	// An answer takes more than what it was made of.
	s.memory = 300 * (24 + 2*32 + 30)
	if _, err := s.Series(tenant.NewContext(t.Context(), "t"), &queryv1.SeriesRequest{Start: start, End: end, Partial: true}); !rpcerr.Is(err, rpcerr.LimitExceeded) {
		t.Errorf("within %d bytes: %v", s.memory, err)
	}
}
