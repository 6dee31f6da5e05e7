package block

import (
	"slices"
	"sort"

	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/model"
)

// Metadata is the structured metadata of a row group, as sent and derived. Columns
// are decoded when they are asked for, once. Safe for concurrent use.
type Metadata struct {
	table     *table
	templates []uint16 // of the rows
}

// maxGroupMetadata is the most bytes of metadata, names and values, that a row group has: all
// that it may hold, and a row that it begins with.
const maxGroupMetadata = lines.MaxBytes + MaxRowMetadata

// metadataLimit returns how many bytes the values of a row group's metadata may be decompressed
// to, where the block has so many bytes of metadata: a value of a byte, with a name of one, may
// take a number of eight, its length, and its row.
func metadataLimit(bytes int64) int64 { return 64<<10 + 16*min(max(bytes, 0), maxGroupMetadata) }

// openMetadata opens the metadata of rows with these templates, of count that there are,
// and these lines. limit is metadataLimit.
func openMetadata(b []byte, templates []uint16, count int, limit int64, lines slotValues) (*Metadata, error) {
	if len(b) == 0 {
		return &Metadata{table: &table{n: len(templates)}}, nil
	}
	t, err := openTable(b, len(templates), count, maxSideData, limit)
	if err != nil {
		return nil, err
	}
	if slices.Contains(t.modes, presentSlot) {
		t.lines = lines
	}
	return &Metadata{table: t, templates: templates}, nil
}

// MemorySize returns about how many bytes of memory it takes so far, with the lines if
// it needs them.
func (m *Metadata) MemorySize() int {
	n := m.table.memorySize()
	if m.table.lines != nil {
		n += m.table.lines.MemorySize()
	}
	return n
}

// Names returns the names of metadata that rows have.
func (m *Metadata) Names() []string {
	out := make([]string, len(m.table.keys))
	for i := range out {
		out[i] = m.table.keys[i].name
	}
	return out
}

// Has reports whether rows may have metadata of a name, as sent or derived.
func (m *Metadata) Has(name string) bool {
	return slices.ContainsFunc(m.table.keys, func(k tableKey) bool { return k.name == name })
}

// Mark calls set with each row that has that value of that name, as sent or derived.
// A row may come twice.
func (m *Metadata) Mark(name, value string, set func(row int)) error {
	for i := range m.table.keys {
		if m.table.keys[i].name != name {
			continue
		}
		v, err := m.table.column(i)
		if err != nil {
			return err
		}
		v.mark([]byte(value), m.templates, set)
	}
	return nil
}

// Values returns the values of a name, as sent or derived, which wins, by row: 0 stands
// for none, i for values[i-1].
func (m *Metadata) Values(name string) (rows []uint32, values []string, err error) {
	rows = make([]uint32, m.table.n)
	number := map[string]uint32{}
	var buf []byte
	for i := range m.table.keys { // those derived come last
		if m.table.keys[i].name != name {
			continue
		}
		v, err := m.table.column(i)
		if err != nil {
			return nil, nil, err
		}
		v.each(m.templates, func(k int) uint32 {
			buf = v.values.Append(buf[:0], k)
			n, ok := number[string(buf)]
			if !ok {
				values = append(values, string(buf))
				n = uint32(len(values))
				number[string(buf)] = n
			}
			return n
		}, rows)
	}
	return rows, values, nil
}

// append appends what rows have to dst, which has n rows. The rows ascend. Columns that
// have no value in them are left out.
func (m *Metadata) append(dst *model.Rows, rows []uint32, n int) error {
	var buf []byte
	keys := m.table.keys
	for i := 0; i < len(keys); {
		end := i + 1
		for end < len(keys) && keys[end].class == keys[i].class && keys[end].name == keys[i].name {
			end++
		}
		set := &dst.Metadata
		if keys[i].class == classDerived {
			set = &dst.Derived
		}
		var versions []model.Column // of one name
		for ; i < end; i++ {
			v, err := m.table.column(i)
			if err != nil {
				return err
			}
			if v.rows != nil {
				k := sort.Search(len(v.rows), func(i int) bool { return v.rows[i] >= rows[0] })
				if k == len(v.rows) || v.rows[k] > rows[len(rows)-1] {
					continue
				}
			}
			if len(versions) == 0 && i == end-1 {
				buf = v.appendTo(findColumn(set, &keys[i]), rows, n, m.templates, buf)
				continue
			}
			c := model.Column{Version: keys[i].version, Rows: []uint32{}} // not dense: rows begin at n
			buf = v.appendTo(&c, rows, n, m.templates, buf)
			versions = append(versions, c)
		}
		if len(versions) > 0 {
			mergeVersions(findColumn(set, &tableKey{name: keys[end-1].name}), versions)
		}
	}
	for _, set := range []*[]model.Column{&dst.Metadata, &dst.Derived} {
		for i := range *set {
			(*set)[i].Finish(n + len(rows))
		}
	}
	return nil
}

// mergeVersions appends the values of columns, each row's of the newest that has one.
func mergeVersions(dst *model.Column, versions []model.Column) {
	at := make([]int, len(versions))
	for {
		next := -1
		for i := range versions {
			if c := &versions[i]; at[i] < len(c.Rows) && (next < 0 || c.Rows[at[i]] <= versions[next].Rows[at[next]]) {
				next = i // of equal rows the last, which is the newest
			}
		}
		if next < 0 {
			return
		}
		row := versions[next].Rows[at[next]]
		dst.Append(int(row), versions[next].Values.At(at[next]))
		dst.Version = max(dst.Version, versions[next].Version)
		for i := range versions {
			if at[i] < len(versions[i].Rows) && versions[i].Rows[at[i]] == row {
				at[i]++
			}
		}
	}
}

// findColumn returns the column of that name, which it adds if there is none. Values
// that different versions derived become one column, of the newest.
func findColumn(set *[]model.Column, key *tableKey) *model.Column {
	s := *set
	i := len(s)
	for i > 0 && s[i-1].Name >= key.name {
		i--
	}
	if i == len(s) || s[i].Name != key.name {
		s = append(s, model.Column{})
		copy(s[i+1:], s[i:])
		s[i] = model.Column{Name: key.name}
		*set = s
	}
	s[i].Version = max(s[i].Version, key.version)
	return &s[i]
}
