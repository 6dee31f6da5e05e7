package lokiapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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

// volumeRequest asks how many bytes of lines there are, by labels.
type volumeRequest struct {
	selector string
	by       []string // label names to sum by
	single   bool     // sum by each name alone
	from, to time.Time
	limit    int
}

// volumeRequest reads the parameters of the volume endpoints.
func (a *API) volumeRequest(r *http.Request) (*volumeRequest, error) {
	ms, err := syntax.ParseSelector(r.Form.Get("query"))
	if err == nil && len(ms) > 0 {
		err = syntax.CheckMatchers(ms)
	}
	if err != nil {
		return nil, rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	start, end, err := a.bounds(r)
	if err != nil {
		return nil, err
	}
	v := &volumeRequest{limit: defaultVolumes}
	if v.from, v.to = a.given(start, end); !v.from.Before(v.to) {
		return nil, badParam("end timestamp must not be before or equal to start time")
	}
	limit, err := limitParam(r, "limit")
	if err != nil {
		return nil, err
	}
	if limit > 0 {
		v.limit = min(int(limit), maxVolumes)
	}
	switch by := r.Form.Get("aggregateBy"); by {
	case "", "series":
	case "labels":
		v.single = true
	default:
		return nil, badParam("invalid aggregation option")
	}
	for _, t := range r.Form["targetLabels"] {
		for name := range strings.SplitSeq(t, ",") {
			if name == "" {
				continue
			}
			if !syntax.IsLabelName(name) && !a.limits(r).UTF8Names {
				return nil, badParam("invalid label name %q in targetLabels", name)
			}
			v.by = append(v.by, name)
		}
	}
	if len(v.by) == 0 && !v.single {
		for _, m := range ms {
			v.by = append(v.by, m.Name)
		}
	}
	slices.Sort(v.by)
	v.by = slices.Compact(v.by)
	if len(v.by) > maxVolumeLabels {
		return nil, badParam("more than %d labels to sum by", maxVolumeLabels)
	}
	v.selector = r.Form.Get("query")
	if len(ms) == 0 {
		v.selector = `{service_name=~".+"}` // every stream has one
	}
	return v, nil
}

// names fills in the names to sum by one by one: all that the streams have.
func (a *API) names(ctx context.Context, v *volumeRequest) error {
	if !v.single || len(v.by) > 0 {
		return nil
	}
	resp, err := a.deps.Query.Labels(ctx, &queryv1.LabelsRequest{
		Start: timestamppb.New(v.from), End: timestamppb.New(v.to), Selector: v.selector,
	})
	v.by = resp.GetNames()[:min(len(resp.GetNames()), maxVolumeLabels)]
	return err
}

// queries returns the metric queries that answer v, each with the label that its
// result stands for, "" if the result has labels of its own.
func (v *volumeRequest) queries(window time.Duration) map[string]string {
	bytes := func(selector string) string {
		return fmt.Sprintf("(bytes_over_time(%s[%dms]))", selector, max(window.Milliseconds(), 1))
	}
	if !v.single {
		var by []string
		for _, name := range v.by {
			by = append(by, quoted(name))
		}
		return map[string]string{"": "sum by (" + strings.Join(by, ", ") + ") " + bytes(v.selector)}
	}
	out := make(map[string]string, len(v.by))
	for _, name := range v.by {
		selector := strings.TrimSuffix(strings.TrimSpace(v.selector), "}")
		selector = strings.TrimSpace(selector) + ", " + quoted(name) + `!=""}`
		out[name] = "sum " + bytes(selector)
	}
	return out
}

// quoted is a label's name as queries have it.
func quoted(name string) string {
	if syntax.IsPlainName(name) {
		return name
	}
	return strconv.Quote(name)
}

// volume answers how many bytes each label set has.
func (a *API) volume(w http.ResponseWriter, r *http.Request) error {
	v, err := a.volumeRequest(r)
	if err == nil {
		err = a.names(r.Context(), v)
	}
	if err != nil {
		return err
	}
	all := &queryv1.Vector{}
	for label, text := range v.queries(v.to.Sub(v.from)) {
		resp, err := a.deps.Query.Query(r.Context(), &queryv1.QueryRequest{Query: text, Time: timestamppb.New(v.to)})
		if err != nil {
			return err
		}
		for _, s := range resp.GetVector().GetSamples() {
			if label != "" {
				s.Labels = map[string]string{label: ""}
			}
			if s.GetSample().GetValue() > 0 {
				all.Samples = append(all.Samples, s)
			}
		}
	}
	slices.SortFunc(all.Samples, func(a, b *queryv1.VectorSample) int {
		return cmp.Or(cmp.Compare(b.GetSample().GetValue(), a.GetSample().GetValue()), compareLabels(a.GetLabels(), b.GetLabels()))
	})
	all.Samples = all.Samples[:min(len(all.Samples), v.limit)]
	b := appendVector(appendHead(nil, nil, "vector", nil), all)
	writeJSON(w, append(b, `,"stats":{}}}`...))
	return nil
}

// volumeRange answers how many bytes each label set has over time.
func (a *API) volumeRange(w http.ResponseWriter, r *http.Request) error {
	v, err := a.volumeRequest(r)
	if err == nil {
		err = a.names(r.Context(), v)
	}
	if err != nil {
		return err
	}
	stepParam, err := stepParam(r)
	if err != nil {
		return err
	}
	step := max(v.to.Sub(v.from)/250, time.Second).Truncate(time.Second)
	if stepParam != nil {
		step = stepParam.AsDuration()
	}
	all := &queryv1.Matrix{}
	for label, text := range v.queries(step) {
		resp, err := a.deps.Query.QueryRange(r.Context(), &queryv1.QueryRangeRequest{
			Query: text, Start: timestamppb.New(v.from), End: timestamppb.New(v.to), Step: durationpb.New(step),
		})
		if err != nil {
			return err
		}
		for _, s := range resp.GetMatrix().GetSeries() {
			if label != "" {
				s.Labels = map[string]string{label: ""}
			}
			all.Series = append(all.Series, s)
		}
	}
	total := func(s *queryv1.Series) (sum float64) {
		for _, p := range s.GetSamples() {
			sum += p.GetValue()
		}
		return sum
	}
	slices.SortFunc(all.Series, func(a, b *queryv1.Series) int {
		return cmp.Or(cmp.Compare(total(b), total(a)), compareLabels(a.GetLabels(), b.GetLabels()))
	})
	all.Series = all.Series[:min(len(all.Series), v.limit)]
	b := appendMatrix(appendHead(nil, nil, "matrix", nil), all)
	writeJSON(w, append(b, `,"stats":{}}}`...))
	return nil
}

func compareLabels(a, b map[string]string) int {
	x, _ := appendStringMap(nil, a, nil)
	y, _ := appendStringMap(nil, b, nil)
	return slices.Compare(x, y)
}
