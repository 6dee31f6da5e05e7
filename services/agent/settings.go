package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/deliver"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/queue"
	"github.com/weir-logs/weir/services/agent/source"
)

// deliverConfig gives the part of a configuration that is about delivery.
func deliverConfig(cfg *config.Config, userAgent string) (deliver.Config, error) {
	d := deliver.Config{
		Positions: cfg.Positions.File, SaveInterval: cfg.Positions.SaveInterval, IgnoreInvalid: cfg.Positions.IgnoreInvalid,
		MaxBytes: int(cfg.Batch.MaxBytes), MaxWait: cfg.Batch.MaxWait, UserAgent: userAgent, Dir: cfg.Queue.Dir,
		Limits: deliver.Limits{MaxLine: int(cfg.Limits.MaxLine), Truncate: cfg.Limits.MaxLineTruncate, MaxStreams: cfg.Limits.MaxStreams},
	}
	if d.SaveInterval <= 0 {
		d.SaveInterval = 10 * time.Second
	}
	// All clients get the same batches: the smallest of what they ask for.
	for _, c := range cfg.Clients {
		if c.BatchSize > 0 {
			d.MaxBytes = min(cmp.Or(d.MaxBytes, c.BatchSize), c.BatchSize)
		}
		if c.BatchWait > 0 {
			d.MaxWait = min(cmp.Or(d.MaxWait, c.BatchWait), c.BatchWait)
		}
	}
	d.MaxBytes = min(max(cmp.Or(d.MaxBytes, 1<<20), 1<<10), 4<<20)
	d.MaxWait = cmp.Or(d.MaxWait, time.Second)
	same := true
	for _, c := range cfg.Clients {
		cc, err := clientConfig(cfg, c)
		if err != nil {
			return d, fmt.Errorf("client %s: %w", c.Name, err)
		}
		d.Clients = append(d.Clients, cc)
		same = same && slices.Equal(cc.External, d.Clients[0].External)
	}
	if same && len(d.Clients) > 0 {
		// Alike for all, so they are put in once.
		d.External = d.Clients[0].External
		for i := range d.Clients {
			d.Clients[i].External = nil
		}
	}
	return d, nil
}

func clientConfig(cfg *config.Config, c config.Client) (deliver.ClientConfig, error) {
	h, q := c.HTTP, cfg.Queue
	if c.Queue != nil {
		q = *c.Queue
	}
	external := maps.Clone(cfg.ExternalLabels)
	if external == nil {
		external = map[string]string{}
	}
	maps.Copy(external, c.ExternalLabels)
	tenant := c.Tenant
	if t := external[entry.TenantLabel]; t != "" {
		tenant = t
	}
	delete(external, entry.TenantLabel)
	out := deliver.ClientConfig{
		Name: c.Name, URL: cmp.Or(c.URL, c.Address), Tenant: tenant, External: model.LabelsFromMap(external),
		Headers: c.Headers, Insecure: c.Insecure, Timeout: cmp.Or(c.Timeout, 15*time.Second),
		MinBackoff: cmp.Or(c.Backoff.Min, 100*time.Millisecond), MaxBackoff: cmp.Or(c.Backoff.Max, 30*time.Second),
		Queue:           queue.Bound{MaxBytes: int64(q.MaxBytes), MaxAge: q.MaxAge, DropOldest: q.WhenFull == "drop_oldest"},
		DropRateLimited: c.DropRateLimited, ProxyURL: h.ProxyURL, ProxyFromEnvironment: h.ProxyFromEnv,
		NoRedirects: h.FollowRedirects != nil && !*h.FollowRedirects, TLS: tlsConfig(h.TLS),
	}
	if c.Address != "" {
		out.InFlight = max(1, min(4, cmp.Or(cfg.Batch.MaxPending, 4)))
	}
	if b := h.BasicAuth; b != nil {
		out.Auth.Username, out.Auth.Password, out.Auth.PasswordFile = b.Username, b.Password, b.PasswordFile
		if b.UsernameFile != "" {
			text, err := os.ReadFile(b.UsernameFile)
			if err != nil {
				return out, err
			}
			out.Auth.Username = strings.TrimSpace(string(text))
		}
	}
	if z := h.Authorization; z != nil {
		out.Auth.Type, out.Auth.Credentials, out.Auth.CredentialsFile = z.Type, z.Credentials, z.CredentialsFile
	}
	if h.BearerToken != "" || h.BearerTokenFile != "" {
		out.Auth.Credentials, out.Auth.CredentialsFile = h.BearerToken, h.BearerTokenFile
	}
	if o := h.OAuth2; o != nil {
		out.Auth.OAuth2 = &deliver.OAuth2Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret, ClientSecretFile: o.ClientSecretFile, TokenURL: o.TokenURL,
			Scopes: o.Scopes, EndpointParams: o.EndpointParams, TLS: tlsConfig(o.TLS),
		}
	}
	return out, nil
}

func tlsConfig(t config.TLS) deliver.TLSConfig {
	return deliver.TLSConfig{
		CA: t.CA, Cert: t.Cert, Key: t.Key, CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile,
		ServerName: t.ServerName, InsecureSkipVerify: t.Insecure, MinVersion: t.MinVersion,
	}
}

// serverTLS gives what a listener needs; nil if nothing is set.
func serverTLS(t config.ServerTLS) (*tls.Config, error) {
	if reflect.ValueOf(t).IsZero() {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if ca := cmp.Or(t.ClientCA, t.CAFile); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		out.ClientCAs = x509.NewCertPool()
		if !out.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", ca)
		}
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	switch t.ClientAuth {
	case "":
	case "NoClientCert":
		out.ClientAuth = tls.NoClientCert
	case "RequestClientCert":
		out.ClientAuth = tls.RequestClientCert
	case "RequireAnyClientCert":
		out.ClientAuth = tls.RequireAnyClientCert
	case "VerifyClientCertIfGiven":
		out.ClientAuth = tls.VerifyClientCertIfGiven
	case "RequireAndVerifyClientCert":
		out.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, fmt.Errorf("client_auth_type: %q is not known", t.ClientAuth)
	}
	if t.MinVersion == "TLS13" || t.MinVersion == "VersionTLS13" {
		out.MinVersion = tls.VersionTLS13
	}
	return out, nil
}

// limiter is limits_config's rate, over all jobs and behind their pipelines.
type limiter struct {
	source.Sink
	rate, burst float64
	drop        bool
	limited     prometheus.Counter

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

// newLimiter puts a rate before a sink; a sink without a rate stays as it is.
func newLimiter(l config.Limits, s source.Sink, limited prometheus.Counter) source.Sink {
	if l.ReadRate <= 0 {
		return s
	}
	burst := float64(max(l.ReadBurst, 1))
	return &limiter{Sink: s, rate: l.ReadRate, burst: burst, drop: l.ReadRateDrop, limited: limited, tokens: burst, at: time.Now()}
}

func (l *limiter) refill() {
	now := time.Now()
	l.tokens = min(l.burst, l.tokens+l.rate*now.Sub(l.at).Seconds())
	l.at = now
}

// Add drops what is too much, or notes that it has to be waited for.
func (l *limiter) Add(ents []entry.Entry, files []positions.Position, cursor, at string) {
	l.mu.Lock()
	l.refill()
	if l.drop {
		if n := int(l.tokens); n < len(ents) {
			l.limited.Add(float64(len(ents) - max(n, 0)))
			ents = ents[:max(n, 0)]
		}
	}
	l.tokens -= float64(len(ents))
	l.mu.Unlock()
	l.Sink.Add(ents, files, cursor, at)
}

// Full is true while the rate is used up.
func (l *limiter) Full() bool {
	if !l.drop {
		l.mu.Lock()
		l.refill()
		empty := l.tokens < 0
		l.mu.Unlock()
		if empty {
			return true
		}
	}
	return l.Sink.Full()
}

// Room is closed when there is room.
func (l *limiter) Room() <-chan struct{} {
	l.mu.Lock()
	wait := time.Duration(-l.tokens / l.rate * float64(time.Second))
	l.mu.Unlock()
	if l.drop || wait <= 0 {
		return l.Sink.Room()
	}
	c := make(chan struct{})
	time.AfterFunc(wait, func() { close(c) })
	return c
}

// Sync passes on.
func (l *limiter) Sync(ctx context.Context) error { return l.Sink.Sync(ctx) }
