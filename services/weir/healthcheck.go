package weir

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// HealthCheck asks a process whether it is ready: the health check of containers
// that hold nothing but this program.
func HealthCheck(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("weir healthcheck", flag.ContinueOnError)
	url := fs.String("url", "http://127.0.0.1:3100/ready", "what to ask")
	timeout := fs.Duration("timeout", 3*time.Second, "how long to wait for the answer")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp): // is printed
		return nil
	case err != nil:
		return err
	}
	switch {
	case fs.NArg() > 0:
		return fmt.Errorf("healthcheck: unexpected argument %q", fs.Arg(0))
	case *timeout <= 0:
		return fmt.Errorf("healthcheck: --timeout %s: must be more than 0", *timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, *url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // for the message only
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
