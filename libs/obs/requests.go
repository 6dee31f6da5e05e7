package obs

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/felixge/httpsnoop"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// RequestMetrics counts requests of both kinds. All label values come from closed sets: routes are
// patterns of the mux or full names of registered rpcs, never paths.
type RequestMetrics struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	panics   prometheus.Counter
}

// NewRequestMetrics registers the metrics; reg may be nil.
func NewRequestMetrics(reg prometheus.Registerer) *RequestMetrics {
	f := promauto.With(reg)
	return &RequestMetrics{
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weir_request_duration_seconds",
			Help:    "Time that requests took. The method of an rpc is gRPC, its status the name of the code.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method", "status"}),
		inFlight: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_requests_in_flight", Help: "Requests that are being served, by http or grpc.",
		}, []string{"protocol"}),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_panics_total", Help: "Panics in request handlers. Each is a bug.",
		}),
	}
}

// accessLog writes a line per request: at Info if the server failed or was slow, else at Debug.
type accessLog struct {
	log  *slog.Logger
	slow time.Duration
	// loud bounds the lines at Info; what is beyond goes to Debug, so that an outage does not
	// fill the disk.
	loud *rate.Limiter
}

func newAccessLog(log *slog.Logger, slow time.Duration) *accessLog {
	return &accessLog{log: log, slow: slow, loud: rate.NewLimiter(5, 50)}
}

func (a *accessLog) write(ctx context.Context, failed, stream bool, took time.Duration, attrs ...slog.Attr) {
	level := slog.LevelDebug
	if failed || !stream && took >= a.slow {
		if a.loud.Allow() {
			level = slog.LevelInfo
		}
	}
	if !a.log.Enabled(ctx, level) {
		return
	}
	a.log.LogAttrs(ctx, level, "request", append(attrs, slog.Duration("took", took))...)
}

type routeContext struct{}

// SetRoute names the route of the request of ctx for its metrics. The name must come from a closed
// set. It is needed only where a handler behind one mux pattern serves several routes.
func SetRoute(ctx context.Context, route string) {
	if p, ok := ctx.Value(routeContext{}).(*atomic.Pointer[string]); ok {
		p.Store(&route)
	}
}

// Routes wraps a mux so that the pattern that it chose becomes the route of the request's metrics,
// unless the handler names one by SetRoute.
func Routes(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			if _, path, ok := strings.Cut(pattern, " "); ok {
				pattern = path
			}
			SetRoute(r.Context(), pattern)
		}
		mux.ServeHTTP(w, r)
	})
}

// otherRoute is the route of requests that no pattern matches.
const otherRoute = "other"

func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "OTHER"
}

func statusLabel(code int) string {
	if code < 100 || code > 599 {
		return "other"
	}
	return strconv.Itoa(code)
}

func (m *RequestMetrics) observeHTTP(access *accessLog, next http.Handler) http.Handler {
	inFlight := m.inFlight.WithLabelValues("http")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inFlight.Inc()
		defer inFlight.Dec()
		var route atomic.Pointer[string]
		r = r.WithContext(context.WithValue(r.Context(), routeContext{}, &route))
		start := time.Now()
		code, written := http.StatusOK, int64(0)
		done := func(aborted bool) {
			name := otherRoute
			if p := route.Load(); p != nil {
				name = *p
			}
			took := time.Since(start)
			label := statusLabel(code)
			if aborted {
				label = "aborted" // whatever status was sent, the client did not get the whole answer
			}
			m.duration.WithLabelValues(name, methodLabel(r.Method), label).Observe(took.Seconds())
			access.write(r.Context(), code >= 500 || aborted, code == http.StatusSwitchingProtocols, took,
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("route", name),
				slog.Int("status", code), slog.Int64("bytes", written), slog.String("remote", r.RemoteAddr))
		}
		returned := false
		defer func() { done(!returned) }() // a panic here is http.ErrAbortHandler: see recoverHTTP
		wrote := false
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(c int) {
					f(c)
					if !wrote && (c >= 200 || c == http.StatusSwitchingProtocols) {
						code, wrote = c, true
					}
				}
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) {
					wrote = true
					n, err := f(b)
					written += int64(n)
					return n, err
				}
			},
		}), r)
		returned = true
	})
}

// recoverHTTP turns a panic into 500. If the response has begun the connection is cut, so that
// the client does not take half an answer for a whole one.
func (m *RequestMetrics) recoverHTTP(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := false
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			m.panicked(r.Context(), log, r.Method+" "+r.URL.Path, p)
			if begun {
				panic(http.ErrAbortHandler)
			}
			rpcerr.WriteHTTP(w, r, told(p))
		}()
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			WriteHeader: func(f httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
				return func(c int) {
					begun = begun || c >= 200 || c == http.StatusSwitchingProtocols
					f(c)
				}
			},
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (int, error) {
					begun = true
					return f(b)
				}
			},
			Hijack: func(f httpsnoop.HijackFunc) httpsnoop.HijackFunc {
				return func() (net.Conn, *bufio.ReadWriter, error) {
					begun = true
					return f()
				}
			},
		}), r)
	})
}

func (m *RequestMetrics) panicked(ctx context.Context, log *slog.Logger, request string, p any) {
	m.panics.Inc()
	log.ErrorContext(ctx, "panic in a request handler", "request", request, "panic", p, "stack", string(debug.Stack()))
}

// told returns what the client is told of a panic: nothing but that there was one, unless it
// is an error that says what.
func told(p any) error {
	if err, ok := p.(error); ok {
		if e, ok := errors.AsType[*rpcerr.Error](err); ok {
			return e
		}
	}
	return rpcerr.New(rpcerr.Internal, "internal error")
}

func (m *RequestMetrics) recoverServer(log *slog.Logger) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	catch := func(ctx context.Context, method string, err *error) {
		if p := recover(); p != nil {
			m.panicked(ctx, log, method, p)
			*err = told(p)
		}
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer catch(ctx, info.FullMethod, &err)
		return next(ctx, req)
	}
	stream := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer catch(ss.Context(), info.FullMethod, &err)
		return next(srv, ss)
	}
	return unary, stream
}

func (m *RequestMetrics) observeServer(access *accessLog) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	inFlight := m.inFlight.WithLabelValues("grpc")
	observe := func(ctx context.Context, method string, stream bool, call func() error) error {
		inFlight.Inc()
		defer inFlight.Dec()
		start := time.Now()
		err := call()
		code := status.Code(err)
		took := time.Since(start)
		m.duration.WithLabelValues(method, "gRPC", code.String()).Observe(took.Seconds())
		attrs := []slog.Attr{slog.String("method", method), slog.String("status", code.String())}
		if err != nil {
			attrs = append(attrs, slog.String("err", err.Error()))
		}
		access.write(ctx, serverFault(code), stream, took, attrs...)
		return err
	}
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		err = observe(ctx, info.FullMethod, false, func() (err error) {
			resp, err = next(ctx, req)
			return err
		})
		return resp, err
	}
	stream := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return observe(ss.Context(), info.FullMethod, true, func() error { return next(srv, ss) })
	}
	return unary, stream
}

// serverFault reports whether the code says that the server, not the caller, is to blame.
func serverFault(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}
