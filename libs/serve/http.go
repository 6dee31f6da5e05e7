package serve

import (
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/felixge/httpsnoop"

	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// newHTTP returns the server of the HTTP port. gRPC goes straight to its own chain of
// interceptors, operators' handlers behind the telemetry alone, the rest through all.
func (s *Server) newHTTP(inFlight *obs.InFlight) *http.Server {
	api := Chain(obs.Routes(s.mux), append([]Middleware{
		s.admitHTTP,
		inFlight.HTTP(s.opts.InFlightExempt),
		tenant.Middleware(s.opts.Tenants),
	}, s.opts.Middlewares...)...)
	ops := obs.Routes(s.ops)
	rest := s.opts.Telemetry.HTTP(patience(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := s.ops.Handler(r); pattern != "" {
			ops.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isGRPC(r) {
				s.doors[DoorHTTP].ServeHTTP(w, r)
				return
			}
			rest.ServeHTTP(w, r)
		}),
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxConcurrentStreams,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          10 * time.Second,
			WriteByteTimeout:     writeTimeout,
		},
		// What the server says about broken clients is of no use above debug.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.certs != nil {
		srv.TLSConfig = s.certs.server()
	}
	return srv
}

func isGRPC(r *http.Request) bool {
	t := r.Header.Get("Content-Type")
	return r.ProtoMajor == 2 && (t == "application/grpc" ||
		strings.HasPrefix(t, "application/grpc+") || strings.HasPrefix(t, "application/grpc;"))
}

func (s *Server) admitHTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.admit(); err != nil {
			rpcerr.WriteHTTP(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// patience bounds how slowly a body may come and how long a write may wait for a client that does
// not read. Neither bounds how long a request may take.
func patience(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			body := &slowBody{body: r.Body, rc: rc, start: time.Now()}
			r.Body = body
			defer body.abandon()
		}
		// Deadlines are set around each write alone: one that passes between two writes, while a
		// tail has nothing to say, would end an HTTP/2 stream.
		bounded := func(write func()) {
			_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not supported: not bounded
			write()
			_ = rc.SetWriteDeadline(time.Time{})
		}
		next.ServeHTTP(httpsnoop.Wrap(w, httpsnoop.Hooks{
			Write: func(f httpsnoop.WriteFunc) httpsnoop.WriteFunc {
				return func(b []byte) (n int, err error) {
					bounded(func() { n, err = f(b) })
					return n, err
				}
			},
			Flush: func(f httpsnoop.FlushFunc) httpsnoop.FlushFunc {
				return func() { bounded(f) }
			},
			ReadFrom: func(f httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
				return func(src io.Reader) (int64, error) {
					return io.Copy(writerFunc(func(b []byte) (n int, err error) {
						bounded(func() { n, err = w.Write(b) })
						return n, err
					}), src)
				}
			},
		}), r)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// slowBody is a body that fails when it comes more slowly than bodyRate after bodyGrace.
type slowBody struct {
	body  io.ReadCloser
	rc    *http.ResponseController
	start time.Time
	read  int64
	whole bool // read to its end
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.bound()
	n, err := b.body.Read(p)
	b.read += int64(n)
	if b.whole = err == io.EOF; err == nil || b.whole { //nolint:errorlint // readers return it bare
		// The server reads on in the background to notice a client that goes away; a deadline left
		// behind would look like that.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// bound sets the time until which the next byte may come.
func (b *slowBody) bound() {
	allowed := bodyGrace + time.Duration(b.read)*time.Second/bodyRate
	_ = b.rc.SetReadDeadline(b.start.Add(allowed)) // not supported: not bounded
}

// abandon is called when the handler has returned: the server then reads what is left of a short
// body, to use the connection again, and is not to wait for it for ever.
func (b *slowBody) abandon() {
	if !b.whole {
		b.bound()
	}
}

func (b *slowBody) Close() error { return b.body.Close() }

// newDebug returns the server of the profiling port.
func newDebug() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &http.Server{
		Handler:           LoopbackOnly(mux),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
}
