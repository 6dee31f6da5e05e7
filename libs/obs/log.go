package obs

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/weir-logs/weir/libs/tenant"
)

// LogConfig is the configuration of the log.
type LogConfig struct {
	Level       string        `help:"Least severe level that is logged; it can be changed at run time with POST /log_level." enum:"debug,info,warn,error"`
	Format      string        `help:"Form of the log lines." enum:"text,json"`
	SlowRequest time.Duration `help:"Requests that take longer are logged at info, not at debug."`
}

// DefaultLogConfig logs text at info.
func DefaultLogConfig() LogConfig {
	return LogConfig{Level: "info", Format: "text", SlowRequest: 10 * time.Second}
}

// Validate returns all problems.
func (c LogConfig) Validate() error {
	var problems []error
	if _, err := parseLevel(c.Level); err != nil {
		problems = append(problems, err)
	}
	if c.Format != "text" && c.Format != "json" {
		problems = append(problems, errors.New("format must be text or json"))
	}
	if c.SlowRequest <= 0 {
		problems = append(problems, errors.New("slow_request must be more than 0"))
	}
	return errors.Join(problems...)
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, errors.New("level must be debug, info, warn or error")
}

// NewLogger returns a logger to w and its level, which may be changed at any time. Lines that are
// logged with a context carry the request id, tenant and trace of that context. cfg is valid.
func NewLogger(w io.Writer, cfg LogConfig) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	if l, err := parseLevel(cfg.Level); err == nil {
		level.Set(l)
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(contextHandler{h}), level
}

// contextHandler adds what the context knows of the request to every line.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestIDFrom(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if id, ok := tenant.FromContext(ctx); ok {
		r.AddAttrs(slog.String("tenant", id))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}

// LevelHandler serves /log_level: GET tells the level, POST with log_level=debug sets it.
func LevelHandler(level *slog.LevelVar) http.Handler {
	type answer struct {
		Status  string `json:"status,omitempty"`
		Message string `json:"message"`
	}
	reply := func(w http.ResponseWriter, status int, a answer) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(a)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			reply(w, http.StatusOK, answer{Message: "Current log level is " + strings.ToLower(level.Level().String())})
		case http.MethodPost:
			l, err := parseLevel(r.FormValue("log_level"))
			if err != nil {
				reply(w, http.StatusBadRequest, answer{Status: "failed", Message: "log_level: " + err.Error()})
				return
			}
			level.Set(l)
			reply(w, http.StatusOK, answer{Status: "success", Message: "Log level set to " + strings.ToLower(l.String())})
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		}
	})
}
