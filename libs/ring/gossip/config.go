package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/ring"
)

// Config configures a Node. Start from DefaultConfig.
type Config struct {
	// Self is the process's own record. Version and ChangedMillis are set by the
	// Node. State is the one to start with, Joining or Active; an ingester that
	// starts Joining and was active before on the same data directory is Active
	// at once: it kept its place.
	Self ring.Member
	// Ring is the placement configuration of the cluster.
	Ring ring.Config
	// Bind is the host:port of the gossip listener, both UDP and TCP. The host is
	// an IP address or localhost; port 0 takes a free one.
	Bind string
	// Advertise is the IP or IP:port at which the others reach the listener. If
	// empty it is Bind, or the first private address where that is unspecified.
	Advertise string
	// Join are host:port addresses of other members. A name is resolved to all of
	// its addresses, each time anew.
	Join []string
	// Label keeps clusters apart: packets with another label are dropped.
	Label string
	// SecretKey of 16, 24 or 32 bytes encrypts gossip (AES-GCM). It is mandatory
	// where Bind is not a loopback address, unless Insecure is set.
	SecretKey []byte
	// Insecure permits gossip in the clear beyond loopback.
	Insecure bool
	// TablePath is the file that keeps the table over restarts. If empty it is
	// not kept, which is right for members that store nothing.
	TablePath string
	Timing    Timing
}

// Timing holds the intervals of the protocol.
type Timing struct {
	// Probe is how often one other member is probed, ProbeTimeout how long its
	// answer is waited for. A member that answers neither directly nor through
	// others for about four probe intervals is unhealthy.
	Probe, ProbeTimeout time.Duration
	// Gossip is how often packets with news are sent.
	Gossip time.Duration
	// PushPull is how often a whole table is exchanged with one other member.
	PushPull time.Duration
	// Rejoin is how often join addresses that are not members are tried.
	Rejoin time.Duration
	// Reclaim is how long a member must have been dead before its name may come
	// back at another address. One that stopped in good order may at once.
	Reclaim time.Duration
	// Stream bounds each operation over TCP.
	Stream time.Duration
	// Absent is how long a member that stores nothing may be away before it is
	// forgotten, and how long its tombstone is kept.
	Absent time.Duration
}

// DefaultConfig returns a Config that is valid once Self is set.
func DefaultConfig() Config {
	return Config{
		Ring:  ring.Config{ReplicationFactor: 3, ZoneAware: true},
		Bind:  "127.0.0.1:7946",
		Label: "weir",
		Timing: Timing{
			Probe:        time.Second,
			ProbeTimeout: 500 * time.Millisecond,
			Gossip:       200 * time.Millisecond,
			PushPull:     10 * time.Second,
			Rejoin:       5 * time.Second,
			Reclaim:      5 * time.Second,
			Stream:       3 * time.Second,
			Absent:       24 * time.Hour,
		},
	}
}

// Validate returns everything that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	add(c.Self.Validate())
	if c.Self.State != ring.Joining && c.Self.State != ring.Active {
		add(fmt.Errorf("gossip: a member cannot start %s", c.Self.State))
	}
	add(c.Ring.Validate())
	ip, _, err := splitIP(c.Bind)
	switch n := len(c.SecretKey); {
	case err != nil:
		add(fmt.Errorf("gossip: listen address %q: %w", c.Bind, err))
	case n != 0 && n != 16 && n != 24 && n != 32:
		add(fmt.Errorf("gossip: secret key has %d bytes: want 16, 24 or 32", n))
	case n == 0 && !ip.IsLoopback() && !c.Insecure:
		add(fmt.Errorf("gossip: listening on %s, beyond loopback, needs a secret key", c.Bind))
	}
	if c.Advertise != "" {
		if _, _, err := c.advertise(); err != nil {
			add(fmt.Errorf("gossip: advertised address %q: %w", c.Advertise, err))
		}
	}
	for _, addr := range c.Join {
		host, port, err := net.SplitHostPort(addr)
		if err == nil && host == "" {
			err = errors.New("no host")
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			add(fmt.Errorf("gossip: join address %q: want host:port: %w", addr, err))
		}
	}
	if c.Label == "" || len(c.Label) > memberlist.LabelMaxSize {
		add(fmt.Errorf("gossip: cluster label has %d bytes: want 1 to %d", len(c.Label), memberlist.LabelMaxSize))
	}
	t := c.Timing
	for _, d := range []time.Duration{t.Probe, t.ProbeTimeout, t.Gossip, t.PushPull, t.Rejoin, t.Reclaim, t.Stream, t.Absent} {
		if d <= 0 {
			add(errors.New("gossip: every interval must be positive"))
			break
		}
	}
	return errors.Join(errs...)
}

// advertise returns the parts of Advertise; port 0 means that of Bind.
func (c *Config) advertise() (ip net.IP, port int, err error) {
	if ip := net.ParseIP(c.Advertise); ip != nil {
		return ip, 0, nil
	}
	return splitIP(c.Advertise)
}

func splitIP(addr string) (net.IP, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, 0, err
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, 0, fmt.Errorf("%q is not an IP address", host)
	}
	return ip, int(n), nil
}

// Resolver finds the addresses of a host name. *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Deps are the collaborators of a Node. The zero Deps works.
type Deps struct {
	Log      *slog.Logger          // nil: silent
	Reg      prometheus.Registerer // nil: count, publish nothing
	Now      func() time.Time      // nil: time.Now
	Resolver Resolver              // nil: net.DefaultResolver
}

func (d *Deps) fill() {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Resolver == nil {
		d.Resolver = net.DefaultResolver
	}
}
