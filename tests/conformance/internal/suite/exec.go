package suite

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
)

// A run ID has the length of its placeholder, so that filling it in changes no
// lengths inside encoded bodies and no offsets in error messages.
const runPlaceholder = "{{run}}"

// NewRunID returns an identifier for this run. Cases that write put it into
// their labels, which keeps repeated runs on one server apart.
func NewRunID(now time.Time) string {
	s := strconv.FormatInt(now.UnixMilli()/100, 36)
	return "r" + s[len(s)-len(runPlaceholder)+1:]
}

// Server is the system under test.
type Server struct {
	Addr   string // http://host:port
	Tenant string // X-Scope-OrgID, if not empty
	RunID  string
	HTTP   *http.Client
}

// NewServer returns a Server for addr with a fresh run ID.
func NewServer(addr, tenant string) *Server {
	return &Server{
		Addr:   strings.TrimRight(addr, "/"),
		Tenant: tenant,
		RunID:  NewRunID(time.Now()),
		HTTP:   &http.Client{Timeout: 60 * time.Second},
	}
}

// Response is an answer, with the run ID turned back into its placeholder.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

var paths = map[string]string{
	"query":                 "/loki/api/v1/query",
	"query_range":           "/loki/api/v1/query_range",
	"labels":                "/loki/api/v1/labels",
	"label":                 "/loki/api/v1/label",
	"label_values":          "/loki/api/v1/label/{name}/values",
	"series":                "/loki/api/v1/series",
	"index/stats":           "/loki/api/v1/index/stats",
	"index/volume":          "/loki/api/v1/index/volume",
	"index/volume_range":    "/loki/api/v1/index/volume_range",
	"detected_fields":       "/loki/api/v1/detected_fields",
	"detected_field_values": "/loki/api/v1/detected_field/{name}/values",
	"detected_labels":       "/loki/api/v1/detected_labels",
	"patterns":              "/loki/api/v1/patterns",
	"format_query":          "/loki/api/v1/format_query",
	"push":                  "/loki/api/v1/push",
	"otlp":                  "/otlp/v1/logs",
	"tail":                  "/loki/api/v1/tail",
	"buildinfo":             "/loki/api/v1/status/buildinfo",
	"ready":                 "/ready",
	"unknown":               "/loki/api/v1/no_such_endpoint",
}

// KnownEndpoint reports whether a step may use the name.
func KnownEndpoint(name string) bool { return paths[name] != "" }

var nowRe = regexp.MustCompile(`\{\{now([+-][0-9a-z]+)?\}\}`)

func (s *Server) fill(text string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	text = strings.ReplaceAll(text, runPlaceholder, s.RunID)
	return nowRe.ReplaceAllStringFunc(text, func(m string) string {
		t := time.Now()
		if off := nowRe.FindStringSubmatch(m)[1]; off != "" {
			if d, err := time.ParseDuration(off); err == nil {
				t = t.Add(d)
			}
		}
		return strconv.FormatInt(t.UnixNano(), 10)
	})
}

func (s *Server) body(b *Body) ([]byte, error) {
	raw, err := b.raw()
	if err != nil || b == nil {
		return nil, err
	}
	raw = []byte(s.fill(string(raw)))
	var buf bytes.Buffer
	var w io.WriteCloser
	switch b.Encode {
	case "":
		return raw, nil
	case "snappy":
		return snappy.Encode(nil, raw), nil
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "deflate":
		if w, err = flate.NewWriter(&buf, flate.DefaultCompression); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown body encoding %q", b.Encode)
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Do sends one step and returns the answer.
func (s *Server) Do(st *Step) (*Response, error) {
	if st.Endpoint == "tail" {
		return s.tail(st)
	}
	req, err := s.request(st)
	if err != nil {
		return nil, err
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &Response{resp.StatusCode, resp.Header, s.unfill(b)}, nil
}

func (s *Server) unfill(b []byte) []byte {
	return bytes.ReplaceAll(b, []byte(s.RunID), []byte(runPlaceholder))
}

func (s *Server) request(st *Step) (*http.Request, error) {
	path, ok := paths[st.Endpoint]
	if !ok {
		return nil, fmt.Errorf("unknown endpoint %q", st.Endpoint)
	}
	path = strings.ReplaceAll(path, "{name}", url.PathEscape(st.Label))
	params := url.Values{}
	for k, vs := range st.Params {
		for _, v := range vs {
			params.Add(k, s.fill(v))
		}
	}
	body, err := s.body(st.Body)
	if err != nil {
		return nil, err
	}
	target := s.Addr + path
	method := st.Method
	if st.Form {
		body = []byte(params.Encode())
	} else if len(params) > 0 {
		target += "?" + params.Encode()
	}
	if method == "" {
		method = http.MethodGet
		if body != nil || st.Endpoint == "push" || st.Endpoint == "otlp" {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if st.Form {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if s.Tenant != "" {
		req.Header.Set("X-Scope-OrgID", s.Tenant)
	}
	for k, v := range st.Headers {
		req.Header.Set(k, s.fill(v))
	}
	return req, nil
}
