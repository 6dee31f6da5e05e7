package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent"
	"github.com/weir-logs/weir/services/agent/config"
	files "github.com/weir-logs/weir/services/agent/follow"
)

const tailUsage = `weir-agent tail follows files, existing or not yet, as tail -F does, and pushes
their lines. FILE may be a pattern (quote it) with * ? [] {a,b} and **.

It begins at the end of the files that are there, and at the beginning of those
that come later. With --positions it remembers how far it came, and goes on there
the next time; without, nothing is kept on disk. Of a FILE that is not there, or a
pattern that nothing matches, it says so, and waits.

Usage:
  weir-agent tail [flags] FILE...

Example:
  weir-agent tail /var/log/nginx/access.log --label app=nginx

Flags:
`

func tail(ctx context.Context, p *program, args []string) error {
	o, err := parseTail(args, p.getenv, p.out)
	if err != nil {
		return err
	}
	log, err := p.logger(o.logLevel, "logfmt")
	if err != nil {
		return err
	}
	a, err := agent.Open(o.cfg, agent.Deps{Log: log, Registry: p.registry(), UserAgent: "weir-agent/" + version, Version: version})
	if err != nil {
		return err
	}
	p.tellMissing(o.cfg.Jobs[0].Static[0].Paths)
	return a.Run(ctx)
}

// tellMissing says which of the files are not there yet, before they are waited for.
func (p *program) tellMissing(paths []string) {
	for _, path := range paths {
		if found, _ := (&files.Group{Paths: []string{path}}).Files(); len(found) > 0 {
			continue
		}
		text := path + " does not exist: waiting for it"
		st, err := os.Stat(path)
		switch {
		case err == nil && st.IsDir():
			text = fmt.Sprintf("%s is a folder, and nothing is followed: name the files in it, as '%s'", path, filepath.Join(path, "*"))
		case err == nil:
			text = path + " is no regular file, and is not followed"
		case !errors.Is(err, fs.ErrNotExist):
			text = fmt.Sprintf("%v: waiting for it", err)
		case strings.ContainsAny(path, "*?[{"):
			text = "no file matches " + path + ": waiting for one"
		}
		fmt.Fprintln(p.err, "weir-agent:", text)
	}
}

// tailOptions is what the command line asks for.
type tailOptions struct {
	cfg      *config.Config
	logLevel string
}

func parseTail(args []string, getenv func(string) string, stdout io.Writer) (o tailOptions, err error) {
	fs, help := newFlags(stdout, tailUsage)
	server := "127.0.0.1:9095"
	if v := getenv("WEIR_ADDR"); v != "" {
		server = v
	}
	// What the flags say, as a configuration would.
	var c struct {
		Server struct {
			Address  string `yaml:"address"`
			Tenant   string `yaml:"tenant,omitempty"`
			Insecure bool   `yaml:"insecure,omitempty"`
		} `yaml:"server"`
		FilenameLabel string `yaml:"filename_label"`
		Positions     struct {
			File string `yaml:"file"`
		} `yaml:"positions"`
		Listen string           `yaml:"listen"`
		Files  []map[string]any `yaml:"files"`
	}
	labels := labelFlag{}
	fs.Var(labels, "label", "label of the streams, as `NAME=VALUE`; may be repeated")
	fs.StringVar(&c.Server.Address, "server", server, "the server's gRPC `ADDR`; also from WEIR_ADDR")
	fs.StringVar(&c.Server.Tenant, "tenant", "", "the tenant `NAME`")
	fs.BoolVar(&c.Server.Insecure, "insecure", false, "no TLS off the loopback interface either")
	fs.StringVar(&c.FilenameLabel, "filename-label", "filename", "the label that gets the file's path; empty: none")
	fs.StringVar(&c.Positions.File, "positions", "", "remember in `FILE` how far files were sent")
	fromStart := fs.Bool("from-start", false, "begin at the beginning of files that are there")
	fs.StringVar(&c.Listen, "listen", "", "serve /metrics and /ready on `ADDR`")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	var files []string
	for rest := args; ; {
		if err := fs.Parse(rest); err != nil {
			return o, parseError(fs, err, help)
		}
		// Flags may come behind files; behind -- nothing is a flag.
		if n := len(rest) - fs.NArg(); n > 0 && rest[n-1] == "--" {
			files = append(files, fs.Args()...)
			break
		}
		if fs.NArg() == 0 {
			break
		}
		files = append(files, fs.Arg(0))
		rest = fs.Args()[1:]
	}
	if len(files) == 0 {
		return o, usageError{errors.New("no file is named")}
	}
	start := "end"
	if *fromStart {
		start = "beginning"
	}
	c.Files = []map[string]any{{"paths": files, "labels": map[string]string(labels), "start": start}}
	data, err := yaml.Marshal(c)
	if err != nil {
		return o, err
	}
	cfg, ps := config.Load(data, config.Options{NoPositions: true})
	if ps.Err() != nil {
		var all []error
		for _, p := range ps {
			if p.Line = 0; !p.Warning { // the lines are none that the user has written
				all = append(all, p)
			}
		}
		return o, usageError{errors.Join(all...)}
	}
	o.cfg = cfg
	return o, nil
}
