package deliver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
)

// lokiTransport posts to a Loki push endpoint: protobuf, compressed with snappy.
type lokiTransport struct {
	cfg     ClientConfig
	agent   string
	http    *http.Client
	creds   *credentials
	onRetry retryFunc
	waits   client.Backoff
}

func newLoki(cfg ClientConfig, agent string, onRetry retryFunc) (transport, error) {
	tc, err := cfg.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	creds, err := newCredentials(cfg)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	t.TLSClientConfig, t.Proxy = tc, nil
	if cfg.ProxyURL != "" {
		u, err := url.Parse(cfg.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("proxy_url: %w", err)
		}
		t.Proxy = http.ProxyURL(u)
	} else if cfg.ProxyFromEnvironment {
		t.Proxy = http.ProxyFromEnvironment
	}
	h := &http.Client{Transport: t}
	if cfg.NoRedirects {
		h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return &lokiTransport{
		cfg: cfg, agent: agent, http: h, creds: creds, onRetry: onRetry,
		waits: client.Backoff{Min: cfg.MinBackoff, Max: cfg.MaxBackoff},
	}, nil
}

func (t *lokiTransport) close() error {
	t.http.CloseIdleConnections()
	return nil
}

func (t *lokiTransport) send(ctx context.Context, tenant string, body []byte) (out outcome, err error) {
	if len(t.cfg.External) > 0 {
		if body, err = withLabels(body, t.cfg.External); err != nil {
			return out, err
		}
	}
	streams, err := streamsOf(body)
	if err != nil {
		return out, err
	}
	if tenant == "" {
		tenant = t.cfg.Tenant
	}
	err = t.part(ctx, tenant, streams, &out)
	return out, err
}

// part sends streams until they are settled. What the server refuses for its
// content is halved until the entries at fault stand alone; that the others are
// sent twice changes nothing.
func (t *lokiTransport) part(ctx context.Context, tenant string, streams []lokiStream, out *outcome) error {
	n := 0
	for _, s := range streams {
		n += len(s.entries)
	}
	if n == 0 {
		return nil
	}
	var raw []byte
	var err error
	for _, s := range streams {
		if raw, err = appendLoki(raw, s); err != nil {
			return err
		}
	}
	raw = snappy.Encode(nil, raw)
	for attempt := 0; ; attempt++ {
		status, message, after, err := t.post(ctx, tenant, raw)
		switch {
		case err == nil && status/100 == 2:
			out.accepted += uint64(n)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && status == http.StatusTooManyRequests && t.cfg.DropRateLimited:
			t.refuse(streams, "rate_limited", message, out)
			return nil
		case err != nil || status == http.StatusTooManyRequests || status/100 == 5 || status == http.StatusRequestTimeout:
			code := strconv.Itoa(status)
			if err != nil {
				code, message = "connection", err.Error()
			}
			wait := t.waits.Wait(attempt, after)
			t.onRetry(code, message, wait)
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		case status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity:
			if n == 1 {
				t.refuse(streams, reasonOf(status, message), message, out)
				return nil
			}
			a, b := halve(streams, n/2)
			if err := t.part(ctx, tenant, a, out); err != nil {
				return err
			}
			return t.part(ctx, tenant, b, out)
		default:
			if t.creds != nil && status == http.StatusUnauthorized {
				t.creds.forget()
			}
			return fmt.Errorf("%s answers %d: %s", t.cfg.URL, status, message)
		}
	}
}

// halve gives the first n entries and the others.
func halve(streams []lokiStream, n int) (a, b []lokiStream) {
	for _, s := range streams {
		k := min(n, len(s.entries))
		n -= k
		if k > 0 {
			a = append(a, lokiStream{s.labels, s.entries[:k]})
		}
		if k < len(s.entries) {
			b = append(b, lokiStream{s.labels, s.entries[k:]})
		}
	}
	return a, b
}

// reasonOf names why a server refused an entry, from what it says.
func reasonOf(status int, message string) string {
	m := strings.ToLower(message)
	for _, r := range []struct{ has, reason string }{
		{"too old", "too_old"}, {"timestamp too new", "too_far_in_future"}, {"max entry size", "line_too_long"},
		{"too far behind", "too_old"}, {"out of order", "too_old"}, {"label names", "too_many_labels"}, {"stream limit", "stream_limit"},
		{"label value", "label_value_too_long"}, {"structured metadata", "structured_metadata_too_large"}, {"label", "invalid_labels"},
	} {
		if strings.Contains(m, r.has) {
			return r.reason
		}
	}
	return "status_" + strconv.Itoa(status)
}

func (t *lokiTransport) refuse(streams []lokiStream, reason, message string, out *outcome) {
	for _, s := range streams {
		f := refusal{reason: reason, message: message, labels: map[string]string{}}
		for _, l := range s.labels {
			f.labels[l.Name] = l.Value
		}
		for _, b := range s.entries {
			e := &pushv1.Entry{}
			if proto.Unmarshal(b, e) == nil {
				f.entries = append(f.entries, e)
			}
		}
		out.refused = append(out.refused, f)
	}
}

func (t *lokiTransport) post(ctx context.Context, tenant string, body []byte) (status int, message string, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, "", 0, err
	}
	for k, v := range t.cfg.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", t.agent)
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	if t.creds != nil {
		a, err := t.creds.authorization(ctx)
		if err != nil {
			return 0, "", 0, err
		}
		if a != "" {
			req.Header.Set("Authorization", a)
		}
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return 0, "", 0, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if s := resp.Header.Get("Retry-After"); s != "" {
		if n, err := strconv.Atoi(s); err == nil {
			after = time.Duration(n) * time.Second
		} else if at, err := http.ParseTime(s); err == nil {
			after = time.Until(at)
		}
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), after, nil
}
