package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

const checkUsage = `weir-agent check explains every problem of configurations at once, each with its
line: what is wrong, what is not supported, what will not do what it seems to.
It exits with 1 if one of them cannot be run.

Usage:
  weir-agent check [flags] FILE...

Flags:
`

const convertUsage = `weir-agent convert prints a configuration, Promtail's or mixed, in Weir's shorter
spelling. Comments are lost; passwords are printed as they are. Problems go to
the standard error.

Usage:
  weir-agent convert [flags] FILE

Flags:
`

// fileArgs parses flags and the files behind or before them.
func (p *program) fileArgs(text string, args []string) (files []string, expand bool, err error) {
	fs, help := newFlags(p.out, text)
	for _, name := range []string{"expand-env", "config.expand-env"} {
		fs.BoolVar(&expand, name, false, "replace ${NAME} by environment variables")
	}
	var named string
	for _, name := range []string{"config", "config.file"} {
		fs.StringVar(&named, name, "", "a configuration `FILE`")
	}
	for rest := args; ; {
		if err := fs.Parse(rest); err != nil {
			return nil, false, parseError(fs, err, help)
		}
		if fs.NArg() == 0 {
			break
		}
		files = append(files, fs.Arg(0))
		rest = fs.Args()[1:]
	}
	if named != "" {
		files = append(files, strings.Split(named, ",")...)
	}
	if len(files) == 0 {
		return nil, false, usageError{errors.New("no file is named")}
	}
	return files, expand, nil
}

// plainDeps are for configurations that are not run.
func plainDeps() pipeline.Deps {
	return pipeline.Deps{Custom: pipeline.NewCustom(time.Now, nil)}
}

func check(_ context.Context, p *program, args []string) error {
	files, expand, err := p.fileArgs(checkUsage, args)
	if err != nil {
		return err
	}
	failed := false
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		cfg, problems := config.Load(data, config.Options{ExpandEnv: expand, Getenv: p.getenv, Deps: plainDeps()})
		errs := 0
		for _, pr := range problems {
			kind := "error"
			if pr.Warning {
				kind = "warning"
			} else {
				errs++
			}
			fmt.Fprintf(p.out, "%s: %s: %s\n", file, kind, pr.Error())
		}
		if errs > 0 {
			failed = true
			fmt.Fprintf(p.out, "%s: cannot be run: %s\n", file, count(errs, "error"))
			continue
		}
		fmt.Fprintf(p.out, "%s: valid: %s, %s\n", file, count(len(cfg.Jobs), "job"), count(len(cfg.Clients), "client"))
	}
	if failed {
		return errFailed
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func convert(_ context.Context, p *program, args []string) error {
	files, expand, err := p.fileArgs(convertUsage, args)
	if err != nil {
		return err
	}
	if len(files) > 1 {
		return usageError{errors.New("one file at a time")}
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	cfg, problems := config.Load(data, config.Options{ExpandEnv: expand, Getenv: p.getenv, Deps: plainDeps()})
	if err := problems.Err(); err != nil {
		return fileProblems(files[0], err)
	}
	p.warn(files[0], problems)
	out, err := config.Convert(cfg)
	if err != nil {
		return err
	}
	_, err = p.out.Write(out)
	return err
}
