// Package lokiapi speaks Grafana Loki's HTTP API in front of Weir's services, so that
// Grafana, logcli and the agents that know Loki work as they are: paths, parameters,
// statuses, texts and shapes of answers are Loki's.
package lokiapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
	"github.com/weir-logs/weir/services/gateway/decode"
)

// Build says which build answers.
type Build struct {
	Version, Revision, Branch, Date, User, GoVersion string
}

// Deps is what the API needs from outside.
type Deps struct {
	Limits func(tenant string) limits.Limits
	// Write stores a decoded request. It is given why a request could not be decoded
	// instead, too, and then fails with that.
	Write    func(ctx context.Context, req *ingestv1.WriteRequest, decoding error) (*ingestv1.WriteResponse, error)
	Reserve  func() *decode.Reservation
	Query    queryv1.QueryServiceClient
	Tail     tailv1.TailServiceClient
	Storage  storagev1.StorageServiceClient
	Build    Build
	MaxTails int
	Tails    prometheus.Gauge                    // tails that are open
	Compress func(http.Handler) http.HandlerFunc // wraps what answers queries
	Now      func() time.Time
}

// API is the handlers. It is safe for concurrent use.
type API struct {
	deps  Deps
	tails chan struct{} // holds an item per tail
}

// New returns the API.
func New(d Deps) *API { return &API{deps: d, tails: make(chan struct{}, d.MaxTails)} }

// maxForm is the largest body of parameters.
const maxForm = 1 << 20

// handler answers a request, or returns why it does not.
type handler func(w http.ResponseWriter, r *http.Request) error

// Routes adds the handlers to a mux.
func (a *API) Routes(mux *http.ServeMux) {
	// Other sites' pages may not write here with what the browser has.
	sameSite := http.NewCrossOriginProtection()
	mux.Handle("POST /loki/api/v1/push", sameSite.Handler(a.push(decode.LokiJSON)))
	mux.Handle("POST /api/prom/push", sameSite.Handler(a.push(decode.LokiLegacyJSON)))
	mux.Handle("POST /otlp/v1/logs", sameSite.Handler(http.HandlerFunc(a.otlp)))

	query := func(path string, h handler) {
		wrapped := a.deps.Compress(queries(h))
		mux.Handle("GET "+path, wrapped)
		mux.Handle("POST "+path, wrapped)
	}
	query("/loki/api/v1/query", a.query)
	query("/loki/api/v1/query_range", a.queryRange)
	query("/loki/api/v1/labels", a.labels)
	query("/loki/api/v1/label", a.labels)
	query("/loki/api/v1/label/{name}/values", a.labelValues)
	query("/loki/api/v1/series", a.series)
	query("/loki/api/v1/index/stats", a.stats)
	query("/loki/api/v1/index/volume", a.volume)
	query("/loki/api/v1/index/volume_range", a.volumeRange)
	query("/loki/api/v1/format_query", a.formatQuery)
	query("/loki/api/v1/detected_labels", a.detectedLabels)
	query("/loki/api/v1/detected_fields", a.detectedFields)
	query("/loki/api/v1/detected_field/{name}/values", a.detectedFieldValues)
	query("/loki/api/v1/index/shards", a.shards)
	query("/loki/api/v1/patterns", a.patterns)
	a.deleteRoutes(mux)
	mux.Handle("GET /loki/api/v1/drilldown-limits", queries(a.drilldownLimits))
	mux.Handle("GET /config/tenant/v1/limits", queries(a.tenantLimits))
	mux.Handle("GET /loki/api/v1/status/buildinfo", queries(a.buildInfo))
	a.ruleRoutes(mux)
	mux.Handle("GET /loki/api/v1/tail", http.HandlerFunc(a.tail))
	mux.Handle("GET /api/prom/tail", http.HandlerFunc(a.tail))
}

// queries wraps a handler that takes parameters from the query string and a form.
func queries(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		err := r.ParseForm()
		if err != nil && rpcerr.ReasonOf(err) != rpcerr.TooLarge {
			err = rpcerr.Wrap(err, rpcerr.InvalidArgument, "%v", err)
		}
		if err == nil {
			err = ValidText(r.Form)
		}
		if err == nil {
			err = h(w, r)
		}
		if err != nil {
			writeError(w, err, "")
		}
	})
}

// ValidText returns an error if a parameter is not valid UTF-8, which no message to
// another service can carry.
func ValidText(params url.Values) error {
	for key, list := range params {
		for _, v := range list {
			if !utf8.ValidString(key) || !utf8.ValidString(v) {
				return rpcerr.New(rpcerr.InvalidArgument, "parameter %q is not valid UTF-8", key)
			}
		}
	}
	return nil
}

// writeError answers as Loki does: the text alone. Push's have a line end.
func writeError(w http.ResponseWriter, err error, end string) {
	e := rpcerr.Table(nil).ToError(err)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	rpcerr.SetRetryAfter(h, e)
	w.WriteHeader(statusCode(e))
	_, _ = w.Write([]byte(e.Error() + end)) // the client is gone
}

// HTTPStatus is the key of an error's metadata whose value is its status here, where
// that is not what its reason has.
const HTTPStatus = "http_status"

// statusCode is the HTTP status of an error.
func statusCode(e *rpcerr.Error) int {
	if code, err := strconv.Atoi(e.Metadata[HTTPStatus]); err == nil {
		return code
	}
	if e.Reason == reasonNoStreams {
		return http.StatusUnprocessableEntity
	}
	return rpcerr.HTTPStatus(e)
}

const jsonType = "application/json; charset=UTF-8"

// writeJSON answers with a body that is complete.
func writeJSON(w http.ResponseWriter, body []byte) {
	setJSON(w)
	_, _ = w.Write(append(body, '\n')) // the client is gone
}

func setJSON(w http.ResponseWriter) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("X-Content-Type-Options", "nosniff") // log lines are no pages
}

func (a *API) limits(r *http.Request) limits.Limits {
	id, _ := tenant.FromContext(r.Context())
	return a.deps.Limits(id)
}

// encodingFlags returns the flags that a client wants its entries encoded by.
func encodingFlags(r *http.Request) (flags []string, categorize bool) {
	for _, v := range r.Header.Values("X-Loki-Response-Encoding-Flags") {
		for f := range strings.SplitSeq(v, ",") {
			if f = strings.TrimSpace(f); f != "" && len(flags) < 16 {
				flags = append(flags, f)
				categorize = categorize || f == "categorize-labels"
			}
		}
	}
	return flags, categorize
}
