package obs

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// InFlight bounds the requests that are served at once, over all doors that share it.
type InFlight struct {
	slots chan struct{}
	// RetryAfter is what refused callers are told.
	retryAfter time.Duration
}

// NewInFlight returns a bound of n requests.
func NewInFlight(n int) *InFlight {
	return &InFlight{slots: make(chan struct{}, n), retryAfter: time.Second}
}

func (f *InFlight) enter() error {
	select {
	case f.slots <- struct{}{}:
		return nil
	default:
		return rpcerr.New(rpcerr.Overloaded, "too many requests at once: at most %d are served", cap(f.slots)).WithRetry(f.retryAfter)
	}
}

func (f *InFlight) leave() { <-f.slots }

// HTTP is the middleware: beyond the bound a request is answered 503 with Retry-After before
// anything of it is read. Requests for which exempt returns true (live tails, which have limits of
// their own) pass; exempt may be nil.
func (f *InFlight) HTTP(exempt func(*http.Request) bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if exempt != nil && exempt(r) {
				next.ServeHTTP(w, r)
				return
			}
			if err := f.enter(); err != nil {
				rpcerr.WriteHTTP(w, r, err)
				return
			}
			defer f.leave()
			next.ServeHTTP(w, r)
		})
	}
}

// ServerInterceptors bound unary calls. Streams have the transport's limit and those of their
// services: one that lasts for hours must not take a slot for as long.
func (f *InFlight) ServerInterceptors() (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	unary := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := f.enter(); err != nil {
			return nil, err
		}
		defer f.leave()
		return next(ctx, req)
	}
	stream := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return next(srv, ss)
	}
	return unary, stream
}
