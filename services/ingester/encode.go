package ingester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/ingester/head"
	"github.com/weir-logs/weir/services/ingester/local"
)

// maxPartitions is how many days a tenant's rows of one cut are told apart by; those
// of further days lie in one block together.
const maxPartitions = 16

const dayLength = int64(24 * time.Hour)

// partitions returns the days to make blocks of, ascending, and the rest of time. Where
// there are more than there may be, those with the most rows are chosen.
func partitions(days map[int64]int) (chosen []int64, rest []head.Span) {
	chosen = slices.Collect(maps.Keys(days))
	slices.Sort(chosen)
	if len(chosen) <= maxPartitions {
		return chosen, nil
	}
	slices.SortStableFunc(chosen, func(a, b int64) int { return days[b] - days[a] })
	chosen = slices.Clone(chosen[:maxPartitions])
	slices.Sort(chosen)
	at := int64(math.MinInt64)
	for _, d := range chosen {
		if s := dayStart(d); s > at {
			rest = append(rest, head.Span{Start: at, End: s})
		}
		at = dayEnd(d)
	}
	return chosen, append(rest, head.Span{Start: at, End: math.MaxInt64})
}

// dayStart and dayEnd are the first time of a day, and of the one that follows it. The
// first and the last day are cut short.
func dayStart(d int64) int64 {
	if d <= math.MinInt64/dayLength-1 {
		return math.MinInt64
	}
	return d * dayLength
}

func dayEnd(d int64) int64 {
	if d >= math.MaxInt64/dayLength {
		return math.MaxInt64
	}
	return (d + 1) * dayLength
}

// encode writes a generation to a container: for each tenant one block for each day. It
// returns nil if there is no row.
func (s *Service) encode(ctx context.Context, g *generation) (*local.Container, error) {
	if g.head.Stats().Rows == 0 {
		return nil, nil
	}
	w, err := local.Create(s.blocksDir(), local.Directory{
		Incarnation: s.incarnationID, Covers: local.Ranges{{First: g.first, Last: g.last}}, Created: s.now(),
	}, s.rand, s.step("cut"))
	if err != nil {
		return nil, err
	}
	for _, tenant := range g.head.Tenants() {
		if err := s.encodeTenant(ctx, w, g, tenant); err != nil {
			w.Abort()
			if errors.Is(err, bug.ErrPanic) {
				g.plain[tenant] = true
			}
			return nil, fmt.Errorf("tenant %s: %w", tenant, err)
		}
	}
	return w.Commit(ctx)
}

func (s *Service) encodeTenant(ctx context.Context, w *local.Writer, g *generation, tenant string) error {
	days := g.head.Days(tenant)
	want := int64(0)
	for _, n := range days {
		want += int64(n)
	}
	chosen, rest := partitions(days)
	whole := s.wholeBelow(g.head, tenant)
	if g.plain[tenant] {
		whole = math.MaxInt64
	}
	got := int64(0)
	for _, d := range chosen {
		n, err := s.encodeBlock(ctx, w, g.head, tenant, time.Unix(d*(dayLength/1e9), 0).UTC(), []head.Span{{Start: dayStart(d), End: dayEnd(d)}}, int64(days[d]) < whole)
		if err != nil {
			return err
		}
		got += n
	}
	if rest != nil {
		n, err := s.encodeBlock(ctx, w, g.head, tenant, time.Time{}, rest, want-got < whole)
		if err != nil {
			return err
		}
		got += n
	}
	// Nothing may be dropped in favour of a block that lacks a row.
	if got != want {
		return fmt.Errorf("%d rows were written of %d", got, want)
	}
	return nil
}

// wholeGroups is how many groups of a tenant's streams, whose lines share templates, are
// reason to keep lines whole. Where there are few of them, few lines are not worth it.
const wholeGroups = 32

// wholeBelow returns of how many rows of a tenant lines are kept whole in one block: fewer
// than are worth learning their templates from, with as many groups as the tenant has.
func (s *Service) wholeBelow(h *head.Head, tenant string) int64 {
	if s.cfg.WholeBelow == 0 {
		return 0
	}
	groups := int64(h.Groups(tenant, block.Group))
	if groups < wholeGroups {
		return 0
	}
	return groups * int64(s.cfg.WholeBelow)
}

// encodeBlock writes the rows of some spans as one block, with lines kept whole or not, and
// returns how many.
func (s *Service) encodeBlock(ctx context.Context, w *local.Writer, h *head.Head, tenant string, partition time.Time, spans []head.Span, whole bool) (int64, error) {
	rows := func(yield func(model.Labels, *model.Rows) error) error {
		return h.Each(ctx, tenant, block.Group, spans, func(ls model.Labels, rows *model.Rows, from, to int) error {
			return yield(ls, slice(rows, from, to))
		})
	}
	info, err := s.writeBlock(w, block.Meta{Tenant: tenant, Partition: partition}, s.now(), whole, rows)
	if whole && err == nil {
		s.metrics.cutWhole.Add(float64(info.Rows))
	}
	return info.Rows, err
}

// writeBlock writes one block to a container, with an id of its own and lines kept whole or
// not. each calls yield as a block writer wants it.
func (s *Service) writeBlock(w *local.Writer, meta block.Meta, born time.Time, whole bool, each func(yield func(model.Labels, *model.Rows) error) error) (info block.Info, err error) {
	if meta.ID, err = catalog.NewID(s.now(), s.rand); err != nil {
		return block.Info{}, err
	}
	err = s.caught(func() error {
		if info, err = s.fill(w, meta, whole, each); err != nil {
			return err
		}
		b := describe(info)
		b.Born = born
		return w.End(b)
	}, "tenant", meta.Tenant, "sources", meta.Sources)
	return info, err
}

// caught calls f, which is about what args say, as a logger takes them: a panic ends it as an
// error does, and not the process.
func (s *Service) caught(f func() error, args ...any) error {
	return bug.Caught(f, func(value any, stack []byte) {
		s.metrics.panics.Inc()
		s.logger.Error("a bug: work on local blocks ended in a panic, which says nothing about the blocks", append(args, "panic", value, "stack", string(stack))...)
	})
}

// fill writes one block.
func (s *Service) fill(w *local.Writer, meta block.Meta, whole bool, each func(yield func(model.Labels, *model.Rows) error) error) (block.Info, error) {
	writers := &s.writers
	if whole {
		writers = &s.wholeWriters
	}
	bw, ok := writers.Get().(*block.Writer)
	if ok {
		bw.Reset(w, meta)
	} else {
		bw = block.NewWriter(w, meta, s.blockOptions(whole))
	}
	var info block.Info
	err := each(bw.Add)
	if err == nil {
		info, err = bw.Close()
	}
	bw.Reset(io.Discard, block.Meta{}) // nothing of this block is kept
	writers.Put(bw)                    // but not one that a panic left half done
	return info, err
}

// describe returns what a container says of a block.
func describe(info block.Info) local.Block {
	return local.Block{
		ID: info.ID, Tenant: info.Tenant, Partition: info.Partition, Level: info.Level, MinTime: info.MinTime, MaxTime: info.MaxTime,
		Streams: info.Streams, Rows: info.Rows, RawBytes: info.RawBytes,
	}
}

// slice returns rows [from, to) of a batch; they share its memory where they can.
func slice(r *model.Rows, from, to int) *model.Rows {
	if from == 0 && to == r.Len() {
		return r
	}
	out := &model.Rows{
		Times: r.Times[from:to], Lines: sliceStrings(r.Lines, from, to),
		Metadata: sliceColumns(r.Metadata, from, to), Derived: sliceColumns(r.Derived, from, to),
	}
	if r.Copies != nil {
		out.Copies = r.Copies[from:to]
	}
	if r.Hashes != nil {
		out.Hashes = r.Hashes[from:to]
	}
	if r.BatchTimes != nil {
		out.BatchTimes = r.BatchTimes[from:to]
	}
	if r.Positions != nil {
		out.Positions = r.Positions[from:to]
	}
	return out
}

func sliceStrings(s model.Strings, from, to int) model.Strings {
	if from == to {
		return model.Strings{}
	}
	base := uint32(0)
	if from > 0 {
		base = s.Ends[from-1]
	}
	ends := make([]uint32, to-from)
	for i := range ends {
		ends[i] = s.Ends[from+i] - base
	}
	return model.Strings{Ends: ends, Slab: s.Slab[base:s.Ends[to-1]]}
}

func sliceColumns(set []model.Column, from, to int) []model.Column {
	var out []model.Column
	for i := range set {
		c := &set[i]
		if c.Rows == nil {
			out = append(out, model.Column{Name: c.Name, Version: c.Version, Values: sliceStrings(c.Values, from, to)})
			continue
		}
		a, _ := slices.BinarySearch(c.Rows, uint32(from))
		b, _ := slices.BinarySearch(c.Rows, uint32(to))
		if a == b {
			continue
		}
		rows := make([]uint32, b-a)
		for k := range rows {
			rows[k] = c.Rows[a+k] - uint32(from)
		}
		out = append(out, model.Column{Name: c.Name, Version: c.Version, Rows: rows, Values: sliceStrings(c.Values, a, b)})
	}
	return out
}
