package weirctl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/weir-logs/weir/libs/client"
)

const defaultAddr = "127.0.0.1:9095"

// server is the flags that say how to reach one.
type server struct {
	env           *Env
	addr, tenant  string
	timeout       duration
	tls, insecure bool
	caFile        string

	mu   sync.Mutex // guards told
	told time.Time  // when tellRetry last said something
}

// register adds the flags; what timeout limits is up to the command.
func (s *server) register(fs *pflag.FlagSet, env *Env, timeout time.Duration, limits string) {
	s.env, s.timeout = env, duration(timeout)
	addr := env.Getenv("WEIR_ADDR")
	if addr == "" {
		addr = defaultAddr
	}
	fs.StringVar(&s.addr, "addr", addr, "the server's gRPC address (or WEIR_ADDR)")
	fs.StringVar(&s.tenant, "tenant", env.Getenv("WEIR_TENANT"), "the tenant, where authentication is off (or WEIR_TENANT)")
	if limits != "" {
		fs.Var(&s.timeout, "timeout", limits+"; 0: for ever")
	}
	fs.BoolVar(&s.tls, "tls", false, "use TLS (default for all but loopback addresses)")
	fs.StringVar(&s.caFile, "tls-ca", "", "file with the certificates to trust (default: the system's)")
	fs.BoolVar(&s.insecure, "insecure", false, "do not use TLS")
}

func (s *server) dial() (*client.Client, error) {
	opts := []client.Option{client.WithTenant(s.tenant), client.WithUserAgent("weirctl/" + s.env.Version), client.WithTimeout(0)}
	if token := s.env.Getenv("WEIR_OPERATOR_TOKEN"); token != "" {
		opts = append(opts, client.WithDialOptions(grpc.WithPerRPCCredentials(operatorToken(token))))
	}
	switch {
	case s.insecure && (s.tls || s.caFile != ""):
		return nil, usagef("--insecure and --tls exclude each other")
	case s.insecure:
		opts = append(opts, client.WithInsecure())
	case s.tls || s.caFile != "":
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if s.caFile != "" {
			pem, err := os.ReadFile(s.caFile)
			if err != nil {
				return nil, fmt.Errorf("--tls-ca: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("--tls-ca: %s holds no certificate in PEM form", s.caFile)
			}
		}
		opts = append(opts, client.WithTLS(config))
	}
	return client.Dial(s.addr, opts...)
}

// operatorToken is shown with each call. It goes to the server that is asked, over TLS or on a
// connection that is to be without.
type operatorToken string

func (t operatorToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}
func (operatorToken) RequireTransportSecurity() bool { return false }

// limit returns a context that ends after the timeout.
func (s *server) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(s.timeout))
}

// call connects and lets fn talk to the server within the timeout. Errors are
// told in the terms of the command line; query is the text that a syntax error
// would be about.
func (s *server) call(ctx context.Context, query string, fn func(context.Context, *client.Client) error) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // there is nothing in flight
	ctx, cancel := s.limit(ctx)
	defer cancel()
	return s.translate(fn(ctx, c), query)
}

// callError is a failed call as the user is told of it.
type callError struct {
	text string
	err  error
}

func (e callError) Error() string { return e.text }
func (e callError) Unwrap() error { return e.err }

func (s *server) translate(err error, query string) error {
	var e *client.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.DeadlineExceeded) {
			return callError{fmt.Sprintf("not done within %s (--timeout allows more)", s.timeout.String()), err}
		}
		if errors.Is(err, context.Canceled) {
			return callError{"interrupted", err}
		}
		return err
	}
	text := e.Message
	switch {
	case e.Code == codes.Canceled:
		text = "interrupted"
	case e.Code == codes.DeadlineExceeded && e.Reason == "":
		text = fmt.Sprintf("no answer within %s from %s (--timeout allows more)", s.timeout.String(), s.addr)
	case e.Code == codes.Unavailable && e.Reason == "":
		text = fmt.Sprintf("cannot reach a Weir server at %s (--addr or WEIR_ADDR says where it is): %s", s.addr, dialError(e.Message))
	case e.Code == codes.Unimplemented && e.Reason == "":
		text = fmt.Sprintf("the server at %s does not know this call: %s", s.addr, e.Message)
	case e.Reason == "PARSE_ERROR":
		text += caret(query, e)
	}
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" (try again in %s)", e.RetryAfter)
	}
	return callError{text, err}
}

// dialError leaves out what gRPC wraps around the reason why it cannot connect.
func dialError(message string) string {
	if _, reason, ok := strings.Cut(message, "Error while dialing: "); ok {
		return strings.TrimSuffix(reason, `"`)
	}
	return message
}

// tellRetry says on standard error that a batch will be pushed again, and until when, once
// a second at most.
func (s *server) tellRetry(err *client.Error, wait time.Duration) {
	s.mu.Lock()
	now := s.env.Now()
	quiet := !s.told.IsZero() && now.Sub(s.told) < time.Second
	if !quiet {
		s.told = now
	}
	s.mu.Unlock()
	if quiet {
		return
	}
	until := "until it is interrupted"
	if s.timeout > 0 {
		until = fmt.Sprintf("for %s in all (--timeout)", s.timeout.String())
	}
	warn(s.env.Stderr, []string{fmt.Sprintf("%s; trying again in %s, %s", dialError(err.Message), wait.Round(time.Millisecond), until)})
}

var positionText = regexp.MustCompile(`line (\d+), col (\d+)`)

// caret shows where in the query an error is: the line, and a mark below it.
// Empty if the error does not say.
func caret(query string, e *client.Error) string {
	line, errLine := strconv.Atoi(e.Metadata["line"])
	col, errCol := strconv.Atoi(e.Metadata["col"])
	if errLine != nil || errCol != nil {
		m := positionText.FindStringSubmatch(e.Message)
		if m == nil {
			return ""
		}
		line, _ = strconv.Atoi(m[1])
		col, _ = strconv.Atoi(m[2])
	}
	lines := strings.Split(query, "\n")
	// A token that spans more than one scan is placed on line 0 of a query; in a
	// query of one line its column is good all the same.
	if line == 0 && len(lines) == 1 {
		line = 1
	}
	if line < 1 || line > len(lines) || col < 1 {
		return ""
	}
	text := []rune(lines[line-1])
	before := string(text[:min(col-1, len(text))])
	shown := func(s string) string {
		return string(appendSafe(nil, []byte(strings.ReplaceAll(s, "\t", "    ")), `\n`))
	}
	return fmt.Sprintf("\n  %s\n  %s^", shown(string(text)), strings.Repeat(" ", len([]rune(shown(before)))))
}

// describe makes an error safe to show.
func describe(err error) string {
	return string(appendSafe(nil, []byte(err.Error()), "\n"))
}
