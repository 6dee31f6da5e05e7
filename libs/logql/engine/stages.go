package engine

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Stages that Loki does not have are about more than one entry, or about which entry it
// is, so that they run where the entries of all sources have been united and are in the
// asked order. Sources run what stands before the first of them, its head; the engine
// runs the others from left to right.

// extendedFrom returns the number of the first extended stage, or that of stages.
func extendedFrom(stages []syntax.Stage) int {
	if i := slices.IndexFunc(stages, syntax.Extended); i >= 0 {
		return i
	}
	return len(stages)
}

// headEnd returns the number of the first stage that sources do not run, of those of a
// log query. A sample is taken where the entries are, as it asks only which they are.
func headEnd(stages []syntax.Stage) int {
	i := slices.IndexFunc(stages, func(s syntax.Stage) bool {
		_, sample := s.(*syntax.Sample)
		return syntax.Extended(s) && !sample
	})
	if i < 0 {
		return len(stages)
	}
	return i
}

// withoutSamples takes the samples out of stages that sources run. A smaller share is
// part of a larger one.
func withoutSamples(stages []syntax.Stage) (rest []syntax.Stage, share float64) {
	for _, s := range stages {
		if s, ok := s.(*syntax.Sample); ok && (share == 0 || s.Share < share) {
			share = s.Share
		}
	}
	if share == 0 {
		return stages, 0
	}
	return slices.DeleteFunc(slices.Clone(stages), func(s syntax.Stage) bool {
		_, sample := s.(*syntax.Sample)
		return sample
	}), share
}

// isStaged reports whether a selector has extended stages.
func isStaged(sel *syntax.LogSelector) bool { return extendedFrom(sel.Stages) < len(sel.Stages) }

// headOf returns the part of a selector that sources run.
func headOf(sel *syntax.LogSelector) *syntax.LogSelector {
	return forSources(&syntax.LogSelector{Matchers: sel.Matchers, Bare: sel.Bare, Stages: sel.Stages[:headEnd(sel.Stages)]})
}

// anyStream is the matcher of queries that go to sources and have none: there a
// selector plays no part, but is part of the text.
var anyStream = syntax.MustMatcher(syntax.Re, "any", ".+")

// forSources returns a selector whose text is a query.
func forSources(sel *syntax.LogSelector) *syntax.LogSelector {
	if !sel.Bare {
		return sel
	}
	out := *sel
	out.Bare, out.Matchers = false, []*syntax.Matcher{anyStream}
	return &out
}

// step is one stage that the engine runs.
type step interface {
	// take processes a row, which is valid during the call only, and passes on what
	// comes of it. errStop: no more rows are needed.
	take(r *row) error
	// end is called when there are no more rows.
	end() error
}

// chain is the stages of a query that the engine runs. It is used by one goroutine.
type chain struct {
	mem  *Memory
	held int
	sets chainSets
	// ordered: entries do not come in the order of their places.
	ordered bool
	unrolls bool // several entries may have one place
	first   step
}

// chainFeed is the number of the feed of rows whose labels the chain has numbered.
const chainFeed = -1

// newChain makes a chain of stages, which compile, for entries in the asked order, that
// ends in last. most is how many entries are needed; 0: all.
func newChain(stages []syntax.Stage, mem *Memory, most int, last step) (*chain, error) {
	c := &chain{mem: mem}
	next := last
	// A sort needs to keep no more entries than are asked of it.
	need := most
	for end := len(stages); end > 0; {
		s := stages[end-1]
		if !syntax.Extended(s) {
			from := end
			for from > 0 && !syntax.Extended(stages[from-1]) {
				from--
			}
			p, err := pipeline.Compile(stages[from:end], pipeline.Hints{Now: time.Now})
			if err != nil {
				return nil, err
			}
			next, end, need = &segment{c: c, next: next, pipe: p}, from, 0
			continue
		}
		end--
		switch s := s.(type) {
		case *syntax.Distinct:
			next, need = &distinct{c: c, next: next, names: s.Labels, seen: map[string]struct{}{}}, 0
		case *syntax.Dedup:
			next, need = &dedup{next: next, names: s.Labels}, 0
		case *syntax.Sort:
			next = &sorter{c: c, next: next, by: s, keep: need}
			c.ordered, need = true, 0
		case *syntax.Top:
			next = &top{c: c, next: next, by: s, values: map[string]*topValue{}}
			c.ordered, need = true, 0
		case *syntax.Limit:
			next = &limit{next: next, left: s.N}
			if need == 0 || s.N < need {
				need = s.N
			}
		case *syntax.Sample:
			next, need = &sample{next: next, share: s.Share}, 0
		case *syntax.Unroll:
			next, need = &unroll{c: c, next: next, name: s.Label}, 0
			c.unrolls = true
		}
	}
	c.first = next
	return c, nil
}

// stateless reports whether what comes of an entry depends on no other entry.
func stateless(stages []syntax.Stage) bool {
	return !slices.ContainsFunc(stages, func(s syntax.Stage) bool {
		switch s.(type) {
		case *syntax.Sample, *syntax.Unroll:
			return false
		}
		return syntax.Extended(s)
	})
}

func (c *chain) reserve(n int) error {
	if err := c.mem.Reserve(n); err != nil {
		return err
	}
	c.held += n
	return nil
}

func (c *chain) giveBack(n int) {
	c.mem.Release(n)
	c.held -= n
}

// release gives all memory back.
func (c *chain) release() {
	c.giveBack(c.held)
	c.sets = chainSets{}
}

// chainSets numbers label sets. It forgets those it knows when there are too many; the
// numbers stay.
type chainSets struct {
	known map[string]*numberedSet
	next  uint32
	held  int
	key   []byte
}

type numberedSet struct {
	id uint32
	RowLabels
}

// maxChainSets is how many sets are known at once.
const maxChainSets = 16 << 10

// setLabels gives a row other labels. They need not last.
func (c *chain) setLabels(r *row, stream int, labels, metadata, parsed []model.Label) error {
	in := &c.sets
	in.key = appendSetKey(in.key[:0], stream, labels, metadata, parsed)
	set := in.known[string(in.key)]
	if set == nil {
		if len(in.known) >= maxChainSets {
			clear(in.known)
			c.giveBack(in.held)
			in.held = 0
		}
		size := 2*len(in.key) + 32*(len(labels)+len(metadata)+len(parsed)) + 160
		if err := c.reserve(size); err != nil {
			return err
		}
		in.held += size
		if in.known == nil {
			in.known = map[string]*numberedSet{}
		}
		in.next++
		set = &numberedSet{in.next, RowLabels{
			Stream: stream, Labels: cloneLabels(labels), Metadata: cloneLabels(metadata), Parsed: cloneLabels(parsed),
		}}
		in.known[string(in.key)] = set
	}
	r.feed, r.set, r.labels = chainFeed, set.id, &set.RowLabels
	return nil
}

// keep makes a row last. It has to be dropped some time.
func (c *chain) keep(r *row) (row, error) {
	out := *r
	if r.feed != chainFeed {
		if err := c.setLabels(&out, r.labels.Stream, r.labels.Labels, r.labels.Metadata, r.labels.Parsed); err != nil {
			return out, err
		}
	}
	if err := c.reserve(keptSize(&out)); err != nil {
		return out, err
	}
	out.line, out.lastOfBatch = slices.Clone(r.line), false
	return out, nil
}

func (c *chain) drop(r *row) { c.giveBack(keptSize(r)) }

// keptSize is roughly what a row takes that is kept, its labels included, though others
// may have the same.
func keptSize(r *row) int {
	n := len(r.line) + 200
	for _, set := range []model.Labels{r.labels.Labels, r.labels.Metadata, r.labels.Parsed} {
		for _, l := range set {
			n += 32 + len(l.Name) + len(l.Value)
		}
	}
	return n
}

// lookup returns the value of a label, of the three kinds that which hides the others.
func (l *RowLabels) lookup(name string) (string, bool) {
	for _, set := range []model.Labels{l.Parsed, l.Metadata, l.Labels} {
		if v, ok := set.Lookup(name); ok {
			return v, true
		}
	}
	return "", false
}

// appendValues appends the values of labels, so that they can be told apart; any is
// whether one is there and not "".
func (l *RowLabels) appendValues(dst []byte, names []string) (_ []byte, any bool) {
	for _, n := range names {
		v, _ := l.lookup(n)
		any = any || v != ""
		dst = strconv.AppendInt(dst, int64(len(v)), 10)
		dst = append(append(dst, ':'), v...)
	}
	return dst, any
}

// without returns labels without that of a name.
func withoutLabel(labels model.Labels, name string) model.Labels {
	if _, ok := labels.Lookup(name); !ok {
		return labels
	}
	return slices.DeleteFunc(slices.Clone(labels), func(l model.Label) bool { return l.Name == name })
}

// setParsed gives a row a parsed label.
func (c *chain) setParsed(r *row, name, value string) error {
	l := r.labels
	parsed := append(slices.Clone(withoutLabel(l.Parsed, name)), model.Label{Name: name, Value: value})
	slices.SortFunc(parsed, func(a, b model.Label) int { return cmp.Compare(a.Name, b.Name) })
	return c.setLabels(r, l.Stream, withoutLabel(l.Labels, name), withoutLabel(l.Metadata, name), parsed)
}

// segment is stages that are run on each entry.
type segment struct {
	c      *chain
	next   step
	pipe   *pipeline.Pipeline
	lines  *pipeline.Stream
	labels model.Labels // that lines is bound to
	buf    []model.Label
}

func (s *segment) take(r *row) error {
	switch {
	case s.lines == nil:
		s.lines = s.pipe.ForStream(r.labels.Labels)
	case !s.labels.Equal(r.labels.Labels):
		s.lines.Rebind(r.labels.Labels)
	}
	s.labels = r.labels.Labels
	s.lines.SetParsed(r.labels.Parsed)
	line, set, ok := s.lines.Process(r.key.Time, r.line, r.labels.Metadata)
	if !ok {
		return nil
	}
	buf := set.AppendStream(s.buf[:0])
	a := len(buf)
	buf = set.AppendMetadata(buf)
	b := len(buf)
	buf = set.AppendParsed(buf)
	s.buf = buf
	out := *r
	out.line = line
	if err := s.c.setLabels(&out, r.labels.Stream, buf[:a], buf[a:b], buf[b:]); err != nil {
		return err
	}
	return s.next.take(&out)
}

func (s *segment) end() error { return s.next.end() }

// distinct is `| distinct a, b`.
type distinct struct {
	c     *chain
	next  step
	names []string
	seen  map[string]struct{}
	key   []byte
}

func (d *distinct) take(r *row) error {
	d.key, _ = r.labels.appendValues(d.key[:0], d.names)
	if _, ok := d.seen[string(d.key)]; ok {
		return nil
	}
	if err := d.c.reserve(len(d.key) + 64); err != nil {
		return err
	}
	d.seen[string(d.key)] = struct{}{}
	return d.next.take(r)
}

func (d *distinct) end() error { return d.next.end() }

// dedup is `| dedup a, b`.
type dedup struct {
	next      step
	names     []string
	any       bool
	last, key []byte
}

func (d *dedup) take(r *row) error {
	d.key, _ = r.labels.appendValues(d.key[:0], d.names)
	if d.any && string(d.key) == string(d.last) {
		return nil
	}
	d.any, d.last, d.key = true, d.key, d.last
	return d.next.take(r)
}

func (d *dedup) end() error { return d.next.end() }

// limit is `| limit n`.
type limit struct {
	next step
	left int
}

func (l *limit) take(r *row) error {
	if l.left == 0 {
		return errStop
	}
	l.left--
	if err := l.next.take(r); err != nil {
		return err
	}
	if l.left == 0 {
		return errStop // nobody has to look for another one
	}
	return nil
}

func (l *limit) end() error { return l.next.end() }

// sample is `| sample p`. The hash of an entry decides, so that it is the same entries
// wherever they are and however often one asks.
type sample struct {
	next  step
	share float64
}

func (s *sample) take(r *row) error {
	if !sampled(r.key.Hash, s.share) {
		return nil
	}
	return s.next.take(r)
}

func (s *sample) end() error { return s.next.end() }

// sampled reports whether an entry is part of a sample. A smaller share is part of a
// larger one.
func sampled(hash uint64, share float64) bool {
	// Hashes need not be uniform: mix all bits into the upper ones.
	hash ^= hash >> 30
	hash *= 0xbf58476d1ce4e5b9
	hash ^= hash >> 27
	hash *= 0x94d049bb133111eb
	hash ^= hash >> 31
	return float64(hash>>11)/(1<<53) < share
}

// unroll is `| unroll a`.
type unroll struct {
	c    *chain
	next step
	name string
}

func (u *unroll) take(r *row) error {
	text, ok := r.labels.lookup(u.name)
	if !ok {
		return u.next.take(r)
	}
	array, err := pipeline.Elements(text, func(value string) error {
		out := *r
		if err := u.c.setParsed(&out, u.name, value); err != nil {
			return err
		}
		out.lastOfBatch = false
		return u.next.take(&out)
	})
	if !array {
		return u.next.take(r)
	}
	return err
}

func (u *unroll) end() error { return u.next.end() }
