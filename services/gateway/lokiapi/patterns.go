package lokiapi

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/patterns"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	// patternLines is how many lines patterns are made of, the newest ones.
	patternLines = 20_000
	// minPatternStep is the least distance of samples.
	minPatternStep = 10 * time.Second
	// minPatternTotal is how many lines a pattern has at least.
	minPatternTotal = 30
	maxPatterns     = 300
	maxPoints       = 11_000
)

// patterns tells which patterns the newest lines of a query have, and how many lines
// of each there are over time. They are made when they are asked for.
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
	set := patterns.New(int64(step))
	q := &queryv1.QueryRangeRequest{Query: text, Start: timestamppb.New(from), End: timestamppb.New(to)}
	page := patternLines
	if most := a.limits(r).MaxQueryEntries; most > 0 {
		page = min(page, most)
	}
	for left := patternLines; left > 0; {
		q.Limit = uint32(min(left, page))
		n, cursor, err := a.addPatterns(r, q, set)
		if err != nil {
			return err
		}
		if left -= n; cursor == "" || n == 0 {
			break
		}
		q.Cursor = cursor
	}
	writeJSON(w, appendPatterns(nil, set.Patterns(minPatternTotal, maxPatterns), step))
	return nil
}

// addPatterns adds one page of lines to a set and returns how many there were, and the
// cursor of the next page.
func (a *API) addPatterns(r *http.Request, q *queryv1.QueryRangeRequest, set *patterns.Set) (lines int, cursor string, err error) {
	stream, err := a.deps.Query.QueryStream(r.Context(), &queryv1.QueryStreamRequest{Query: q})
	if err != nil {
		return 0, "", err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return lines, cursor, nil
		}
		if err != nil {
			return 0, "", err
		}
		if done := m.GetDone(); done != nil {
			cursor = done.GetNextCursor()
		}
		for _, s := range m.GetStreams().GetStreams() {
			key := model.LabelsFromMap(s.GetLabels()).String()
			for _, e := range s.GetEntries() {
				line := e.GetText()
				if raw := e.GetRaw(); len(raw) > 0 {
					line = string(raw)
				}
				set.Add(key, e.GetStructuredMetadata()[discover.LevelName], e.GetTimestampUnixNano(), line)
				lines++
			}
		}
	}
}

// appendPatterns appends the answer. Steps longer than the least one have a sample
// each, from a pattern's first line to its last.
func appendPatterns(b []byte, found []patterns.Pattern, step time.Duration) []byte {
	b = append(b, `{"status":"success","data":[`...)
	var buckets []int64
	for i, p := range found {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"pattern":`...), p.Text)
		b = appendString(append(b, `,"level":`...), p.Level)
		b = append(b, `,"samples":[`...)
		buckets = buckets[:0]
		for at := range p.Samples {
			buckets = append(buckets, at)
		}
		slices.Sort(buckets)
		if n := len(buckets); step > minPatternStep && n > 0 {
			first, last := buckets[0], buckets[n-1]
			buckets = buckets[:0]
			for at := first; at <= last; at++ {
				buckets = append(buckets, at)
			}
		}
		for k, at := range buckets {
			if k > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(append(b, '['), at*int64(step/time.Second), 10)
			b = strconv.AppendUint(append(b, ','), p.Samples[at], 10)
			b = append(b, ']')
		}
		b = append(b, ']', '}')
	}
	return append(b, ']', '}')
}
