package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/entry"
)

const explainUsage = `weir-agent explain shows, stage by stage, what a configuration does to lines of a
file. Nothing is sent and no position is written.

Without --file it lists the jobs: what each reads, what relabelling and stages it
has.

Usage:
  weir-agent explain --config FILE
  weir-agent explain --config FILE --file LOG [--lines N] [--job NAME] [--label NAME=VALUE ...]

The job is the one whose __path__ matches LOG, unless --job names it; LOG may be
- for the standard input. What discovery would find is given by --label, as
  --label __meta_kubernetes_namespace=default
or, for labels behind relabelling, --label app=shop.

Flags:
`

// maxExplained bounds a line that is explained.
const maxExplained = 1 << 20

func explain(_ context.Context, p *program, args []string) error {
	fs, help := newFlags(p.out, explainUsage)
	var file, log, job string
	var expand, all bool
	for _, name := range []string{"config", "config.file"} {
		fs.StringVar(&file, name, "", "the configuration `FILE`")
	}
	fs.BoolVar(&expand, "config.expand-env", false, "replace ${NAME} by environment variables")
	fs.StringVar(&log, "file", "", "the `LOG` whose lines are shown")
	fs.StringVar(&job, "job", "", "the `NAME` of the job")
	fs.BoolVar(&all, "all", false, "show stages that change nothing too")
	lines := fs.Int("lines", 10, "how many lines, from the start")
	labels := labelFlag{}
	fs.Var(labels, "label", "a label that the source or discovery gives, as `NAME=VALUE`; may be repeated")
	if err := fs.Parse(args); err != nil {
		return parseError(fs, err, help)
	}
	switch {
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	case file == "":
		return usageError{errors.New("--config is missing")}
	case *lines < 1:
		return usageError{errors.New("--lines: must be 1 or more")}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	cfg, problems := config.Load(data, config.Options{
		ExpandEnv: expand, Getenv: p.getenv, Deps: plainDeps(), NoClient: true, NoPositions: true,
	})
	if err := problems.Err(); err != nil {
		return fileProblems(file, err)
	}
	p.warn(file, problems)
	if log == "" {
		for i := range cfg.Jobs {
			explainJob(p.out, &cfg.Jobs[i])
		}
		return nil
	}
	j, err := findJob(cfg, job, log, labels)
	if err != nil {
		return err
	}
	in := p.in
	if log != "-" {
		f, err := os.Open(log)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return explainLines(p.out, j, in, log, labels, *lines, all)
}

func explainJob(w io.Writer, j *config.Job) {
	fmt.Fprintf(w, "job %s (line %d)\n", j.Name, j.Line)
	for _, g := range j.Static {
		labels := maps.Clone(g.Labels)
		paths := slices.Clone(g.Paths)
		if path := labels["__path__"]; path != "" {
			paths = append(paths, path)
			delete(labels, "__path__")
		}
		fmt.Fprintf(w, "  files   %s %s\n", strings.Join(paths, " "), model.LabelsFromMap(labels))
	}
	for _, f := range j.FileSD {
		fmt.Fprintf(w, "  files   of targets in %s\n", strings.Join(f.Files, " "))
	}
	for range j.Kubernetes {
		fmt.Fprintln(w, "  files   of the pods of this node")
	}
	for _, d := range j.Docker {
		fmt.Fprintf(w, "  docker  containers of %s\n", d.Host)
	}
	switch {
	case j.Journal != nil:
		fmt.Fprintln(w, "  journal", j.Journal.Path, j.Journal.Matches)
	case j.Syslog != nil:
		fmt.Fprintln(w, "  syslog ", j.Syslog.Protocol, j.Syslog.Listen, j.Syslog.Format)
	case j.Push != nil:
		fmt.Fprintln(w, "  push   ", j.Push.Listen)
	case j.OTLP != nil:
		fmt.Fprintln(w, "  otlp   ", j.OTLP.Listen, j.OTLP.GRPCListen)
	case j.GELF != nil:
		fmt.Fprintln(w, "  gelf   ", j.GELF.Listen)
	}
	for _, r := range j.Relabel {
		fmt.Fprintf(w, "  relabel %s\n", ruleText(r))
	}
	if j.Stages != nil {
		for _, s := range j.Stages.Stages() {
			fmt.Fprintf(w, "  stage   %s%s (line %d)\n", strings.Repeat("  ", s.Depth), s.Name, s.Line)
		}
	}
}

func ruleText(r relabel.Rule) string {
	from := strings.Join(r.SourceLabels, r.Separator)
	switch r.Action {
	case relabel.Replace:
		if from == "" {
			return fmt.Sprintf("%s = %q", r.TargetLabel, r.Replacement)
		}
		return fmt.Sprintf("%s = %q where %s is %s", r.TargetLabel, r.Replacement, from, r.Regex)
	case relabel.Keep, relabel.Drop:
		return fmt.Sprintf("%s where %s is %s", r.Action, from, r.Regex)
	case relabel.LabelMap:
		return fmt.Sprintf("%s %s to %s", r.Action, r.Regex, r.Replacement)
	case relabel.LabelDrop, relabel.LabelKeep:
		return fmt.Sprintf("%s %s", r.Action, r.Regex)
	}
	return fmt.Sprintf("%s = %s of %s", r.TargetLabel, r.Action, from)
}

// targetOf gives the labels that a job's target of that file has before
// relabelling; false: the job does not read the file.
func targetOf(j *config.Job, log string, given map[string]string) (map[string]string, bool) {
	abs, err := filepath.Abs(log)
	if err != nil {
		abs = log
	}
	groups := j.Static
	if len(groups) == 0 {
		groups = []config.Group{{}}
	}
	for _, g := range groups {
		m := maps.Clone(g.Labels)
		if m == nil {
			m = map[string]string{}
		}
		maps.Copy(m, given)
		after := maps.Clone(m)
		if !relabel.Apply(j.Relabel, after) {
			continue
		}
		for _, pattern := range append(slices.Clone(g.Paths), after["__path__"]) {
			if pattern == "" {
				continue
			}
			if pattern == abs || pattern == log {
				return m, true
			}
			if ok, _ := doublestar.PathMatch(pattern, abs); ok {
				return m, true
			}
		}
	}
	return nil, false
}

func findJob(cfg *config.Config, name, log string, given map[string]string) (*config.Job, error) {
	var names []string
	for i := range cfg.Jobs {
		j := &cfg.Jobs[i]
		names = append(names, j.Name)
		if name != "" {
			if j.Name == name {
				return j, nil
			}
			continue
		}
		if _, ok := targetOf(j, log, given); ok {
			return j, nil
		}
	}
	if name != "" {
		return nil, fmt.Errorf("no job %s; there are %s", name, strings.Join(names, ", "))
	}
	if len(cfg.Jobs) == 1 {
		return &cfg.Jobs[0], nil
	}
	return nil, fmt.Errorf("no job reads %s; name one by --job: %s", log, strings.Join(names, ", "))
}

func explainLines(w io.Writer, j *config.Job, in io.Reader, log string, given map[string]string, max int, all bool) error {
	target, ok := targetOf(j, log, given)
	if !ok {
		target = map[string]string{}
		if len(j.Static) > 0 {
			maps.Copy(target, j.Static[0].Labels)
		}
		maps.Copy(target, given)
	}
	maps.Copy(target, sourceLabels(j))
	labels := maps.Clone(target)
	fmt.Fprintf(w, "job %s\n", j.Name)
	if !relabel.Apply(j.Relabel, labels) {
		fmt.Fprintf(w, "relabelling drops the target %s\n", model.LabelsFromMap(target))
		return nil
	}
	maps.DeleteFunc(labels, func(n, _ string) bool { return strings.HasPrefix(n, "__") })
	if j.IsFiles() && j.FilenameLabel != "" && log != "-" {
		if abs, err := filepath.Abs(log); err == nil {
			labels[j.FilenameLabel] = abs
		}
	}
	set := entry.SetOf(labels)
	fmt.Fprintf(w, "labels %s\n", set)
	var r entry.Runner = entry.Plain{}
	if j.Stages != nil {
		pr := j.Stages.NewRunner()
		t := newTracer(w)
		t.all = all
		pr.Trace(t.step)
		r = pr
	}
	now := time.Now()
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, maxExplained)
	n := 0
	for ; n < max && sc.Scan(); n++ {
		line := strings.TrimSuffix(sc.Text(), "\r")
		fmt.Fprintf(w, "\nline %d: %s\n", n+1, quote(line))
		out, err := r.Run(context.Background(), []entry.Entry{{
			Labels: set, Time: now.UnixNano(), Line: []byte(line), Span: entry.Span{Start: int64(n), End: int64(n + 1)},
		}}, now)
		if err != nil {
			return err
		}
		show(w, out)
	}
	if err := sc.Err(); err != nil {
		return err
	}
	if len(r.Held(nil)) > 0 {
		fmt.Fprintln(w, "\nwhat is held, after its time:")
		show(w, r.Flush(now, true))
	}
	if n == 0 {
		fmt.Fprintln(w, "no lines")
	}
	return nil
}

func show(w io.Writer, out []entry.Entry) {
	for _, e := range out {
		fmt.Fprintf(w, "  => %s\n", e.Labels)
		if e.OwnTime {
			fmt.Fprintf(w, "     time     %s\n", time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano))
		}
		if len(e.Metadata) > 0 {
			fmt.Fprintf(w, "     metadata %s\n", model.Labels(e.Metadata))
		}
		if e.Tenant != "" {
			fmt.Fprintf(w, "     tenant   %s\n", e.Tenant)
		}
		fmt.Fprintf(w, "     %s\n", quote(string(e.Line)))
	}
}

// sourceLabels are those that the source itself gives.
func sourceLabels(j *config.Job) map[string]string {
	switch {
	case j.Journal != nil:
		return j.Journal.Labels
	case j.Syslog != nil:
		return j.Syslog.Labels
	case j.Push != nil:
		return j.Push.Labels
	case j.OTLP != nil:
		return j.OTLP.Labels
	case j.GELF != nil:
		return j.GELF.Labels
	}
	return nil
}
