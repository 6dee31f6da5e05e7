package lokiapi

import (
	"net/http"
	"slices"
	"strconv"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// labels lists label names.
func (a *API) labels(w http.ResponseWriter, r *http.Request) error {
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.Labels(r.Context(), &queryv1.LabelsRequest{Start: start, End: end, Selector: r.Form.Get("query")})
	if err != nil {
		return err
	}
	writeJSON(w, appendList(nil, resp.GetWarnings(), resp.GetNames()))
	return nil
}

// labelValues lists the values of a label.
func (a *API) labelValues(w http.ResponseWriter, r *http.Request) error {
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.LabelValues(r.Context(), &queryv1.LabelValuesRequest{
		Name: r.PathValue("name"), Start: start, End: end, Selector: r.Form.Get("query"),
	})
	if err != nil {
		return err
	}
	writeJSON(w, appendList(nil, resp.GetWarnings(), resp.GetValues()))
	return nil
}

// series lists streams.
func (a *API) series(w http.ResponseWriter, r *http.Request) error {
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.Series(r.Context(), &queryv1.SeriesRequest{
		Selectors: slices.Concat(r.Form["match[]"], r.Form["match"]), Start: start, End: end,
	})
	if err != nil {
		return err
	}
	b := appendWarnings([]byte(`{"status":"success"`), resp.GetWarnings())
	var members []member
	for i, s := range resp.GetSeries() {
		if i == 0 {
			b = append(b, `,"data":[`...)
		} else {
			b = append(b, ',')
		}
		b, members = appendStringMap(b, s.GetLabels(), members)
		if i == 0 {
			b = slices.Grow(b, min(len(b)*len(resp.GetSeries()), 8<<20)) // others are about as long
		}
	}
	if len(resp.GetSeries()) > 0 {
		b = append(b, ']')
	}
	writeJSON(w, append(b, '}'))
	return nil
}

// selector reads the query of a request about sizes, which is a selector that does
// not mean all streams.
func selector(r *http.Request) ([]*syntax.Matcher, error) {
	ms, err := syntax.ParseSelector(r.Form.Get("query"))
	if err == nil {
		err = syntax.CheckMatchers(ms)
	}
	if err != nil {
		return nil, rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	return ms, nil
}

// stats counts what a selector covers.
func (a *API) stats(w http.ResponseWriter, r *http.Request) error {
	if _, err := selector(r); err != nil {
		return err
	}
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.Stats(r.Context(), &queryv1.StatsRequest{Selector: r.Form.Get("query"), Start: start, End: end})
	if err != nil {
		return err
	}
	b := appendStats([]byte{'{'}, resp)
	writeJSON(w, append(appendWarnings(b, resp.GetWarnings()), '}'))
	return nil
}

// appendStats appends the members that say how much a selector covers.
func appendStats(b []byte, s *queryv1.StatsResponse) []byte {
	b = strconv.AppendUint(append(b, `"streams":`...), s.GetStreams(), 10)
	b = strconv.AppendUint(append(b, `,"chunks":`...), s.GetRuns(), 10)
	b = strconv.AppendUint(append(b, `,"bytes":`...), s.GetBytes(), 10)
	return strconv.AppendUint(append(b, `,"entries":`...), s.GetEntries(), 10)
}

// maxShardSelectors is the most selectors of a query that shards is asked about: each
// is a question to a querier.
const maxShardSelectors = 64

// shards tells how to split a query over parts of the fingerprints. Weir splits
// queries itself, by what it stores, so it is one part.
func (a *API) shards(w http.ResponseWriter, r *http.Request) error {
	text := r.Form.Get("query")
	if most := int(a.limits(r).MaxQueryText); len(text) > most {
		return rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(text), most)
	}
	q, err := syntax.ParseExpr(text)
	if err != nil {
		return rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	if s := r.Form.Get("targetBytesPerShard"); s != "" {
		if _, err := strconv.ParseUint(s, 10, 64); err != nil {
			if _, err := pipeline.ParseBytes(s); err != nil {
				return badParam("targetBytesPerShard %q is not a number of bytes", s)
			}
		}
	}
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	// What several selectors cover may overlap: the most that one of them does.
	most, sels := &queryv1.StatsResponse{}, selectors(q)
	var warnings []string
	if len(sels) > maxShardSelectors {
		return rpcerr.New(rpcerr.LimitExceeded, "the query has %d stream selectors, the limit is %d", len(sels), maxShardSelectors)
	}
	for _, sel := range sels {
		resp, err := a.deps.Query.Stats(r.Context(), &queryv1.StatsRequest{Selector: sel, Start: start, End: end})
		if err != nil {
			return err
		}
		for _, text := range resp.GetWarnings() {
			if !slices.Contains(warnings, text) {
				warnings = append(warnings, text)
			}
		}
		if resp.GetBytes() >= most.GetBytes() {
			most = resp
		}
	}
	b := appendStats([]byte(`{"shards":[{"bounds":{"min":0,"max":18446744073709551615},"stats":{`), most)
	writeJSON(w, append(appendWarnings(append(b, `}}],"statistics":{}`...), warnings), '}'))
	return nil
}

// selectors returns the texts of the stream selectors in a query, each once.
func selectors(e syntax.Expr) (out []string) {
	syntax.Walk(e, func(e syntax.Expr) bool {
		var sel *syntax.LogSelector
		switch e := e.(type) {
		case *syntax.LogSelector:
			sel = e
		case *syntax.RangeAggregation:
			sel = e.Range.Selector
		default:
			return true
		}
		if text := (&syntax.LogSelector{Matchers: sel.Matchers}).String(); !slices.Contains(out, text) {
			out = append(out, text)
		}
		return true
	})
	return out
}

// detectedLabels lists label names with how many values each has.
func (a *API) detectedLabels(w http.ResponseWriter, r *http.Request) error {
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.DetectedLabels(r.Context(), &queryv1.DetectedLabelsRequest{Selector: r.Form.Get("query"), Start: start, End: end})
	if err != nil {
		return err
	}
	b := []byte(`{"detectedLabels":[`)
	for i, l := range resp.GetLabels() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"label":`...), l.GetName())
		b = strconv.AppendUint(append(b, `,"cardinality":`...), l.GetCardinality(), 10)
		b = append(b, '}')
	}
	writeJSON(w, append(appendWarnings(append(b, ']'), resp.GetWarnings()), '}'))
	return nil
}
