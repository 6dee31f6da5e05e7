package config_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// Each configuration in testdata/promtail has a text beside it, of paragraphs:
//
//	job NAME            the job
//	labels a=b          labels of the source's own
//	meta __x=y ...      what discovery or the source finds beside
//	path GLOB           the __path__ that comes of it
//	file PATH           the file
//	in LINE             lines read
//	out TIME {labels} {metadata} tenant=T LINE   what comes out: time, metadata and tenant where there is one
//	metric NAME VALUE
//	dropped             the target is dropped by relabelling
func TestPromtailConfigurations(t *testing.T) {
	files, err := filepath.Glob("../testdata/promtail/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			reg := prometheus.NewPedanticRegistry()
			custom := pipeline.NewCustom(func() time.Time { return now }, reg)
			cfg, problems := config.Load(data, config.Options{Deps: pipeline.Deps{Custom: custom, Rand: half}})
			for _, p := range problems {
				// Its listener is Promtail's default, every network.
				if !strings.Contains(p.Text, "takes lines from anyone") {
					t.Fatalf("problems:\n%v", problems)
				}
			}
			script, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			for _, par := range strings.Split(strings.TrimSpace(string(script)), "\n\n") {
				scenario(t, cfg, reg, par)
			}
			// Weir's spelling of it is the same configuration.
			short, err := config.Convert(cfg)
			if err != nil {
				t.Fatal(err)
			}
			cfg2, problems := config.Load(short, config.Options{})
			if err := problems.Err(); err != nil {
				t.Fatalf("converted:\n%s\n%v", short, err)
			}
			if len(cfg2.Jobs) != len(cfg.Jobs) || len(cfg2.Clients) != len(cfg.Clients) {
				t.Fatalf("converted:\n%s", short)
			}
			reg2 := prometheus.NewPedanticRegistry()
			custom2 := pipeline.NewCustom(func() time.Time { return now }, reg2)
			cfg2, _ = config.Load(short, config.Options{Deps: pipeline.Deps{Custom: custom2, Rand: half}})
			for _, par := range strings.Split(strings.TrimSpace(string(script)), "\n\n") {
				scenario(t, cfg2, reg2, par)
			}
			if t.Failed() {
				t.Logf("converted:\n%s", short)
			}
		})
	}
}

func pairs(s string) map[string]string {
	m := map[string]string{}
	for _, f := range strings.Fields(s) {
		n, v, _ := strings.Cut(f, "=")
		m[n] = v
	}
	return m
}

func scenario(t *testing.T, cfg *config.Config, reg *prometheus.Registry, text string) {
	t.Helper()
	var job *config.Job
	labels := map[string]string{}
	var path, file string
	var in, want, metrics []string
	dropped := false
	for _, l := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(l, " ")
		switch word {
		case "job":
			for i := range cfg.Jobs {
				if cfg.Jobs[i].Name == rest {
					job = &cfg.Jobs[i]
				}
			}
		case "labels", "meta":
			maps.Copy(labels, pairs(rest))
		case "path":
			path = rest
		case "file":
			file = rest
		case "in":
			in = append(in, rest)
		case "out":
			want = append(want, rest)
		case "metric":
			metrics = append(metrics, rest)
		case "dropped":
			dropped = true
		default:
			t.Fatalf("%q", l)
		}
	}
	if job == nil {
		t.Fatalf("no such job: %s", text)
	}
	for _, own := range []map[string]string{sourceLabels(job)} {
		maps.Copy(labels, own)
	}
	if len(job.Static) > 0 {
		maps.Copy(labels, job.Static[0].Labels)
		if len(job.Static[0].Paths) > 0 {
			labels["__path__"] = job.Static[0].Paths[0]
		}
	}
	if kept := relabel.Apply(job.Relabel, labels); kept == dropped {
		t.Fatalf("kept is %v: %s", kept, text)
	}
	if dropped {
		return
	}
	if labels["__path__"] != path {
		t.Errorf("__path__ is %q, want %q", labels["__path__"], path)
	}
	maps.DeleteFunc(labels, func(n, _ string) bool { return strings.HasPrefix(n, "__") })
	if file != "" && job.FilenameLabel != "" {
		labels[job.FilenameLabel] = file
	}
	set := entry.SetOf(labels)
	var batch []entry.Entry
	for i, l := range in {
		batch = append(batch, entry.Entry{Labels: set, Time: now.UnixNano(), Line: []byte(l), Span: entry.Span{Start: int64(i), End: int64(i + 1)}})
	}
	var got []string
	show := func(out []entry.Entry) {
		for _, e := range out {
			s := e.Labels.String() + " "
			if e.OwnTime {
				s = time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano) + " " + s
			}
			if len(e.Metadata) > 0 {
				s += model.Labels(e.Metadata).String() + " "
			}
			if e.Tenant != "" {
				s += "tenant=" + e.Tenant + " "
			}
			got = append(got, s+strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(string(e.Line)))
		}
	}
	if job.Stages == nil {
		show(batch)
	} else {
		r := job.Stages.NewRunner()
		out, err := r.Run(context.Background(), batch, now)
		if err != nil {
			t.Fatal(err)
		}
		show(out)
		show(r.Flush(now, true))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("job %s: got\n  %s\nwant\n  %s", job.Name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if len(metrics) > 0 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := exposition(families)
		for _, m := range metrics {
			if !strings.Contains(all, m+"\n") {
				t.Errorf("no %s in\n%s", m, all)
			}
		}
	}
}

func sourceLabels(j *config.Job) map[string]string {
	switch {
	case j.Journal != nil:
		return j.Journal.Labels
	case j.Syslog != nil:
		return j.Syslog.Labels
	case j.GELF != nil:
		return j.GELF.Labels
	case j.Push != nil:
		return j.Push.Labels
	}
	return nil
}

func exposition(families []*dto.MetricFamily) string {
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName() + "{")
			for i, l := range m.GetLabel() {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(l.GetName() + `="` + l.GetValue() + `"`)
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			b.WriteString("} " + strconv.FormatFloat(v, 'f', -1, 64) + "\n")
		}
	}
	return b.String()
}

// half is a coin that always falls alike.
func half() float64 { return 0.5 }
