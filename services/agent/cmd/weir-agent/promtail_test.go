package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// scene is what a text beside a Promtail configuration says of its files.
type scene struct {
	paths map[string]string   // file by pattern
	in    map[string][]string // lines by file
	want  []string            // labels and line
}

func readScene(t *testing.T, file string) scene {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := scene{paths: map[string]string{}, in: map[string][]string{}}
	pattern, at := "", ""
	for _, l := range strings.Split(string(data), "\n") {
		switch word, rest, _ := strings.Cut(l, " "); word {
		case "job":
			pattern, at = "", ""
		case "path":
			pattern = rest
			s.paths[pattern] = pattern
			at = pattern
		case "file":
			s.paths[pattern], at = rest, rest
		case "in":
			s.in[at] = append(s.in[at], rest)
		case "out":
			// Without time, metadata and tenant, which a dry run does not print.
			rest = rest[strings.IndexByte(rest, '{'):]
			labels, line, _ := strings.Cut(rest, "} ")
			if strings.HasPrefix(line, "{") && !strings.HasPrefix(line, `{"`) {
				_, line, _ = strings.Cut(line, "} ")
			}
			if strings.HasPrefix(line, "tenant=") {
				_, line, _ = strings.Cut(line, " ")
			}
			s.want = append(s.want, labels+"}\t"+line)
		}
	}
	return s
}

// Configurations that read files run through the whole agent: the files, the
// stages, the queue, a push.
func TestPromtailFiles(t *testing.T) {
	for _, name := range []string{"nginx-json", "java-multiline", "multi-tenant", "metrics", "two-clients"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := readScene(t, promtail+name+".txt")
			data, err := os.ReadFile(promtail + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			text := string(data)
			for pattern, file := range s.paths {
				text = strings.ReplaceAll(text, pattern, dir+pattern)
				if err := os.MkdirAll(filepath.Dir(dir+file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(dir+file, []byte(strings.Join(s.in[file], "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				for i := range s.want {
					s.want[i] = strings.ReplaceAll(s.want[i], `filename="`+file, `filename="`+dir+file)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			out := &counted{want: len(s.want), found: cancel}
			var errs bytes.Buffer
			args := []string{"-config.file", write(t, "c.yaml", text), "-dry-run", "-positions.file", filepath.Join(dir, "positions"), "-log.level=error"}
			if code := run(ctx, args, func(string) string { return "" }, out, &errs); code != 0 {
				t.Fatalf("code %d: %s", code, errs.String())
			}
			got := out.entries()
			for i := range got {
				// The labels that the first client adds.
				got[i] = strings.Replace(got[i], `, site="near"}`, "}", 1)
			}
			slices.Sort(got)
			slices.Sort(s.want)
			if !slices.Equal(got, s.want) {
				t.Errorf("got\n  %s\nwant\n  %s\n%s", strings.Join(got, "\n  "), strings.Join(s.want, "\n  "), errs.String())
			}
		})
	}
}

// counted is the output of a dry run, which tells when so many entries have come.
type counted struct {
	mu    sync.Mutex
	all   bytes.Buffer
	want  int
	found func()
}

func (c *counted) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.all.Write(p)
	if len(split(c.all.String())) >= c.want {
		c.found()
	}
	return n, err
}

func (c *counted) entries() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return split(c.all.String())
}

// split gives labels and line of each entry; further lines of one are part of it.
func split(text string) (out []string) {
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		when, rest, ok := strings.Cut(l, "\t{")
		if _, err := time.Parse(time.RFC3339Nano, when); ok && err == nil {
			out = append(out, "{"+rest)
		} else if len(out) > 0 {
			out[len(out)-1] += `\n` + strings.ReplaceAll(l, "\t", `\t`)
		}
	}
	return out
}
