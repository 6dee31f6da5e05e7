package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/logql/syntax"
)

// Identified is a Session over what is immutable: the same name always stands for the
// same rows, whose times are from least to greatest.
type Identified interface {
	Session
	Identities(yield func(name string, least, greatest int64))
}

// identified returns the session, or that which it wraps, if it is Identified.
func identified(s Session) Identified {
	for s != nil {
		if i, ok := s.(Identified); ok {
			return i
		}
		u, ok := s.(interface{ Unwrap() Session })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	return nil
}

// sumSeeds make sums differ between processes, so that nobody can write entries whose
// sums are those of others.
var sumSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

type sum [2]uint64

func sumOf(b []byte) sum {
	return sum{maphash.Bytes(sumSeeds[0], b), maphash.Bytes(sumSeeds[1], b)}
}

func (s *sum) add(o sum)      { s[0] += o[0]; s[1] += o[1] }
func (s *sum) subtract(o sum) { s[0] -= o[0]; s[1] -= o[1] }

// sums returns, for n parts of a grid whose windows begin at equal distances, what
// stands for all that the part's answer is made from: the sources' rows by their
// identities and digests, and what is left out of them. It is zero for parts of which
// that cannot be told. ok is false if no part can be: the answer may lack something.
func (o *opened) sums(ctx context.Context, n int, at func(part int) *grid) (out [][2]uint64, ok bool) {
	if slices.Contains(o.failed, true) {
		return nil, false
	}
	spans := partSpans{n: n, from: at(0).from(), to: at(0).to(), distance: partSteps * at(0).step}
	of := make([][]sum, n) // of each part, those of sessions
	unknown := make([]bool, n)
	for _, s := range o.sessions {
		if s == nil {
			return nil, false
		}
		if len(s.Gaps()) > 0 {
			return nil, false
		}
		ok := true
		leaves(s, func(s Session) { ok = spans.collect(s, of, unknown) && ok })
		if !ok {
			return nil, false
		}
	}
	out = make([][2]uint64, n)
	for i := range out {
		if unknown[i] {
			continue
		}
		// Copies are the same as one.
		slices.SortFunc(of[i], func(a, b sum) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
		var b []byte
		for _, s := range slices.Compact(of[i]) {
			b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, s[0]), s[1])
		}
		g := at(i)
		out[i] = sumOf(append(append(b, 0), exclusionText(ExcludedOf(ctx), g.from(), g.to())...))
	}
	return out, true
}

// partSpans is the times of the windows of parts: part i has from+i*distance <= time <
// to+i*distance. They may overlap.
type partSpans struct {
	n                  int
	from, to, distance int64
}

// meeting returns the first part that has times of a range, and the one behind the
// last. Both ends of the range are inclusive.
func (p *partSpans) meeting(least, greatest int64) (first, end int) {
	if greatest < p.from || least >= p.to+int64(p.n-1)*p.distance {
		return 0, 0
	}
	if least >= p.to {
		first = int((least-p.to)/p.distance) + 1
	}
	end = int(min((greatest-p.from)/p.distance, int64(p.n-1))) + 1
	return first, max(first, end)
}

// collect appends to each part the sum of what a session has of its range.
func (p *partSpans) collect(s Session, of [][]sum, unknown []bool) bool {
	if i := identified(s); i != nil {
		if w := wholeOf(s); w != nil {
			if e, ok := w.extent(); ok && e.Streams == 0 {
				return true
			}
		}
		i.Identities(func(name string, least, greatest int64) {
			x := sumOf([]byte("\x01" + name))
			for first, end := p.meeting(least, greatest); first < end; first++ {
				of[first] = append(of[first], x)
			}
		})
		return true
	}
	if w := wholeOf(s); w != nil {
		if _, ok := w.extent(); ok {
			return false // a list would change what its numbers mean
		}
	}
	// What begins and ends with each part.
	sums, unknowns := make([]sum, p.n+1), make([]int, p.n+1)
	var b []byte
	for _, st := range s.Streams() {
		b = b[:0]
		for _, l := range st.Labels {
			b = binary.AppendUvarint(b, uint64(len(l.Name)))
			b = append(b, l.Name...)
			b = binary.AppendUvarint(b, uint64(len(l.Value)))
			b = append(b, l.Value...)
		}
		stream := sumOf(b)
		for _, r := range st.Runs {
			first, end := p.meeting(r.MinTime, r.MaxTime)
			if first == end || r.Rows == 0 {
				continue
			}
			if r.Digest == 0 {
				unknowns[first]++
				unknowns[end]--
			}
			x := stream.run(&r)
			sums[first].add(x)
			sums[end].subtract(x)
		}
	}
	var at sum
	depth := 0
	for i := range p.n {
		at.add(sums[i])
		depth += unknowns[i]
		unknown[i] = unknown[i] || depth > 0
		if at != (sum{}) {
			of[i] = append(of[i], at)
		}
	}
	return true
}

// run returns the sum of a run of a stream.
func (s sum) run(r *Run) sum {
	mix := func(h uint64) uint64 {
		for _, v := range [...]uint64{uint64(r.MinTime), uint64(r.MaxTime), r.Rows, r.Bytes, r.Digest} {
			h = (h ^ v) * 0x9E3779B97F4A7C15
			h ^= h >> 29
			h *= 0xBF58476D1CE4E5B9
			h ^= h >> 32
		}
		return h
	}
	return sum{mix(s[0]), mix(s[1])}
}

// exclusionText tells what a set leaves out of from <= time < to, as far as it can
// concern rows there. Of cutoffs all are named, as the first that concerns a row
// decides.
func exclusionText(x *Excluded, from, to int64) (b []byte) {
	if x == nil {
		return nil
	}
	text := func(matchers []*syntax.Matcher, stages []syntax.Stage) {
		t := (&syntax.LogSelector{Matchers: matchers, Stages: stages}).String()
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	for _, t := range x.Tombstones {
		if t.Start < to && t.End > from {
			b = append(b, 't')
			text(t.Selector.Matchers, t.Selector.Stages)
			b = binary.AppendVarint(binary.AppendVarint(b, max(t.Start, from)), min(t.End, to))
		}
	}
	for _, c := range x.Retention {
		b = append(b, 'r')
		text(c.Matchers, c.Stages)
		before := c.Before
		switch {
		case before <= from:
			before = math.MinInt64
		case before >= to:
			before = math.MaxInt64
		}
		b = binary.AppendVarint(b, before)
	}
	return b
}
