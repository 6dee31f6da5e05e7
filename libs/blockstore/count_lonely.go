package blockstore

import "github.com/weir-logs/weir/libs/model"

// alone runs the pipeline on a row of which nothing is known.
func (w *fieldCounter) alone(row int) error {
	w.at = row
	w.run++
	series, err := w.counts.Series(w.timeOf(row), nil, w.print)
	if err != nil || series < 0 || w.bucket < 0 {
		return err
	}
	return w.counts.Add(series, w.bucket, 1)
}

// lonely is the lines of rows of templates of which slots tell nothing, if they are few: one by
// one they would have columns unpacked that no other row asks for.
type lonely struct {
	of     *picked
	known  bool
	rows   []uint32
	lines  model.Strings
	passed int // of rows
}

// No more rows are printed at once, nor a greater part of all, nor any of row groups of more bytes
// of lines.
const (
	maxLonely      = 1024
	lonelyPart     = 16
	maxLonelyBytes = 16 << 20
)

// gather prints the lonely rows from one on.
func (w *fieldCounter) gather(from int) error {
	l := &w.lonely
	l.known = true
	if w.body.Info().Bytes > maxLonelyBytes {
		return nil
	}
	var rows []uint32
	for i := l.of.search(from); i < l.of.len(); i++ {
		row := l.of.at(i)
		if w.plan.templates[w.tids[row]].full >= 0 {
			continue
		}
		if len(rows) == min(maxLonely, len(w.tids)/lonelyPart) {
			return nil
		}
		rows = append(rows, uint32(row))
	}
	var out model.Rows
	if err := w.body.Select(rows, &out); err != nil {
		return err
	}
	l.rows, l.lines = rows, out.Lines
	return nil
}

// readLine returns the line of the row that is run.
func (w *fieldCounter) readLine() ([]byte, error) {
	l := &w.lonely
	if !l.known {
		if err := w.gather(w.at); err != nil {
			return nil, err
		}
	}
	for l.passed < len(l.rows) && int(l.rows[l.passed]) < w.at {
		l.passed++
	}
	if l.passed < len(l.rows) && int(l.rows[l.passed]) == w.at {
		return l.lines.At(l.passed), nil
	}
	var err error
	if w.printer == nil {
		if w.printer, err = w.body.Printer(); err != nil {
			return nil, err
		}
	}
	w.line, err = w.printer.Append(w.line[:0], w.at)
	return w.line, err
}

// renderLine returns a line with the fields of the row that is run that matter.
func (w *fieldCounter) renderLine() ([]byte, error) {
	var err error
	w.line, err = w.append(w.line[:0], w.shape)
	return w.line, err
}
