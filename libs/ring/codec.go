package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The encoding is canonical: equal values have equal bytes.
//
//	table  = version byte (1), uvarint number of members, member*   names, then incarnations ascending
//	member = uvarint length of what follows,
//	         name, incarnation, uvarint roles, grpc, http, zone,
//	         state byte, uvarint min, uvarint max, uvarint version,
//	         varint changed, [uvarint replication factor, uvarint factors,
//	         extra]                    extra: to the end; all three none if all are empty
//	string = uvarint length, bytes
const tableFormat = 1

// MaxMembers is the largest number of records in a table, tombstones included.
const MaxMembers = 4096

// MaxTableSize is the largest encoded table in bytes.
const MaxTableSize = 16 + MaxMembers*(MaxRecordSize+2)

// ErrCorrupt is wrapped by all errors of decoding.
var ErrCorrupt = errors.New("ring: corrupt table")

// AppendBinary appends the canonical encoding of m to dst.
func (m *Member) AppendBinary(dst []byte) ([]byte, error) { return appendMember(dst, m), nil }

func appendMember(dst []byte, m *Member) []byte {
	var body [MaxRecordSize]byte
	b := body[:0]
	b = appendString(b, m.Name)
	b = appendString(b, m.Incarnation)
	b = binary.AppendUvarint(b, uint64(m.Roles))
	b = appendString(b, m.GRPCAddr)
	b = appendString(b, m.HTTPAddr)
	b = appendString(b, m.Zone)
	b = append(b, byte(m.State))
	b = binary.AppendUvarint(b, uint64(m.MinVersion))
	b = binary.AppendUvarint(b, uint64(m.MaxVersion))
	b = binary.AppendUvarint(b, m.Version)
	b = binary.AppendVarint(b, m.ChangedMillis)
	if m.ReplicationFactor != 0 || m.Factors != 0 || m.extra != "" {
		b = binary.AppendUvarint(b, uint64(m.ReplicationFactor))
		b = binary.AppendUvarint(b, uint64(m.Factors))
		b = append(b, m.extra...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// DecodeMember reads one record from the start of b and returns it with what
// follows it. The record has been validated and shares no memory with b.
func DecodeMember(b []byte) (Member, []byte, error) {
	n, w := binary.Uvarint(b)
	if w <= 0 || w != uvarintLen(n) {
		return Member{}, nil, fmt.Errorf("%w: record length", ErrCorrupt)
	}
	if n > MaxRecordSize || n > uint64(len(b)-w) {
		return Member{}, nil, fmt.Errorf("%w: record of %d bytes, %d left, limit %d", ErrCorrupt, n, len(b)-w, MaxRecordSize)
	}
	rest := b[w+int(n):]
	r := reader{b: b[w : w+int(n)]}
	m := Member{
		Name:          r.string(MaxNameLen),
		Incarnation:   r.string(MaxIncarnationLen),
		Roles:         Role(r.uint32()),
		GRPCAddr:      r.string(MaxAddressLen),
		HTTPAddr:      r.string(MaxAddressLen),
		Zone:          r.string(MaxZoneLen),
		State:         State(r.byte()),
		MinVersion:    r.uint32(),
		MaxVersion:    r.uint32(),
		Version:       r.uvarint(),
		ChangedMillis: r.varint(),
	}
	if !r.bad && len(r.b) > 0 {
		m.ReplicationFactor = r.uint32()
		factors := r.uvarint()
		m.Factors, m.extra = Factors(factors), string(r.b)
		// Otherwise the encoding would not be the shortest, or is cut short.
		r.bad = r.bad || factors > 1<<16-1 || m.ReplicationFactor == 0 && factors == 0 && m.extra == ""
	}
	if r.bad {
		return Member{}, nil, fmt.Errorf("%w: member record", ErrCorrupt)
	}
	if err := m.Validate(); err != nil {
		return Member{}, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return m, rest, nil
}

// AppendBinary appends the canonical encoding of t to dst.
func (t Table) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, tableFormat)
	records := t.records()
	dst = binary.AppendUvarint(dst, uint64(len(records)))
	for i := range records {
		dst = appendMember(dst, &records[i])
	}
	return dst, nil
}

// DecodeTable reads what Table.AppendBinary wrote and nothing else. It checks
// all sizes before it allocates; the result shares no memory with b.
func DecodeTable(b []byte) (Table, error) {
	if len(b) > MaxTableSize {
		return Table{}, fmt.Errorf("%w: %d bytes, limit is %d", ErrCorrupt, len(b), MaxTableSize)
	}
	if len(b) == 0 || b[0] != tableFormat {
		return Table{}, fmt.Errorf("%w: unknown format", ErrCorrupt)
	}
	b = b[1:]
	n, w := binary.Uvarint(b)
	if w <= 0 || w != uvarintLen(n) {
		return Table{}, fmt.Errorf("%w: member count", ErrCorrupt)
	}
	b = b[w:]
	// No record is shorter than 13 bytes, its length included.
	if n > MaxMembers || n > uint64(len(b)/13) {
		return Table{}, fmt.Errorf("%w: %d members in %d bytes, limit is %d", ErrCorrupt, n, len(b), MaxMembers)
	}
	members := make([]Member, 0, n)
	for range n {
		m, rest, err := DecodeMember(b)
		if err != nil {
			return Table{}, err
		}
		if k := len(members); k > 0 && compareKeys(&members[k-1], &m) >= 0 {
			return Table{}, fmt.Errorf("%w: members out of order at %q", ErrCorrupt, m.Name)
		}
		members = append(members, m)
		b = rest
	}
	if len(b) > 0 {
		return Table{}, fmt.Errorf("%w: %d bytes after the last member", ErrCorrupt, len(b))
	}
	t := newTable(members)
	if t.Len() != int(n) {
		return Table{}, fmt.Errorf("%w: a past incarnation of a member that stores nothing", ErrCorrupt)
	}
	return t, nil
}

// reader takes fields off b; the first failure sets bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, w := binary.Uvarint(r.b)
	if r.bad || w <= 0 || w != uvarintLen(v) {
		r.bad = true
		return 0
	}
	r.b = r.b[w:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

func (r *reader) byte() byte {
	if r.bad || len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) string(limit uint64) string {
	n := r.uvarint()
	if r.bad || n > limit || n > uint64(len(r.b)) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// uvarintLen is the length of the shortest encoding: a longer one of the same
// number is refused, or encodings would not be canonical.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
