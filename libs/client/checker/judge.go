package checker

import (
	"fmt"
	"slices"
	"strings"
)

// Span is a range of times, From inclusive and To exclusive, in nanoseconds since the
// Unix epoch. The zero Span has all times.
type Span struct{ From, To int64 }

func (s Span) has(time int64) bool { return s == Span{} || s.From <= time && time < s.To }

// Read is the rows of one answer, all pages of it.
type Read struct {
	Span     Span // that was asked for
	Backward bool
	Pages    int

	rows  []row
	wrong []string // what is no row of a writer
	// The last time of the pages before this one, and whether there is one.
	border  int64
	current []int64
}

type row struct {
	entry  Entry
	stream string
	time   int64
}

// Add adds a row of the current page. Rows of one stream come in the order of the
// answer; those of different streams in any order.
func (r *Read) Add(stream string, time int64, line []byte) {
	r.current = append(r.current, time)
	e, err := ParseLine(line)
	switch {
	case err != nil:
		r.wrong = append(r.wrong, err.Error())
		return
	case e.Time != time:
		r.wrong = append(r.wrong, fmt.Sprintf("entry %v has time %d, not %d", e.ID, time, e.Time))
	case !r.Span.has(time):
		r.wrong = append(r.wrong, fmt.Sprintf("entry %v has time %d, outside of what was asked for", e.ID, time))
	case stream != fmt.Sprint(e.Stream):
		r.wrong = append(r.wrong, fmt.Sprintf("entry %v is in stream %s, not %d", e.ID, stream, e.Stream))
	}
	r.rows = append(r.rows, row{e, stream, time})
}

// EndPage ends the current page and returns whether it goes on where the one before
// ended.
func (r *Read) EndPage() {
	if len(r.current) > 0 {
		first, last := slices.Min(r.current), slices.Max(r.current)
		if r.Backward {
			first, last = -last, -first
		}
		if r.Pages > 0 && first < r.border {
			r.wrong = append(r.wrong, fmt.Sprintf("page %d begins %d ns before the end of the page before", r.Pages, r.border-first))
		}
		r.border = last
	}
	r.Pages++
	r.current = r.current[:0]
}

// Len is the number of rows.
func (r *Read) Len() int { return len(r.rows) }

// Verdict counts broken promises.
type Verdict struct {
	Acked int `json:"acked"` // entries that had to be there
	Rows  int `json:"rows"`  // entries that were

	Lost      int `json:"lost"`       // acknowledged before the read began and not there
	Stale     int `json:"stale"`      // the same, and there later
	Duplicate int `json:"duplicate"`  // there more than once
	Phantom   int `json:"phantom"`    // there and never sent, or refused
	Corrupt   int `json:"corrupt"`    // line, time or stream changed, or pages that overlap
	Reorder   int `json:"reorder"`    // not in the order of time and making
	Differ    int `json:"differ"`     // two reads do not agree, or an aggregation counts more than there is
	Short     int `json:"short"`      // an aggregation counts less than there is
	TailGap   int `json:"tail_gap"`   // acknowledged while a tail followed and not delivered, or left out
	TailTwice int `json:"tail_twice"` // sent once and delivered more than once

	// How often a tail said that an ingester is away that may have entries, which come when
	// it is back: no promise is broken by that.
	TailAway int `json:"tail_away"`

	// Without a known outcome: both are right.
	UnknownPresent int `json:"unknown_present"`
	UnknownAbsent  int `json:"unknown_absent"`

	Examples []string `json:"examples,omitempty"`
}

// Broken is how many promises are broken.
func (v *Verdict) Broken() int {
	return v.Lost + v.Stale + v.Duplicate + v.Phantom + v.Corrupt + v.Reorder + v.Differ + v.Short + v.TailGap + v.TailTwice
}

// Err returns nil if no promise is broken.
func (v Verdict) Err() error {
	if v.Broken() == 0 {
		return nil
	}
	return fmt.Errorf("%s\n  %s", v, strings.Join(v.Examples, "\n  "))
}

// String returns the counts on one line.
func (v Verdict) String() string {
	s := fmt.Sprintf("%d acked, %d rows: lost %d, duplicate %d, phantom %d, corrupt %d, reorder %d, differ %d",
		v.Acked, v.Rows, v.Lost, v.Duplicate, v.Phantom, v.Corrupt, v.Reorder, v.Differ)
	for _, x := range []struct {
		name string
		n    int
	}{{"stale", v.Stale}, {"short", v.Short}, {"tail gap", v.TailGap}, {"tail twice", v.TailTwice}, {"tail away", v.TailAway}} {
		if x.n > 0 {
			s += fmt.Sprintf(", %s %d", x.name, x.n)
		}
	}
	return s + fmt.Sprintf(" (outcome unknown: %d there, %d not)", v.UnknownPresent, v.UnknownAbsent)
}

// Add adds the counts of another verdict.
func (v *Verdict) Add(o Verdict) {
	v.Acked += o.Acked
	v.Rows += o.Rows
	v.Lost += o.Lost
	v.Stale += o.Stale
	v.Duplicate += o.Duplicate
	v.Phantom += o.Phantom
	v.Corrupt += o.Corrupt
	v.Reorder += o.Reorder
	v.Differ += o.Differ
	v.Short += o.Short
	v.TailGap += o.TailGap
	v.TailTwice += o.TailTwice
	v.TailAway += o.TailAway
	v.UnknownPresent += o.UnknownPresent
	v.UnknownAbsent += o.UnknownAbsent
	v.Examples = append(v.Examples, o.Examples[:min(len(o.Examples), max(0, 30-len(v.Examples)))]...)
}

func (v *Verdict) broken(count *int, format string, args ...any) {
	*count++
	if *count <= 5 {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// Judge compares a read with what was acknowledged before mark, the moment at which the
// read began or earlier, within the read's span. Entries in gone must not be there.
func (h *History) Judge(mark Mark, r *Read, gone map[ID]bool) Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := Verdict{Rows: len(r.rows)}
	for _, w := range r.wrong {
		v.broken(&v.Corrupt, "corrupt: %s", w)
	}
	seen := make(map[ID]bool, len(r.rows))
	type last struct {
		time int64
		seq  map[uint32]uint32 // newest of each writer at that time
	}
	streams := map[string]*last{}
	for _, x := range r.rows {
		e := x.entry
		rec := h.find(e.ID)
		switch {
		case rec == nil || rec.entry != e || rec.acked == 0 && rec.open == 0 || gone[e.ID]:
			v.broken(&v.Phantom, "phantom: %+v", e)
		case seen[e.ID]:
			v.broken(&v.Duplicate, "duplicate: %+v", e)
		case rec.acked == 0:
			v.UnknownPresent++
		}
		seen[e.ID] = true

		l := streams[x.stream]
		if l == nil {
			l = &last{time: x.time, seq: map[uint32]uint32{}}
			streams[x.stream] = l
		}
		if x.time != l.time {
			if (x.time < l.time) != r.Backward {
				v.broken(&v.Reorder, "reorder: %+v comes after time %d", e, l.time)
			}
			l.time = x.time
			clear(l.seq)
		}
		if prev, ok := l.seq[e.Writer]; ok && e.Seq != prev && (e.Seq < prev) != r.Backward {
			v.broken(&v.Reorder, "reorder: %+v comes after number %d of the same time", e, prev)
		}
		l.seq[e.Writer] = e.Seq
	}
	for _, rec := range h.all() {
		if !r.Span.has(rec.entry.Time) {
			continue
		}
		if must := rec.acked > 0 && int(rec.acked) <= int(mark); must {
			v.Acked++
			if !seen[rec.entry.ID] && !gone[rec.entry.ID] {
				v.broken(&v.Lost, "lost: %+v", rec.entry)
			}
		}
		if rec.acked == 0 && rec.open > 0 && !seen[rec.entry.ID] {
			v.UnknownAbsent++
		}
	}
	return v
}

// Compare counts into v where two reads of the same entries differ: the rows of each
// stream must be the same, in the same order, or the opposite one if only one of the
// reads is backward.
func (v *Verdict) Compare(a, b *Read) {
	as, bs := a.byStream(), b.byStream()
	for stream, rows := range as {
		other := bs[stream]
		if a.Backward != b.Backward {
			other = slices.Clone(other)
			slices.Reverse(other)
		}
		if !slices.Equal(rows, other) {
			at := 0
			for at < len(rows) && at < len(other) && rows[at] == other[at] {
				at++
			}
			v.broken(&v.Differ, "stream %s: %d rows in one read, %d in the other, the first difference at row %d", stream, len(rows), len(other), at)
		}
	}
	for stream := range bs {
		if as[stream] == nil {
			v.broken(&v.Differ, "stream %s is in one read only", stream)
		}
	}
}

// Count counts into v whether an aggregation found as many entries as the read.
func (v *Verdict) Count(n int) {
	switch {
	case n < v.Rows:
		v.broken(&v.Short, "an aggregation counts %d entries, the read has %d", n, v.Rows)
	case n > v.Rows:
		v.broken(&v.Differ, "an aggregation counts %d entries, the read has %d", n, v.Rows)
	}
}

// JudgeCounts counts into v whether an aggregation found, in each stream, what was
// acknowledged before mark in a span, and no more than was sent until now.
func (h *History) JudgeCounts(v *Verdict, mark Mark, span Span, counts map[int]int) {
	least, most := h.counts(mark, span)
	for stream := range least {
		if counts[stream] < least[stream] {
			v.broken(&v.Short, "an aggregation counts %d entries in stream %d, at least %d are there", counts[stream], stream, least[stream])
		}
	}
	for stream, n := range counts {
		if n > most[stream] {
			v.broken(&v.Differ, "an aggregation counts %d entries in stream %d, at most %d are there", n, stream, most[stream])
		}
	}
}

func (r *Read) byStream() map[string][]ID {
	out := map[string][]ID{}
	for _, x := range r.rows {
		out[x.stream] = append(out[x.stream], x.entry.ID)
	}
	return out
}
