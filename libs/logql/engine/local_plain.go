package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/model"
)

// countRuns adds whole runs that lie in one bucket by their counts, or their bytes, if
// their rows need not be seen, and returns the ranges that are left.
func (a *aggregator) countRuns(t task, labels model.Labels) ([]TimeRange, error) {
	g := a.prog.group
	bytes := a.prog.bytes()
	if a.fold != foldCount && !bytes || !a.prog.counts() || g == nil || g.Without {
		return t.ranges, nil
	}
	if mayBeMetadata(g.Names, labels, a.selection.has) {
		return t.ranges, nil
	}
	excluded := a.selection.session.exclusionOf(t.stream)
	all := t.ranges
	var left []TimeRange
	counted, before := false, -1 // the run that left ends with
	series := uint32(0)
	for i, r := range a.selection.session.runsOf(&a.runs, t.stream) {
		for len(all) > 0 && all[0].End <= r.MinTime {
			all = all[1:]
		}
		if len(all) == 0 {
			break
		}
		bucket, last := a.grid.bucket(r.MinTime)
		if bucket < 0 || r.MaxTime > last || all[0].Start > r.MinTime || r.MaxTime >= all[0].End || !excluded.whole(r) {
			// Between runs there are no rows.
			for j := 0; j < len(all) && all[j].Start <= r.MaxTime; j++ {
				piece := TimeRange{max(all[j].Start, r.MinTime), min(all[j].End, r.MaxTime+1)}
				if n := len(left); n > 0 && before == i-1 && j == 0 && left[n-1].Start >= all[0].Start {
					left[n-1].End = piece.End
				} else {
					left = append(left, piece)
				}
				before = i
			}
			continue
		}
		if !counted {
			var err error
			a.buf = a.prog.groupStream(a.buf[:0], labels)
			if series, err = a.seriesOf(a.buf); err != nil {
				return nil, err
			}
			counted = true
		}
		p := partial{n: r.Rows}
		if bytes {
			p.a = float64(r.Bytes)
		}
		if err := a.addTo(series, bucket, p); err != nil {
			return nil, err
		}
		a.stats.RowsRead += r.Rows
		a.stats.RowsFiltered += r.Rows
	}
	if !counted {
		return t.ranges, nil
	}
	return left, nil
}

// groupCache knows the series of a stream's rows by their metadata.
type groupCache struct {
	key    []byte
	series map[string]uint32
	// By the columns that decide.
	columns groupColumns
	last    uint32 // the series of the row before, if hasLast
	hasLast bool
	all     uint32 // the series of all rows of rows
	rows    *model.Rows
	same    bool
}

// plainRows adds rows of one bucket whose pipeline is line filters at most, so
// that the series depends on the stream and on metadata alone.
func (a *aggregator) plainRows(proc *processor, known *groupCache, labels model.Labels, rows *model.Rows, from, to, bucket int) error {
	if known.rows != rows {
		known.rows, known.same, known.hasLast = rows, a.prog.sameSeries(labels, rows), false
		if !known.same {
			known.columns.of(a.prog.group, labels, rows)
		} else {
			a.buf = a.prog.groupStream(a.buf[:0], labels)
			id, err := a.seriesOf(a.buf)
			if err != nil {
				return err
			}
			known.all = id
		}
	}
	filtered := !a.prog.matcher.Empty()
	bytes := a.prog.bytes()
	if known.same && !filtered {
		p := partial{n: uint64(to - from)}
		a.stats.RowsFiltered += p.n
		if bytes {
			p.a = float64(lineBytes(rows, from, to))
		}
		return a.addTo(known.all, bucket, p)
	}
	// Neighbours are mostly of one series.
	var run partial
	at := known.all
	a.sel = a.prog.candidates(a.sel[:0], rows, from, to)
	for _, row := range a.sel {
		i := int(row)
		p := partial{n: 1}
		if filtered || bytes {
			line := rows.Lines.At(i)
			if !proc.matches(line) {
				continue
			}
			if bytes {
				p.a = float64(len(line))
			}
		}
		a.stats.RowsFiltered++
		if !known.same {
			id, err := a.groupOf(proc, known, labels, rows, i)
			if err != nil {
				return err
			}
			if id != at && run.n > 0 {
				if err := a.addTo(at, bucket, run); err != nil {
					return err
				}
				run = partial{}
			}
			at = id
		}
		a.fold.add(&run, p)
	}
	if run.n > 0 {
		return a.addTo(at, bucket, run)
	}
	return nil
}

// groupOf returns the series of a row whose pipeline is line filters at most.
func (a *aggregator) groupOf(proc *processor, known *groupCache, labels model.Labels, rows *model.Rows, row int) (uint32, error) {
	if known.columns.usable {
		return a.groupByColumns(known, labels, row)
	}
	meta, size := a.meta.at(rows, row)
	a.stats.BytesRead += uint64(size)
	a.stats.MetadataBytesRead += uint64(size)
	known.key = pipeline.AppendKey(known.key[:0], meta)
	if id, ok := known.series[string(known.key)]; ok {
		return id, nil
	}
	id := uint32(0)
	if _, _, ok := proc.process(rows.Times[row], lineOf(rows, row), meta); ok {
		a.buf = proc.appendSeries(a.buf[:0])
		var err error
		if id, err = a.seriesOf(a.buf); err != nil {
			return 0, err
		}
	}
	if known.series == nil || len(known.series) > 4096 {
		known.series = map[string]uint32{}
	}
	known.series[string(known.key)] = id
	return id, nil
}

// groupColumns is what the series of a batch's rows depend on: for each label of the
// grouping a label of the stream or metadata of that very name.
type groupColumns struct {
	usable bool
	names  []groupName
	key    []byte
}

type groupName struct {
	name          string
	label         string // of the stream; "": none
	sent, derived columnCursor
	value, last   []byte
}

// of prepares for the rows of a batch. Where metadata could be renamed, as the stream
// has a label of its name, it is not usable.
func (g *groupColumns) of(group *pipeline.Grouping, labels model.Labels, rows *model.Rows) {
	g.usable, g.names = false, g.names[:0]
	if group == nil || group.Without {
		return
	}
	for _, n := range group.Names {
		gn := groupName{name: n}
		if v, ok := labels.Lookup(n); ok {
			gn.label = v
		} else {
			if base, renamed := strings.CutSuffix(n, "_extracted"); renamed {
				if _, ok := labels.Lookup(base); ok {
					return
				}
			}
			gn.sent, gn.derived = cursorOf(rows.Metadata, n), cursorOf(rows.Derived, n)
		}
		g.names = append(g.names, gn)
	}
	g.usable = true
}

// columnCursor reads a column at ascending rows.
type columnCursor struct {
	column *model.Column
	at     int
}

func cursorOf(set []model.Column, name string) columnCursor {
	for i := range set {
		if set[i].Name == name {
			return columnCursor{column: &set[i], at: -1}
		}
	}
	return columnCursor{}
}

func (c *columnCursor) value(row int) []byte {
	switch {
	case c.column == nil:
		return nil
	case c.column.Rows == nil:
		return c.column.Values.At(row)
	case c.at < 0:
		c.at, _ = slices.BinarySearch(c.column.Rows, uint32(row))
	}
	rows := c.column.Rows
	for c.at < len(rows) && rows[c.at] < uint32(row) {
		c.at++
	}
	if c.at < len(rows) && rows[c.at] == uint32(row) {
		return c.column.Values.At(c.at)
	}
	return nil
}

// groupByColumns returns the series of a row by the columns that decide it.
func (a *aggregator) groupByColumns(known *groupCache, labels model.Labels, row int) (uint32, error) {
	g := &known.columns
	same := known.hasLast
	for i := range g.names {
		n := &g.names[i]
		if n.value = n.derived.value(row); len(n.value) == 0 {
			n.value = n.sent.value(row)
		}
		a.stats.BytesRead += uint64(len(n.value))
		a.stats.MetadataBytesRead += uint64(len(n.value))
		same = same && bytes.Equal(n.value, n.last)
		n.last = n.value
	}
	if same {
		return known.last, nil
	}
	g.key = g.key[:0]
	for i := range g.names {
		g.key = binary.AppendUvarint(g.key, uint64(len(g.names[i].value)))
		g.key = append(g.key, g.names[i].value...)
	}
	id, ok := known.series[string(g.key)]
	if !ok {
		a.buf = a.buf[:0]
		for i := range g.names {
			n := &g.names[i]
			if v := cmp.Or(n.label, alias(n.value)); v != "" {
				a.buf = append(a.buf, model.Label{Name: n.name, Value: v})
			}
		}
		var err error
		if id, err = a.seriesOf(a.buf); err != nil {
			return 0, err
		}
		if known.series == nil || len(known.series) > 4096 {
			known.series = map[string]uint32{}
		}
		known.series[string(g.key)] = id
	}
	known.last, known.hasLast = id, true
	return id, nil
}
