package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/source"
)

// newOther makes the source of a job that reads no files.
func newOther(j *job) (source.Source, error) {
	c := j.cfg
	switch {
	case c.Journal != nil:
		return source.NewJournal(j.hub, c.Journal), nil
	case c.Syslog != nil:
		tc, err := serverTLS(c.Syslog.TLS)
		if err != nil {
			return nil, err
		}
		return source.NewSyslog(j.hub, c.Syslog, tc)
	case c.Push != nil:
		tc, err := serverTLS(c.Push.Server.TLS)
		if err != nil {
			return nil, err
		}
		return source.NewPush(j.hub, c.Push, tc), nil
	case c.OTLP != nil:
		return source.NewOTLP(j.hub, c.OTLP), nil
	case c.GELF != nil:
		return source.NewGELF(j.hub, c.GELF), nil
	case len(c.Docker) > 0:
		return newDocker(j)
	}
	return nil, errors.New("no source is configured")
}

// sources are several that run together.
type sources []source.Source

// Run implements source.Source.
func (s sources) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(s))
	for _, one := range s {
		go func() { errs <- one.Run(ctx) }()
	}
	var first error
	for range s {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

func newDocker(j *job) (source.Source, error) {
	var (
		all  sources
		mu   sync.Mutex
		seen = map[string]int{}
		list []found
	)
	for i := range j.cfg.Docker {
		d := &j.cfg.Docker[i]
		hc, err := httpClient(d.HTTP)
		if err != nil {
			return nil, err
		}
		s, err := source.NewDocker(j.hub, d, hc, int(j.all.Read.MaxLine))
		if err != nil {
			return nil, err
		}
		s.OnFound = func(discovered, labels map[string]string, dropped string) {
			mu.Lock()
			defer mu.Unlock()
			f := found{Discovered: discovered, Labels: labels, Dropped: dropped}
			id := discovered["__meta_docker_container_id"]
			if at, ok := seen[id]; ok {
				list[at] = f
			} else if len(list) < 10_000 {
				seen[id] = len(list)
				list = append(list, f)
			}
			shown := append([]found(nil), list...)
			j.found.Store(&shown)
		}
		all = append(all, s)
	}
	return all, nil
}

// httpClient makes a client for an API, with what authenticates it.
func httpClient(h config.HTTPClient) (*http.Client, error) {
	tc, err := tlsConfig(h.TLS).Config()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	t.TLSClientConfig = tc
	t.ResponseHeaderTimeout = time.Minute
	return &http.Client{Transport: t}, nil
}
