package distributor

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/model"
)

// levelVersion is the version of the rule that derives detected_level.
const levelVersion = 1

// normalise brings metadata columns into the form that identity is made of: names
// that queries can use, ascending, each once. Values of the first column of a
// name win. With keep names may be any UTF-8; else what no plain name has is replaced.
func normalise(r *model.Rows, keep bool) {
	valid, cleaned := validName, cleanName
	if keep {
		valid = func(name string) bool { return name != "" && utf8.ValidString(name) }
		cleaned = func(name string) string { return cmp.Or(strings.ToValidUTF8(name, "_"), "_") }
	}
	clean := true
	for i := range r.Metadata {
		if !valid(r.Metadata[i].Name) || i > 0 && r.Metadata[i-1].Name >= r.Metadata[i].Name {
			clean = false
			break
		}
	}
	if clean {
		return
	}
	cols := slices.Clone(r.Metadata)
	for i := range cols {
		cols[i].Name = cleaned(cols[i].Name)
	}
	sortColumns(cols)
	out := cols[:0:0]
	for i := 0; i < len(cols); {
		j := i + 1
		for j < len(cols) && cols[j].Name == cols[i].Name {
			j++
		}
		if j == i+1 {
			out = append(out, cols[i])
		} else {
			out = append(out, unite(cols[i:j], r.Len()))
		}
		i = j
	}
	r.Metadata = out
}

func sortColumns(cols []model.Column) {
	slices.SortStableFunc(cols, func(a, b model.Column) int { return strings.Compare(a.Name, b.Name) })
}

// unite makes one column of several of one name.
func unite(cols []model.Column, n int) model.Column {
	out := model.Column{Name: cols[0].Name}
	for row := range n {
		for k := range cols {
			if v := cols[k].At(row); len(v) > 0 {
				out.Append(row, v)
				break
			}
		}
	}
	out.Finish(n)
	return out
}

func validName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i], i) {
			return false
		}
	}
	return s != ""
}

func nameByte(c byte, at int) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || at > 0 && '0' <= c && c <= '9'
}

// cleanName replaces what a label name may not hold by `_`, and puts `key_` before
// a leading digit, as Loki does.
func cleanName(s string) string {
	b := make([]byte, 0, len(s)+1)
	for i, c := range s {
		switch {
		case c < 0x80 && nameByte(byte(c), max(i, len(b))):
			b = append(b, byte(c))
		case c < 0x80 && '0' <= c && c <= '9':
			b = append(append(b, "key_"...), byte(c))
		default:
			b = append(b, '_')
		}
	}
	if len(b) == 0 {
		return "_"
	}
	return string(b)
}

// What is allocated together for a request's streams at most.
const (
	pageRows    = 1 << 10
	pageStreams = 64
)

// level is what a stream's labels say of the level of its entries, if they do.
type level struct {
	text  string
	fixed bool
}

func labelLevel(ls model.Labels) level {
	text, fixed := discover.LabelLevel(ls)
	return level{text, fixed}
}

// deriveLevel adds the column detected_level to the rows of a stream. A level that
// the producer sent under that name stays its own, in normal form.
func deriveLevel(whole level, r *model.Rows, sp *space) {
	sent := -1
	var fields []model.Column // metadata that may tell a level
	for i := range r.Metadata {
		if r.Metadata[i].Name == discover.LevelName {
			sent = i
		}
		if discover.TellsLevel(r.Metadata[i].Name) {
			fields = append(fields, r.Metadata[i])
		}
	}
	n := r.Len()
	derived := model.Column{Name: discover.LevelName, Version: levelVersion}
	derived.Values.Ends = sp.ends.Take(n, min(2*sp.left, pageRows))
	derived.Values.Slab = sp.bytes.Take(7*n, min(14*sp.left, 7*pageRows))
	var meta []model.Label
	var own *model.Column
	if sent >= 0 {
		own = &model.Column{Name: discover.LevelName}
	}
	for i := range n {
		meta = meta[:0]
		for k := range fields {
			if v := fields[k].At(i); len(v) > 0 {
				meta = append(meta, model.Label{Name: fields[k].Name, Value: string(v)})
			}
		}
		level := whole.text
		if !whole.fixed || own != nil && len(r.Metadata[sent].At(i)) > 0 {
			level = discover.Level[model.Label](nil, meta, r.Lines.At(i))
		}
		if own != nil && len(r.Metadata[sent].At(i)) > 0 {
			own.AppendString(i, level)
			continue
		}
		derived.AppendString(i, level)
	}
	if own != nil {
		own.Finish(n)
		r.Metadata = slices.Clone(r.Metadata)
		r.Metadata[sent] = *own
	}
	derived.Finish(n)
	if derived.Values.Len() > 0 {
		r.Derived = append(sp.columns.Take(1, min(sp.left, pageStreams)), derived)
	}
}
