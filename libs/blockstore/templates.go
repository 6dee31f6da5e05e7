package blockstore

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/patterns"
)

// LevelName is the name of the metadata that tells a row's level.
const LevelName = "detected_level"

var _ engine.TemplateCounter = (*snapshot)(nil)

// Templates implements engine.TemplateCounter. Sections have templates of their own. Only
// lines that fit none, and are kept whole, are read. Where all rows of a row group are asked
// for, in one bucket and without metadata, nothing of them is.
func (sn *snapshot) Templates(ctx context.Context, streams []int, start, end, width int64, yield func(engine.TemplateCount) error) error {
	s := sn.store
	numbers := make([]uint32, len(streams))
	for i, n := range streams {
		numbers[i] = sn.numbers[n]
	}
	slices.Sort(numbers)
	start, end = max(start, sn.start), min(end, sn.end)
	sel := &selected{snapshot: &snapshot{store: s, start: start, end: end, ascending: numbers}, store: s, ctx: ctx}
	t := templates{s: sel, width: width, yield: yield, counts: map[templateKey]uint64{}}
	current := -1
	var sec *block.Section
	for group := range s.block.RowGroups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		least, greatest := s.block.GroupTimes(group)
		first, last := s.block.StreamsOf(group)
		from, _ := slices.BinarySearch(numbers, uint32(first))
		to, _ := slices.BinarySearch(numbers, uint32(last))
		if from == to || least >= end || greatest < start {
			continue
		}
		number, index := s.block.Place(group)
		if number != current {
			if err := t.flush(sec); err != nil {
				return err
			}
			var err error
			if sec, err = s.section(ctx, number); err != nil {
				return err
			}
			current, t.service = number, s.block.Labels(first).Get("service_name")
		}
		whole := to-from == last-first && least >= start && greatest < end && t.bucket(least) == t.bucket(greatest)
		if whole && !s.block.HasMetadata(group) && !slices.Contains(t.kept(sec, &sec.Blocks[index]), true) {
			for _, c := range sec.Blocks[index].Templates {
				t.counts[templateKey{c.Template, "", t.bucket(least)}] += uint64(c.Rows)
			}
			continue
		}
		if err := t.add(group, sec, &sec.Blocks[index]); err != nil {
			return err
		}
	}
	return t.flush(sec)
}

type templateKey struct {
	template uint32
	level    string
	bucket   int64
}

// templates counts the templates of a section.
type templates struct {
	s       *selected
	width   int64
	service string
	yield   func(engine.TemplateCount) error
	counts  map[templateKey]uint64
}

// kept tells which of a row group's templates are of lines that are kept whole.
func (t *templates) kept(sec *block.Section, info *lines.BlockInfo) []bool {
	out := make([]bool, len(info.Templates))
	for i, c := range info.Templates {
		out[i] = c.Rows > 0 && sec.Table.Templates[c.Template].Pattern() == patterns.Wildcard
	}
	return out
}

func (t *templates) bucket(at int64) int64 {
	b := at / t.width
	if at%t.width < 0 {
		b--
	}
	return b
}

// add counts rows of a row group one by one.
func (t *templates) add(group int, sec *block.Section, info *lines.BlockInfo) error {
	store := t.s.store
	body, err := store.body(t.s.ctx, group)
	if err != nil {
		return err
	}
	times, err := body.SharedTimes()
	if err != nil {
		return t.s.named(group, err)
	}
	of, err := body.RowTemplates()
	if err != nil {
		return t.s.named(group, err)
	}
	levels := make([]uint32, len(times))
	var names []string
	if store.block.HasMetadata(group) {
		meta, err := store.metadata(t.s.ctx, body, group)
		if err != nil {
			return err
		}
		if levels, names, err = meta.Values(LevelName); err != nil {
			return t.s.named(group, err)
		}
	}
	name := func(level uint32) string {
		if level == 0 {
			return ""
		}
		return names[level-1]
	}
	// Counted by number first: rows are many, templates and levels few.
	counts := newPairCounts(len(info.Templates), len(names)+1)
	bucket, first, last := int64(0), int64(1), int64(0) // of the bucket; there is none yet
	flush := func() {
		counts.each(func(template, level uint32, n uint64) {
			t.counts[templateKey{info.Templates[template].Template, name(level), bucket}] += n
		})
	}
	kept := t.kept(sec, info)
	var whole []uint32 // rows
	for _, sp := range t.s.spans(group, lines.TimesOf(times)) {
		for row := sp.From; row < sp.To; row++ {
			if at := times[row]; at < first || at > last {
				flush()
				bucket = t.bucket(at)
				first = bucket * t.width
				last = first + t.width - 1
			}
			if kept[of[row]] {
				whole = append(whole, uint32(row))
				continue
			}
			counts.add(uint32(of[row]), levels[row])
		}
	}
	flush()
	for some := range slices.Chunk(whole, chunkRows) {
		var rows model.Rows
		if err := body.Select(some, &rows); err != nil {
			return t.s.named(group, err)
		}
		for i, row := range some {
			c := engine.TemplateCount{Service: t.service, Line: rows.Lines.At(i), Level: name(levels[row]), Bucket: t.bucket(times[row]), Rows: 1}
			if c.Line == nil {
				c.Line = []byte{}
			}
			if err := t.yield(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// pairCounts counts pairs of small numbers.
type pairCounts struct {
	width uint32   // numbers of the second kind
	dense []uint32 // by pair; nil: there are too many
	used  []uint32 // pairs that dense has counts of
	rare  map[uint64]uint64
}

// maxPairs is how many pairs are counted in an array.
const maxPairs = 1 << 18

func newPairCounts(a, b int) *pairCounts {
	if a*b > maxPairs {
		return &pairCounts{width: uint32(b), rare: map[uint64]uint64{}}
	}
	return &pairCounts{width: uint32(b), dense: make([]uint32, a*b)}
}

func (p *pairCounts) add(a, b uint32) {
	if p.dense == nil {
		p.rare[uint64(a)*uint64(p.width)+uint64(b)]++
		return
	}
	k := a*p.width + b
	if p.dense[k] == 0 {
		p.used = append(p.used, k)
	}
	p.dense[k]++
}

// each calls f with each pair that was counted, in any order, and forgets all.
func (p *pairCounts) each(f func(a, b uint32, n uint64)) {
	for _, k := range p.used {
		f(k/p.width, k%p.width, uint64(p.dense[k]))
		p.dense[k] = 0
	}
	p.used = p.used[:0]
	for k, n := range p.rare {
		f(uint32(k/uint64(p.width)), uint32(k%uint64(p.width)), n)
	}
	clear(p.rare)
}

// flush gives out what was counted of a section.
func (t *templates) flush(sec *block.Section) error {
	// In a fixed order, since those who unite patterns depend on it.
	keys := slices.SortedFunc(maps.Keys(t.counts), func(a, b templateKey) int {
		return cmp.Or(cmp.Compare(a.template, b.template), cmp.Compare(a.level, b.level), cmp.Compare(a.bucket, b.bucket))
	})
	text := ""
	for i, k := range keys {
		if i == 0 || k.template != keys[i-1].template {
			text = sec.Table.Templates[k.template].Pattern()
		}
		if err := t.yield(engine.TemplateCount{
			Service: t.service, Pattern: text, Level: k.level, Bucket: k.bucket, Rows: t.counts[k],
		}); err != nil {
			return err
		}
	}
	clear(t.counts)
	return nil
}
