package pipeline

import (
	"slices"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/model"
)

const (
	errorLabel        = "__error__"
	errorDetailsLabel = "__error_details__"
	preserveLabel     = "__preserve_error__"

	extractedSuffix = "_extracted"
	// maxName bounds the name of an extracted label, which nested objects can
	// make grow with the square of the line.
	maxName = 2048
	// The names of a stream are forgotten when there are too many of them.
	maxNames     = 8192
	maxNameBytes = 1 << 20
)

// Names of errors, the values of __error__.
const (
	ErrJSONParser       = "JSONParserErr"
	ErrLogfmtParser     = "LogfmtParserErr"
	ErrLabelFilter      = "LabelFilterErr"
	ErrSampleExtraction = "SampleExtractionErr"
	ErrTemplateFormat   = "TemplateFormatErr"
)

// nameInfo is a label name as one stream sees it. There is one per name, so that
// a lookup finds all about a label in the current row. Facts about rows are
// stamped with the row's number, so nothing has to be cleared between rows.
type nameInfo struct {
	name   string
	stream int32     // index in the stream's labels, or -1
	suffix *nameInfo // name_extracted, made when needed
	needed uint64    // bit i: parser i has to set it
	checks []earlyCheck

	parsedRow uint64 // last row in which the name was set as a parsed label
	parsed    int32  // index in parsed in that row, -1 when removed again
	metaRow   uint64 // last row whose metadata has the name
	meta      int32
	gone      uint64 // last row in which stream label and metadata were removed
}

// names interns the label names of one stream.
type names struct {
	prog   *program
	labels model.Labels
	byName map[string]*nameInfo
	// byRaw maps keys as they stand in a line; nil: the key makes no name.
	byRaw map[string]*nameInfo
	bytes int
	own   []*nameInfo // of the stream's labels
	slots []*nameInfo // of the names that stages name
	errs  [2]*nameInfo
	buf   []byte
	// recent are the names that parsers found in the last row, in order. Rows
	// mostly look like the one before, which saves looking names up.
	recent     []*nameInfo
	found      int // names found in this row so far
	recentMeta []*nameInfo
}

// maxRecent bounds recent.
const maxRecent = 256

func (n *names) init(prog *program, labels model.Labels) {
	n.prog, n.labels = prog, labels
	n.reset()
}

// rebind makes it the names of another stream; kept reports whether they are the same.
func (n *names) rebind(labels model.Labels) (kept bool) {
	kept = slices.EqualFunc(n.labels, labels, func(a, b model.Label) bool { return a.Name == b.Name })
	n.labels = labels
	if !kept {
		n.reset()
	}
	return kept
}

func (n *names) reset() {
	n.byName = make(map[string]*nameInfo, len(n.labels)+len(n.prog.slots)+16)
	n.byRaw, n.bytes = nil, 0
	n.own, n.slots = n.own[:0], n.slots[:0]
	n.recent, n.recentMeta = nil, nil
	for i, l := range n.labels {
		info := n.add(l.Name)
		info.stream = int32(i)
		n.own = append(n.own, info)
	}
	for _, name := range n.prog.slots {
		n.slots = append(n.slots, n.name(name))
	}
	n.errs = [2]*nameInfo{n.name(errorLabel), n.name(errorDetailsLabel)}
}

// trim forgets all names if there are too many. Only to be called between rows.
func (n *names) trim() bool {
	if len(n.byName)+len(n.byRaw) < maxNames && n.bytes < maxNameBytes {
		return false
	}
	n.reset()
	return true
}

func (n *names) add(name string) *nameInfo {
	info := &nameInfo{name: name, stream: -1, needed: n.prog.needMask(name), checks: n.prog.checks[name]}
	n.byName[name] = info
	n.bytes += len(name)
	return info
}

func (n *names) name(name string) *nameInfo {
	if info := n.byName[name]; info != nil {
		return info
	}
	return n.add(name)
}

// nameBytes is name for the bytes of a name found by a parser, which are not kept.
func (n *names) nameBytes(b []byte) *nameInfo {
	info := n.predicted(b)
	if info == nil {
		info = n.lookup(b)
		n.predict(info)
	}
	return info
}

// predicted returns the name that was found at this place in the last row if b is it.
func (n *names) predicted(b []byte) *nameInfo {
	if n.found < len(n.recent) {
		if info := n.recent[n.found]; info.name == string(b) {
			n.found++
			return info
		}
	}
	return nil
}

func (n *names) predict(info *nameInfo) {
	if n.found < len(n.recent) {
		n.recent[n.found] = info
	} else if n.found < maxRecent {
		n.recent = append(n.recent, info)
	}
	n.found++
}

func (n *names) lookup(b []byte) *nameInfo {
	if info := n.byName[string(b)]; info != nil {
		return info
	}
	return n.add(string(b))
}

func (n *names) extracted(info *nameInfo) *nameInfo {
	if info.suffix == nil {
		info.suffix = n.name(info.name + extractedSuffix)
	}
	return info.suffix
}

// key returns the name that a key of a line makes, or nil if it makes none.
func (n *names) key(raw []byte) *nameInfo {
	if info := n.predicted(raw); info != nil {
		return info
	}
	if info, ok := n.byRaw[string(raw)]; ok {
		if info != nil {
			n.predict(info)
		}
		return info
	}
	n.buf = appendSanitized(n.buf[:0], raw)
	var info *nameInfo
	if len(n.buf) > 0 && len(n.buf) <= maxName {
		info = n.nameBytes(n.buf)
	}
	if len(raw) <= maxName {
		if n.byRaw == nil {
			n.byRaw = make(map[string]*nameInfo)
		}
		n.byRaw[string(raw)] = info
		n.bytes += len(raw)
	}
	return info
}

// appendSanitized appends what of a key may be in a label name: blanks around it
// trimmed, other characters than letters, digits and _ made _, and a leading
// digit (if dst is empty) preceded by _.
func appendSanitized(dst, key []byte) []byte {
	for len(key) > 0 && isSpace(key[0]) {
		key = key[1:]
	}
	for len(key) > 0 && isSpace(key[len(key)-1]) {
		key = key[:len(key)-1]
	}
	if len(key) > 0 && len(dst) == 0 && key[0] >= '0' && key[0] <= '9' {
		dst = append(dst, '_')
	}
	for i := 0; i < len(key); {
		c := key[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_':
			dst = append(dst, c)
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, '_')
			i++
		default:
			_, size := utf8.DecodeRune(key[i:])
			dst = append(dst, '_')
			i += size
		}
	}
	return dst
}

func isSpace(c byte) bool { return c == ' ' || (c >= '\t' && c <= '\r') }
