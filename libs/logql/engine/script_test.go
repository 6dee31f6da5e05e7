package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Scripts under testdata load entries and say what queries answer:
//
//	load
//	  {app="a"} 10s the line           at 10 s; `{meta}` may stand behind the time
//	eval instant 60s QUERY
//	  {app="a"} 1                      in this order
//	eval range 0s 60s 30s QUERY        start, end, step
//	  {app="a"} 0s=1 30s=2
//	eval logs forward 10 0s 60s QUERY  direction, limit, start, end
//	  {labels} 10s the line            in order of stream, then as answered
//	fail instant 60s QUERY             as eval
//	  piece of the error
//	limit series 3                     changes a limit from here on
//
// Times are durations since the epoch.
type script struct {
	t       *testing.T
	file    string
	line    int
	entries []enginetest.Entry
	limits  engine.Limits
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, file: f}
			var command string
			var body []string
			at := 0
			sc := bufio.NewScanner(strings.NewReader(string(b)))
			for n := 1; sc.Scan(); n++ {
				line := sc.Text()
				switch {
				case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
				case strings.HasPrefix(line, "  "):
					body = append(body, line[2:])
				default:
					s.line = at
					s.run(command, body)
					command, body, at = line, nil, n
				}
			}
			s.line = at
			s.run(command, body)
		})
	}
}

func (s *script) errorf(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("%s:%d: %s", s.file, s.line, fmt.Sprintf(format, args...))
}

func (s *script) seconds(text string) int64 {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatalf("%s:%d: %v", s.file, s.line, err)
	}
	return int64(d)
}

func (s *script) run(command string, body []string) {
	word, rest, _ := strings.Cut(command, " ")
	switch word {
	case "":
	case "load":
		for _, line := range body {
			s.load(line)
		}
	case "limit":
		name, n, _ := strings.Cut(rest, " ")
		v, _ := strconv.Atoi(n)
		switch name {
		case "series":
			s.limits.MaxSeries = v
		case "points":
			s.limits.MaxPoints = v
		case "entries":
			s.limits.MaxEntries = v
		case "memory":
			s.limits.MaxMemory = int64(v)
		default:
			s.t.Fatalf("%s:%d: no limit %s", s.file, s.line, name)
		}
	case "eval":
		got, err := s.eval(rest)
		if err != nil {
			s.errorf("%s: %v", rest, err)
		} else if !slices.Equal(got, body) {
			s.errorf("%s:\n got %s\nwant %s", rest, strings.Join(got, "\n     "), strings.Join(body, "\n     "))
		}
	case "fail":
		got, err := s.eval(rest)
		if err == nil {
			s.errorf("%s: no error, but %q", rest, got)
		} else if want := strings.Join(body, "\n"); !strings.Contains(err.Error(), want) {
			s.errorf("%s: error %q, want %q", rest, err, want)
		}
	default:
		s.t.Fatalf("%s:%d: unknown command %q", s.file, s.line, command)
	}
}

// cutLabels takes a label set off the front of a text.
func (s *script) cutLabels(text string) (model.Labels, string) {
	end := strings.Index(text, "}") + 1
	pairs, err := syntax.ParseSelector(text[:end]) // names may be in quotes
	if err != nil {
		s.t.Fatalf("%s:%d: %v", s.file, s.line, err)
	}
	var ls []model.Label
	for _, p := range pairs {
		ls = append(ls, model.Label{Name: p.Name, Value: p.Value})
	}
	return model.NewLabels(ls), strings.TrimPrefix(text[end:], " ")
}

func (s *script) load(line string) {
	e := enginetest.Entry{BatchTime: 1, Position: uint32(len(s.entries))}
	e.Labels, line = s.cutLabels(line)
	at, line, _ := strings.Cut(line, " ")
	e.Time = s.seconds(at)
	if strings.HasPrefix(line, "{") && strings.Contains(line, "} ") && !strings.HasPrefix(line, `{"`) {
		e.Metadata, line = s.cutLabels(line)
	}
	e.Line = line
	s.entries = append(s.entries, e)
}

// eval answers a query; stores that select and a union must not change the answer.
func (s *script) eval(command string) ([]string, error) {
	want, wantErr := s.evalOver(command, false)
	got, err := s.evalOver(command, true)
	if !slices.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
		s.t.Errorf("%s:%d: %s: a union that selects answers %q, %v, not %q, %v", s.file, s.line, command, got, err, want, wantErr)
	}
	return want, wantErr
}

// evalOver runs a query over two sources that hold half of the entries both and the
// others one each, and returns the answer line by line.
func (s *script) evalOver(command string, union bool) ([]string, error) {
	parts := make([][]enginetest.Entry, 2)
	for i, e := range s.entries {
		for p := range parts {
			if i%4 == p || i%4 > 1 {
				parts[p] = append(parts[p], e)
			}
		}
	}
	stores := []*enginetest.Store{enginetest.NewStore(parts[0]...), enginetest.NewStore(parts[1]...)}
	e := engine.New(engine.Options{})
	in := engine.Query{Sources: sources(stores, true), Limits: s.limits}
	if union {
		stores[0].Selective, stores[1].Selective = true, true
		in.Sources = []engine.Source{engine.Union("union", in.Sources...)}
	}
	words := func(n int) []string {
		w := strings.SplitN(command, " ", n+1)
		if len(w) <= n {
			s.t.Fatalf("%s:%d: %s has too few words", s.file, s.line, command)
		}
		return w
	}
	kind := words(1)[0]
	n := map[string]int{"instant": 2, "range": 4, "logs": 5}[kind]
	w := words(n)
	expr, err := syntax.ParseExpr(w[n])
	if err != nil {
		return nil, err
	}
	in.Expr = expr
	var res *engine.Result
	switch kind {
	case "instant":
		res, err = e.Instant(context.Background(), in, s.seconds(w[1]))
	case "range":
		res, err = e.Range(context.Background(), engine.RangeQuery{Query: in, Start: s.seconds(w[1]), End: s.seconds(w[2]), Step: time.Duration(s.seconds(w[3]))})
	case "logs":
		limit, _ := strconv.Atoi(w[2])
		res, err = e.Range(context.Background(), engine.RangeQuery{Query: in, Backward: w[1] == "backward", Limit: limit, Start: s.seconds(w[3]), End: s.seconds(w[4])})
	}
	closed(s.t, stores)
	if err != nil {
		return nil, err
	}
	var out []string
	switch res.Type {
	case engine.TypeScalar:
		out = append(out, number(res.Scalar.Value))
	case engine.TypeVector:
		for _, x := range res.Vector {
			out = append(out, x.Labels.String()+" "+number(x.Value))
		}
	case engine.TypeMatrix:
		for _, x := range res.Matrix {
			line := x.Labels.String()
			for _, p := range x.Points {
				line += fmt.Sprintf(" %ds=%s", p.Time/sec, number(p.Value))
			}
			out = append(out, line)
		}
	case engine.TypeStreams:
		for _, x := range res.Streams {
			for _, l := range x.Entries {
				all := model.NewLabels(slices.Concat(x.Labels, l.Metadata, l.Parsed))
				out = append(out, fmt.Sprintf("%s %ds %s", all, l.Time/sec, l.Line))
			}
		}
	}
	return out, nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
