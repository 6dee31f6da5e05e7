package blockstore

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// LevelName is the name of the metadata that tells a row's level.
const LevelName = "detected_level"

var _ engine.TemplateCounter = (*snapshot)(nil)

// Templates implements engine.TemplateCounter. Sections have templates of their own. Rows
// that fit none, whose lines are kept whole, have the pattern <_>. Lines are not rebuilt;
// where all rows of a row group are asked for, in one bucket and without metadata, not
// even read.
func (sn *snapshot) Templates(ctx context.Context, streams []int, start, end, width int64, yield func(engine.TemplateCount) error) error {
	s := sn.store
	numbers := make([]uint32, len(streams))
	for i, n := range streams {
		numbers[i] = sn.numbers[n]
	}
	slices.Sort(numbers)
	start, end = max(start, sn.start), min(end, sn.end)
	sel := &selected{snapshot: &snapshot{store: s, start: start, end: end, ascending: numbers}, store: s, ctx: ctx}
	t := templates{s: sel, width: width, counts: map[templateKey]uint64{}}
	current, service := -1, ""
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
			if err := t.flush(sec, service, yield); err != nil {
				return err
			}
			var err error
			if sec, err = s.section(ctx, number); err != nil {
				return err
			}
			current, service = number, s.block.Labels(first).Get("service_name")
		}
		whole := to-from == last-first && least >= start && greatest < end && t.bucket(least) == t.bucket(greatest)
		if whole && !s.block.HasMetadata(group) {
			for _, c := range sec.Blocks[index].Templates {
				t.counts[templateKey{c.Template, "", t.bucket(least)}] += uint64(c.Rows)
			}
			continue
		}
		if err := t.add(group, &sec.Blocks[index]); err != nil {
			return err
		}
	}
	return t.flush(sec, service, yield)
}

type templateKey struct {
	template uint32
	level    string
	bucket   int64
}

// templates counts the templates of a section.
type templates struct {
	s      *selected
	width  int64
	counts map[templateKey]uint64
}

func (t *templates) bucket(at int64) int64 {
	b := at / t.width
	if at%t.width < 0 {
		b--
	}
	return b
}

// add counts rows of a row group one by one.
func (t *templates) add(group int, info *lines.BlockInfo) error {
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
	// Counted by number first: rows are many, templates and levels few.
	type key struct {
		template uint16
		level    uint32
	}
	counts := map[key]uint64{}
	bucket := int64(math.MinInt64)
	flush := func() {
		for k, n := range counts {
			level := ""
			if k.level > 0 {
				level = names[k.level-1]
			}
			t.counts[templateKey{info.Templates[k.template].Template, level, bucket}] += n
		}
		clear(counts)
	}
	for _, sp := range t.s.spans(group, times) {
		for row := sp.From; row < sp.To; row++ {
			if b := t.bucket(times[row]); b != bucket {
				flush()
				bucket = b
			}
			counts[key{of[row], levels[row]}]++
		}
	}
	flush()
	return nil
}

// flush gives out what was counted of a section.
func (t *templates) flush(sec *block.Section, service string, yield func(engine.TemplateCount) error) error {
	// In a fixed order, since those who unite patterns depend on it.
	keys := slices.SortedFunc(maps.Keys(t.counts), func(a, b templateKey) int {
		return cmp.Or(cmp.Compare(a.template, b.template), cmp.Compare(a.level, b.level), cmp.Compare(a.bucket, b.bucket))
	})
	for _, k := range keys {
		if err := yield(engine.TemplateCount{
			Service: service, Pattern: sec.Table.Templates[k.template].Pattern(), Level: k.level, Bucket: k.bucket, Rows: t.counts[k],
		}); err != nil {
			return err
		}
	}
	clear(t.counts)
	return nil
}
