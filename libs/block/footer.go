package block

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/catalog"
)

// section is what the footer says about a section.
type section struct {
	offset     int64 // of its first byte
	linesSize  int64 // of its section of lines
	footerSize int64 // of that's footer, tail included
	gramsSize  int64
	first      int // its first row group among those of the block
	groups     int

	linesAt int64
}

// group is what the footer says about a row group.
type group struct {
	rows             int
	bytes            int64 // of lines
	minTime, maxTime int64
	base             uint32 // how many rows of the row groups before have the first row's stream and time
	orderSize        int64
	metaSize         int64

	section  int
	index    int // in the section
	firstRow int64
	orderAt  int64
	metaAt   int64
}

// footer is a block's footer.
type footer struct {
	info     Info
	sections []section
	groups   []group
}

const flagOrdered = 1

func appendFooter(b []byte, f *footer) []byte {
	i := &f.info
	b = appendString(b, string(i.ID))
	b = appendString(b, i.Tenant)
	if i.Partition.IsZero() {
		b = append(b, 0)
	} else {
		b = binary.AppendVarint(append(b, 1), i.Partition.Unix())
	}
	b = binary.AppendUvarint(b, uint64(i.Level))
	b = binary.AppendUvarint(b, uint64(len(i.Sources)))
	for _, s := range i.Sources {
		b = appendString(b, string(s.ID))
		b = binary.AppendUvarint(b, uint64(s.Part))
		b = binary.AppendUvarint(b, uint64(s.Of))
		b = appendString(b, string(s.Merge))
	}
	b = binary.AppendUvarint(b, uint64(len(i.Tombstones)))
	for _, t := range i.Tombstones {
		b = appendString(b, t)
	}
	flags := byte(0)
	if i.Ordered {
		flags |= flagOrdered
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(i.HashVersion))
	b = binary.AppendVarint(b, i.MinTime)
	b = binary.AppendUvarint(b, uint64(i.MaxTime)-uint64(i.MinTime))
	for _, v := range []int64{i.Streams, i.Rows, i.RawBytes, i.MetadataBytes, i.IndexSize} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = binary.AppendUvarint(b, uint64(len(f.sections)))
	for _, s := range f.sections {
		for _, v := range []int64{s.linesSize, s.footerSize, s.gramsSize, int64(s.groups)} {
			b = binary.AppendUvarint(b, uint64(v))
		}
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].rows))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].bytes))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].minTime)-uint64(i.MinTime))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].maxTime)-uint64(f.groups[k].minTime))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].base))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].orderSize))
	}
	for k := range f.groups {
		b = binary.AppendUvarint(b, uint64(f.groups[k].metaSize))
	}
	return b
}

// parseFooter reads the footer of an object of size bytes. footerSize is that of the
// footer's frame.
func parseFooter(b []byte, size, footerSize int64) (*footer, error) {
	f := &footer{}
	i := &f.info
	d := decoder{b: b}
	i.Size = size
	i.ID = catalog.ID(d.string(maxMeta))
	i.Tenant = d.string(maxMeta)
	switch d.byte() {
	case 0:
	case 1:
		i.Partition = time.Unix(d.varint(), 0).UTC()
	default:
		d.bad = true
	}
	i.Level = int(d.int(1 << 30))
	i.Sources = sized[catalog.Source](d.count(maxMeta))
	for k := range i.Sources {
		i.Sources[k] = catalog.Source{ID: catalog.ID(d.string(maxMeta)), Part: int(d.int(1 << 30)), Of: int(d.int(1 << 30)), Merge: catalog.ID(d.string(maxMeta))}
	}
	i.Tombstones = sized[string](d.count(maxMeta))
	for k := range i.Tombstones {
		i.Tombstones[k] = d.string(maxMeta)
	}
	flags := d.byte()
	i.Ordered = flags&flagOrdered != 0
	i.HashVersion = uint32(d.int(1<<32 - 1))
	i.MinTime = d.varint()
	i.MaxTime = int64(uint64(i.MinTime) + d.uvarint())
	i.Streams, i.Rows, i.RawBytes, i.MetadataBytes, i.IndexSize = d.int(MaxStreams), d.int(maxSize), d.int(maxSize), d.int(maxSize), d.int(maxSize)
	i.Sections = d.count(MaxSections)
	f.sections = make([]section, i.Sections)
	offset := int64(headSize)
	for k := range f.sections {
		s := &f.sections[k]
		s.linesSize, s.footerSize, s.gramsSize = d.int(maxSize), d.int(maxFooter), d.int(maxSize)
		s.first, s.groups = i.RowGroups, int(d.int(MaxRowGroups))
		i.RowGroups += s.groups
		if s.groups == 0 || s.footerSize < int64(lines.TailSize) || s.footerSize > s.linesSize {
			d.bad = true
		}
	}
	if d.bad || flags&^flagOrdered != 0 || i.RowGroups > len(d.b)/7 {
		return nil, corrupt("footer ends within the sections")
	}
	f.groups = make([]group, i.RowGroups)
	fields := [...]func(*group, *decoder){
		func(g *group, d *decoder) { g.rows = int(d.int(lines.MaxRows)) },
		func(g *group, d *decoder) { g.bytes = d.int(lines.MaxBytes) },
		func(g *group, d *decoder) { g.minTime = int64(uint64(i.MinTime) + d.uvarint()) },
		func(g *group, d *decoder) { g.maxTime = int64(uint64(g.minTime) + d.uvarint()) },
		func(g *group, d *decoder) { g.base = uint32(d.int(1<<32 - 1)) },
		func(g *group, d *decoder) { g.orderSize = d.int(maxSize) },
		func(g *group, d *decoder) { g.metaSize = d.int(maxSize) },
	}
	for _, field := range fields {
		for k := range f.groups {
			field(&f.groups[k], &d)
		}
	}
	if d.bad { // what follows is a later minor version's
		return nil, corrupt("footer ends within the row groups")
	}
	rows, bytes := int64(0), int64(0)
	for k := range f.sections {
		s := &f.sections[k]
		s.offset = offset
		for n := range s.groups {
			g := &f.groups[s.first+n]
			g.section, g.index, g.firstRow = k, n, rows
			g.orderAt = offset
			g.metaAt = offset + g.orderSize
			offset = g.metaAt + g.metaSize
			rows += int64(g.rows)
			bytes += g.bytes
			if g.rows == 0 || g.minTime < i.MinTime || g.maxTime > i.MaxTime || g.minTime > g.maxTime || offset > size {
				return nil, corrupt("row group %d of section %d: %d rows from %d to %d", n, k, g.rows, g.minTime, g.maxTime)
			}
		}
		s.linesAt = offset
		if offset += s.linesSize + s.gramsSize; offset > size {
			return nil, corrupt("section %d ends at %d of %d bytes", k, offset, size)
		}
	}
	if rows != i.Rows || bytes != i.RawBytes || (rows == 0) != (i.Streams == 0) {
		return nil, corrupt("%d rows and %d bytes of lines in row groups, %d and %d in all", rows, bytes, i.Rows, i.RawBytes)
	}
	if offset+i.IndexSize+footerSize+int64(tailSize) != size {
		return nil, corrupt("%d bytes before the index of an object of %d", offset, size)
	}
	return f, nil
}

func sized[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

func appendHead(b []byte) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, majorVersion)
	return binary.LittleEndian.AppendUint16(b, minorVersion)
}

// appendTail appends the tail behind a footer of that size.
func appendTail(b []byte, footerSize int) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(footerSize))
	b = binary.LittleEndian.AppendUint16(b, majorVersion)
	b = binary.LittleEndian.AppendUint16(b, minorVersion)
	b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b[at:]))
	return append(b, magic...)
}

// readTail returns the size of the footer before a tail, and the minor version.
func readTail(tail []byte) (size int64, minor uint16, err error) {
	if len(tail) != tailSize || string(tail[tailSize-len(magic):]) != magic {
		return 0, 0, corrupt("no block")
	}
	if xxhash.Sum64(tail[:8]) != binary.LittleEndian.Uint64(tail[8:]) {
		return 0, 0, corrupt("checksum of the tail")
	}
	if v := binary.LittleEndian.Uint16(tail[4:]); v != majorVersion {
		return 0, 0, corrupt("block of version %d, this is a reader of version %d", v, majorVersion)
	}
	return int64(binary.LittleEndian.Uint32(tail)), binary.LittleEndian.Uint16(tail[6:]), nil
}

// readFooter reads the frame of a footer.
func readFooter(frame []byte, size int64) (*footer, error) {
	b, err := column.ReadFrame(frame, maxFooter)
	if err != nil {
		return nil, err
	}
	return parseFooter(b, size, int64(len(frame)))
}

// checkHead checks an object's first bytes, which say what its last ones say.
func checkHead(b []byte, minor uint16) error {
	if string(b) != string(binary.LittleEndian.AppendUint16(appendHead(nil)[:headSize-2], minor)) {
		return corrupt("head of the object")
	}
	return nil
}
