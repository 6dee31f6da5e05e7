package blockstore

import (
	"context"
	"math"
	"slices"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/model"
)

// touching is the streams of two blocks of which runs of one touch runs of the other: their
// numbers in both. Blocks never change, so it is found out once.
type touching struct {
	own, other []uint32
	most       bool // they are most of the streams of one of them; there are no numbers
}

// MemorySize implements part.
func (t *touching) MemorySize() int { return 128 + 4*cap(t.own) + 4*cap(t.other) }

// findTouching walks over the streams of both in the order of their labels.
func findTouching(ctx context.Context, a, b *block.Reader) (*touching, error) {
	t := &touching{}
	as, bs := a.Match(nil, math.MinInt64, math.MaxInt64), b.Match(nil, math.MinInt64, math.MaxInt64)
	most := min(len(as), len(bs)) / 2
	var la, lb model.Labels // empty: those of the next stream are not there yet
	for i, k := 0, 0; i < len(as) && k < len(bs); {
		if len(la) == 0 {
			la = a.AppendLabels(la, int(as[i]))
		}
		if len(lb) == 0 {
			lb = b.AppendLabels(lb, int(bs[k]))
		}
		c := la.Compare(lb)
		if c == 0 && touch(runsOf(a, as[i]), runsOf(b, bs[k])) {
			if len(t.own) == most {
				return &touching{most: true}, nil
			}
			t.own, t.other = append(t.own, as[i]), append(t.other, bs[k])
		}
		if c <= 0 {
			i, la = i+1, la[:0]
		}
		if c >= 0 {
			k, lb = k+1, lb[:0]
		}
		if (i+k)%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	t.own, t.other = slices.Clip(t.own), slices.Clip(t.other)
	return t, nil
}

func runsOf(r *block.Reader, stream uint32) []block.Run {
	return r.Runs(int(stream), math.MinInt64, math.MaxInt64)
}

// touch reports whether a run of one list has times between those of a run of the other.
func touch(a, b []block.Run) bool {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].MaxTime < b[0].MinTime:
			a = a[1:]
		case b[0].MaxTime < a[0].MinTime:
			b = b[1:]
		default:
			return true
		}
	}
	return false
}

// Touching implements engine.Parted.
func (sn *snapshot) Touching(ctx context.Context, other engine.Snapshot) (own, others []int, ok bool, err error) {
	o, is := other.(*snapshot)
	if !is {
		return nil, nil, false, nil
	}
	a, b := sn.store, o.store
	k := key{block: a.block, other: b.block, kind: kindTouching}
	t, err := get(ctx, a.cache, k, func() (*touching, error) { return findTouching(ctx, a.block, b.block) })
	if err != nil || t.most {
		return nil, nil, false, err
	}
	for i := range t.own {
		x, there := sn.placeOf(t.own[i])
		if !there {
			continue
		}
		if y, there := o.placeOf(t.other[i]); there {
			own, others = append(own, x), append(others, y)
		}
	}
	slices.Sort(own)
	slices.Sort(others)
	return own, others, true, nil
}

// placeOf returns the number in the snapshot of a stream of the block.
func (sn *snapshot) placeOf(stream uint32) (int, bool) {
	k, found := slices.BinarySearch(sn.ascending, stream)
	if !found {
		return 0, false
	}
	return sn.place(k), true
}

// Part implements engine.Parted.
func (sn *snapshot) Part(streams []int, start, end int64) engine.Snapshot {
	out := &snapshot{store: sn.store, start: max(start, sn.start), end: min(end, sn.end)}
	add := func(n uint32) {
		if len(sn.store.block.Runs(int(n), out.start, out.end)) > 0 {
			out.numbers = append(out.numbers, n)
		}
	}
	if streams == nil {
		for _, n := range sn.numbers {
			add(n)
		}
	}
	for _, i := range streams {
		add(sn.numbers[i])
	}
	out.index()
	out.all = newSelected(sn.all.ctx, out, nil)
	return out
}
