package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/node"
)

// parseBool reads what a switch is set to.
func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("neither true nor false")
	}
	return b, nil
}

// configFlags defines the flags that stand for one key of the configuration, over
// which they win.
func configFlags(on, onBool func(name, about string, set func(c *config.Config, v string) error)) {
	duration := func(name, about string, at func(c *config.Config) *time.Duration) {
		on(name, about, func(c *config.Config, v string) (err error) {
			*at(c), err = node.ParseDuration(v)
			return err
		})
	}
	yes := func(name, about string, at func(c *config.Config) *bool) {
		onBool(name, about, func(c *config.Config, v string) (err error) {
			*at(c), err = parseBool(v)
			return err
		})
	}
	number := func(name, about string, at func(c *config.Config) *int) {
		on(name, about, func(c *config.Config, v string) (err error) {
			if *at(c), err = strconv.Atoi(v); err != nil {
				return errors.New("not a whole number")
			}
			return nil
		})
	}
	listen := func(isPort bool) func(c *config.Config, v string) error {
		return func(c *config.Config, v string) error {
			host, port, err := net.SplitHostPort(c.Server.Listen)
			if err != nil {
				host, port = "", "80"
			}
			if !isPort {
				host = v
			} else if _, err := strconv.ParseUint(v, 10, 16); err != nil {
				return fmt.Errorf("%q is no port", v)
			} else {
				port = v
			}
			c.Server.Listen = net.JoinHostPort(host, port)
			return nil
		}
	}
	on("listen", "serve pages, /metrics and /ready on `ADDR`", func(c *config.Config, v string) error { c.Server.Listen = v; return nil })
	on("server.http-listen-address", "listen on `HOST`", listen(false))
	on("server.http-listen-port", "listen on `PORT`", listen(true))
	onBool("server.disable", "no listener", func(c *config.Config, v string) error {
		off, err := parseBool(v)
		if off {
			c.Server.Listen = ""
		}
		return err
	})
	ignored := func(*config.Config, string) error { return nil }
	for _, name := range []string{"server.grpc-listen-address", "server.grpc-listen-port"} {
		on(name, "accepted, does nothing", ignored)
	}
	for _, name := range []string{"server.register-instrumentation", "tracing.enabled"} {
		onBool(name, "accepted, does nothing", ignored)
	}
	on("server.path-prefix", "`PREFIX` of all paths", func(c *config.Config, v string) error { c.Server.PathPrefix = v; return nil })
	on("server.external-url", "`URL` by which users reach the listener", func(c *config.Config, v string) error { c.Server.ExternalURL = v; return nil })
	yes("server.enable-runtime-reload", "serve /reload", func(c *config.Config) *bool { return &c.Server.EnableReload })
	yes("server.profiling-enabled", "serve /debug/pprof", func(c *config.Config) *bool { return &c.Server.Profiling })

	for _, name := range []string{"positions.file", "positions"} {
		on(name, "remember in `FILE` how far sources were sent", func(c *config.Config, v string) error { c.Positions.File = v; return nil })
	}
	duration("positions.sync-period", "how often positions are saved, a `DURATION`", func(c *config.Config) *time.Duration { return &c.Positions.SaveInterval })
	yes("positions.ignore-invalid-yaml", "begin anew if the positions file is damaged", func(c *config.Config) *bool { return &c.Positions.IgnoreInvalid })
	duration("target.sync-period", "how often files are looked for, a `DURATION`", func(c *config.Config) *time.Duration { return &c.Target.SyncPeriod })
	duration("file-watch.min-poll-frequency", "how often a growing file is looked at, a `DURATION`", func(c *config.Config) *time.Duration { return &c.Watch.MinPoll })
	duration("file-watch.max-poll-frequency", "how often an idle file is looked at, a `DURATION`", func(c *config.Config) *time.Duration { return &c.Watch.MaxPoll })
	onBool("limit.readline-rate-enabled", "bound the rate of lines", func(c *config.Config, v string) error {
		yes, err := parseBool(v)
		if c.Limits.ReadRateDeclared = yes; !yes {
			c.Limits.ReadRate = 0
		} else if c.Limits.ReadRate == 0 {
			c.Limits.ReadRate = 10_000
		}
		return err
	})
	on("limit.readline-rate", "`LINES` a second", func(c *config.Config, v string) (err error) {
		if c.Limits.ReadRate, err = strconv.ParseFloat(v, 64); err != nil {
			return errors.New("not a number")
		}
		return nil
	})
	number("limit.readline-burst", "`LINES` at once", func(c *config.Config) *int { return &c.Limits.ReadBurst })
	yes("limit.readline-rate-drop", "drop what is beyond the rate", func(c *config.Config) *bool { return &c.Limits.ReadRateDrop })
	number("max-streams", "the largest `NUMBER` of streams", func(c *config.Config) *int { return &c.Limits.MaxStreams })
	on("max-line-size", "the longest line, a `SIZE` like 256kb", func(c *config.Config, v string) (err error) {
		c.Limits.MaxLine, err = node.ParseBytes(v)
		return err
	})
	yes("max-line-size-truncate", "cut longer lines instead of dropping them", func(c *config.Config) *bool { return &c.Limits.MaxLineTruncate })
}
