package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("server: {adress: x}\nfiles: [{paths: ['[x'], foo: 1}]\nbatch: {max_wait: 0s}\npositions: {file: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		out  []string // in either output
		not  []string
	}{
		{"--help", 0, []string{"Usage:", "positions:", "--config FILE"}, nil},
		{"tail --help", 0, []string{"--label NAME=VALUE", "--from-start"}, nil},
		{"--version", 0, []string{"weir-agent dev"}, nil},
		{"", 2, []string{"--config is missing"}, []string{"Usage:"}},
		{"--bad", 2, []string{"unknown flag --bad"}, []string{"Usage:"}},
		{"tail --label", 2, []string{"--label needs a value"}, nil},
		{"status --watch x", 2, []string{`--watch "x": not a duration`}, nil},
		{"status --watch -1s", 2, []string{"--watch -1s: must not be less than 0"}, nil},
		{"status --json=z", 2, []string{`--json "z": neither true nor false`}, nil},
		{"explain --lines z", 2, []string{`--lines "z": not a whole number`}, nil},
		{"--max-streams many", 2, []string{`--max-streams "many": not a whole number`}, []string{"strconv"}},
		{"--limit.readline-rate fast", 2, []string{`--limit.readline-rate "fast": not a number`}, []string{"strconv"}},
		{"--max-line-size-truncate=z", 2, []string{`--max-line-size-truncate "z": neither true nor false`}, []string{"strconv"}},
		{"x", 2, []string{`unexpected argument "x"`}, nil},
		{"tail", 2, []string{"no file is named"}, nil},
		{"tail x --label y", 2, []string{"not NAME=VALUE"}, nil},
		{"tail x --label a=1 --label a=2", 2, []string{"label a twice"}, nil},
		{"tail x --label a-b=1", 2, []string{`"a-b" is not a label name`}, nil},
		{"tail x --filename-label=", 2, []string{"no labels"}, nil},
		{"tail x --log-level loud", 2, []string{"--log-level"}, nil},
		{"--config " + filepath.Join(dir, "none.yaml"), 1, []string{"no such file"}, nil},
		{"--config " + bad, 1, []string{"line 1: server.adress: unknown key; did you mean address?", "foo: unknown key", `"[x" is not a pattern`, "batch.max_wait"}, nil},
	} {
		var out bytes.Buffer
		code := run(context.Background(), strings.Fields(c.args), func(string) string { return "" }, &out, &out)
		if code != c.code {
			t.Errorf("%q: code %d, want %d", c.args, code, c.code)
		}
		for _, w := range c.out {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%q: no %q in %q", c.args, w, out.String())
			}
		}
		for _, w := range c.not {
			if strings.Contains(out.String(), w) {
				t.Errorf("%q: %q in %q", c.args, w, out.String())
			}
		}
	}
}

// Ended, as by SIGTERM, with no server there: it says so and exits with 0.
func TestEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	args := []string{"tail", filepath.Join(t.TempDir(), "a.log"), "--server", "127.0.0.1:1", "--label", "app=x"}
	if code := run(ctx, args, func(string) string { return "" }, &out, &out); code != 0 || !strings.Contains(out.String(), "stopped") {
		t.Errorf("code %d: %s", code, out.String())
	}
}

// What is not there is told before it is waited for.
func TestTailMissing(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.log")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	args := []string{"tail", there, dir, dir + "/nope", dir + "/*.txt", dir + "/t*.log", os.DevNull, "--server", "127.0.0.1:1", "--label", "app=x", "--log-level", "error"}
	if code := run(ctx, args, func(string) string { return "" }, &out, &errs); code != 0 || out.Len() > 0 {
		t.Errorf("code %d: %s", code, out.String())
	}
	want := "weir-agent: " + dir + " is a folder, and nothing is followed: name the files in it, as '" + dir + "/*'\n" +
		"weir-agent: " + dir + "/nope does not exist: waiting for it\n" +
		"weir-agent: no file matches " + dir + "/*.txt: waiting for one\n" +
		"weir-agent: " + os.DevNull + " is no regular file, and is not followed\n"
	if errs.String() != want {
		t.Errorf("got\n%swant\n%s", errs.String(), want)
	}
}

func TestTailFlags(t *testing.T) {
	env := func(k string) string { return map[string]string{"WEIR_ADDR": "10.0.0.1:1"}[k] }
	o, err := parseTail([]string{"a", "--label", "app=x", "b", "--from-start", "--", "--c"}, env, os.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	f := o.cfg.Jobs[0]
	if strings.Join(f.Static[0].Paths, " ") != "a b --c" || f.Static[0].Labels["app"] != "x" || f.Start != "beginning" ||
		o.cfg.Clients[0].Address != "10.0.0.1:1" || o.cfg.Server.Listen != "" || o.cfg.Positions.File != "" {
		t.Errorf("%+v", o.cfg)
	}
	if o, err := parseTail([]string{"a", "--server", "h:2"}, env, os.Stdout); err != nil || o.cfg.Jobs[0].Start != "end" || o.cfg.Clients[0].Address != "h:2" {
		t.Errorf("%+v, %v", o.cfg, err)
	}
}
