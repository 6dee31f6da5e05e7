// Package node reads YAML into structs so that all problems of a file come out at
// once, each with its line and, where something like it is known, a suggestion.
// It is pure.
package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is something wrong with a configuration.
type Problem struct {
	// Line is where, from 1; 0: nowhere in particular.
	Line int
	// Path is the key, as in clients[0].url. It may be empty.
	Path string
	// Text says what is wrong and, where that is known, what to do.
	Text string
	// Warning: it can be run as it is, but not all of it may do what was meant.
	Warning bool
}

// Error is the problem in one line.
func (p Problem) Error() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Problems is a list of them.
type Problems []Problem

// Error is the list, one to a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil if there are only warnings.
func (ps Problems) Err() error {
	var errs Problems
	for _, p := range ps {
		if !p.Warning {
			errs = append(errs, p)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// Warnings are those that are no errors.
func (ps Problems) Warnings() Problems {
	var out Problems
	for _, p := range ps {
		if p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// Sort orders by line.
func (ps Problems) Sort() {
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].Line < ps[j].Line })
}

// maxProblems bounds the list: who has that many needs no more to know.
const maxProblems = 200

// Fail adds an error at n, which may be nil.
func (ps *Problems) Fail(n *yaml.Node, path, format string, args ...any) {
	ps.add(n, path, false, format, args...)
}

// Warn adds a warning.
func (ps *Problems) Warn(n *yaml.Node, path, format string, args ...any) {
	ps.add(n, path, true, format, args...)
}

func (ps *Problems) add(n *yaml.Node, path string, warning bool, format string, args ...any) {
	if len(*ps) >= maxProblems {
		return
	}
	p := Problem{Path: path, Text: fmt.Sprintf(format, args...), Warning: warning}
	if n != nil {
		p.Line = n.Line
	}
	*ps = append(*ps, p)
}

// Parse gives the root of a document with one mapping; nil for an empty one.
func Parse(data []byte, ps *Problems) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		ps.syntax(err)
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err != nil {
			ps.syntax(err)
		} else {
			ps.Fail(nil, "", "more than one YAML document")
		}
		return nil
	}
	if len(doc.Content) != 1 || IsNull(doc.Content[0]) {
		return nil
	}
	if cyclic(doc.Content[0], nil, new(int)) {
		ps.Fail(doc.Content[0], "", "an alias that contains itself, or too many of them")
		return nil
	}
	return doc.Content[0]
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func (ps *Problems) syntax(err error) {
	p := Problem{Text: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Text = "not YAML: " + m[2]
	}
	*ps = append(*ps, p)
}

// cyclic looks for aliases without end, and for a few that stand for millions.
func cyclic(n *yaml.Node, above []*yaml.Node, seen *int) bool {
	if *seen++; *seen > 1_000_000 || len(above) > 1000 {
		return true
	}
	if n.Kind == yaml.AliasNode {
		if slices.Contains(above, n.Alias) {
			return true
		}
		return n.Alias != nil && cyclic(n.Alias, append(above, n.Alias), seen)
	}
	if n.Kind != yaml.ScalarNode {
		above = append(above, n)
	}
	for _, c := range n.Content {
		if cyclic(c, above, seen) {
			return true
		}
	}
	return false
}

// Resolve follows an alias.
func Resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// IsNull reports a value that is not there: "key:" with nothing behind it.
func IsNull(n *yaml.Node) bool {
	n = Resolve(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// Pair is a key of a mapping with its value.
type Pair struct{ Key, Value *yaml.Node }

// Pairs gives the pairs of a mapping, merged ones (<<) included, each key once;
// keys given twice are problems. Not a mapping: a problem, and false.
func Pairs(n *yaml.Node, path string, ps *Problems) ([]Pair, bool) {
	n = Resolve(n)
	if IsNull(n) {
		return nil, true
	}
	if n.Kind != yaml.MappingNode {
		ps.Fail(n, path, "must be a mapping of keys to values, not %s", Kind(n))
		return nil, false
	}
	var out, merged []Pair
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := Resolve(n.Content[i]), Resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			ps.Fail(key, path, "a key must be a plain text")
			continue
		case key.Tag == "!!merge":
			sources := []*yaml.Node{value}
			if value.Kind == yaml.SequenceNode {
				sources = value.Content
			}
			for _, s := range sources {
				more, _ := Pairs(s, path, ps)
				merged = append(merged, more...)
			}
			continue
		}
		if first, twice := lines[key.Value]; twice {
			ps.Fail(key, Join(path, key.Value), "given twice, first in line %d", first)
			continue
		}
		lines[key.Value] = key.Line
		out = append(out, Pair{key, value})
	}
	for _, p := range merged {
		if _, there := lines[p.Key.Value]; !there {
			lines[p.Key.Value] = p.Key.Line
			out = append(out, p)
		}
	}
	return out, true
}

// Items gives the items of a list; nothing counts as an empty one.
func Items(n *yaml.Node, path string, ps *Problems) ([]*yaml.Node, bool) {
	n = Resolve(n)
	if IsNull(n) {
		return nil, true
	}
	if n.Kind != yaml.SequenceNode {
		ps.Fail(n, path, "must be a list, not %s", Kind(n))
		return nil, false
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out[i] = Resolve(c)
	}
	return out, true
}

// Kind names what a node is.
func Kind(n *yaml.Node) string {
	switch n = Resolve(n); {
	case IsNull(n):
		return "nothing"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.ScalarNode:
		return strconv.Quote(clip(n.Value))
	}
	return "something else"
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Index appends a position in a list to a path.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// DidYouMean gives "; did you mean X?" for the nearest of names, or "".
func DidYouMean(word string, names []string) string {
	best, dist := "", 3
	if len(word) <= 4 {
		dist = 2
	}
	for _, n := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(n)); d < dist {
			best, dist = n, d
		}
	}
	if best == "" {
		squash := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
		for _, n := range names {
			if squash(n) == squash(word) {
				best = n
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance counts insertions, deletions, changes and swaps of neighbours.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 99
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
