package serve

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/conf"
)

// Config is the configuration of a process's doors.
type Config struct {
	Listen      string `help:"Address of the HTTP port: REST, Loki API, gRPC, operations."`
	GRPCListen  string `help:"Address of the gRPC port, which services and agents use."`
	DebugListen string `help:"Loopback address of the profiling port (pprof). Empty: off."`

	TLSCertFile     string `help:"Certificate of both ports, PEM. Read again when it changes. Empty: no TLS."`
	TLSKeyFile      string `help:"Key of the certificate, PEM."`
	TLSCAFile       string `yaml:"tls_ca_file" help:"Certificates of the authorities that signed those of the other members, PEM. Empty: those of the system."`
	TLSClientCAFile string `yaml:"tls_client_ca_file" help:"Certificates of the authorities that sign those of members, and nobody else's, PEM. With it what members call each other is refused to callers without such a certificate, and this process shows its own, which must be good for clients and servers. Needed beyond loopback in a cluster with TLS."`
	InsecureNetwork bool   `help:"Allow ports without TLS beyond loopback. Only for networks that nobody else is on."`

	OperatorToken conf.Secret `help:"What operators' calls (flush, compact, forget, leave, acknowledge, log level) have to show besides coming from this machine, as Authorization: Bearer TOKEN; weirctl has it from WEIR_OPERATOR_TOKEN. Set it where a proxy runs on this machine. Empty: none."`

	MaxConnections int           `help:"Most connections of each port at once."`
	MaxInFlight    int           `help:"Most requests that are served at once, live tails apart; those beyond are answered 503."`
	MaxMessageSize conf.ByteSize `help:"Largest gRPC message once decompressed."`
	DrainTimeout   time.Duration `help:"Longest time that a stopping process waits for its requests and modules."`
}

// DefaultConfig listens on loopback only.
func DefaultConfig() Config {
	return Config{
		Listen:         "127.0.0.1:3100",
		GRPCListen:     "127.0.0.1:9095",
		MaxConnections: 1024,
		MaxInFlight:    1024,
		MaxMessageSize: 16 * conf.MiB,
		DrainTimeout:   30 * time.Second,
	}
}

// Bounds of the protocols that nobody needs to configure.
const (
	maxConcurrentStreams = 250
	maxHeaderBytes       = 64 << 10
	readHeaderTimeout    = 5 * time.Second
	idleTimeout          = 60 * time.Second
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 30 * time.Second
	// bodyGrace and bodyRate (bytes a second) bound how slowly a body may come.
	bodyGrace = 10 * time.Second
	bodyRate  = 1 << 10
	// streamGrace is how long streams may go on once the process stops.
	streamGrace = 5 * time.Second
)

// Validate returns all problems.
func (c Config) Validate() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		fail("tls_cert_file and tls_key_file go together: set both or none")
	}
	if c.TLSClientCAFile != "" && c.TLSCertFile == "" {
		fail("tls_client_ca_file needs tls_cert_file and tls_key_file")
	}
	for _, a := range []struct{ key, address string }{{"listen", c.Listen}, {"grpc_listen", c.GRPCListen}} {
		loopback, err := isLoopback(a.address)
		switch {
		case err != nil:
			fail("%s: %w", a.key, err)
		case !loopback && c.TLSCertFile == "" && !c.InsecureNetwork:
			fail("%s: %s is reachable from other machines and has no TLS: set tls_cert_file and tls_key_file, or insecure_network (--insecure-network) on a private network", a.key, a.address)
		}
	}
	if c.DebugListen != "" {
		if loopback, err := isLoopback(c.DebugListen); err != nil {
			fail("debug_listen: %w", err)
		} else if !loopback {
			fail("debug_listen: %s is not a loopback address; profiles show memory", c.DebugListen)
		}
	}
	if n := len(c.OperatorToken.Reveal()); n > 0 && n < 16 {
		fail("operator_token has %d bytes, must have at least 16", n)
	}
	if c.MaxConnections < 1 {
		fail("max_connections must be at least 1")
	}
	if c.MaxInFlight < 1 {
		fail("max_in_flight must be at least 1")
	}
	if c.MaxMessageSize < conf.KiB || c.MaxMessageSize > 1*conf.GiB {
		fail("max_message_size must be between 1KiB and 1GiB")
	}
	if c.DrainTimeout < time.Second {
		fail("drain_timeout must be at least 1s")
	}
	return errors.Join(problems...)
}

// MembersKnown reports whether callers of the gRPC port that are no members can be told from those
// that are, or cannot reach it: it is on loopback, on a network that nobody else is on, or members
// have certificates.
func (c Config) MembersKnown() bool {
	loopback, err := isLoopback(c.GRPCListen)
	return err != nil || loopback || c.InsecureNetwork || c.TLSClientCAFile != ""
}

// isLoopback reports whether only this machine reaches address, which is host:port. A name other
// than localhost counts as reachable by others, since it may resolve to anything.
func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q is not of the form host:port", address)
	}
	if strings.EqualFold(host, "localhost") {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}
