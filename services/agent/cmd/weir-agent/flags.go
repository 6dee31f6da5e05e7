package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
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
func parseError(fs *flag.FlagSet, err error, help func()) error {
	if errors.Is(err, flag.ErrHelp) {
		help()
		return err
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return usageError{fmt.Errorf("unknown flag --%s", strings.TrimPrefix(name, "-"))}
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return usageError{fmt.Errorf("--%s needs a value", name)}
	}
	m := badValue.FindStringSubmatch(text)
	if m == nil {
		return usageError{err}
	}
	why := m[3]
	if f, ok := fs.Lookup(m[2]).Value.(flag.Getter); ok {
		switch f.Get().(type) {
		case time.Duration:
			why = "not a duration, such as 30s or 5m"
		case int:
			why = "not a whole number"
		case bool:
			why = "neither true nor false"
		}
	}
	return usageError{fmt.Errorf("--%s %s: %s", m[2], m[1], why)}
}

// badValue is how package flag tells of a value that a flag does not take.
var badValue = regexp.MustCompile(`^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-([^:]+): (.*)$`)

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
