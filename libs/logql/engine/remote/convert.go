package remote

import (
	"fmt"
	"slices"
	"strings"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func selectorText(ms []*syntax.Matcher) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func toExcluded(x *engine.Excluded) *ingestv1.Excluded {
	if x == nil {
		return nil
	}
	out := &ingestv1.Excluded{Version: x.Version}
	for _, t := range x.Tombstones {
		out.Tombstones = append(out.Tombstones, &ingestv1.Tombstone{Id: t.ID, Query: t.Selector.String(), Start: t.Start, End: t.End})
	}
	for _, c := range x.Retention {
		text := selectorText(c.Matchers)
		if len(c.Stages) > 0 {
			text = (&syntax.LogSelector{Matchers: c.Matchers, Stages: c.Stages}).String()
		}
		out.Retention = append(out.Retention, &ingestv1.Cutoff{Query: text, Before: c.Before})
	}
	return out
}

func fromExcluded(x *ingestv1.Excluded) (*engine.Excluded, error) {
	if x == nil {
		return nil, nil
	}
	out := &engine.Excluded{Version: x.GetVersion()}
	for _, t := range x.GetTombstones() {
		sel, err := parseLogQuery(t.GetQuery())
		if err != nil {
			return nil, err
		}
		out.Tombstones = append(out.Tombstones, engine.Tombstone{ID: t.GetId(), Selector: sel, Start: t.GetStart(), End: t.GetEnd()})
	}
	for _, c := range x.GetRetention() {
		if c.GetQuery() == "{}" { // which is no query
			out.Retention = append(out.Retention, engine.Cutoff{Before: c.GetBefore()})
			continue
		}
		sel, err := parseLogQuery(c.GetQuery())
		if err != nil {
			return nil, err
		}
		out.Retention = append(out.Retention, engine.Cutoff{Matchers: sel.Matchers, Stages: sel.Stages, Before: c.GetBefore()})
	}
	return out, nil
}

func parseLogQuery(text string) (*syntax.LogSelector, error) {
	e, err := parseQuery(text)
	if err != nil {
		return nil, err
	}
	sel, ok := e.(*syntax.LogSelector)
	if !ok {
		return nil, engine.Errorf(engine.ErrUser, "what is left out needs a log query, not %s", text)
	}
	return sel, nil
}

func parseLabels(text string) (model.Labels, error) {
	pairs, err := syntax.ParseAnyLabels(text)
	if err != nil {
		return nil, err
	}
	out := make(model.Labels, len(pairs))
	for i, p := range pairs {
		out[i] = model.Label{Name: p.Name, Value: p.Value}
		if i > 0 && out[i-1].Name >= p.Name {
			return nil, fmt.Errorf("labels %s are not in canonical order", text)
		}
	}
	return out, nil
}

func toPairs(ls model.Labels) []*ingestv1.Pair {
	if len(ls) == 0 {
		return nil
	}
	flat := make([]ingestv1.Pair, len(ls))
	out := make([]*ingestv1.Pair, len(ls))
	for i, l := range ls {
		flat[i].Name, flat[i].Value = strings.ToValidUTF8(l.Name, "\ufffd"), []byte(l.Value)
		out[i] = &flat[i]
	}
	return out
}

func fromPairs(ps []*ingestv1.Pair) model.Labels {
	out := make(model.Labels, len(ps))
	for i, p := range ps {
		out[i] = model.Label{Name: p.GetName(), Value: string(p.GetValue())}
	}
	return out
}

func pairsSize(ls model.Labels) int {
	n := 0
	for _, l := range ls {
		n += len(l.Name) + len(l.Value) + 8
	}
	return n
}

func indices[To, From ~int | ~uint32](in []From) []To {
	if len(in) == 0 {
		return nil
	}
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = To(v)
	}
	return out
}

// unzip turns ranges into two columns.
func unzip(rs []engine.TimeRange) (starts, ends []int64) {
	for _, r := range rs {
		starts, ends = append(starts, r.Start), append(ends, r.End)
	}
	return starts, ends
}

func zip(starts, ends []int64) ([]engine.TimeRange, error) {
	if len(starts) != len(ends) {
		return nil, engine.Errorf(engine.ErrUser, "%d starts for %d ends of ranges", len(starts), len(ends))
	}
	if len(starts) == 0 {
		return nil, nil
	}
	out := make([]engine.TimeRange, len(starts))
	for i := range out {
		out[i] = engine.TimeRange{Start: starts[i], End: ends[i]}
	}
	return out, nil
}

func fromStats(d *ingestv1.ScanDone) engine.ScanStats {
	return engine.ScanStats{
		RowsRead: d.GetRowsRead(), BytesRead: d.GetBytesRead(),
		MetadataBytesRead: d.GetMetadataBytesRead(), RowsFiltered: d.GetRowsFiltered(),
	}
}

func toStats(s engine.ScanStats) *ingestv1.ScanDone {
	return &ingestv1.ScanDone{RowsRead: s.RowsRead, BytesRead: s.BytesRead, MetadataBytesRead: s.MetadataBytesRead, RowsFiltered: s.RowsFiltered}
}

// decodeRows makes out the rows of a message; label sets are added to out.Labels.
func decodeRows(out *engine.ScanRows, in *ingestv1.Rows, streams int, metric, identity bool) error {
	for _, l := range in.GetNewLabels() {
		if int(l.GetStream()) >= streams {
			return fmt.Errorf("rows of stream %d of %d", l.GetStream(), streams)
		}
		out.Labels = append(out.Labels, engine.RowLabels{
			Stream: int(l.GetStream()), Labels: fromPairs(l.GetLabels()),
			Metadata: fromPairs(l.GetMetadata()), Parsed: fromPairs(l.GetParsed()),
		})
	}
	n := len(in.GetTimes())
	out.Sets, out.Times, out.Values = in.GetLabels(), in.GetTimes(), in.GetValues()
	out.Lines = model.Strings{Ends: in.GetLineEnds(), Slab: in.GetSlab()}
	out.Hashes, out.BatchTimes, out.Positions = in.GetHashes(), in.GetBatchTimes(), in.GetPositions()
	switch {
	case len(out.Sets) != n || len(out.BatchTimes) != n || len(out.Positions) != n,
		metric && len(out.Values) != n,
		!metric && (out.Lines.Len() != n || len(out.Values) != 0),
		(identity || !metric) && len(out.Hashes) != n,
		len(out.Hashes) != 0 && len(out.Hashes) != n:
		return fmt.Errorf("columns of rows do not have equal lengths")
	case slices.ContainsFunc(out.Sets, func(s uint32) bool { return int(s) >= len(out.Labels) }):
		return fmt.Errorf("rows with an unknown label set")
	}
	return out.Lines.Check()
}
