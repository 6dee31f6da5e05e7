package source

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
)

// Push receives what is pushed by Loki's API, JSON or protobuf, and plain lines. It
// answers when the entries are on disk.
type Push struct {
	h   *Hub
	cfg *config.Push
	tls *tls.Config
}

// NewPush makes a Push; tc may be nil.
func NewPush(h *Hub, cfg *config.Push, tc *tls.Config) *Push { return &Push{h: h, cfg: cfg, tls: tc} }

func (p *Push) limit() int64 {
	if p.cfg.MaxBytes > 0 {
		return int64(p.cfg.MaxBytes)
	}
	return 100 << 20
}

// maxPushes bounds the requests that are worked on at a time.
const maxPushes = 16

// Run implements Source.
func (p *Push) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	for _, path := range []string{"/loki/api/v1/push", "/api/prom/push"} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { p.push(w, r) })
	}
	mux.HandleFunc("POST /promtail/api/v1/raw", func(w http.ResponseWriter, r *http.Request) { p.raw(w, r) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	return serveHTTP(ctx, p.h, "push", p.cfg.Listen, p.tls, mux)
}

// serveHTTP serves until ctx ends; requests that are being worked on get some time.
func serveHTTP(ctx context.Context, h *Hub, kind, addr string, tc *tls.Config, handler http.Handler) error {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	h.log().Info("listening", "kind", kind, "address", lis.Addr().String(), "tls", tc != nil)
	slots := make(chan struct{}, maxPushes)
	bounded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			handler.ServeHTTP(w, r)
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
			w.Header().Set("Retry-After", "5")
			http.Error(w, "too many requests at a time", http.StatusTooManyRequests)
		}
	})
	srv := &http.Server{
		Handler: bounded, TLSConfig: tc, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(late) != nil {
			_ = srv.Close()
		}
	})
	if tc != nil {
		err = srv.ServeTLS(lis, "", "")
	} else {
		err = srv.Serve(lis)
	}
	if !stop() {
		<-ended
		return nil
	}
	return err
}

// body reads a request's body, decompressed.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	in := io.Reader(r.Body)
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity", "snappy":
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		in = z
	case "deflate":
		in = flate.NewReader(in)
	default:
		return nil, fmt.Errorf("Content-Encoding %q is not supported", r.Header.Get("Content-Encoding")) //nolint:staticcheck // a header's name
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errTooLarge
	}
	return b, err
}

var errTooLarge = errors.New("the request is larger than this receiver takes")

func (p *Push) push(w http.ResponseWriter, r *http.Request) {
	b, err := readBody(r, p.limit())
	var streams []PushedStream
	if err == nil {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if kind == "application/json" {
			streams, err = DecodeLokiJSON(b)
		} else {
			var raw []byte
			if n, derr := snappy.DecodedLen(b); derr != nil || int64(n) > p.limit() {
				err = cmpErr(derr, errTooLarge)
			} else if raw, err = snappy.Decode(nil, b); err == nil {
				streams, err = DecodeLokiProto(raw)
			}
		}
	}
	if err != nil {
		p.h.Count("push", "parse")
		status := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	now := time.Now().UnixNano()
	var ents []entry.Entry
	for _, s := range streams {
		labels := maps.Clone(s.Labels)
		maps.Copy(labels, p.cfg.Labels)
		labels["__meta_tenant_id"] = r.Header.Get("X-Scope-OrgID")
		set, ok := p.h.Relabel.Set(labels)
		if !ok {
			continue
		}
		for _, e := range s.Entries {
			e.Labels = set
			e.OwnTime = p.cfg.IncomingTime
			if !e.OwnTime {
				e.Time = now
			}
			ents = append(ents, e)
		}
	}
	p.finish(w, r, ents)
}

// finish answers when the entries are durable.
func (p *Push) finish(w http.ResponseWriter, r *http.Request, ents []entry.Entry) {
	port := p.h.Open("push", r.RemoteAddr, "")
	defer p.h.Done(port)
	err := port.Put(r.Context(), ents, "")
	if err == nil {
		err = port.Sync(r.Context())
	}
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not stored: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *Push) raw(w http.ResponseWriter, r *http.Request) {
	b, err := readBody(r, p.limit())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	set := entry.SetOf(p.cfg.Labels)
	var ents []entry.Entry
	err = Copy(r.Context(), strings.NewReader(string(b)), 3<<20, nil, func(batch []entry.Entry, _ int64) error {
		for _, e := range batch {
			e.Line = append([]byte(nil), e.Line...)
			ents = append(ents, e)
		}
		return nil
	}, set, true)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	p.finish(w, r, ents)
}

func cmpErr(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

// PushedStream is a stream of a Loki push.
type PushedStream struct {
	Labels  map[string]string
	Entries []entry.Entry // without labels
}

// DecodeLokiJSON reads the JSON of Loki's push API.
func DecodeLokiJSON(b []byte) ([]PushedStream, error) {
	var req struct {
		Streams []struct {
			Stream map[string]string `json:"stream"`
			Values [][]json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &req); err != nil {
		return nil, err
	}
	var out []PushedStream
	for _, s := range req.Streams {
		p := PushedStream{Labels: s.Stream}
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		for _, v := range s.Values {
			if len(v) != 2 && len(v) != 3 {
				return nil, errors.New("a value is not [time, line] or [time, line, metadata]")
			}
			var stamp, line string
			if err := errors.Join(json.Unmarshal(v[0], &stamp), json.Unmarshal(v[1], &line)); err != nil {
				return nil, err
			}
			t, err := strconv.ParseInt(stamp, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("time %q is not a number of nanoseconds", stamp)
			}
			e := entry.Entry{Time: t, Line: []byte(line)}
			if len(v) == 3 {
				var m map[string]string
				if err := json.Unmarshal(v[2], &m); err != nil {
					return nil, err
				}
				e.Metadata = model.LabelsFromMap(m)
			}
			p.Entries = append(p.Entries, e)
		}
		out = append(out, p)
	}
	return out, nil
}
