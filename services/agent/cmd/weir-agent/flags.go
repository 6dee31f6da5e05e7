package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

func newFlags(stdout io.Writer, text string) (*flag.FlagSet, func()) {
	fs := flag.NewFlagSet("weir-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {} // for a mistake: the error says enough
	help := func() {
		fmt.Fprint(stdout, text)
		fs.VisitAll(func(f *flag.Flag) {
			name, about := flag.UnquoteUsage(f)
			if name != "" {
				name = " " + name
			}
			def := ""
			if f.DefValue != "" && f.DefValue != "false" {
				def = fmt.Sprintf(" (default %s)", f.DefValue)
			}
			fmt.Fprintf(stdout, "  --%-22s %s%s\n", f.Name+name, about, def)
		})
	}
	return fs, help
}

// parseError tells a call for help, which it answers, from a mistake.
func parseError(err error, help func()) error {
	if errors.Is(err, flag.ErrHelp) {
		help()
		return err
	}
	return usageError{err}
}

// labelFlag collects NAME=VALUE.
type labelFlag map[string]string

func (l labelFlag) String() string { return "" }

func (l labelFlag) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("not NAME=VALUE")
	}
	if _, twice := l[name]; twice {
		return fmt.Errorf("label %s twice", name)
	}
	l[name] = value
	return nil
}

func versionText() string {
	text := version
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				text += " " + s.Value
			}
		}
		text += " " + info.GoVersion
	}
	return text
}
