// Command weir runs the services of a Weir cluster: all in one process, or some.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/weir"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "weir:", err)
		os.Exit(exitCode(err))
	}
}

// exitCode is 2 for a wrong command line or configuration, 75 (EX_TEMPFAIL) for what
// a restart mends, else 1.
func exitCode(err error) int {
	switch {
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, weir.ErrRestart):
		return 75
	}
	return 1
}

// errUsage marks errors in the configuration.
var errUsage = errors.New("weir --help lists the settings")

func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "healthcheck" {
		return weir.HealthCheck(ctx, args[1:])
	}
	cfg := weir.DefaultConfig()
	set, err := weir.Settings(&cfg)
	if err != nil {
		return err
	}
	action, err := set.Load(args, env)
	if err != nil {
		return fmt.Errorf("%w\n%w", err, errUsage)
	}
	switch action {
	case conf.Help:
		return set.Usage(stdout)
	case conf.Version:
		_, err := fmt.Fprintln(stdout, weir.CurrentBuild())
		return err
	case conf.PrintConfig:
		return set.Print(stdout)
	}
	p, err := weir.NewProcess(ctx, cfg, weir.CurrentBuild(), set.Print, stderr)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}
