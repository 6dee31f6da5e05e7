package block

import (
	"context"

	"github.com/weir-logs/weir/libs/model"
)

// wholeGroups is of how many affinity groups, whose lines share templates, streams are at
// least for their lines to be kept whole. Where there are few, few lines cost little.
const wholeGroups = 32

// WholeBelow returns of how many rows of streams of so many affinity groups lines are kept
// whole in one block: fewer than few for each group, if there are many groups. What they
// have in common is then not worth finding.
func WholeBelow(groups, few int) int64 {
	if groups < wholeGroups {
		return 0
	}
	return int64(groups) * int64(few)
}

// Whole reports whether all lines of the block are kept whole.
func (r *Reader) Whole(ctx context.Context) (bool, error) {
	for i := range r.foot.sections {
		s, err := r.ReadSection(ctx, i)
		if err != nil {
			return false, err
		}
		for k := range s.Table.Templates {
			if !s.Table.Templates[k].IsRaw() {
				return false, nil
			}
		}
	}
	return true, nil
}

// KeepWhole reports whether lines are kept whole where blocks are merged: those of all of
// them are, and there are fewer than few rows for each affinity group.
func KeepWhole(ctx context.Context, blocks []*Reader, few int) (bool, error) {
	rows, streams := int64(0), 0
	for _, r := range blocks {
		rows += r.foot.info.Rows
		streams += r.index.streams
	}
	if rows >= WholeBelow(streams, few) {
		return false, nil // whatever groups they are of
	}
	groups := map[string]struct{}{}
	var ls model.Labels
	for _, r := range blocks {
		for i := range r.index.streams {
			ls = r.index.appendStream(ls[:0], i)
			groups[Group(ls)] = struct{}{}
		}
	}
	if rows >= WholeBelow(len(groups), few) {
		return false, nil
	}
	for _, r := range blocks {
		if whole, err := r.Whole(ctx); !whole || err != nil {
			return false, err
		}
	}
	return true, nil
}
