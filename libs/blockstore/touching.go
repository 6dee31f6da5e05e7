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
// numbers in both, and how they do. Blocks never change, so it is found out once.
type touching struct {
	own, other []uint32
	how        []uint8
	most       bool // those that differ are most of the streams of one; there are no numbers
}

// How runs of a stream that touch relate: each has rows, as far as that is known, that the
// other has not, or one has all runs of the other; of two that are equal the own is the copy.
const (
	differ uint8 = iota
	ownCopied
	otherCopied
)

// MemorySize implements part.
func (t *touching) MemorySize() int { return 160 + 4*cap(t.own) + 4*cap(t.other) + cap(t.how) }

// findTouching walks over the streams of both in the order of their labels.
func findTouching(ctx context.Context, a, b *block.Reader) (*touching, error) {
	t := &touching{}
	as, bs := a.Match(nil, math.MinInt64, math.MaxInt64), b.Match(nil, math.MinInt64, math.MaxInt64)
	most, differing := min(len(as), len(bs))/2, 0
	var la, lb model.Labels // empty: those of the next stream are not there yet
	for i, k := 0, 0; i < len(as) && k < len(bs); {
		if len(la) == 0 {
			la = a.AppendLabels(la, int(as[i]))
		}
		if len(lb) == 0 {
			lb = b.AppendLabels(lb, int(bs[k]))
		}
		c := la.Compare(lb)
		if c == 0 {
			if own, other := runsOf(a, as[i]), runsOf(b, bs[k]); touch(own, other) {
				how := differ
				switch {
				case among(own, other):
					how = ownCopied
				case among(other, own):
					how = otherCopied
				case differing == most:
					return &touching{most: true}, nil
				default:
					differing++
				}
				t.own, t.other, t.how = append(t.own, as[i]), append(t.other, bs[k]), append(t.how, how)
			}
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
	t.own, t.other, t.how = slices.Clip(t.own), slices.Clip(t.other), slices.Clip(t.how)
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

// among reports whether each run of a list is known to be the same rows as one of another
// list. A digest of 0 says nothing.
func among(runs, of []block.Run) bool {
	for _, r := range runs {
		for len(of) > 0 && of[0].MinTime < r.MinTime {
			of = of[1:]
		}
		if r.Digest == 0 || len(of) == 0 || of[0] != r {
			return false
		}
	}
	return true
}

// Touching implements engine.Parted.
func (sn *snapshot) Touching(ctx context.Context, other engine.Snapshot, copies bool) (out engine.Touches, ok bool, err error) {
	o, is := other.(*snapshot)
	if !is {
		return out, false, nil
	}
	a, b := sn.store, o.store
	k := key{block: a.block, other: b.block, kind: kindTouching}
	t, err := get(ctx, a.cache, k, func() (*touching, error) { return findTouching(ctx, a.block, b.block) })
	if err != nil || t.most {
		return out, false, err
	}
	for i, how := range t.how {
		x, there := sn.placeOf(t.own[i])
		if !there {
			continue
		}
		y, there := o.placeOf(t.other[i])
		switch {
		case !there:
		case copies && how == ownCopied:
			out.OwnCopies = append(out.OwnCopies, x)
		case copies && how == otherCopied:
			out.OtherCopies = append(out.OtherCopies, y)
		default:
			out.Own, out.Others = append(out.Own, x), append(out.Others, y)
		}
	}
	for _, list := range [][]int{out.Own, out.Others, out.OwnCopies, out.OtherCopies} {
		slices.Sort(list)
	}
	return out, true, nil
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
