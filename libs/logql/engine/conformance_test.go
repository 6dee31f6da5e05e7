package engine_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// The recorded answers of a real Loki, where the suite is next to the repository.
const suiteDir = "../../../../shared/conformance"

type suiteCase struct {
	Name     string
	Endpoint string
	Params   map[string]any
	Headers  map[string]string
	Compare  string
	Quirk    bool
	Expect   struct {
		Status    int
		Substring string
		Body      json.RawMessage
	}
}

func corpus(t *testing.T) []enginetest.Entry {
	f, err := os.Open(filepath.Join(suiteDir, "data/corpus.jsonl.gz"))
	if err != nil {
		t.Skip("no conformance suite here")
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []enginetest.Entry
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 8<<20)
	for sc.Scan() {
		var in struct {
			Labels, Metadata map[string]string
			TS, Line         string
			LineB64          string `json:"line_b64"`
		}
		if err := json.Unmarshal(sc.Bytes(), &in); err != nil {
			t.Fatal(err)
		}
		if in.LineB64 != "" {
			b, _ := base64.StdEncoding.DecodeString(in.LineB64)
			in.Line = string(b)
		}
		ts, _ := strconv.ParseInt(in.TS, 10, 64)
		ls := model.LabelsFromMap(in.Labels)
		in.Labels["service_name"] = discover.ServiceName(ls)
		meta := model.LabelsFromMap(in.Metadata)
		for i := range meta {
			meta[i].Name = strings.NewReplacer(".", "_", "-", "_").Replace(meta[i].Name) // as at the door
		}
		level := discover.Level(ls, meta, []byte(in.Line))
		e := enginetest.Entry{Labels: model.LabelsFromMap(in.Labels), Time: ts, Line: in.Line, Metadata: meta, BatchTime: 1, Position: uint32(len(out)),
			Derived: labels("detected_level", level)}
		out = append(out, e)
	}
	return out
}

func (c *suiteCase) param(name string) string {
	switch v := c.Params[name].(type) {
	case string:
		return v
	case []any:
		if len(v) > 0 {
			return fmt.Sprint(v[0])
		}
	}
	return ""
}

func suiteTime(s string) int64 {
	if f, err := strconv.ParseFloat(s, 64); err == nil && len(strings.Split(s, ".")[0]) <= 10 {
		return int64(math.Round(f*1e3)) * 1e6
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	t, _ := time.Parse(time.RFC3339Nano, s)
	return t.UnixNano()
}

func suiteDuration(s string) time.Duration {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(f * 1e9)
	}
	if strings.HasSuffix(s, "d") {
		n, _ := strconv.Atoi(strings.TrimSuffix(s, "d"))
		return time.Duration(n) * 24 * time.Hour
	}
	d, _ := time.ParseDuration(s)
	return d
}

// ask runs a case and returns its answer in the suite's form.
func (c *suiteCase) ask(sources []engine.Source) (any, error) {
	expr, err := syntax.ParseExpr(c.param("query"))
	if err != nil {
		return nil, err
	}
	e := engine.New(engine.Options{})
	q := engine.Query{Expr: expr, Sources: sources, Limits: engine.DefaultLimits()}
	var res *engine.Result
	if c.Endpoint == "query" {
		res, err = e.Instant(context.Background(), q, suiteTime(c.param("time")))
	} else {
		r := engine.RangeQuery{Query: q, Start: suiteTime(c.param("start")), End: suiteTime(c.param("end")), Limit: 100, Backward: c.param("direction") != "forward"}
		if l := c.param("limit"); l != "" {
			r.Limit, _ = strconv.Atoi(l)
		}
		r.Step = time.Duration(max((r.End-r.Start)/1e9/250, 1)) * time.Second
		if s := c.param("step"); s != "" {
			r.Step = suiteDuration(s)
		}
		r.Interval = suiteDuration(c.param("interval"))
		res, err = e.Range(context.Background(), r)
	}
	if err != nil {
		return nil, err
	}
	value := func(p engine.Point) []any {
		return []any{math.Round(float64(p.Time)/1e6) / 1e3, strconv.FormatFloat(p.Value, 'f', -1, 64)}
	}
	metric := func(l model.Labels) map[string]any {
		m := map[string]any{}
		for _, x := range l {
			m[x.Name] = x.Value
		}
		return m
	}
	out := []any{}
	switch res.Type {
	case engine.TypeScalar:
		return value(res.Scalar), nil
	case engine.TypeVector:
		for _, s := range res.Vector {
			out = append(out, map[string]any{"metric": metric(s.Labels), "value": value(s.Point)})
		}
	case engine.TypeMatrix:
		for _, s := range res.Matrix {
			var vs []any
			for _, p := range s.Points {
				vs = append(vs, value(p))
			}
			out = append(out, map[string]any{"metric": metric(s.Labels), "values": vs})
		}
	case engine.TypeStreams:
		byLabels := map[string]map[string]any{}
		for _, s := range res.Streams {
			for _, x := range s.Entries {
				m := metric(slices.Concat(s.Labels, x.Metadata, x.Parsed))
				delete(m, "__error_details__")
				k, _ := json.Marshal(m)
				if byLabels[string(k)] == nil {
					byLabels[string(k)] = map[string]any{"stream": m, "values": []any{}}
				}
				line, _ := json.Marshal(string(x.Line))
				var text string
				json.Unmarshal(line, &text)
				byLabels[string(k)]["values"] = append(byLabels[string(k)]["values"].([]any), []any{strconv.FormatInt(x.Time, 10), text})
			}
		}
		for _, v := range byLabels {
			out = append(out, v)
		}
	}
	return out, nil
}

// same compares answers; numbers in strings are equal to 1e-9.
func same(want, got any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(w) != len(g) {
			return false
		}
		for k := range w {
			if !same(w[k], g[k]) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(w) != len(g) {
			return false
		}
		for i := range w {
			if !same(w[i], g[i]) {
				return false
			}
		}
		return true
	case string:
		g, ok := got.(string)
		if ok && w == g {
			return true
		}
		a, err1 := strconv.ParseFloat(w, 64)
		b, err2 := strconv.ParseFloat(g, 64)
		return ok && err1 == nil && err2 == nil && (a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)))
	}
	return fmt.Sprint(want) == fmt.Sprint(got)
}

// untie orders entries whose streams differ in __error_details__ alone.
func untie(v any) {
	m, _ := v.(map[string]any)
	if labels, _ := m["stream"].(map[string]any); labels["__error__"] != nil {
		values, _ := m["values"].([]any)
		slices.SortFunc(values, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
}

func key(v any) string {
	m, _ := v.(map[string]any)
	k, _ := json.Marshal(m["stream"])
	l, _ := json.Marshal(m["metric"])
	return string(k) + string(l)
}

func TestConformance(t *testing.T) {
	store := enginetest.NewStore(corpus(t)...)
	t.Run("plain", func(t *testing.T) { conformance(t, []engine.Source{engine.Local(store, "all")}) })
	parts := make([][]enginetest.Entry, 3)
	for i, e := range corpus(t) {
		parts[i%3] = append(parts[i%3], e)
	}
	stores := []*enginetest.Store{enginetest.NewStore(parts[0]...), enginetest.NewStore(slices.Concat(parts[1], parts[2])...), enginetest.NewStore(parts[1]...)}
	for _, s := range stores {
		s.Selective, s.RunRows = true, 100
	}
	t.Run("union", func(t *testing.T) { conformance(t, []engine.Source{engine.Union("u", sources(stores, true)...)}) })
}

func conformance(t *testing.T, src []engine.Source) {
	files, _ := filepath.Glob(filepath.Join(suiteDir, "cases/*/*.json"))
	passed, failed := map[string]int{}, map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var cases []suiteCase
		if err := json.Unmarshal(b, &cases); err != nil {
			t.Fatal(f, err)
		}
		for _, c := range cases {
			if (c.Endpoint != "query" && c.Endpoint != "query_range") || c.Quirk || c.param("query") == "" ||
				len(c.Headers) > 0 || c.Compare == "status" || c.Compare == "subset" || strings.HasPrefix(c.Name, "params/") || c.Expect.Status > 400 {
				continue
			}
			group := strings.Split(c.Name, "/")[0]
			got, err := c.ask(src)
			why := ""
			if c.Expect.Status == 200 {
				var body struct{ Data struct{ Result any } }
				json.Unmarshal(c.Expect.Body, &body)
				want := body.Data.Result
				if want == nil {
					want = []any{}
				}
				if g, ok := got.([]any); ok && c.Compare != "approx-ordered" {
					if w, ok := want.([]any); ok && len(w) > 0 {
						if _, series := w[0].(map[string]any); series {
							slices.SortFunc(g, func(a, b any) int { return strings.Compare(key(a), key(b)) })
							slices.SortFunc(w, func(a, b any) int { return strings.Compare(key(a), key(b)) })
						}
					}
				}
				for _, r := range []any{got, want} {
					if all, ok := r.([]any); ok {
						for _, x := range all {
							untie(x)
						}
					}
				}
				if err != nil {
					why = err.Error()
				} else if !same(want, got) && !strings.Contains(string(c.Expect.Body), "sha256") {
					why = fmt.Sprintf("\n got %.1500s\nwant %.1500s", fmt.Sprint(got), fmt.Sprint(want))
				}
			} else if err == nil {
				why = "no error"
			} else if parts := strings.Split(c.Expect.Substring, "…"); !strings.Contains(err.Error(), parts[0]) {
				why = fmt.Sprintf("got %q, want %q", err, c.Expect.Substring)
			}
			if why == "" {
				passed[group]++
				continue
			}
			failed[group]++
			t.Errorf("%s: %s: %s", c.Name, c.param("query"), why)
		}
	}
	t.Log("passed", passed, "failed", failed)
}
