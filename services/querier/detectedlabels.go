package querier

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// DetectedLabels implements queryv1.QueryServiceServer.
func (s *Service) DetectedLabels(ctx context.Context, req *queryv1.DetectedLabelsRequest) (*queryv1.DetectedLabelsResponse, error) {
	sc, q, err := s.oneSelector(ctx, req)
	if err != nil {
		return nil, err
	}
	ctx, _, done, err := s.bounded(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer done()
	if q.Excluded, err = s.excluded(ctx, sc); err != nil {
		return nil, err
	}
	values, warnings, err := s.engine.Cardinality(ctx, q)
	if err != nil {
		return nil, s.toError(err)
	}
	out := &queryv1.DetectedLabelsResponse{Warnings: warnings}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !identifiers(values[name]) {
			out.Labels = append(out.Labels, &queryv1.DetectedLabel{Name: name, Cardinality: uint64(len(values[name]))})
		}
	}
	return out, nil
}

// identifiers reports whether all values are numbers (other than 0 and 1, which may
// be flags) or UUIDs: nobody wants to group by such a label.
func identifiers(values map[string]struct{}) bool {
	for v := range values {
		if _, err := strconv.ParseFloat(v, 64); err == nil && v != "0" && v != "1" {
			continue
		}
		if !uuid.MatchString(v) {
			return false
		}
	}
	return true
}

var uuid = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
