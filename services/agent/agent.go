package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/deliver"
	"github.com/weir-logs/weir/services/agent/follow"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/source"
)

// Deps is what an Agent is given.
type Deps struct {
	// Log may be nil.
	Log *slog.Logger
	// Registry takes the metrics and is what /metrics shows. nil: a new one.
	Registry *prometheus.Registry
	// UserAgent names the program to the server, Version to users.
	UserAgent, Version string
	// Load reads the configuration again. nil: it cannot be reloaded.
	Load func() (*config.Config, error)
	// Stdin is what jobs read with target_config.stdin. nil: os.Stdin.
	Stdin *os.File
}

// Agent reads sources and pushes their lines.
type Agent struct {
	d       Deps
	log     *slog.Logger
	reg     *prometheus.Registry
	m       *metrics
	started time.Time
	lock    *os.File
	files   *follow.Budget // of the configuration that is built or runs
	reload  chan chan error

	running atomic.Bool
	mu      sync.Mutex // guards what follows
	cfg     *config.Config
	set     *set
}

// metrics are those that outlive a change of the configuration.
type metrics struct {
	deliver *deliver.Metrics
	follow  *follow.Metrics
	source  *source.Metrics
	reloads *prometheus.CounterVec
	limited prometheus.Counter
}

// set is what a configuration is run with.
type set struct {
	cfg      *config.Config
	delivery *deliver.Delivery
	jobs     []*job
	reloaded bool // not the one that the agent was started with
}

// Open makes an Agent of a checked configuration and loads the positions. It
// connects to nothing yet. Run or Close the Agent.
func Open(cfg *config.Config, d Deps) (_ *Agent, err error) {
	a := &Agent{d: d, log: d.Log, reg: d.Registry, cfg: cfg, started: time.Now(), reload: make(chan chan error)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.reg == nil {
		a.reg = prometheus.NewRegistry()
	}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	if file := cfg.Positions.File; file != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if a.lock, err = lockFile(file + ".lock"); err != nil {
			return nil, err
		}
	}
	with := promauto.With(a.reg)
	a.m = &metrics{
		deliver: deliver.NewMetrics(a.reg), follow: follow.NewMetrics(a.reg), source: source.NewMetrics(a.reg),
		reloads: with.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_agent_config_reloads_total", Help: "Attempts to reload the configuration.",
		}, []string{"result"}),
		limited: with.NewCounter(prometheus.CounterOpts{
			Name: "weir_agent_rate_limited_lines_total", Help: "Lines dropped or delayed by limits_config's rate.",
		}),
	}
	if a.set, err = a.build(cfg); err != nil {
		return nil, err
	}
	if err := a.reg.Register(targetCollector{a}); err != nil {
		return nil, err
	}
	return a, nil
}

// build makes what a configuration is run with.
func (a *Agent) build(cfg *config.Config) (*set, error) {
	dc, err := deliverConfig(cfg, a.d.UserAgent)
	if err != nil {
		return nil, err
	}
	s := &set{cfg: cfg}
	a.files = follow.NewBudget(cfg.Read.MaxOpenFiles)
	if s.delivery, err = deliver.Open(dc, a.log, a.m.deliver); err != nil {
		return nil, err
	}
	resume := s.delivery.Resume()
	if n := len(resume.Files) + len(resume.Cursors); n > 0 {
		a.log.Info("positions loaded", "file", cfg.Positions.File, "files", len(resume.Files), "cursors", len(resume.Cursors))
	}
	l := newLimiter(cfg.Limits, s.delivery, a.m.limited)
	for i := range cfg.Jobs {
		j, err := newJob(a, cfg, &cfg.Jobs[i], l, resume)
		if err != nil {
			_ = s.delivery.Close()
			return nil, fmt.Errorf("job %s: %w", cfg.Jobs[i].Name, err)
		}
		s.jobs = append(s.jobs, j)
	}
	return s, nil
}

// Run reads and pushes until ctx ends; then it sends what it has read, for at most
// the configured time, and saves the positions. It closes the Agent. With
// target_config.stdin it ends when the input does.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	if addr := a.cfg.Server.Listen; addr != "" {
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		srv := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: time.Minute}
		served := make(chan struct{})
		tc, err := serverTLS(a.cfg.Server.TLS)
		if err != nil {
			_ = lis.Close()
			return fmt.Errorf("server: %w", err)
		}
		srv.TLSConfig = tc
		go func() {
			defer close(served)
			serve := srv.Serve
			if tc != nil {
				serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
			}
			if err := serve(lis); !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("cannot serve metrics", "err", err)
			}
		}()
		defer func() { _ = srv.Close(); <-served }()
		a.log.Info("serving metrics", "address", lis.Addr().String())
	}
	for {
		s := a.current()
		again, err := a.runSet(ctx, s)
		if again == nil {
			return err
		}
		a.mu.Lock()
		a.set, a.cfg = again, again.cfg
		a.mu.Unlock()
	}
}

func (a *Agent) current() *set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set
}

// runSet runs until ctx ends or another configuration takes its place, which it
// returns.
func (a *Agent) runSet(ctx context.Context, s *set) (next *set, err error) {
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	left := make(chan uint64, 1)
	go func() { left <- s.delivery.Run(writing, sending) }()

	var wg sync.WaitGroup
	ended := make(chan struct{})
	fatal := make(chan error, len(s.jobs))
	for _, j := range s.jobs {
		wg.Go(func() {
			for {
				err := j.run(reading)
				if err == nil || reading.Err() != nil {
					return
				}
				if !s.reloaded {
					fatal <- fmt.Errorf("job %s: %w", j.cfg.Name, err)
					return
				}
				// What runs must not end by a mistake in a new configuration.
				a.log.Error("a job cannot run; trying again", "job", j.cfg.Name, "err", err)
				select {
				case <-time.After(5 * time.Second):
				case <-reading.Done():
				}
			}
		})
	}
	go func() { wg.Wait(); close(ended) }()
	a.running.Store(true)
	defer a.running.Store(false)

	var reloaded chan error
	var cfg *config.Config
wait:
	for {
		select {
		case <-ctx.Done():
			break wait
		case <-ended:
			break wait
		case err = <-fatal:
			break wait
		case reloaded = <-a.reload:
			if cfg, err = a.load(s.cfg); err == nil && cfg != nil {
				break wait
			}
			reloaded <- err
			err = nil
		}
	}
	stopReading()
	// What waits for room must not hold up the end: it was not taken, and will be
	// read again.
	timeout := s.cfg.ShutdownTimeout
	if cfg != nil {
		timeout = time.Second // the queue is kept
	}
	timer := time.AfterFunc(max(timeout, 10*time.Millisecond), stopSending)
	defer timer.Stop()
	<-ended
	stopWriting()
	n := <-left
	if cfg == nil {
		switch {
		case n == 0:
			a.log.Info("stopped")
		case s.cfg.Positions.File != "":
			a.log.Warn("stopped; the rest will be sent at the next start", "batches", n)
		default:
			a.log.Warn("stopped; lines were not sent", "batches", n)
		}
		return nil, err
	}
	_ = s.delivery.Close()
	next, err = a.build(cfg)
	if err != nil {
		a.log.Error("the new configuration cannot be run; going on with the old one", "err", err)
		a.m.reloads.WithLabelValues("failed").Inc()
		var oldErr error
		if next, oldErr = a.build(s.cfg); oldErr != nil {
			reloaded <- err
			return nil, errors.Join(err, oldErr)
		}
	} else {
		a.m.reloads.WithLabelValues("ok").Inc()
		a.log.Info("running with the new configuration")
	}
	next.reloaded = true
	reloaded <- err
	return next, nil
}

// load reads the configuration again. nil: it has not changed.
func (a *Agent) load(old *config.Config) (*config.Config, error) {
	if a.d.Load == nil {
		return nil, errors.New("this agent was started without a configuration file")
	}
	cfg, err := a.d.Load()
	if err == nil && cfg.Positions.File != old.Positions.File {
		err = errors.New("positions: the file cannot change without a restart")
	}
	if err == nil {
		err = a.check(cfg)
	}
	if err != nil {
		a.m.reloads.WithLabelValues("failed").Inc()
		a.log.Error("cannot reload the configuration; going on with the old one", "err", err)
		return nil, err
	}
	return cfg, nil
}

// check builds what can be built beside what runs.
func (a *Agent) check(cfg *config.Config) error {
	dc, err := deliverConfig(cfg, a.d.UserAgent)
	if err != nil {
		return err
	}
	if err := deliver.Check(dc); err != nil {
		return err
	}
	for i := range cfg.Jobs {
		if _, err := newJob(a, cfg, &cfg.Jobs[i], nil, positions.Snapshot{}); err != nil {
			return fmt.Errorf("job %s: %w", cfg.Jobs[i].Name, err)
		}
	}
	return nil
}

// Reload reads the configuration again and goes on with it. Nothing is lost by
// that; if it cannot be run, the old one stays and the error says why. It waits
// for Run.
func (a *Agent) Reload(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case a.reload <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close gives back what Open has opened. After Run it does nothing.
func (a *Agent) Close() error {
	var errs []error
	if s := a.current(); s != nil {
		errs = append(errs, s.delivery.Close())
		a.mu.Lock()
		a.set = nil
		a.mu.Unlock()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
		a.lock = nil
	}
	return errors.Join(errs...)
}

// Ready says why the agent does not do its work: nil if it does.
func (a *Agent) Ready() error {
	s := a.current()
	if !a.running.Load() || s == nil {
		return errors.New("not running")
	}
	return s.delivery.Trouble()
}
