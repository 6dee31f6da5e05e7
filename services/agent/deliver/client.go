package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/queue"
)

// ClientConfig is a server to send to.
type ClientConfig struct {
	// Name tells it from the others: in the queue, metrics and logs.
	Name string
	// URL is host:port of a Weir server's gRPC, grpc://host:port or
	// grpcs://host:port, or the http(s) URL of a Loki push endpoint.
	URL string
	// Tenant is who entries belong to that have no tenant. Empty: the server's
	// default.
	Tenant string
	// External are labels that every stream gets that lacks them.
	External []model.Label
	// Headers are sent with every request.
	Headers map[string]string
	// Insecure does without TLS, which off the loopback interface is the default
	// of gRPC.
	Insecure bool
	TLS      TLSConfig
	Auth     AuthConfig
	// ProxyURL is for http(s) URLs. Empty: what the environment says if
	// ProxyFromEnvironment, else none.
	ProxyURL             string
	ProxyFromEnvironment bool
	NoRedirects          bool
	// Timeout is how long one attempt may take.
	Timeout time.Duration
	// MinBackoff and MaxBackoff are the shortest and longest wait between
	// attempts.
	MinBackoff, MaxBackoff time.Duration
	// InFlight is how many batches are sent at a time. More than 1 only for
	// servers that order by time. Default: 4 for gRPC, else 1.
	InFlight int
	// Queue is how far the client may be behind, and what happens then. Default:
	// 1 GiB, and nothing more is read.
	Queue queue.Bound
	// DropRateLimited drops what the server refuses with 429 instead of sending
	// it again.
	DropRateLimited bool
}

// TLSConfig is files in PEM.
type TLSConfig struct {
	CAFile, CertFile, KeyFile string
	// CA, Cert and Key are PEM itself.
	CA, Cert, Key      string
	ServerName         string
	InsecureSkipVerify bool
	// MinVersion is TLS12 or TLS13. Default: TLS12.
	MinVersion string
}

// Config gives what crypto/tls wants; nil if nothing is set.
func (t TLSConfig) Config() (*tls.Config, error) {
	if t == (TLSConfig{}) {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // as configured
	switch t.MinVersion {
	case "", "TLS12":
	case "TLS13":
		out.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("min_version: %q is neither TLS12 nor TLS13", t.MinVersion)
	}
	read := func(text, file string) ([]byte, error) {
		if text != "" || file == "" {
			return []byte(text), nil
		}
		return os.ReadFile(file)
	}
	ca, err := read(t.CA, t.CAFile)
	if err != nil {
		return nil, err
	}
	if len(ca) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("no certificate in the CA file " + t.CAFile)
		}
	}
	cert, err := read(t.Cert, t.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := read(t.Key, t.KeyFile)
	if err != nil {
		return nil, err
	}
	if len(cert)+len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

type retryFunc func(code, message string, wait time.Duration)

func newTransport(cfg ClientConfig, agent string, onRetry retryFunc) (transport, error) {
	u, err := url.Parse(cfg.URL)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return newLoki(cfg, agent, onRetry)
	}
	return newGRPC(cfg, agent, onRetry)
}

// IsGRPC says whether a client's URL is one for gRPC.
func IsGRPC(u string) bool {
	return !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://")
}

// weirTransport sends to a Weir server over gRPC.
type weirTransport struct {
	c        *client.Client
	p        *client.Pusher
	external []model.Label
}

func newGRPC(cfg ClientConfig, agent string, onRetry retryFunc) (transport, error) {
	addr := cfg.URL
	opts := []client.Option{
		client.WithTenant(cfg.Tenant),
		client.WithBackoff(client.Backoff{Min: cfg.MinBackoff, Max: cfg.MaxBackoff}),
	}
	if agent != "" {
		opts = append(opts, client.WithUserAgent(agent))
	}
	secure := false
	if rest, ok := strings.CutPrefix(addr, "grpcs://"); ok {
		addr, secure = rest, true
	} else if rest, ok := strings.CutPrefix(addr, "grpc://"); ok {
		addr = rest
		if cfg.TLS == (TLSConfig{}) {
			opts = append(opts, client.WithInsecure())
		}
	}
	addr = strings.TrimSuffix(addr, "/")
	if cfg.Insecure {
		opts = append(opts, client.WithInsecure())
	}
	tc, err := cfg.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if tc != nil || secure {
		opts = append(opts, client.WithTLS(tc))
	}
	creds, err := newCredentials(cfg)
	if err != nil {
		return nil, err
	}
	if creds != nil {
		opts = append(opts, client.WithDialOptions(grpc.WithPerRPCCredentials(creds)))
	}
	c, err := client.Dial(addr, opts...)
	if err != nil {
		return nil, err
	}
	p := c.NewPusher(client.PusherOptions{
		Timeout: cfg.Timeout, Backoff: client.Backoff{Min: cfg.MinBackoff, Max: cfg.MaxBackoff},
		OnRetry: func(e *client.Error, wait time.Duration) { onRetry(e.Code.String(), e.Error(), wait) },
	})
	return &weirTransport{c: c, p: p, external: cfg.External}, nil
}

func (t *weirTransport) close() error { return t.c.Close() }

func (t *weirTransport) send(ctx context.Context, tenant string, body []byte) (out outcome, err error) {
	if tenant != "" {
		ctx = client.ContextWithTenant(ctx, tenant)
	}
	if len(t.external) > 0 {
		if body, err = withLabels(body, t.external); err != nil {
			return out, err
		}
	}
	resp, req, err := t.p.PushEncoded(ctx, body)
	if err != nil {
		return out, err
	}
	out.accepted = resp.GetAcceptedEntries()
	left := resp.GetRejectedEntries()
	for _, r := range resp.GetRejections() {
		f := refusal{reason: reasonName(r.GetReason()), message: r.GetMessage()}
		if i := int(r.GetStream()); i < len(req.GetStreams()) {
			s := req.GetStreams()[i]
			f.labels = s.GetLabels()
			from := min(int(r.GetEntry()), len(s.GetEntries()))
			f.entries = s.GetEntries()[from:min(from+int(r.GetCount()), len(s.GetEntries()))]
		}
		left -= min(left, uint64(len(f.entries)))
		out.refused = append(out.refused, f)
	}
	out.others = left
	return out, nil
}
