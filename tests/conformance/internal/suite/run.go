package suite

import (
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// Result is how a case went.
type Result struct {
	Name   string   `json:"name"`
	Quirk  bool     `json:"quirk,omitempty"`
	Pass   bool     `json:"pass"`
	Diffs  []string `json:"diffs,omitempty"`
	Millis int64    `json:"ms"`

	c    *Case
	step int // index of the step that failed
}

// Group returns the group of the case.
func (r *Result) Group() string { return r.c.Group() }

// Counts reports whether the case is one that has to pass: no quirk, and of one of
// the required groups, if there are any.
func (r *Result) Counts(required map[string]bool) bool {
	return !r.Quirk && (len(required) == 0 || required[r.Group()])
}

// Required reads a list of groups: one a line, # begins a comment.
func Required(path string) (map[string]bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	groups := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			groups[line] = true
		}
	}
	return groups, nil
}

// RunAll runs the cases that only read in parallel, then the others one by one,
// so that what they write does not show up in the answers of the first.
func RunAll(srv *Server, cases []*Case, workers int) []*Result {
	results := make([]*Result, len(cases))
	var writers []int
	jobs := make(chan int)
	var wg sync.WaitGroup
	for i := 0; i < max(1, workers); i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range jobs {
				results[k] = runCase(srv, cases[k])
			}
		}()
	}
	for k, c := range cases {
		if c.Writes() {
			writers = append(writers, k)
			continue
		}
		jobs <- k
	}
	close(jobs)
	wg.Wait()
	for _, k := range writers {
		results[k] = runCase(srv, cases[k])
	}
	return results
}

func runCase(srv *Server, c *Case) *Result {
	r := &Result{Name: c.Name, Quirk: c.Quirk, c: c}
	start := time.Now()
	for i, st := range c.All() {
		// What a case has just written may take a moment to show.
		limit := time.Duration(st.WaitMS) * 2 * time.Millisecond
		if i > 0 && st.Endpoint != "push" && st.Endpoint != "otlp" {
			limit = max(limit, 3*time.Second)
		}
		deadline := time.Now().Add(limit)
		for {
			r.Diffs = attempt(srv, st)
			if len(r.Diffs) == 0 || !time.Now().Add(250*time.Millisecond).Before(deadline) {
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
		if len(r.Diffs) > 0 {
			r.step = i
			break
		}
	}
	r.Pass = len(r.Diffs) == 0
	r.Millis = time.Since(start).Milliseconds()
	return r
}

func attempt(srv *Server, st *Step) []string {
	resp, err := srv.Do(st)
	if err != nil {
		return []string{"request failed: " + err.Error()}
	}
	return Check(st.Compare, st.Expect, resp.Status, resp.Header, resp.Body)
}

// Summarise prints up to show failures, with failing quirks if asked to, and a
// table of all groups.
func Summarise(w io.Writer, results []*Result, show int, quirks bool) {
	type row struct{ pass, fail, quirkPass, quirkFail int }
	rows := map[string]*row{}
	var groups []string
	for _, r := range results {
		g := r.c.Group()
		if rows[g] == nil {
			rows[g] = &row{}
			groups = append(groups, g)
		}
		switch {
		case r.Quirk && r.Pass:
			rows[g].quirkPass++
		case r.Quirk:
			rows[g].quirkFail++
		case r.Pass:
			rows[g].pass++
		default:
			rows[g].fail++
		}
	}
	shown := 0
	for _, r := range results {
		if r.Pass || (r.Quirk && !quirks) || shown == show {
			continue
		}
		shown++
		mark := "FAIL"
		if r.Quirk {
			mark = "quirk"
		}
		fmt.Fprintf(w, "%s %s\n", mark, r.Name)
		st := r.c.All()[r.step]
		fmt.Fprintf(w, "     %s\n", describe(st))
		if len(r.c.Steps) > 0 {
			fmt.Fprintf(w, "     step %d of %d\n", r.step+1, len(r.c.Steps))
		}
		for _, d := range r.Diffs {
			fmt.Fprintf(w, "     %s\n", d)
		}
	}
	sort.Strings(groups)
	fmt.Fprintf(w, "\n%-16s %6s %6s   quirks (not counted)\n", "group", "pass", "fail")
	for _, g := range groups {
		r := rows[g]
		fmt.Fprintf(w, "%-16s %6d %6d", g, r.pass, r.fail)
		if n := r.quirkPass + r.quirkFail; n > 0 {
			fmt.Fprintf(w, "   %d of %d", r.quirkPass, n)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// describe shows a request on one line.
func describe(st *Step) string {
	names := make([]string, 0, len(st.Params))
	for n := range st.Params {
		if n != "query" {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString(st.Endpoint)
	if st.Label != "" {
		b.WriteString(" " + st.Label)
	}
	if q, ok := st.Params["query"]; ok {
		text := strings.Join(q, " ")
		if len(text) > 300 {
			text = text[:300] + "…"
		}
		b.WriteString(" " + text)
	}
	for _, n := range names {
		fmt.Fprintf(&b, " %s=%s", n, strings.Join(st.Params[n], ","))
	}
	return b.String()
}
