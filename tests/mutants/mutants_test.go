// Package mutants shows that the tests of the rules which keep Weir's promises can
// fail: each mutant breaks one rule in one place, and the test of that rule must
// notice.
//
// Each run builds one package anew, so all of them take some minutes: set
// WEIR_MUTANTS=1, or to a part of a mutant's name. Otherwise it is only checked that
// every mutant still applies and that its test exists.
package mutants

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mutant is a change that breaks a rule.
type mutant struct {
	rule     string
	breaks   string // what it does
	file     string
	old, new string // old occurs once in the file
	pkg      string // of the test
	test     string // regular expression of the tests, one of which must fail
}

// root is the root of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func (m mutant) name() string {
	return "rule " + m.rule + ": " + m.breaks
}

// source returns the mutated file.
func (m mutant) source(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(), m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), m.old); n != 1 {
		t.Fatalf("%s has what the mutant changes %d times: %s", m.file, n, m.old)
	}
	return strings.Replace(string(b), m.old, m.new, 1)
}

// run runs a mutant's test with the mutant, and returns whether it failed, as it should.
func (m mutant) run(t *testing.T, source string) (killed bool, out string) {
	t.Helper()
	dir := t.TempDir()
	changed := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(changed, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	root := root()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): changed}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	binary := filepath.Join(dir, "mutant.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", path, "-o", binary, "./"+m.pkg)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not build: %v\n%s", err, out)
	}
	test := exec.CommandContext(ctx, binary, "-test.run", "^("+m.test+")$", "-test.timeout=2m")
	test.Dir = filepath.Join(root, m.pkg)
	b, err := test.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err != nil, string(b)
}

func TestMutants(t *testing.T) {
	pick := os.Getenv("WEIR_MUTANTS")
	for _, m := range mutants {
		t.Run(m.name(), func(t *testing.T) {
			source := m.source(t)
			m.exists(t)
			if pick == "" || pick != "1" && !strings.Contains(m.name(), pick) {
				return
			}
			killed, out := m.run(t, source)
			if !killed {
				t.Errorf("%s %s does not notice:\n%s", m.pkg, m.test, out)
			}
		})
	}
}

// exists checks that the mutant's tests are there.
func (m mutant) exists(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(), m.pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for name := range strings.SplitSeq(m.test, "|") {
		if !regexp.MustCompile(`(?m)^func ` + name + `\(`).MatchString(all.String()) {
			t.Errorf("%s has no test %s", m.pkg, name)
		}
	}
}

// TestDocumented: the tests that docs/operations/faults.md names are there.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(), "docs", "operations", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables, _, _ := strings.Cut(string(b), "## How to run")
	n, pkg := 0, ""
	for _, word := range regexp.MustCompile("(?:libs|services|tests)(?:/[a-z]+)+|`(?:Test|Fuzz)[A-Za-z0-9]+`").FindAllString(tables, -1) {
		if word[0] != '`' {
			pkg = word
			continue
		}
		mutant{pkg: pkg, test: strings.Trim(word, "`")}.exists(t)
		n++
	}
	if n < 80 {
		t.Errorf("%d tests are named", n)
	}
}

// TestEveryRule: there is a mutant for each rule that one can break in one place.
func TestEveryRule(t *testing.T) {
	have := map[string]bool{}
	for _, m := range mutants {
		have[m.rule] = true
	}
	for _, rule := range strings.Fields("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27") {
		if !have[rule] {
			t.Errorf("no mutant breaks rule %s", rule)
		}
	}
}
