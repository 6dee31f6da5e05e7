package compact

import (
	"context"
	"fmt"
	"sort"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
)

// BlockSource is a block as the source of a merge. It holds two row groups at a time: one whose rows
// are read, and one whose rows are taken over.
type BlockSource struct {
	reader  *block.Reader
	streams []Stream
	spans   []block.Span

	// Where rows are taken over from.
	carried   *block.Carried
	group     *block.RowGroup // of carried
	section   *block.Section
	sectionAt int
	groups    []uint64 // how many bytes of lines there are before each row group, and in all
	before    []uint64 // likewise before each stream's
	passed    passed
}

var _ Source = (*BlockSource)(nil)

// Streams returns the streams of a block. An error says that its index does not hold
// as many rows as its footer.
func Streams(r *block.Reader) ([]Stream, error) {
	out := make([]Stream, r.Streams())
	rows := uint64(0)
	for i := range out {
		out[i] = Stream{Labels: r.Labels(i), Runs: r.Runs(i, MinTime, MaxTime)}
		for _, run := range out[i].Runs {
			rows += run.Rows
		}
	}
	if info := r.Info(); rows != uint64(info.Rows) {
		return nil, fmt.Errorf("block %s: %w", info.ID, column.Corrupt("its index has %d rows, its footer %d", rows, info.Rows))
	}
	return out, nil
}

// Verify reads all of the block, as block.Reader.Verify does.
func (s *BlockSource) Verify(ctx context.Context) error { return s.reader.Verify(ctx) }

// NewBlockSource returns the source that a reader reads.
func NewBlockSource(r *block.Reader) (*BlockSource, error) {
	if v := r.Info().HashVersion; v != model.HashVersion {
		return nil, fmt.Errorf("block %s: its digests are of version %d, this program proves merges by version %d", r.Info().ID, v, model.HashVersion)
	}
	streams, err := Streams(r)
	if err != nil {
		return nil, err
	}
	return &BlockSource{reader: r, streams: streams}, nil
}

// ID implements Source.
func (s *BlockSource) ID() catalog.ID { return s.reader.Info().ID }

// Info is what the block's footer says.
func (s *BlockSource) Info() block.Info { return s.reader.Info() }

// Streams implements Source.
func (s *BlockSource) Streams() []Stream { return s.streams }

// Each implements Source. Rows are read in pages of many streams: to read those of
// small streams one by one would go through their row group again and again.
func (s *BlockSource) Each(ctx context.Context, start, end int64, skip func(int) bool, yield func(ls model.Labels, rows *model.Rows, from, to int) error) error {
	var section *block.Section
	var group *block.RowGroup
	page := &model.Rows{} // rows of group, from first on
	var list []uint32
	first, at := 0, -1 // at: number of section
	for i, st := range s.streams {
		if skip(i) {
			continue
		}
		for _, span := range s.reader.Spans(i, start, end) {
			if group == nil || group.Number != span.Group {
				err := ctx.Err()
				if k, _ := s.reader.Place(span.Group); err == nil && k != at {
					section, err = s.reader.ReadSection(ctx, k)
					at = k
				}
				if err == nil {
					group, err = s.reader.ReadRowGroup(ctx, section, span.Group)
				}
				if err != nil {
					return err
				}
				block.Empty(page)
				first = 0
			}
			from, to, err := within(group, span, start, end)
			if err != nil {
				return err
			}
			for from < to {
				if from >= first+page.Len() {
					all, _ := s.reader.GroupSize(span.Group)
					list, first = list[:0], from
					for row := from; row < min(from+batchRows, all); row++ {
						list = append(list, uint32(row))
					}
					block.Empty(page)
					if err := s.reader.Append(page, group, list, true, true); err != nil {
						return err
					}
				}
				n := min(to, first+page.Len())
				if err := yield(st.Labels, page, from-first, n-first); err != nil {
					return err
				}
				from = n
			}
		}
	}
	return nil
}

// within returns the rows of a span with start <= time < end; end MaxTime includes
// itself.
func within(g *block.RowGroup, s block.Span, start, end int64) (from, to int, err error) {
	if start == MinTime && end == MaxTime {
		return s.From, s.To, nil
	}
	times, err := g.Body.SharedTimes()
	if err != nil {
		return 0, 0, err
	}
	t := times[s.From:s.To]
	to = len(t)
	if end != MaxTime {
		to = sort.Search(len(t), func(i int) bool { return t[i] >= end })
	}
	from = sort.Search(len(t), func(i int) bool { return t[i] >= start })
	return s.From + from, s.From + to, nil
}
