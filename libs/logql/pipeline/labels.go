package pipeline

import (
	"cmp"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/model"
)

// LabelSet is the labels of one row: those of the stream, structured metadata,
// and what stages made of them, plus the row's error. A parsed label hides
// metadata of the same name and that hides a stream label. Metadata named like a
// stream label is called name_extracted.
//
// A set belongs to its Stream and is valid until that processes its next row;
// the strings that it gives out may alias the row and the Stream's buffers, so
// whoever keeps them clones them (see Clone). Not safe for concurrent use.
type LabelSet struct {
	names
	row    uint64
	parsed []parsedLabel
	meta   []parsedLabel
	cut    bool // a stream label or metadata was removed or may be hidden

	errKind, errDetails string
	// unwrapped is left out of series unless a grouping names it.
	unwrapped *nameInfo

	// For sorting: rows mostly have the same names in the same order.
	all      []parsedLabel
	order    []int32
	orderFor []*nameInfo
}

type parsedLabel struct {
	info  *nameInfo // nil: removed
	value string
}

// begin makes the set that of a row without metadata.
func (s *LabelSet) begin() {
	if s.trim() {
		s.orderFor = s.orderFor[:0]
	}
	s.row++
	s.found = 0
	s.parsed, s.meta = s.parsed[:0], s.meta[:0]
	s.cut = false
	s.errKind, s.errDetails, s.unwrapped = "", "", nil
}

func (s *LabelSet) setMeta(meta []model.Label) {
	for i, m := range meta {
		if i == len(s.recentMeta) {
			s.recentMeta = append(s.recentMeta, s.name(m.Name))
		} else if s.recentMeta[i].name != m.Name {
			s.recentMeta[i] = s.name(m.Name)
		}
		info := s.recentMeta[i]
		if info.stream >= 0 {
			if info = s.extracted(info); info.stream >= 0 {
				s.cut = true
			}
		}
		if info.metaRow == s.row {
			s.meta[info.meta].value = m.Value
			continue
		}
		info.metaRow, info.meta = s.row, int32(len(s.meta))
		s.meta = append(s.meta, parsedLabel{info, m.Value})
	}
}

func (s *LabelSet) get(info *nameInfo) (string, bool) {
	if info.parsedRow == s.row && info.parsed >= 0 {
		return s.parsed[info.parsed].value, true
	}
	if info.gone == s.row {
		return "", false
	}
	if info.metaRow == s.row {
		return s.meta[info.meta].value, true
	}
	if info.stream >= 0 {
		return s.labels[info.stream].Value, true
	}
	return "", false
}

func (s *LabelSet) set(info *nameInfo, value string) {
	if info.parsedRow == s.row && info.parsed >= 0 {
		s.parsed[info.parsed].value = value
		return
	}
	info.parsedRow, info.parsed = s.row, int32(len(s.parsed))
	s.parsed = append(s.parsed, parsedLabel{info, value})
	if info.stream >= 0 || info.metaRow == s.row {
		s.cut = true
	}
}

func (s *LabelSet) del(info *nameInfo) {
	if info.parsedRow == s.row && info.parsed >= 0 {
		s.parsed[info.parsed].info = nil
		info.parsed = -1
	}
	info.gone = s.row
	s.cut = true
}

// target returns the name under which a parser sets info: info_extracted if the
// stream or the row's metadata has such a label already.
func (s *LabelSet) target(info *nameInfo) *nameInfo {
	if info.stream >= 0 || (info.metaRow == s.row && info.gone != s.row) {
		return s.extracted(info)
	}
	return info
}

// taken reports whether parsers leave the name alone: it was extracted or set
// before, or removed.
func (s *LabelSet) taken(info *nameInfo) bool {
	return info.parsedRow == s.row || info.gone == s.row
}

func (s *LabelSet) setErr(kind, details string) { s.errKind, s.errDetails = kind, details }

// Err returns the row's error, the value of __error__, and its details; "" if
// there is none. A sample with an error makes a metric query fail.
func (s *LabelSet) Err() (kind, details string) { return s.errKind, s.errDetails }

// Get returns the value of a label, __error__ and __error_details__ included.
func (s *LabelSet) Get(name string) (string, bool) {
	switch {
	case name == errorLabel && s.errKind != "":
		return s.errKind, true
	case name == errorDetailsLabel && s.errDetails != "":
		return s.errDetails, true
	}
	info := s.byName[name]
	if info == nil {
		return "", false
	}
	return s.get(info)
}

// hidden reports whether metadata of that name is removed or hidden.
func (s *LabelSet) hidden(info *nameInfo) bool {
	return info.gone == s.row || (info.parsedRow == s.row && info.parsed >= 0)
}

// AppendStream appends the labels of the stream that are left, ascending by name.
func (s *LabelSet) AppendStream(dst []model.Label) []model.Label {
	if !s.cut {
		return append(dst, s.labels...)
	}
	for i, info := range s.own {
		if info.metaRow != s.row && !s.hidden(info) {
			dst = append(dst, s.labels[i])
		}
	}
	return dst
}

// AppendMetadata appends the structured metadata that is left, ascending by name.
func (s *LabelSet) AppendMetadata(dst []model.Label) []model.Label {
	from := len(dst)
	for _, m := range s.meta {
		if !s.hidden(m.info) {
			dst = append(dst, model.Label{Name: m.info.name, Value: m.value})
		}
	}
	sortLabels(dst[from:])
	return dst
}

// AppendParsed appends what stages made, the row's error included, ascending by name.
func (s *LabelSet) AppendParsed(dst []model.Label) []model.Label {
	from := len(dst)
	for _, p := range s.parsed {
		if p.info != nil && !(p.info == s.errs[0] && s.errKind != "") && !(p.info == s.errs[1] && s.errDetails != "") {
			dst = append(dst, model.Label{Name: p.info.name, Value: p.value})
		}
	}
	if s.errKind != "" {
		dst = append(dst, model.Label{Name: errorLabel, Value: s.errKind})
	}
	if s.errDetails != "" {
		dst = append(dst, model.Label{Name: errorDetailsLabel, Value: s.errDetails})
	}
	sortLabels(dst[from:])
	return dst
}

func sortLabels(ls []model.Label) {
	slices.SortFunc(ls, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
}

// Append appends all labels, the row's error included, ascending by name.
// A label may have the value "".
func (s *LabelSet) Append(dst []model.Label) []model.Label {
	s.collect()
	for _, i := range s.order {
		dst = append(dst, model.Label{Name: s.all[i].info.name, Value: s.all[i].value})
	}
	return dst
}

// collect gathers all labels in all and brings order up to date.
func (s *LabelSet) collect() {
	all := s.all[:0]
	for i, info := range s.own {
		if !s.cut || (info.metaRow != s.row && !s.hidden(info)) {
			all = append(all, parsedLabel{info, s.labels[i].Value})
		}
	}
	for _, m := range s.meta {
		if !s.cut || !s.hidden(m.info) {
			all = append(all, m)
		}
	}
	for _, p := range s.parsed {
		if p.info != nil && !(p.info == s.errs[0] && s.errKind != "") && !(p.info == s.errs[1] && s.errDetails != "") {
			all = append(all, p)
		}
	}
	if s.errKind != "" {
		all = append(all, parsedLabel{s.errs[0], s.errKind})
	}
	if s.errDetails != "" {
		all = append(all, parsedLabel{s.errs[1], s.errDetails})
	}
	s.all = all
	if len(all) == len(s.orderFor) {
		same := true
		for i := range all {
			if all[i].info != s.orderFor[i] {
				same = false
				break
			}
		}
		if same {
			return
		}
	}
	s.orderFor, s.order = s.orderFor[:0], s.order[:0]
	for i := range all {
		s.orderFor = append(s.orderFor, all[i].info)
		s.order = append(s.order, int32(i))
	}
	slices.SortFunc(s.order, func(a, b int32) int { return cmp.Compare(all[a].info.name, all[b].info.name) })
}

// Grouping selects labels of series: those of Names (by) or all but those
// (without). Names ascend. The nil *Grouping stands for all labels.
type Grouping struct {
	Names   []string
	Without bool
}

// AppendGroup appends the labels of the series that the row belongs to,
// ascending by name. Labels that are not there are left out; the unwrapped label
// is left out unless by names it.
func (s *LabelSet) AppendGroup(dst []model.Label, g *Grouping) []model.Label {
	if g != nil && !g.Without {
		for _, n := range g.Names {
			if v, ok := s.Get(n); ok {
				dst = append(dst, model.Label{Name: n, Value: v})
			}
		}
		return dst
	}
	s.collect()
	var without []string
	if g != nil {
		without = g.Names
	}
	for _, i := range s.order {
		info := s.all[i].info
		for len(without) > 0 && without[0] < info.name {
			without = without[1:]
		}
		if info == s.unwrapped || (len(without) > 0 && without[0] == info.name) {
			continue
		}
		dst = append(dst, model.Label{Name: info.name, Value: s.all[i].value})
	}
	return dst
}

// AppendKey appends a key to dst that two label sets share exactly if they are
// equal, so that equal sets can be interned without a string per row.
func AppendKey(dst []byte, labels []model.Label) []byte {
	for _, l := range labels {
		dst = appendString(appendString(dst, l.Name), l.Value)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	n := len(s)
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(append(dst, byte(n)), s...)
}

// Clone returns labels that share nothing with a Stream's buffers.
func Clone(labels []model.Label) model.Labels {
	n := 0
	for _, l := range labels {
		n += len(l.Name) + len(l.Value)
	}
	var b strings.Builder
	b.Grow(n)
	for _, l := range labels {
		b.WriteString(l.Name)
		b.WriteString(l.Value)
	}
	slab := b.String()
	out := make(model.Labels, len(labels))
	for i, l := range labels {
		out[i].Name, slab = slab[:len(l.Name)], slab[len(l.Name):]
		out[i].Value, slab = slab[:len(l.Value)], slab[len(l.Value):]
	}
	return out
}
