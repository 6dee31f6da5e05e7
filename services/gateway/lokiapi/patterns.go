package lokiapi

import (
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// minPatternStep is the least distance of samples.
	minPatternStep = 10 * time.Second
	// minPatternTotal is how many lines a pattern has at least.
	minPatternTotal = 30
	maxPatterns     = 300
	maxPoints       = 11_000
)

// patterns tells which patterns the lines of a query have, and how many lines of each
// there are over time.
func (a *API) patterns(w http.ResponseWriter, r *http.Request) error {
	text := r.Form.Get("query")
	if _, err := syntax.ParseLogQuery(text); err != nil {
		return rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	start, end, err := a.bounds(r)
	if err != nil {
		return err
	}
	given, err := stepParam(r)
	if err != nil {
		return err
	}
	from, to := a.given(start, end)
	step := to.Sub(from) / 250
	if given != nil {
		step = given.AsDuration()
	}
	step = max(step.Truncate(time.Second), minPatternStep)
	if to.Sub(from)/step > maxPoints {
		return badParam("exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter")
	}
	resp, err := a.deps.Query.Patterns(r.Context(), &queryv1.PatternsRequest{
		Query: text, Start: timestamppb.New(from), End: timestamppb.New(to), Step: durationpb.New(step), Limit: maxPatterns, MinEntries: minPatternTotal,
	})
	if err != nil {
		return err
	}
	writeJSON(w, appendPatterns(nil, resp, step))
	return nil
}

// appendPatterns appends the answer. Steps longer than the least one have a sample
// each, from a pattern's first line to its last.
func appendPatterns(b []byte, found *queryv1.PatternsResponse, step time.Duration) []byte {
	b = appendWarnings(append(b, `{"status":"success"`...), found.GetWarnings())
	b = append(b, `,"data":[`...)
	for i, p := range found.GetPatterns() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"pattern":`...), p.GetPattern())
		b = appendString(append(b, `,"level":`...), p.GetLevel())
		b = append(b, `,"samples":[`...)
		next := int64(0) // the time of the next sample
		for k, s := range p.GetSamples() {
			for at := s.GetTimestampUnixNano(); k > 0 && step > minPatternStep && next < at; next += int64(step) {
				b = appendPatternSample(append(b, ','), next, 0)
			}
			if k > 0 {
				b = append(b, ',')
			}
			b = appendPatternSample(b, s.GetTimestampUnixNano(), s.GetEntries())
			next = s.GetTimestampUnixNano() + int64(step)
		}
		b = append(b, ']', '}')
	}
	return append(b, ']', '}')
}

func appendPatternSample(b []byte, at int64, n uint64) []byte {
	b = strconv.AppendInt(append(b, '['), at/int64(time.Second), 10)
	return append(strconv.AppendUint(append(b, ','), n, 10), ']')
}
