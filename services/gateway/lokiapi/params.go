package lokiapi

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func badParam(format string, args ...any) error {
	return rpcerr.New(rpcerr.InvalidArgument, format, args...)
}

// parseTime reads a time: with a point float seconds since the Unix epoch, up to ten
// digits seconds, more digits nanoseconds, else RFC 3339.
func parseTime(s string) (time.Time, error) {
	if strings.Contains(s, ".") {
		if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1e10 {
			whole, part := math.Modf(f)
			// A float holds no more than microseconds of today's times.
			return time.Unix(int64(whole), int64(math.Round(part*1e6))*1000).UTC(), nil
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t, nil
		}
		return time.Time{}, err
	}
	if len(s) <= 10 {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Unix(0, n).UTC(), nil
}

// TimeText brings any time that Loki's API takes into RFC 3339.
func TimeText(s string) (string, error) {
	t, err := parseTime(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a time: want RFC 3339, or seconds or nanoseconds since the Unix epoch", s)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// parseSeconds reads a duration: seconds, or a number with units.
func parseSeconds(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		ns := f * float64(time.Second)
		if ns > math.MaxInt64 || ns < math.MinInt64 || math.IsNaN(ns) {
			return 0, badParam("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	return 0, badParam("cannot parse %q to a valid duration", s)
}

// DurationText brings a duration into the form of protobuf's JSON. Besides what
// Loki's API takes it may be one as Go writes them.
func DurationText(s string) (string, error) {
	d, err := parseSeconds(s)
	if err != nil {
		if d, err = time.ParseDuration(s); err != nil {
			return "", fmt.Errorf("%q is not a duration: want a number of seconds, or one with units like 1m30s", s)
		}
	}
	text := strconv.FormatFloat(float64(d)/1e9, 'f', -1, 64)
	if d%1000 != 0 || d > 1<<50 || d < -1<<50 { // more digits than a float has
		sign := ""
		if d < 0 {
			sign, d = "-", -d
		}
		text = fmt.Sprintf("%s%d.%09d", sign, uint64(d)/1e9, uint64(d)%1e9)
	}
	return text + "s", nil
}

// timeParam reads a parameter that is a time; nil if it is not given.
func timeParam(r *http.Request, name string) (*timestamppb.Timestamp, error) {
	s := r.Form.Get(name)
	if s == "" {
		return nil, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return nil, badParam("could not parse '%s' parameter: %v", name, err)
	}
	return timestamppb.New(t), nil
}

// bounds reads start, end and since. What is not given is the querier's to choose.
func (a *API) bounds(r *http.Request) (start, end *timestamppb.Timestamp, err error) {
	if end, err = timeParam(r, "end"); err != nil {
		return nil, nil, err
	}
	if start, err = timeParam(r, "start"); err != nil {
		return nil, nil, err
	}
	if s := r.Form.Get("since"); s != "" {
		since, err := model.ParseDuration(s)
		if err != nil {
			return nil, nil, badParam("could not parse 'since' parameter: %v", err)
		}
		if start == nil {
			from := a.deps.Now()
			if end != nil && end.AsTime().Before(from) {
				from = end.AsTime()
			}
			start = timestamppb.New(from.Add(-time.Duration(since)))
		}
	}
	if start != nil && end != nil && end.AsTime().Before(start.AsTime()) {
		return nil, nil, badParam("end timestamp must not be before or equal to start time")
	}
	return start, end, nil
}

// given returns the bounds with Loki's defaults filled in.
func (a *API) given(start, end *timestamppb.Timestamp) (from, to time.Time) {
	now := a.deps.Now()
	to = now
	if end != nil {
		to = end.AsTime()
	}
	if start != nil {
		return start.AsTime(), to
	}
	if to.Before(now) {
		return to.Add(-time.Hour), to
	}
	return now.Add(-time.Hour), to
}

// limitParam reads a number of entries; 0 if it is not given.
func limitParam(r *http.Request, name string) (uint32, error) {
	s := r.Form.Get(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return 0, badParam("%v", err)
	case n > math.MaxUint32:
		return 0, badParam("limit value %d is out of range [0, %d]", n, uint32(math.MaxUint32))
	case n <= 0:
		return 0, badParam("limit must be a positive value")
	}
	return uint32(n), nil
}

func directionParam(r *http.Request) (queryv1.Direction, error) {
	s := r.Form.Get("direction")
	switch strings.ToLower(s) {
	case "", "backward":
		return queryv1.Direction_DIRECTION_BACKWARD, nil
	case "forward":
		return queryv1.Direction_DIRECTION_FORWARD, nil
	}
	return 0, badParam("invalid direction '%s'", s)
}

// stepParam reads step; nil if it is not given.
func stepParam(r *http.Request) (*durationpb.Duration, error) {
	s := r.Form.Get("step")
	if s == "" {
		return nil, nil
	}
	d, err := parseSeconds(s)
	if err != nil {
		return nil, err
	}
	if d <= 0 {
		return nil, badParam("zero or negative query resolution step widths are not accepted. Try a positive integer")
	}
	return durationpb.New(d), nil
}

func intervalParam(r *http.Request) (*durationpb.Duration, error) {
	s := r.Form.Get("interval")
	if s == "" {
		return nil, nil
	}
	d, err := parseSeconds(s)
	if err != nil {
		return nil, err
	}
	if d < 0 {
		return nil, badParam("interval must be >= 0")
	}
	return durationpb.New(d), nil
}

// noCache reports whether a client wants nothing that is remembered.
func noCache(r *http.Request) bool {
	for _, list := range r.Header.Values("Cache-Control") {
		for _, d := range strings.Split(list, ",") {
			if d = strings.ToLower(strings.TrimSpace(d)); d == "no-cache" || d == "no-store" {
				return true
			}
		}
	}
	return false
}

// rangeRequest reads the parameters of query_range.
func (a *API) rangeRequest(r *http.Request) (*queryv1.QueryRangeRequest, error) {
	var errs [5]error
	q := &queryv1.QueryRangeRequest{Query: r.Form.Get("query")}
	q.Start, q.End, errs[0] = a.bounds(r)
	q.Limit, errs[1] = limitParam(r, "limit")
	q.Direction, errs[2] = directionParam(r)
	q.Step, errs[3] = stepParam(r)
	q.Interval, errs[4] = intervalParam(r)
	q.NoCache = noCache(r)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return q, nil
}
