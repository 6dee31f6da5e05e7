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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/follow"
)

// Deps is what an Agent is given.
type Deps struct {
	// Log may be nil.
	Log *slog.Logger
	// Registry takes the metrics and is what /metrics shows. nil: a new one.
	Registry *prometheus.Registry
	// UserAgent names the program to the server.
	UserAgent string
}

// Agent follows files and pushes their lines.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	reg      *prometheus.Registry
	client   *client.Client
	delivery *delivery
	batcher  *batcher
	follower *follow.Follower
	lock     *os.File
	running  atomic.Bool
}

// New checks the configuration and loads the positions. It connects to nothing
// yet. Run or Close the Agent.
func New(cfg Config, d Deps) (_ *Agent, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, log: d.Log, reg: d.Registry}
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
	opts := []client.Option{
		client.WithTenant(cfg.Server.Tenant),
		client.WithBackoff(client.Backoff{Min: cfg.Server.MinBackoff, Max: cfg.Server.MaxBackoff}),
	}
	if d.UserAgent != "" {
		opts = append(opts, client.WithUserAgent(d.UserAgent))
	}
	if cfg.Server.Insecure {
		opts = append(opts, client.WithInsecure())
	}
	tlsConfig, err := cfg.Server.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("server.tls: %w", err)
	}
	if tlsConfig != nil {
		opts = append(opts, client.WithTLS(tlsConfig))
	}
	if a.client, err = client.Dial(cfg.Server.Address, opts...); err != nil {
		return nil, err
	}
	if file := cfg.Positions.File; file != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if a.lock, err = lockFile(file + ".lock"); err != nil {
			return nil, err
		}
	}
	m := newMetrics(a.reg)
	dl, resume, err := openDelivery(cfg, a.client, a.log, m)
	if err != nil {
		return nil, err
	}
	a.delivery = dl
	a.batcher = newBatcher(cfg, dl, resume.Seq, resume.Last)
	fc := follow.Config{
		MaxLine: int(cfg.Read.MaxLine), Poll: cfg.Read.PollInterval, Scan: cfg.Read.ScanInterval,
		Grace: cfg.Read.RotateGrace, Partial: cfg.Read.PartialWait, NoEvents: cfg.Read.NoEvents,
	}
	for _, f := range cfg.Files {
		fc.Groups = append(fc.Groups, follow.Group{Paths: f.Paths, Exclude: f.Exclude, FromEnd: f.Start == "end"})
	}
	a.follower = follow.New(fc, a.batcher, resume.Files, a.log, a.reg)
	return a, nil
}

// Run follows and pushes until ctx ends; then it sends what it has read, for at
// most the configured time, and saves the positions. It closes the Agent.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	if a.cfg.Listen != "" {
		lis, err := net.Listen("tcp", a.cfg.Listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		srv := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 30 * time.Second}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if err := srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("cannot serve metrics", "err", err)
			}
		}()
		defer func() { _ = srv.Close(); <-served }()
		a.log.Info("serving metrics", "address", lis.Addr().String())
	}

	// The sender outlives ctx by the time that it has to finish.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	left := make(chan int, 1)
	go func() { left <- a.delivery.run(sending) }()

	a.running.Store(true)
	a.follower.Run(ctx)
	a.running.Store(false)

	a.log.Info("stopping", "timeout", a.cfg.ShutdownTimeout)
	timeout := time.AfterFunc(a.cfg.ShutdownTimeout, stop)
	defer timeout.Stop()
	a.finish(sending)
	close(a.delivery.queue)
	switch n := <-left; {
	case n == 0:
		a.log.Info("stopped")
	case a.cfg.Positions.File != "":
		a.log.Warn("stopped; the rest will be sent at the next start", "lines", n)
	default:
		a.log.Warn("stopped; lines were not sent", "lines", n)
	}
	return nil
}

// finish seals what has been collected. Where there is no room in time, it is
// left: it was not acknowledged and will be read again.
func (a *Agent) finish(ctx context.Context) {
	for !a.batcher.seal() {
		select {
		case <-a.delivery.spaceCh:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	if a.batcher.entries > 0 { // an older batch was waiting before it
		a.batcher.seal()
	}
}

// Close gives back what New has opened. After Run it does nothing.
func (a *Agent) Close() error {
	var errs []error
	if a.client != nil {
		errs = append(errs, a.client.Close())
		a.client = nil
	}
	if a.delivery != nil {
		errs = append(errs, a.delivery.close())
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
		a.lock = nil
	}
	return errors.Join(errs...)
}

// Ready says why the agent does not do its work: nil if it does.
func (a *Agent) Ready() error {
	if !a.running.Load() {
		return errors.New("not running")
	}
	return a.delivery.errTrouble()
}

// Handler serves /metrics and /ready.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := a.Ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "not ready: %v\n", err)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}
