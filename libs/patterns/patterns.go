// Package patterns finds what the lines of a stream have in common: lines that differ
// only in some words become one pattern, in which <_> stands for those. It is pure.
//
// The clustering is that of the Drain algorithm (He, Zhu, Zheng, Lyu, 2017): a line is
// cut into tokens; lines of as many tokens that begin alike are compared with the
// patterns found so far, and join the one that most of their tokens equal.
package patterns

import (
	"cmp"
	"slices"
	"strings"
)

// Wildcard stands for anything in the text of a pattern.
const Wildcard = "<_>"

const (
	maxLine     = 3000 // bytes
	minTokens   = 4
	maxTokens   = 80
	maxDepth    = 28      // leading tokens that the tree tells apart
	maxChildren = 15      // of a node
	maxClusters = 300     // of a stream
	maxAll      = 3000    // clusters of a Set
	maxSamples  = 1 << 20 // of all clusters
	similar     = 0.3     // the part of its tokens that a line shares with its cluster
)

// Pattern is lines that are alike.
type Pattern struct {
	Text, Level string
	Total       uint64           // lines
	Samples     map[int64]uint64 // lines by the bucket of time that they are in
}

// Set finds the patterns of streams. Streams are told apart while patterns are looked
// for, and levels as well; equal patterns of equal level are one in the end. What it
// holds is bounded: beyond that those go that were not met for longest, or are the most
// seldom. It is used by one goroutine.
type Set struct {
	width    int64
	trees    map[treeKey]*tree
	clusters int
	samples  int
	clock    uint64
	shapes   map[shapeKey]*shape
	words    []uint64 // of the line at work
	tokens   []token  // likewise
	last     lastPattern
	none     string // what AddPattern found to be no pattern last
}

// lastPattern is what AddPattern added last. The same once more belongs to the same
// cluster, if nothing else came in between.
type lastPattern struct {
	key     treeKey
	text    string
	cluster *cluster // nil: there is none
}

type treeKey struct{ stream, level string }

// New returns an empty set, which counts lines by buckets of width nanoseconds, of
// which it takes the number: time / width, rounded down.
func New(width int64) *Set {
	return &Set{width: width, trees: map[treeKey]*tree{}, shapes: map[shapeKey]*shape{}}
}

// Add adds a line of a stream, which may be kept. Lines that are too long, or of too
// few or too many tokens, belong to no pattern.
func (s *Set) Add(stream, level string, time int64, line string) {
	if len(line) > maxLine {
		return
	}
	bucket := time / s.width
	if time%s.width < 0 {
		bucket--
	}
	s.last.cluster = nil
	key := treeKey{stream, level}
	k := shapeKey{treeKey: key}
	k.hash, s.words = skeleton(s.words[:0], line)
	if sh := s.shapes[k]; sh != nil && sh.known(s.words) {
		if sh.cluster != nil {
			s.count(sh.cluster, bucket, 1)
		}
		return
	}
	t := s.trees[key]
	if t == nil {
		t = &tree{roots: map[int]*node{}}
	}
	tokens, ok := cutLine(s.tokens[:0], line)
	s.tokens = tokens
	if !ok || len(tokens) < minTokens || len(tokens) > maxTokens {
		s.learn(k, nil, s.words)
		return
	}
	if c := s.add(key, t, tokens, bucket, 1); c != nil {
		s.learn(k, c, s.words)
	}
}

// AddPattern adds n lines of a stream of which only what they have in common is known:
// another set's pattern, or a template with <_> for what varies, which may be a part of a
// word. bucket is that of their time.
func (s *Set) AddPattern(stream, level string, bucket int64, text string, n uint64) {
	key := treeKey{stream, level}
	if l := &s.last; l.cluster != nil && l.key == key && l.text == text {
		s.count(l.cluster, bucket, n)
		return
	}
	if s.none == text {
		return
	}
	s.last.cluster = nil
	tokens, ok := cutPattern(s.tokens[:0], text)
	s.tokens = tokens
	if !ok || len(tokens) > maxTokens || !slices.ContainsFunc(tokens, func(t token) bool { return t.text != Wildcard }) {
		s.none = text
		return
	}
	t := s.trees[key]
	if t == nil {
		t = &tree{roots: map[int]*node{}}
	}
	s.last = lastPattern{key, text, s.add(key, t, tokens, bucket, n)}
}

// add adds lines of tokens and returns their cluster; nil: there is no room.
func (s *Set) add(key treeKey, t *tree, tokens []token, bucket int64, n uint64) *cluster {
	c := t.leaf(tokens, false).match(tokens)
	if c == nil {
		if s.clusters >= maxAll && len(t.all) == 0 {
			return nil
		}
		if len(t.all) >= maxClusters || s.clusters >= maxAll {
			s.forget(t, t.oldest())
		}
		c = t.add(tokens)
		s.clusters++
		s.trees[key] = t
	} else {
		c.generalize(tokens)
	}
	s.count(c, bucket, n)
	return c
}

// count counts lines of a cluster.
func (s *Set) count(c *cluster, bucket int64, n uint64) {
	if _, ok := c.samples[bucket]; !ok {
		if s.samples >= maxSamples {
			s.shrink(c)
		}
		s.samples++
	}
	s.clock++
	c.used = s.clock
	c.total += n
	c.samples[bucket] += n
}

// forget removes a cluster.
func (s *Set) forget(t *tree, i int) {
	s.samples -= len(t.all[i].samples)
	s.clusters--
	t.remove(i)
}

// shrink removes the clusters of fewest lines, but keep, until there is room for more
// samples.
func (s *Set) shrink(keep *cluster) {
	var totals []uint64
	for _, t := range s.trees {
		for _, c := range t.all {
			totals = append(totals, c.total)
		}
	}
	slices.Sort(totals)
	for _, least := range totals {
		for _, t := range s.trees {
			for i := len(t.all) - 1; i >= 0; i-- {
				if t.all[i].total <= least && t.all[i] != keep {
					s.forget(t, i)
				}
			}
		}
		if s.samples <= maxSamples/2 {
			return
		}
	}
}

// Each calls yield with what was found of each stream, in no order. Patterns may be equal.
func (s *Set) Each(yield func(stream string, p Pattern)) {
	for k, t := range s.trees {
		for _, c := range t.all {
			yield(k.stream, Pattern{render(c.tokens), k.level, c.total, c.samples})
		}
	}
}

// Patterns returns the patterns of at least atLeast lines, at most most of them, those
// of most lines first.
func (s *Set) Patterns(atLeast uint64, most int) []Pattern {
	type key struct{ text, level string }
	found := map[key]*Pattern{}
	for k, t := range s.trees {
		for _, c := range t.all {
			text := render(c.tokens)
			if text == Wildcard {
				continue // it says nothing
			}
			p := found[key{text, k.level}]
			if p == nil {
				p = &Pattern{Text: text, Level: k.level, Samples: map[int64]uint64{}}
				found[key{text, k.level}] = p
			}
			p.Total += c.total
			for at, n := range c.samples {
				p.Samples[at] += n
			}
		}
	}
	var out []Pattern
	for _, p := range found {
		if p.Total >= atLeast {
			out = append(out, *p)
		}
	}
	slices.SortFunc(out, func(a, b Pattern) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), strings.Compare(a.Text, b.Text), strings.Compare(a.Level, b.Level))
	})
	return out[:min(len(out), most)]
}

// tree is the clusters of one stream and level.
type tree struct {
	roots map[int]*node // by number of tokens
	all   []*cluster
}

// node is the lines whose first tokens are those on the way to it. Only the last ones
// on a way have clusters.
type node struct {
	parent   *node  // nil: a root
	text     string // in the parent's children
	children map[string]*node
	clusters []*cluster
}

type cluster struct {
	leaf    *node
	tokens  []token
	total   uint64
	samples map[int64]uint64
	used    uint64
	gone    bool
}

// leaf returns the node of a line; nil if there is none and it is not to be made.
func (t *tree) leaf(tokens []token, grow bool) *node {
	n := t.roots[len(tokens)]
	if n == nil {
		if !grow {
			return nil
		}
		n = &node{}
		t.roots[len(tokens)] = n
	}
	for _, tok := range tokens[:min(len(tokens), maxDepth)] {
		text := tok.text
		if strings.ContainsAny(text, "0123456789") {
			text = Wildcard
		}
		next := n.children[text]
		if next == nil && text != Wildcard && len(n.children) >= maxChildren-1 {
			text = Wildcard
			next = n.children[text]
		}
		if next == nil {
			if !grow {
				return nil
			}
			next = &node{parent: n, text: text}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[text] = next
		}
		n = next
	}
	return n
}

// match returns the cluster that a line is most like, nil if it is like none. n may be
// nil.
func (n *node) match(tokens []token) *cluster {
	if n == nil {
		return nil
	}
	var best *cluster
	bestEqual, bestWild := -1, -1
	for _, c := range n.clusters {
		equal, wild := 0, 0
		for i := range tokens {
			switch c.tokens[i].text {
			case tokens[i].text:
				equal++
			case Wildcard:
				wild++
			}
		}
		if equal > bestEqual || (equal == bestEqual && wild > bestWild) {
			best, bestEqual, bestWild = c, equal, wild
		}
	}
	if best == nil || float64(bestEqual) < similar*float64(len(tokens)) {
		return nil
	}
	return best
}

func (t *tree) add(tokens []token) *cluster {
	n := t.leaf(tokens, true)
	c := &cluster{leaf: n, tokens: slices.Clone(tokens), samples: map[int64]uint64{}}
	n.clusters = append(n.clusters, c)
	t.all = append(t.all, c)
	return c
}

// oldest returns the cluster that was not used for longest.
func (t *tree) oldest() int {
	oldest := 0
	for i, c := range t.all {
		if c.used < t.all[oldest].used {
			oldest = i
		}
	}
	return oldest
}

// remove removes a cluster, and the nodes that lead to nothing then.
func (t *tree) remove(i int) {
	c := t.all[i]
	c.gone = true
	t.all = slices.Delete(t.all, i, i+1)
	c.leaf.clusters = slices.DeleteFunc(c.leaf.clusters, func(o *cluster) bool { return o == c })
	n := c.leaf
	for ; n.parent != nil && len(n.children) == 0 && len(n.clusters) == 0; n = n.parent {
		delete(n.parent.children, n.text)
	}
	if n.parent == nil && len(n.children) == 0 {
		delete(t.roots, len(c.tokens))
	}
}

// generalize makes wildcards of what differs.
func (c *cluster) generalize(tokens []token) {
	for i := range tokens {
		if c.tokens[i].text != tokens[i].text {
			c.tokens[i].text = Wildcard
		}
	}
}

// render writes a pattern; neighbouring wildcards are one.
func render(tokens []token) string {
	var sb strings.Builder
	for i, tok := range tokens {
		if i > 0 && tok.text == Wildcard && tokens[i-1].text == Wildcard {
			continue
		}
		if i > 0 {
			sb.WriteString(tok.before)
		}
		sb.WriteString(tok.text)
	}
	return sb.String()
}
