package pipeline

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
)

// maxGroups bounds the label sets of one source that have lines held at one
// stage. Beyond it the one that has waited longest goes out.
const maxGroups = 1000

// joins are the lines of a source that one op holds.
type joins struct {
	groups map[string]*group
	key    []byte
}

// group is lines of one label set that are to become one. What it has is its
// own: nothing aliases what was passed in.
type group struct {
	key      string
	from     state // labels, time, metadata and extracted values of the joined line
	text     []byte
	lines    int // held; 0: nothing, but from still counts
	spans    []entry.Span
	deadline time.Time
	cutting  bool // the text is at its longest, what follows is left out
}

// joinsAt gives what the op holds.
func (r *Runner) joinsAt(at int) *joins {
	j := r.joins[at]
	if j == nil {
		j = &joins{groups: map[string]*group{}}
		r.joins[at] = j
	}
	return j
}

// find gives the group of the line's labels, or nil.
func (j *joins) find(s *state) *group {
	j.key = entry.AppendKey(j.key[:0], s.labels)
	return j.groups[string(j.key)]
}

// open makes a group for the labels that find was called for last.
func (r *Runner) open(j *joins, at int) *group {
	if len(j.groups) >= maxGroups {
		var oldest *group
		for _, g := range j.groups {
			if oldest == nil || g.deadline.Before(oldest.deadline) {
				oldest = g
			}
		}
		r.complete(at, oldest)
		delete(j.groups, oldest.key)
	}
	g := &group{key: string(j.key)}
	j.groups[g.key] = g
	return g
}

// save makes s what the joined line is but for its text.
func (g *group) save(s *state) {
	f := &g.from
	f.base, f.labelsChanged = s.base, s.labelsChanged
	f.labels = s.labels
	if s.labelsChanged {
		f.labels = cloneLabels(s.labels)
	}
	f.time, f.ownTime, f.tenant = s.time, s.ownTime, strings.Clone(s.tenant)
	f.meta = nil
	if len(s.meta) > 0 {
		f.meta = cloneLabels(s.meta)
	}
	f.values = append(f.values[:0], s.values...)
	n := 0
	for i := range f.values {
		n += len(f.values[i].s)
	}
	if n == 0 {
		return
	}
	slab := make([]byte, 0, n) // not used again: what is given out may point to it
	for i := range f.values {
		from := len(slab)
		slab = append(slab, f.values[i].s...)
		f.values[i].s = str(slab[from:])
	}
}

// add holds a line's text and span.
func (g *group) add(s *state, sep string) {
	if g.lines > 0 {
		g.text = append(g.text, sep...)
	}
	g.text = append(g.text, s.line...)
	g.lines++
	g.hold(s)
}

func (g *group) hold(s *state) {
	spans := s.spans
	if spans == nil {
		spans = []entry.Span{s.span}
	}
	for _, sp := range spans {
		if n := len(g.spans); n > 0 && g.spans[n-1].End == sp.Start {
			g.spans[n-1].End = sp.End
		} else {
			g.spans = append(g.spans, sp)
		}
	}
}

// take moves the text and the spans into s and leaves the group without lines.
func (g *group) take(r *Runner, s *state) {
	s.line = r.kept(append(r.room(), g.text...))
	if cap(g.text) > 64<<10 {
		g.text = nil
	}
	g.text = g.text[:0]
	s.spans = nil
	if n := len(g.spans); n > 0 {
		s.span = entry.Span{Start: g.spans[0].Start, End: g.spans[n-1].End}
		if n > 1 {
			s.spans = slices.Clone(g.spans)
		}
	}
	g.spans = g.spans[:0]
	g.lines, g.cutting = 0, false
}

// complete gives a group out as it is: the line goes on behind the op.
func (r *Runner) complete(at int, g *group) {
	if g.lines == 0 {
		return
	}
	s := r.get()
	f := &g.from
	s.base, s.labelsChanged = f.base, f.labelsChanged
	if s.labelsChanged {
		s.ownLabels = append(s.ownLabels[:0], f.labels...)
		s.labels = s.ownLabels
	} else {
		s.labels = f.labels
	}
	s.time, s.ownTime, s.tenant = f.time, f.ownTime, f.tenant
	s.meta, s.ownMeta = f.meta, false
	copy(s.values, f.values)
	g.take(r, s)
	r.from(at+1, s)
	r.put(s)
}

// Deadline implements entry.Runner.
func (r *Runner) Deadline() time.Time {
	var first time.Time
	if r.err != nil {
		return first
	}
	for _, j := range r.joins {
		for _, g := range j.groups {
			if g.lines > 0 && (first.IsZero() || g.deadline.Before(first)) {
				first = g.deadline
			}
		}
	}
	return first
}

// Flush implements entry.Runner.
func (r *Runner) Flush(now time.Time, all bool) []entry.Entry {
	if r.err != nil || len(r.joins) == 0 {
		return nil
	}
	r.begin(r.ctx, now)
	// What comes out of one op may be held by a later one.
	for at := range r.p.ops {
		j := r.joins[at]
		if j == nil {
			continue
		}
		r.flushGroups(at, j, func(g *group) bool { return all || !g.deadline.After(now) })
	}
	return r.out
}

// flushGroups gives out those that want it, in the order in which they were read.
func (r *Runner) flushGroups(at int, j *joins, want func(*group) bool) {
	var due []*group
	for _, g := range j.groups {
		if g.lines > 0 && want(g) {
			due = append(due, g)
		}
	}
	slices.SortFunc(due, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.spans[0].Start, b.spans[0].Start), strings.Compare(a.key, b.key))
	})
	for _, g := range due {
		r.complete(at, g)
	}
}

// passBy is for a line that jumps over ops: what they hold of its labels came
// before it, and so goes out before it.
func (r *Runner) passBy(from, to int, s *state) {
	if len(r.joins) == 0 {
		return
	}
	for at := from; at < to; at++ {
		if j := r.joins[at]; j != nil {
			if g := j.find(s); g != nil {
				r.complete(at, g)
			}
		}
	}
}

// Held implements entry.Runner.
func (r *Runner) Held(dst []entry.Span) []entry.Span {
	if len(r.joins) == 0 {
		return dst
	}
	from := len(dst)
	for _, j := range r.joins {
		for _, g := range j.groups {
			if g.lines > 0 {
				dst = append(dst, g.spans...)
			}
		}
	}
	held := dst[from:]
	slices.SortFunc(held, func(a, b entry.Span) int { return cmp.Compare(a.Start, b.Start) })
	n := 0
	for _, sp := range held {
		if n > 0 && held[n-1].End >= sp.Start {
			held[n-1].End = max(held[n-1].End, sp.End)
			continue
		}
		held[n] = sp
		n++
	}
	return dst[:from+n]
}

// multiline joins a line that matches first with the lines that follow it and do
// not.
type multiline struct {
	first    matcher
	wait     time.Duration
	maxLines int
	maxBytes int
}

func (m *multiline) joins() {}

func (m *multiline) run(r *Runner, s *state, at int) verdict {
	j := r.joinsAt(at)
	g := j.find(s)
	switch {
	case m.first.Match(s.line):
		if g == nil {
			g = r.open(j, at)
		} else {
			r.complete(at, g)
		}
		g.save(s)
	case g == nil:
		return keep // no first line has come yet
	case g.lines > 0 && len(g.text)+1+len(s.line) > m.maxBytes:
		r.complete(at, g)
	}
	g.add(s, "\n")
	g.deadline = r.now.Add(m.wait)
	if m.maxLines > 0 && g.lines >= m.maxLines {
		r.complete(at, g)
	}
	return hold
}

// matcher is what multiline needs of a regular expression.
type matcher interface{ Match(b []byte) bool }

// partials joins the pieces in which a container's engine writes long lines.
type partials struct {
	wait      time.Duration
	maxGroups int // open at once; then all go out as they are
	maxBytes  int // of a joined line
	truncate  bool
}

// piece takes a piece of a line: the last one completes it.
func (p *partials) piece(r *Runner, s *state, at int, last bool) verdict {
	j := r.joins[at]
	if j == nil {
		if last {
			return keep
		}
		j = r.joinsAt(at)
	}
	if last && len(j.groups) == 0 {
		return keep
	}
	g := j.find(s)
	if last {
		if g == nil {
			return keep
		}
		delete(j.groups, g.key)
		p.append(r, g, s, at)
		g.take(r, s)
		return keep
	}
	if g == nil {
		if len(j.groups) >= p.maxGroups {
			r.flushGroups(at, j, func(*group) bool { return true })
			clear(j.groups)
			j.find(s)
		}
		g = r.open(j, at)
		g.save(s)
	}
	g.from.time, g.from.ownTime = s.time, s.ownTime
	p.append(r, g, s, at)
	g.deadline = r.now.Add(p.wait)
	return hold
}

// cutMark ends a line of which something was left out.
const cutMark = "...[cut]"

func (p *partials) append(r *Runner, g *group, s *state, at int) {
	switch room := p.maxBytes - len(g.text); {
	case g.cutting:
		g.hold(s)
		return
	case len(s.line) > room:
		if p.truncate { // as asked for: without a mark
			s.line = s.line[:room]
		} else {
			n := cutAt(s.line, max(room-len(cutMark), 0))
			s.line = append(append([]byte(nil), s.line[:n]...), cutMark...)
		}
		g.cutting = true
		r.p.m.wasCut(r.p.ops[at].name)
	}
	g.add(s, "")
}

// cutAt gives the largest length up to n at which no character is split.
func cutAt(b []byte, n int) int {
	if n >= len(b) {
		return len(b)
	}
	for i := 0; i < 4 && n-i >= 0; i++ {
		if b[n-i]&0xC0 != 0x80 {
			return n - i
		}
	}
	return n
}
