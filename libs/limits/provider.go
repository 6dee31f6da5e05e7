package limits

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/tenant"
)

// MaxOverridesFile is the largest overrides file in bytes.
const MaxOverridesFile = 16 << 20

// Config is the configuration of limits: the defaults of all tenants and where exceptions are.
type Config struct {
	Limits

	Tenants map[string]conf.Raw `help:"Limits of single tenants: a map of tenant to those keys of this section that differ."`

	OverridesFile  string        `help:"YAML file with further limits of single tenants under the key tenants, read again when it changes. It wins over tenants here."`
	ReloadInterval time.Duration `help:"How often the overrides file is looked at."`
}

// DefaultConfig returns the configuration without any exceptions.
func DefaultConfig() Config {
	return Config{Limits: Default(), ReloadInterval: 10 * time.Second}
}

// Validate returns all problems, those of the tenants' limits too. The overrides file is read by
// NewProvider, not here.
func (c Config) Validate() error {
	problems := []error{c.Limits.Validate()}
	if c.ReloadInterval < time.Second {
		problems = append(problems, errors.New("reload_interval must be at least 1s"))
	}
	_, err := overrides(c.Tenants, c.Limits)
	return errors.Join(append(problems, err)...)
}

// overrides decodes each tenant's limits onto base.
func overrides(raw map[string]conf.Raw, base Limits) (map[string]Limits, error) {
	all := make(map[string]Limits, len(raw))
	var problems []error
	for id, r := range raw {
		l := base
		err := tenant.Validate(id)
		if err == nil {
			err = r.Decode(&l)
		}
		if err == nil {
			err = l.Validate()
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("tenant %q: %w", id, err))
		}
		all[id] = l
	}
	// A map's order differs from run to run, the report should not.
	slices.SortFunc(problems, func(a, b error) int {
		if a.Error() < b.Error() {
			return -1
		}
		return 1
	})
	return all, errors.Join(problems...)
}

// Provider tells the limits of tenants. It is safe for concurrent use.
type Provider struct {
	cfg     Config
	log     *slog.Logger
	metrics *providerMetrics
	current atomic.Pointer[map[string]Limits]

	mu   sync.Mutex // guards seen and serialises reloads
	seen [sha256.Size]byte
}

type providerMetrics struct {
	reloads *prometheus.CounterVec
	tenants prometheus.Gauge
	healthy prometheus.Gauge
}

func newProviderMetrics(reg prometheus.Registerer) *providerMetrics {
	f := promauto.With(reg)
	m := &providerMetrics{
		reloads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_limits_reloads_total", Help: "Times that a changed overrides file was read, by result.",
		}, []string{"result"}),
		tenants: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_limits_tenants", Help: "Tenants with limits of their own.",
		}),
		healthy: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_limits_reload_healthy", Help: "1 if the overrides in force are those of the file, 0 if the file could not be read last time.",
		}),
	}
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	return m
}

// NewProvider returns a Provider of cfg, which is valid, and reads the overrides file: one that
// cannot be read is an error here and only here. reg may be nil.
func NewProvider(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Provider, error) {
	p := &Provider{cfg: cfg, log: log, metrics: newProviderMetrics(reg)}
	if _, err := p.reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// For returns the limits of a tenant. It neither locks nor allocates.
func (p *Provider) For(tenant string) Limits {
	if l, ok := (*p.current.Load())[tenant]; ok {
		return l
	}
	return p.cfg.Limits
}

// Reload reads the overrides file at once, whether it changed or not. On error the limits in
// force stay.
func (p *Provider) Reload() error {
	_, err := p.reload()
	return err
}

// Run looks at the overrides file every reload_interval until ctx is done, and returns nil then.
// A file that cannot be read or is wrong leaves the limits in force; it is logged once per change.
func (p *Provider) Run(ctx context.Context) error {
	if p.cfg.OverridesFile == "" {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(p.cfg.ReloadInterval)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		changed, err := p.reload()
		switch {
		case err != nil && err.Error() != last:
			p.log.Warn("limits were not reloaded, the old ones stay in force", "file", p.cfg.OverridesFile, "err", err)
			last = err.Error()
		case err == nil && changed:
			p.log.Info("limits reloaded", "file", p.cfg.OverridesFile)
			last = ""
		}
	}
}

// reload reads the file and reports whether its content is new. Contents are compared rather than
// times of modification: a mounted Kubernetes ConfigMap swaps a symlink, and a copy may keep an
// old time.
func (p *Provider) reload() (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var data []byte
	if p.cfg.OverridesFile != "" {
		if data, err = readFile(p.cfg.OverridesFile); err != nil {
			p.metrics.healthy.Set(0)
			return false, fmt.Errorf("limits: %w", err)
		}
	}
	sum := sha256.Sum256(data)
	if p.current.Load() != nil && sum == p.seen {
		p.metrics.healthy.Set(1)
		return false, nil
	}
	all, err := p.decode(data)
	if err != nil {
		p.metrics.reloads.WithLabelValues("failure").Inc()
		p.metrics.healthy.Set(0)
		return false, err
	}
	p.seen = sum
	p.current.Store(&all)
	p.metrics.reloads.WithLabelValues("success").Inc()
	p.metrics.healthy.Set(1)
	p.metrics.tenants.Set(float64(len(all)))
	return true, nil
}

func (p *Provider) decode(data []byte) (map[string]Limits, error) {
	all, err := overrides(p.cfg.Tenants, p.cfg.Limits)
	if err != nil {
		return nil, err
	}
	var file struct{ Tenants map[string]conf.Raw }
	if err := conf.DecodeYAML(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", p.cfg.OverridesFile, err)
	}
	more, err := overrides(file.Tenants, p.cfg.Limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.cfg.OverridesFile, err)
	}
	for id, l := range more {
		all[id] = l
	}
	return all, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, MaxOverridesFile+1))
	if err == nil && len(data) > MaxOverridesFile {
		err = fmt.Errorf("%s is larger than %s", name, conf.ByteSize(MaxOverridesFile))
	}
	return data, err
}
