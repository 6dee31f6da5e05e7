package lokiapi

import (
	"net/http"
	"strings"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// maxVolumes is the most label sets that one answer has.
const maxVolumes = 1000

// volumeRequest reads the parameters of the volume endpoints.
func (a *API) volumeRequest(r *http.Request) (*queryv1.VolumeRequest, error) {
	start, end, err := a.bounds(r)
	if err != nil {
		return nil, err
	}
	limit, err := limitParam(r, "limit")
	if err != nil {
		return nil, err
	}
	v := &queryv1.VolumeRequest{Selector: r.Form.Get("query"), Start: start, End: end, Limit: min(limit, maxVolumes)}
	switch by := r.Form.Get("aggregateBy"); by {
	case "", "series":
	case "labels":
		v.AggregateBy = queryv1.AggregateBy_AGGREGATE_BY_LABELS
	default:
		return nil, badParam("invalid aggregation option")
	}
	for _, t := range r.Form["targetLabels"] {
		for name := range strings.SplitSeq(t, ",") {
			if name != "" {
				v.TargetLabels = append(v.TargetLabels, name)
			}
		}
	}
	return v, nil
}

// volume answers how many bytes each label set has.
func (a *API) volume(w http.ResponseWriter, r *http.Request) error {
	v, err := a.volumeRequest(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.Volume(r.Context(), v)
	if err != nil {
		return err
	}
	b := appendVector(appendHead(nil, resp.GetWarnings(), "vector", nil), &queryv1.Vector{Samples: resp.GetVolumes()})
	writeJSON(w, append(b, `,"stats":{}}}`...))
	return nil
}

// volumeRange answers how many bytes each label set has over time.
func (a *API) volumeRange(w http.ResponseWriter, r *http.Request) error {
	v, err := a.volumeRequest(r)
	if err != nil {
		return err
	}
	step, err := stepParam(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.VolumeRange(r.Context(), &queryv1.VolumeRangeRequest{
		Selector: v.GetSelector(), Start: v.GetStart(), End: v.GetEnd(), Step: step,
		Limit: v.GetLimit(), TargetLabels: v.GetTargetLabels(), AggregateBy: v.GetAggregateBy(),
	})
	if err != nil {
		return err
	}
	b := appendMatrix(appendHead(nil, resp.GetWarnings(), "matrix", nil), &queryv1.Matrix{Series: resp.GetVolumes()})
	writeJSON(w, append(b, `,"stats":{}}}`...))
	return nil
}
