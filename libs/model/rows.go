package model

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Strings is a column of byte strings that lie end to end in one slab. The zero
// value is an empty column.
type Strings struct {
	Ends []uint32 // Ends[i] is where string i ends; it begins where i-1 ended
	Slab []byte
}

// Len returns the number of strings.
func (s *Strings) Len() int { return len(s.Ends) }

// At returns string i; it aliases the slab.
func (s *Strings) At(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = s.Ends[i-1]
	}
	return s.Slab[from:s.Ends[i]:s.Ends[i]]
}

// Append adds a string.
func (s *Strings) Append(b []byte) {
	s.Slab = append(s.Slab, b...)
	s.Ends = append(s.Ends, uint32(len(s.Slab)))
}

// AppendString adds a string.
func (s *Strings) AppendString(b string) {
	s.Slab = append(s.Slab, b...)
	s.Ends = append(s.Ends, uint32(len(s.Slab)))
}

// Check returns an error unless the ends ascend and the last one is the slab's
// length: what must hold before At may be used on data from outside.
func (s *Strings) Check() error {
	prev := uint32(0)
	for i, e := range s.Ends {
		if e < prev {
			return fmt.Errorf("string %d ends at %d, before it begins at %d", i, e, prev)
		}
		prev = e
	}
	if int(prev) != len(s.Slab) {
		return fmt.Errorf("strings end at %d, the slab at %d", prev, len(s.Slab))
	}
	return nil
}

// Column is one name of structured metadata over rows.
type Column struct {
	Name string
	// Rows are the ascending numbers of the rows that have a value; nil: every
	// row has one. An empty value means none.
	Rows   []uint32
	Values Strings
	// Version is that of the rule that derived the column; 0 for what was sent.
	Version uint32
}

// At returns the value of a row, or nil.
func (c *Column) At(row int) []byte {
	if c.Rows == nil {
		return c.Values.At(row)
	}
	i, ok := slices.BinarySearch(c.Rows, uint32(row))
	if !ok {
		return nil
	}
	return c.Values.At(i)
}

// Append adds a value for a row behind all rows so far. A column that gets a
// value for each row stays dense.
func (c *Column) Append(row int, value []byte) {
	c.next(row)
	c.Values.Append(value)
}

func (c *Column) next(row int) {
	if c.Rows == nil && c.Values.Len() != row {
		c.sparse()
	}
	if c.Rows != nil {
		c.Rows = append(c.Rows, uint32(row))
	}
}

func (c *Column) sparse() {
	c.Rows = make([]uint32, c.Values.Len(), c.Values.Len()+8)
	for i := range c.Rows {
		c.Rows[i] = uint32(i)
	}
}

// AppendString is Append.
func (c *Column) AppendString(row int, value string) {
	c.next(row)
	c.Values.AppendString(value)
}

// Finish makes a dense column that ends before row n sparse, as it must be when
// rows follow that it has no value for.
func (c *Column) Finish(n int) {
	if c.Rows == nil && c.Values.Len() != n {
		c.sparse()
	}
}

// Rows is rows of one stream in columns: the one shape that entries have in
// memory, on the internal wire and in the write-ahead log.
type Rows struct {
	Times    []int64 // nanoseconds since the Unix epoch
	Lines    Strings
	Metadata []Column // as sent, ascending by name
	Derived  []Column // made by the server, ascending by name
	Copies   []uint32 // copy numbers; nil: all 0

	// What ingesters and blocks know besides; each nil, or one per row.
	Hashes     []uint64 // see Hash
	BatchTimes []int64  // when the producer made the batch; 0: no longer known
	Positions  []uint32 // place in the producer's request
}

// Len returns the number of rows.
func (r *Rows) Len() int { return len(r.Times) }

// Reuse empties the rows. What memory they had stays for those that come, and so do
// columns of metadata, without a value.
func (r *Rows) Reuse() {
	*r = Rows{
		Times: r.Times[:0], Lines: Strings{Ends: r.Lines.Ends[:0], Slab: r.Lines.Slab[:0]},
		Metadata: reuse(r.Metadata), Derived: reuse(r.Derived),
		Hashes: r.Hashes[:0], BatchTimes: r.BatchTimes[:0], Positions: r.Positions[:0],
	}
}

// reusedColumns is how many columns are worth to be kept.
const reusedColumns = 8

func reuse(cols []Column) []Column {
	if len(cols) > reusedColumns {
		return nil
	}
	for i := range cols {
		v := &cols[i].Values
		cols[i] = Column{Name: cols[i].Name, Values: Strings{Ends: v.Ends[:0], Slab: v.Slab[:0]}}
	}
	return cols
}

// Copy returns the copy number of a row.
func (r *Rows) Copy(row int) uint32 {
	if r.Copies == nil {
		return 0
	}
	return r.Copies[row]
}

// Key returns the place of a row in the order of entries.
func (r *Rows) Key(row int) OrderKey {
	k := OrderKey{Time: r.Times[row]}
	if r.BatchTimes != nil {
		k.BatchTime = r.BatchTimes[row]
	}
	if r.Positions != nil {
		k.Position = r.Positions[row]
	}
	if r.Hashes != nil {
		k.Hash = r.Hashes[row]
	}
	return k
}

// Check returns an error unless all columns fit together: what must hold before
// rows from outside are used.
func (r *Rows) Check() error {
	n := r.Len()
	if r.Lines.Len() != n {
		return fmt.Errorf("%d lines for %d times", r.Lines.Len(), n)
	}
	if err := r.Lines.Check(); err != nil {
		return fmt.Errorf("lines: %w", err)
	}
	if r.Copies != nil && len(r.Copies) != n {
		return fmt.Errorf("%d copy numbers for %d rows", len(r.Copies), n)
	}
	if r.Positions != nil && len(r.Positions) != n {
		return fmt.Errorf("%d positions for %d rows", len(r.Positions), n)
	}
	for _, set := range [][]Column{r.Metadata, r.Derived} {
		for i := range set {
			c := &set[i]
			if i > 0 && set[i-1].Name >= c.Name {
				return fmt.Errorf("metadata column %q does not come after %q", c.Name, set[i-1].Name)
			}
			if err := c.check(n); err != nil {
				return fmt.Errorf("metadata column %q: %w", c.Name, err)
			}
		}
	}
	return nil
}

func (c *Column) check(n int) error {
	if err := c.Values.Check(); err != nil {
		return err
	}
	if c.Rows == nil {
		if c.Values.Len() != n {
			return fmt.Errorf("%d values for %d rows", c.Values.Len(), n)
		}
		return nil
	}
	if len(c.Rows) != c.Values.Len() {
		return fmt.Errorf("%d values for %d row numbers", c.Values.Len(), len(c.Rows))
	}
	prev := -1
	for _, r := range c.Rows {
		if int(r) <= prev || int(r) >= n {
			return fmt.Errorf("row %d after %d of %d", r, prev, n)
		}
		prev = int(r)
	}
	return nil
}

// AppendMetadata appends the row's metadata as sent, ascending by name, to dst.
// Values are copied.
func (r *Rows) AppendMetadata(dst []Label, row int) []Label {
	return appendColumns(dst, r.Metadata, row)
}

// AppendDerived appends the row's derived metadata, ascending by name, to dst.
func (r *Rows) AppendDerived(dst []Label, row int) []Label {
	return appendColumns(dst, r.Derived, row)
}

func appendColumns(dst []Label, set []Column, row int) []Label {
	for i := range set {
		if v := set[i].At(row); len(v) > 0 {
			dst = append(dst, Label{set[i].Name, string(v)})
		}
	}
	return dst
}

// MetadataBytes returns the bytes of names and values of the row's metadata as sent.
func (r *Rows) MetadataBytes(row int) int {
	n := 0
	for i := range r.Metadata {
		if v := r.Metadata[i].At(row); len(v) > 0 {
			n += len(r.Metadata[i].Name) + len(v)
		}
	}
	return n
}

// HashVersion is the version of Hash; digests of different versions say nothing
// about each other.
const HashVersion = 1

// Hash is the hash of a row as an entry of its stream: of time, copy number, line
// and metadata as sent. Equal entries have equal hashes; whoever finds equal
// hashes confirms by bytes. Sums of hashes modulo 2^64 are digests of sets.
func (r *Rows) Hash(row int) uint64 {
	line := r.Lines.At(row)
	h := mix(xxhash.Sum64(line), uint64(len(line)))
	for i := range r.Metadata {
		if v := r.Metadata[i].At(row); len(v) > 0 {
			h = mix(h^xxhash.Sum64String(r.Metadata[i].Name), xxhash.Sum64(v)+uint64(len(v)))
		}
	}
	// The time goes in before the last mixing, so that a digest sees two rows
	// swap their times.
	return mix(h^uint64(r.Copy(row))<<32, mix(uint64(r.Times[row]), HashVersion))
}

// StreamHash makes the hash of an entry, which tells it apart from others of its
// stream, one that tells it apart from all entries of a tenant.
func StreamHash(fingerprint, hash uint64) uint64 { return mix(fingerprint, hash) }

// SameEntry reports whether row i of r and row j of o are the same entry of
// their common stream.
func (r *Rows) SameEntry(i int, o *Rows, j int) bool {
	if r.Times[i] != o.Times[j] || r.Copy(i) != o.Copy(j) || string(r.Lines.At(i)) != string(o.Lines.At(j)) {
		return false
	}
	a, b := 0, 0
	for {
		var va, vb []byte
		for ; a < len(r.Metadata) && len(va) == 0; a++ {
			va = r.Metadata[a].At(i)
		}
		for ; b < len(o.Metadata) && len(vb) == 0; b++ {
			vb = o.Metadata[b].At(j)
		}
		if len(va) == 0 || len(vb) == 0 {
			return len(va) == len(vb)
		}
		if r.Metadata[a-1].Name != o.Metadata[b-1].Name || string(va) != string(vb) {
			return false
		}
	}
}

// OrderKey is the place of an entry among the entries of its stream: by
// timestamp, then batch time, then position in the request; the hash decides
// among what is still equal.
type OrderKey struct {
	Time      int64
	BatchTime int64
	Position  uint32
	Hash      uint64
}

// Compare orders keys.
func (k OrderKey) Compare(o OrderKey) int {
	switch {
	case k.Time != o.Time:
		return order(k.Time < o.Time)
	case k.BatchTime != o.BatchTime:
		return order(k.BatchTime < o.BatchTime)
	case k.Position != o.Position:
		return order(k.Position < o.Position)
	case k.Hash != o.Hash:
		return order(k.Hash < o.Hash)
	}
	return 0
}

func order(less bool) int {
	if less {
		return -1
	}
	return 1
}
