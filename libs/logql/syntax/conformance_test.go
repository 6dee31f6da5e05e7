package syntax_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// conformanceCase is what of a recorded case concerns the parser.
type conformanceCase struct {
	Name     string
	Endpoint string
	Params   map[string]any
	Compare  string
	Quirk    bool
	Expect   struct {
		Status    int
		Body      json.RawMessage
		Substring string
	}
}

func (c conformanceCase) query() (string, bool) {
	for _, name := range []string{"query", "match[]"} {
		if q, ok := c.Params[name]; ok {
			s, ok := q.(string)
			return s, ok
		}
	}
	return "", len(c.Params) > 0 || c.Endpoint == "format_query"
}

// conformanceDir finds the recorded cases next to the repository.
func conformanceDir(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Skip("not inside the workspace")
		}
		dir = parent
	}
	dir = filepath.Join(dir, "../shared/conformance/cases/own")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no conformance cases: ", err)
	}
	return dir
}

func readCases(t *testing.T, file string) []conformanceCase {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []conformanceCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// matchesSubstring compares as the suite does: `…` in want stands for anything.
func matchesSubstring(got, want string) bool {
	for _, part := range strings.Split(want, "…") {
		at := strings.Index(got, part)
		if at < 0 {
			return false
		}
		got = got[at+len(part):]
	}
	return true
}

func TestConformanceSyntaxErrors(t *testing.T) {
	dir := conformanceDir(t)
	decided, left := 0, 0
	for _, c := range readCases(t, filepath.Join(dir, "syntax_error.json")) {
		query, ok := c.query()
		if !ok || c.Quirk {
			continue
		}
		_, err := syntax.ParseExpr(query)
		if c.Expect.Status == 200 {
			if err != nil {
				t.Errorf("%s: %.200q: %v", c.Name, query, err)
			}
			decided++
			continue
		}
		if strings.Contains(c.Expect.Substring, "parse error : stage '") {
			// The pipeline's compiler finds these.
			if err != nil {
				t.Errorf("%s: %.200q: %v", c.Name, query, err)
			}
			left++
			continue
		}
		decided++
		if err == nil {
			t.Errorf("%s: %.200q parses, want %q", c.Name, query, c.Expect.Substring)
			continue
		}
		if !matchesSubstring(err.Error(), c.Expect.Substring) {
			t.Errorf("%s: %.200q:\n got %q\nwant %q", c.Name, query, err, c.Expect.Substring)
		}
		// The full text names tokens too. Places in line 0 are ours to improve.
		var full string
		if json.Unmarshal(c.Expect.Body, &full) == nil && full != "" && err.Error() != full &&
			!strings.Contains(full, "line 0") {
			t.Logf("%s: %.100q:\n got  %q\nLoki %q", c.Name, query, err, full)
		}
	}
	t.Logf("%d cases decided by the parser, %d left to the pipeline", decided, left)
}

func TestConformanceFormatQuery(t *testing.T) {
	dir := conformanceDir(t)
	for _, c := range readCases(t, filepath.Join(dir, "format_query.json")) {
		query, ok := c.query()
		if !ok || c.Quirk {
			continue
		}
		got, err := syntax.Format(query)
		if c.Expect.Status != 200 {
			var want struct{ Error string }
			if e := json.Unmarshal([]byte(c.Expect.Substring), &want); e != nil {
				t.Fatal(e)
			}
			if err == nil || err.Error() != want.Error {
				t.Errorf("%s: %q: got error %v, want %s", c.Name, query, err, want.Error)
			}
			continue
		}
		var want struct{ Data string }
		if e := json.Unmarshal(c.Expect.Body, &want); e != nil {
			t.Fatal(e)
		}
		if err != nil || got != want.Data {
			t.Errorf("%s: %q (%v):\n got %s\nwant %s", c.Name, query, err, got, want.Data)
		}
	}
}

// TestConformanceAllQueries parses the queries of all other groups: what Loki
// answered with 200 must parse, print and parse again; what it refused as a
// parse error must be refused, at the same place.
func TestConformanceAllQueries(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(conformanceDir(t), "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		for _, c := range readCases(t, file) {
			query, ok := c.query()
			if !ok || c.Quirk {
				continue
			}
			switch c.Endpoint {
			case "query", "query_range", "format_query", "tail":
			default:
				continue
			}
			e, err := syntax.ParseExpr(query)
			if c.Expect.Status == 200 {
				n++
				if err != nil {
					t.Errorf("%s: %.200q: %v", c.Name, query, err)
					continue
				}
				checkRoundTrip(t, e)
				continue
			}
			if !strings.HasPrefix(c.Expect.Substring, "parse error") || strings.Contains(c.Expect.Substring, "stage '") {
				continue
			}
			n++
			if err == nil || !matchesSubstring(err.Error(), c.Expect.Substring) {
				t.Errorf("%s: %.200q: got %v, want %s", c.Name, query, err, c.Expect.Substring)
			}
		}
	}
	t.Log(n, "queries")
}

// TestConformanceSelectors parses the selectors of metadata requests.
func TestConformanceSelectors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(conformanceDir(t), "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, c := range readCases(t, file) {
			query, ok := c.query()
			if !ok || query == "" {
				continue
			}
			switch c.Endpoint {
			case "labels", "label_values", "series", "index/stats", "index/volume", "index/volume_range":
			default:
				continue
			}
			ms, err := syntax.ParseSelector(query)
			if err == nil && strings.HasPrefix(c.Endpoint, "index/") {
				err = syntax.CheckMatchers(ms)
			}
			refused := strings.HasPrefix(c.Expect.Substring, "parse error") || strings.HasPrefix(c.Expect.Substring, "only label")
			switch {
			case refused && (err == nil || !matchesSubstring(err.Error(), c.Expect.Substring)):
				t.Errorf("%s: %q: got %v, want %s", c.Name, query, err, c.Expect.Substring)
			case c.Expect.Status == 200 && err != nil:
				t.Errorf("%s: %q: %v", c.Name, query, err)
			}
			var pe *syntax.ParseError
			if err != nil && !errors.Is(err, syntax.ErrNotSelector) && !errors.As(err, &pe) {
				t.Errorf("%s: %q: error of type %T", c.Name, query, err)
			}
		}
	}
}
