package lokiapi

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// grouping brings log entries into the streams that Loki's answers have: by stream
// labels where the client asked for labels by category, else by all labels of an
// entry.
type grouping struct {
	categorize bool
	byLabels   map[string]*group
	groups     []*group

	scratch []byte
	members []member
	merged  map[string]string
}

type group struct {
	labels  []byte // JSON
	entries []*queryv1.LogEntry
	source  *queryv1.LogStream // that entries are from
	mixed   bool               // they are from several
}

func newGrouping(categorize bool) *grouping {
	return &grouping{categorize: categorize, byLabels: map[string]*group{}, merged: map[string]string{}}
}

func (g *grouping) add(s *queryv1.LogStream) {
	if g.categorize {
		g.scratch, g.members = appendStringMap(g.scratch[:0], s.GetLabels(), g.members)
		grp := g.group()
		grp.from(s)
		grp.entries = append(grp.entries, s.GetEntries()...)
		return
	}
	for _, e := range s.GetEntries() {
		clear(g.merged)
		for _, m := range [...]map[string]string{s.GetLabels(), e.GetStructuredMetadata(), e.GetParsed()} {
			for k, v := range m {
				g.merged[k] = v
			}
		}
		g.scratch, g.members = appendStringMap(g.scratch[:0], g.merged, g.members)
		grp := g.group()
		grp.from(s)
		grp.entries = append(grp.entries, e)
	}
}

func (g *group) from(s *queryv1.LogStream) {
	g.mixed = g.mixed || g.source != nil && g.source != s
	g.source = s
}

// group returns the group of the labels in scratch.
func (g *grouping) group() *group {
	if grp := g.byLabels[string(g.scratch)]; grp != nil {
		return grp
	}
	grp := &group{labels: bytes.Clone(g.scratch)}
	g.byLabels[string(grp.labels)] = grp
	g.groups = append(g.groups, grp)
	return grp
}

// sort orders groups by labels, and entries that came from several streams by time.
func (g *grouping) sort(backward bool) {
	slices.SortFunc(g.groups, func(a, b *group) int { return bytes.Compare(a.labels, b.labels) })
	for _, grp := range g.groups {
		if !grp.mixed {
			continue
		}
		slices.SortStableFunc(grp.entries, func(a, b *queryv1.LogEntry) int {
			c := cmp.Compare(a.GetTimestampUnixNano(), b.GetTimestampUnixNano())
			if backward {
				return -c
			}
			return c
		})
	}
}

// append appends the groups as a JSON array. flush is called now and then with what
// there is and returns what to go on with.
func (g *grouping) append(b []byte, flush func([]byte) ([]byte, error)) ([]byte, error) {
	b = append(b, '[')
	var err error
	for i, grp := range g.groups {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"stream":`...)
		b = append(b, grp.labels...)
		b = append(b, `,"values":[`...)
		for k, e := range grp.entries {
			if k > 0 {
				b = append(b, ',')
			}
			b = g.appendEntry(b, e)
			if flush != nil && len(b) >= flushSize {
				if b, err = flush(b); err != nil {
					return nil, err
				}
			}
		}
		b = append(b, ']', '}')
	}
	return append(b, ']'), nil
}

// flushSize is from how many bytes on an answer is sent while it is written.
const flushSize = 64 << 10

func (g *grouping) appendEntry(b []byte, e *queryv1.LogEntry) []byte {
	b = append(b, '[', '"')
	b = strconv.AppendInt(b, e.GetTimestampUnixNano(), 10)
	b = append(b, '"', ',')
	if raw := e.GetRaw(); len(raw) > 0 {
		b = appendString(b, raw)
	} else {
		b = appendString(b, e.GetText())
	}
	if g.categorize {
		b = append(b, ',', '{')
		if m := e.GetStructuredMetadata(); len(m) > 0 {
			b = append(b, `"structuredMetadata":`...)
			b, g.members = appendStringMap(b, m, g.members)
		}
		if m := e.GetParsed(); len(m) > 0 {
			if b[len(b)-1] != '{' {
				b = append(b, ',')
			}
			b = append(b, `"parsed":`...)
			b, g.members = appendStringMap(b, m, g.members)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}
