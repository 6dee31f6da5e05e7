package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// readyTimeout bounds all checks of one readiness request.
const readyTimeout = 5 * time.Second

// registerOps registers the operators' handlers that need nothing but the Server.
func (s *Server) registerOps() {
	s.ops.HandleFunc("GET /ready", s.serveReady)
	s.ops.Handle("GET /metrics", obs.MetricsHandler(s.opts.Telemetry.Registry))
	level := obs.LevelHandler(s.opts.Telemetry.Level)
	s.ops.Handle("GET /log_level", level)
	s.ops.Handle("POST /log_level", NewOperators(s.cfg.OperatorToken.Reveal()).Only(level))
}

// HandleConfig serves /config, the configuration in effect as print writes it (YAML, secrets redacted).
func (s *Server) HandleConfig(print func(io.Writer) error) {
	s.ops.HandleFunc("GET /config", func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if err := print(&b); err != nil {
			rpcerr.WriteHTTP(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(b.Bytes()) // the client is gone
	})
}

// Ready returns nil if the process takes requests and every check is passed.
func (s *Server) Ready(ctx context.Context) error {
	if err := s.admit(); err != nil {
		return err
	}
	for _, c := range s.checks {
		if err := c.run(ctx); err != nil {
			return rpcerr.Wrap(err, rpcerr.NotReady, "%s: %v", c.name, err)
		}
	}
	return nil
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		rpcerr.WriteHTTP(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	text := "ready\n"
	if degraded := s.Degraded(); len(degraded) > 0 {
		text = "degraded\n" + strings.Join(degraded, "\n") + "\n"
	}
	_, _ = io.WriteString(w, text) // the client is gone
}

// Degraded returns what is wrong with a process that may be ready all the same, each as
// "condition: what".
func (s *Server) Degraded() []string {
	var out []string
	for _, c := range s.conditions {
		if what := c.degraded(); what != "" {
			out = append(out, c.name+": "+what)
		}
	}
	return out
}

// handleServices serves /services: a line per module with its state, or JSON where that is accepted.
func (s *Server) handleServices(m *Modules) {
	s.ops.HandleFunc("GET /services", func(w http.ResponseWriter, r *http.Request) {
		states := m.States()
		if strings.Contains(r.Header.Get("Accept"), "application/json") {
			type service struct {
				Name  string `json:"name"`
				State string `json:"state"`
				Error string `json:"error,omitempty"`
			}
			list := make([]service, len(states))
			for i, st := range states {
				list[i] = service{Name: st.Name, State: st.State.String()}
				if st.Err != nil {
					list[i].Error = st.Err.Error()
				}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"services": list}) // the client is gone
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, st := range states {
			fmt.Fprintf(w, "%s => %s\n", st.Name, st.State) //nolint:errcheck // the client is gone
		}
	})
}

// LoopbackOnly is the middleware for what only somebody on this machine may do. A request must
// come from a loopback address, directly and not by a proxy, for a loopback name (a web page that
// has its name resolve to 127.0.0.1 is turned away by that), and not from a page of another site.
func LoopbackOnly(next http.Handler) http.Handler {
	sameSite := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.RemoteAddr) || !loopbackHost(r.Host) || ByProxy(r) {
			rpcerr.WriteHTTP(w, r, rpcerr.New(rpcerr.PermissionDenied, "only from this machine"))
			return
		}
		sameSite.ServeHTTP(w, r)
	})
}

// Forwarded reports whether a request came by a proxy, by what get returns of its headers: the
// caller is not who the connection is from then.
func Forwarded(get func(name string) string) bool {
	return get("Forwarded") != "" || get("X-Forwarded-For") != "" || get("X-Real-Ip") != "" || get("Via") != ""
}

// ByProxy reports whether an HTTP request came by a proxy, as far as that shows: it says so, or it
// is HTTP/1.0, which nginx speaks by default and nothing else does any more.
func ByProxy(r *http.Request) bool { return Forwarded(r.Header.Get) || !r.ProtoAtLeast(1, 1) }

func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// WriteJSON answers a request of an operator with v.
func WriteJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client is gone
}
