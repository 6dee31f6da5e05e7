package querier

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	defaultVolumes = 100
	maxVolumes     = 1000
	// maxVolumeLabels bounds the labels that are looked at one by one.
	maxVolumeLabels = 50
)

// volumes is a question how many bytes of lines there are, by labels.
type volumes struct {
	matchers []*syntax.Matcher
	by       []string // label names to sum by
	single   bool     // sum by each name alone
	from, to time.Time
	limit    int
	partial  bool
	warnings []string // of the answers so far
}

// asksVolumes is what requests for volumes have in common.
type asksVolumes interface {
	selecting
	GetLimit() uint32
	GetTargetLabels() []string
	GetAggregateBy() queryv1.AggregateBy
}

// volumes checks a request and fills in its defaults, the names to sum by one by one
// included: all that the streams have.
func (s *Service) volumes(ctx context.Context, req asksVolumes) (*volumes, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	if limit := int(sc.limits.MaxQueryText); len(req.GetSelector()) > limit {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(req.GetSelector()), limit)
	}
	ms, err := syntax.ParseSelector(req.GetSelector())
	if err == nil && len(ms) > 0 {
		err = syntax.CheckMatchers(ms)
	}
	if err != nil {
		return nil, parseError(err)
	}
	v := &volumes{matchers: ms, limit: int(req.GetLimit()), partial: req.GetPartial()}
	if v.from, v.to, err = times(req.GetStart(), req.GetEnd(), sc.now); err != nil {
		return nil, err
	}
	if !v.from.Before(v.to) {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "end timestamp must not be before or equal to start time")
	}
	if v.limit == 0 {
		v.limit = defaultVolumes
	}
	if v.limit > maxVolumes {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "%d volumes are asked for, at most %d can be", v.limit, maxVolumes)
	}
	switch by := req.GetAggregateBy(); by {
	case queryv1.AggregateBy_AGGREGATE_BY_UNSPECIFIED, queryv1.AggregateBy_AGGREGATE_BY_SERIES:
	case queryv1.AggregateBy_AGGREGATE_BY_LABELS:
		v.single = true
	default:
		return nil, rpcerr.New(rpcerr.InvalidArgument, "aggregate_by %d is not known", by)
	}
	for _, name := range req.GetTargetLabels() {
		if !syntax.IsLabelName(name) && (!sc.limits.UTF8Names || name == "") {
			return nil, rpcerr.New(rpcerr.InvalidArgument, "invalid label name %q to sum by", name)
		}
		v.by = append(v.by, name)
	}
	if len(v.by) == 0 && !v.single {
		for _, m := range ms {
			v.by = append(v.by, m.Name)
		}
	}
	slices.Sort(v.by)
	v.by = slices.Compact(v.by)
	if len(v.by) > maxVolumeLabels {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "more than %d labels to sum by", maxVolumeLabels)
	}
	if len(ms) == 0 {
		v.matchers = []*syntax.Matcher{syntax.MustMatcher(syntax.Re, "service_name", ".+")} // every stream has one
	}
	if !v.single || len(v.by) > 0 {
		return v, nil
	}
	resp, err := s.Labels(ctx, &queryv1.LabelsRequest{
		Start: timestamppb.New(v.from), End: timestamppb.New(v.to),
		Selector: (&syntax.LogSelector{Matchers: v.matchers}).String(), Partial: v.partial,
	})
	if err != nil {
		return nil, err
	}
	v.warned(resp.GetWarnings())
	v.by = resp.GetNames()[:min(len(resp.GetNames()), maxVolumeLabels)]
	return v, nil
}

// warned notes the warnings of an answer.
func (v *volumes) warned(texts []string) {
	for _, w := range texts {
		if !slices.Contains(v.warnings, w) {
			v.warnings = append(v.warnings, w)
		}
	}
}

// ask calls run with each metric query that answers v, and with the label that its
// result stands for, "" if the result has labels of its own.
func (v *volumes) ask(window time.Duration, run func(text, label string) error) error {
	sum := func(by *syntax.Grouping, ms []*syntax.Matcher) string {
		return (&syntax.VectorAggregation{Op: syntax.OpSum, Grouping: by, Inner: &syntax.RangeAggregation{
			Op: syntax.OpBytesOverTime,
			Range: syntax.Range{
				Selector: &syntax.LogSelector{Matchers: ms},
				Interval: max(window.Truncate(time.Millisecond), time.Millisecond),
			},
		}}).String()
	}
	if !v.single {
		return run(sum(&syntax.Grouping{Labels: v.by}, v.matchers), "")
	}
	for _, name := range v.by {
		ms := append(slices.Clone(v.matchers), syntax.MustMatcher(syntax.Neq, name, ""))
		if err := run(sum(nil, ms), name); err != nil {
			return err
		}
	}
	return nil
}

// Volume implements queryv1.QueryServiceServer.
func (s *Service) Volume(ctx context.Context, req *queryv1.VolumeRequest) (*queryv1.VolumeResponse, error) {
	v, err := s.volumes(ctx, req)
	if err != nil {
		return nil, err
	}
	var all []*queryv1.VectorSample
	err = v.ask(v.to.Sub(v.from), func(text, label string) error {
		resp, err := s.Query(ctx, &queryv1.QueryRequest{Query: text, Time: timestamppb.New(v.to), Partial: v.partial})
		if err != nil {
			return err
		}
		v.warned(resp.GetWarnings())
		for _, x := range resp.GetVector().GetSamples() {
			if label != "" {
				x.Labels = map[string]string{label: ""}
			}
			if x.GetSample().GetValue() > 0 {
				all = append(all, x)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *queryv1.VectorSample) int {
		return cmp.Or(cmp.Compare(b.GetSample().GetValue(), a.GetSample().GetValue()), compareLabels(a.GetLabels(), b.GetLabels()))
	})
	return &queryv1.VolumeResponse{Volumes: all[:min(len(all), v.limit)], Warnings: v.warnings}, nil
}

// VolumeRange implements queryv1.QueryServiceServer.
func (s *Service) VolumeRange(ctx context.Context, req *queryv1.VolumeRangeRequest) (*queryv1.VolumeRangeResponse, error) {
	if req.GetStep() != nil && (req.GetStep().CheckValid() != nil || req.GetStep().AsDuration() <= 0) {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "zero or negative query resolution step widths are not accepted. Try a positive integer")
	}
	v, err := s.volumes(ctx, req)
	if err != nil {
		return nil, err
	}
	step := max(v.to.Sub(v.from)/250, time.Second).Truncate(time.Second)
	if req.GetStep() != nil {
		step = req.GetStep().AsDuration()
	}
	var all []*queryv1.Series
	err = v.ask(step, func(text, label string) error {
		resp, err := s.QueryRange(ctx, &queryv1.QueryRangeRequest{
			Query: text, Start: timestamppb.New(v.from), End: timestamppb.New(v.to), Step: durationpb.New(step), Partial: v.partial,
		})
		if err != nil {
			return err
		}
		v.warned(resp.GetWarnings())
		for _, x := range resp.GetMatrix().GetSeries() {
			if label != "" {
				x.Labels = map[string]string{label: ""}
			}
			all = append(all, x)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	total := func(s *queryv1.Series) (sum float64) {
		for _, p := range s.GetSamples() {
			sum += p.GetValue()
		}
		return sum
	}
	slices.SortFunc(all, func(a, b *queryv1.Series) int {
		return cmp.Or(cmp.Compare(total(b), total(a)), compareLabels(a.GetLabels(), b.GetLabels()))
	})
	return &queryv1.VolumeRangeResponse{Volumes: all[:min(len(all), v.limit)], Warnings: v.warnings}, nil
}

// compareLabels orders label sets by their pairs, ascending by name.
func compareLabels(a, b map[string]string) int {
	x, y := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))
	for i := range min(len(x), len(y)) {
		if c := cmp.Or(strings.Compare(x[i], y[i]), strings.Compare(a[x[i]], b[y[i]])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}
