package deploy

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/VictoriaMetrics/metricsql"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/tests/harness"
)

// exposed are metrics with the labels of their series.
type exposed map[string]map[string]bool

var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
var labelName = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)

func (e exposed) add(text string) {
	for line := range strings.Lines(text) {
		m := sample.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if e[m[1]] == nil {
			// What Prometheus adds.
			e[m[1]] = map[string]bool{"instance": true, "job": true}
		}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			e[m[1]][l[1]] = true
		}
	}
}

// declared returns the names of metrics in the source: many have no series before
// what they count has happened.
func declared(t *testing.T) map[string]bool {
	names := map[string]bool{}
	for _, dir := range []string{"libs", "services"} {
		err := filepath.WalkDir(filepath.Join(harness.Root(), dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			// A prefix goes with every other text of its file.
			var prefixes, texts []string
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				switch s, _ := strconv.Unquote(lit.Value); {
				case strings.HasPrefix(s, "weir_") && strings.HasSuffix(s, "_"):
					prefixes = append(prefixes, s)
				case strings.HasPrefix(s, "weir_"):
					names[s] = true
				default:
					texts = append(texts, s)
				}
				return true
			})
			for _, p := range prefixes {
				for _, s := range texts {
					names[p+s] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// scrape runs a server and an agent, has them do a little, and returns what they
// expose.
func scrape(t *testing.T) exposed {
	n := harness.Start(t)
	c := n.Client()
	ctx := harness.Context(t)
	// One entry is stored, one is refused, a query finds the first.
	_, err := c.Push(ctx, &pushv1.PushRequest{Streams: []*pushv1.Stream{{Labels: map[string]string{"app": "x"}, Entries: []*pushv1.Entry{
		{TimestampUnixNano: time.Now().UnixNano(), Line: &pushv1.Entry_Text{Text: "a line"}},
		{TimestampUnixNano: time.Now().Add(24 * time.Hour).UnixNano(), Line: &pushv1.Entry_Text{Text: "too early"}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.QueryRange(ctx, &queryv1.QueryRangeRequest{Query: `{app="x"}`}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	listen := harness.FreeAddr(t)
	logs := filepath.Join(dir, "a.log")
	config := fmt.Sprintf("server: {address: %q}\npositions: {file: %q}\nlisten: %q\nfiles: [{paths: [%q], labels: {app: x}}]\n", n.GRPC, filepath.Join(dir, "positions"), listen, logs)
	if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(logs, []byte("a line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.NewProcess(t, "agent")
	p.Start(harness.Program(t, "services/agent/cmd/weir-agent"), "--config", filepath.Join(dir, "agent.yaml"))
	agent := &harness.Node{Process: p, HTTP: listen}
	e := exposed{"up": {"instance": true, "job": true}}
	harness.Until(t, func() error {
		_, text, err := agent.Get("/metrics")
		if err != nil {
			return err
		}
		if !strings.Contains(text, "weir_agent_sent_entries_total{") {
			return fmt.Errorf("the agent has sent nothing")
		}
		e.add(text)
		return nil
	})
	_, text, err := n.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	e.add(text)
	return e
}

var histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)

// functions are those of PromQL that may be used here; the parser knows more, of its
// own.
var functions = []string{"rate", "increase", "histogram_quantile", "time", "vector", "sum", "max", "min", "count", "topk"}

// checkExpr checks a PromQL expression. It returns the labels that it may name.
func checkExpr(expr string, e exposed, declared map[string]bool) (map[string]bool, error) {
	parsed, err := metricsql.Parse(expr)
	if err != nil {
		return nil, err
	}
	var errs []string
	known, open := map[string]bool{"instance": true, "job": true}, false
	metricsql.VisitAll(parsed, func(x metricsql.Expr) {
		switch x := x.(type) {
		case *metricsql.FuncExpr:
			if !slices.Contains(functions, x.Name) {
				errs = append(errs, "function "+x.Name)
			}
			if x.Name == "rate" || x.Name == "increase" {
				if r, ok := x.Args[0].(*metricsql.RollupExpr); !ok || r.Window == nil {
					errs = append(errs, x.Name+" without a range")
				}
			}
		case *metricsql.AggrFuncExpr:
			if !slices.Contains(functions, x.Name) {
				errs = append(errs, "aggregation "+x.Name)
			}
		case *metricsql.MetricExpr:
			for _, filters := range x.LabelFilterss {
				if len(filters) == 0 || filters[0].Label != "__name__" {
					errs = append(errs, "a selector without a name")
					continue
				}
				name := filters[0].Value
				labels, ok := e[name]
				if !ok {
					if !declared[histogramPart.ReplaceAllString(name, "")] {
						errs = append(errs, "no metric "+name)
					}
					open = true
					continue
				}
				for l := range labels {
					known[l] = true
				}
				for _, f := range filters[1:] {
					if !labels[f.Label] {
						errs = append(errs, name+" has no label "+f.Label)
					}
				}
			}
		}
	})
	metricsql.VisitAll(parsed, func(x metricsql.Expr) {
		if a, ok := x.(*metricsql.AggrFuncExpr); ok && !open {
			for _, l := range a.Modifier.Args {
				if !known[l] {
					errs = append(errs, "no label "+l+" to group by")
				}
			}
		}
	})
	if open {
		known = nil // labels of what has no series are not known
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%s in %s", strings.Join(errs, ", "), expr)
	}
	return known, nil
}

type dashboard struct {
	UID, Title string
	Panels     []struct {
		ID          int
		Title, Type string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Expr string }
		Datasource  *struct{ UID string }
	}
}

// TestMonitoring: dashboards and alerts ask in PromQL for metrics that there are, by
// labels that they have; panels lie side by side, alerts are documented.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	e, names := scrape(t), declared(t)
	t.Run("dashboards", func(t *testing.T) { checkDashboards(t, e, names) })
	t.Run("alerts", func(t *testing.T) { checkAlerts(t, e, names) })
}

func checkDashboards(t *testing.T, e exposed, names map[string]bool) {
	files, err := filepath.Glob(filepath.Join(harness.Root(), "deploy/monitoring/dashboards/*.json"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	uids := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if other, ok := uids[d.UID]; ok || d.UID == "" || d.Title == "" {
			t.Errorf("%s: uid %q, title %q, as %s", file, d.UID, d.Title, other)
		}
		uids[d.UID] = file
		for i, p := range d.Panels {
			for _, o := range d.Panels[:i] {
				a, b := p.GridPos, o.GridPos
				if p.ID == o.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: panels %q and %q have one id or overlap", file, p.Title, o.Title)
				}
			}
			if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 || p.Title == "" {
				t.Errorf("%s: panel %q has no place or no title", file, p.Title)
			}
			if p.Type == "row" {
				continue
			}
			if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q asks nothing, or nobody", file, p.Title)
			}
			for _, target := range p.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr)
				if strings.Contains(expr, "$") {
					t.Errorf("%s: %s has an unknown variable", file, expr)
				} else if _, err := checkExpr(expr, e, names); err != nil {
					t.Errorf("%s: panel %q: %v", file, p.Title, err)
				}
			}
		}
	}
}

type rules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

var usedLabel = regexp.MustCompile(`\$labels\.([a-z_]+)`)

func checkAlerts(t *testing.T, e exposed, names map[string]bool) {
	text, err := os.ReadFile(filepath.Join(harness.Root(), "deploy/monitoring/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := strict[rules](text)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile(filepath.Join(harness.Root(), "docs/operations/alerts.md"))
	if err != nil {
		t.Fatal(err)
	}
	identity := func(v any) any { return v }
	funcs := template.FuncMap{"humanize": identity, "humanizePercentage": identity, "humanizeDuration": identity}
	seen := map[string]bool{}
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			fail := func(format string, args ...any) { t.Errorf(a.Alert+": "+format, args...) }
			if seen[a.Alert] {
				fail("is there twice")
			}
			seen[a.Alert] = true
			known, err := checkExpr(a.Expr, e, names)
			if err != nil {
				fail("%v", err)
			}
			if a.For != "" {
				if _, err := time.ParseDuration(a.For); err != nil {
					fail("%v", err)
				}
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
				fail("severity %q", a.Labels["severity"])
			}
			if want := "#" + strings.ToLower(a.Alert); !strings.HasSuffix(a.Annotations["runbook_url"], "docs/operations/alerts.md"+want) {
				fail("runbook %s", a.Annotations["runbook_url"])
			}
			if !strings.Contains(string(docs), "\n### "+a.Alert+"\n") {
				fail("is not documented")
			}
			if _, err := template.New("").Funcs(funcs).Parse("{{$labels := .}}{{$value := .}}" + a.Annotations["summary"]); err != nil || a.Annotations["summary"] == "" {
				fail("summary: %v", err)
			}
			for _, l := range usedLabel.FindAllStringSubmatch(a.Annotations["summary"], -1) {
				if known != nil && !known[l[1]] {
					fail("the summary wants a label %s", l[1])
				}
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(docs), -1) {
		if !seen[m[1]] {
			t.Errorf("there is no alert %s", m[1])
		}
	}
}
