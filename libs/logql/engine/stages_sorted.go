package engine

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
)

// sortKey is what `| sort a` compares of a value.
type sortKey struct {
	kind   uint8 // 0: a number, 1: a text, 2: there is none
	number float64
	text   string
}

// keyOf: values that are numbers, durations or sizes are compared as such, durations in
// seconds and sizes in bytes, and come before other texts, which are compared byte by
// byte.
func keyOf(value string, ok bool) sortKey {
	if !ok || value == "" {
		return sortKey{kind: 2}
	}
	if v, err := strconv.ParseFloat(value, 64); err == nil {
		if !math.IsNaN(v) {
			return sortKey{number: v}
		}
	} else if c := value[0]; c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+' {
		if d, err := time.ParseDuration(value); err == nil {
			return sortKey{number: d.Seconds()}
		}
		if n, err := pipeline.ParseBytes(value); err == nil {
			return sortKey{number: float64(n)}
		}
	}
	return sortKey{kind: 1, text: value}
}

// compareKeys orders keys; those of no value come last in either direction.
func compareKeys(a, b sortKey, desc bool) int {
	if a.kind == 2 || b.kind == 2 {
		return cmp.Compare(a.kind, b.kind)
	}
	c := cmp.Compare(a.kind, b.kind)
	if c == 0 {
		c = cmp.Compare(a.number, b.number)
	}
	if c == 0 {
		c = cmp.Compare(a.text, b.text)
	}
	if desc {
		return -c
	}
	return c
}

// sorter is `| sort a`. Entries with equal values stay in their order.
type sorter struct {
	c    *chain
	next step
	by   *syntax.Sort
	keep int // how many entries are asked for; 0: all
	all  []sortRow
}

type sortRow struct {
	key sortKey
	row row
}

func (s *sorter) take(r *row) error {
	value, ok := r.labels.lookup(s.by.Label)
	key := keyOf(value, ok)
	if s.keep > 0 && len(s.all) == 2*s.keep {
		s.sort()
		for i := range s.all[s.keep:] {
			s.c.drop(&s.all[s.keep+i].row)
		}
		clear(s.all[s.keep:])
		s.all = s.all[:s.keep]
	}
	kept, err := s.c.keep(r)
	if err != nil {
		return err
	}
	if key.kind == 1 {
		key.text, _ = kept.labels.lookup(s.by.Label) // as value may not last
	}
	s.all = append(s.all, sortRow{key, kept})
	return nil
}

func (s *sorter) sort() {
	slices.SortStableFunc(s.all, func(a, b sortRow) int { return compareKeys(a.key, b.key, s.by.Desc) })
}

func (s *sorter) end() error {
	s.sort()
	for i := range s.all {
		if err := s.next.take(&s.all[i].row); err != nil {
			return ended(s.next, err)
		}
	}
	return s.next.end()
}

// ended is the end of a step that passed all rows on; if the next one has enough, that is none
// of an error.
func ended(next step, err error) error {
	if errors.Is(err, errStop) {
		return next.end()
	}
	return err
}

// top is `| top n a`.
type top struct {
	c      *chain
	next   step
	by     *syntax.Top
	values map[string]*topValue
	known  map[string]uint64 // the values that are wanted, and how many have them; nil: they are to be counted
}

type topValue struct {
	value string
	n     uint64
	first row
}

// topCount is the label that tells how many entries have the value.
const topCount = "top_count"

func (t *top) take(r *row) error {
	value, _ := r.labels.lookup(t.by.Label)
	if value == "" {
		return nil
	}
	if v := t.values[value]; v != nil {
		if t.known == nil {
			v.n++
		}
		return nil
	}
	n := uint64(1)
	if t.known != nil {
		if n = t.known[value]; n == 0 {
			return nil
		}
	}
	if err := t.c.reserve(2*len(value) + 128); err != nil {
		return err
	}
	kept, err := t.c.keep(r)
	if err != nil {
		return err
	}
	value, _ = kept.labels.lookup(t.by.Label)
	t.values[value] = &topValue{value, n, kept}
	if t.known != nil && len(t.values) == len(t.known) {
		return errStop
	}
	return nil
}

func (t *top) end() error {
	all := make([]*topValue, 0, len(t.values))
	for _, v := range t.values {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *topValue) int {
		if a.n != b.n {
			return cmp.Compare(b.n, a.n)
		}
		return cmp.Compare(a.value, b.value)
	})
	for _, v := range all[:min(len(all), t.by.N)] {
		if err := t.c.setParsed(&v.first, topCount, strconv.FormatUint(v.n, 10)); err != nil {
			return err
		}
		if err := t.next.take(&v.first); err != nil {
			return ended(t.next, err)
		}
	}
	return t.next.end()
}
