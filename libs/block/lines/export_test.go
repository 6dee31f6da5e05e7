package lines

import (
	"encoding/binary"

	"github.com/weir-logs/weir/libs/block/column"
)

// Payloads returns the payloads of all frames of a section but the footer, and the
// directories' columns: what the compressor has no part in.
func Payloads(section []byte) ([][]byte, error) {
	s, err := Open(section)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i := range s.Blocks {
		k := &s.Blocks[i]
		d, err := s.Body(i, s.data[k.Offset:k.Offset+k.Size])
		if err != nil {
			return nil, err
		}
		for n := range d.frames {
			b, err := d.frame(uint32(n))
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
		out = append(out, column.AppendInfos(nil, []column.Info{d.tid}), column.AppendInfos(nil, d.columns))
	}
	return append(out, s.Table.Append(nil)), nil
}

var editor = column.NewCompressor(column.LevelFastest)

// Edit writes a section of one block anew, with payloads changed but all checksums
// and lengths right: frames 0, 1, …, then the directory and the footer.
func Edit(section []byte, edit func(n int, payload []byte) []byte) []byte {
	return rewrite(section, edit, func([]column.Info) {})
}

// EditColumns does the same with the descriptions of the columns changed.
func EditColumns(section []byte, edit func([]column.Info)) []byte {
	return rewrite(section, func(_ int, b []byte) []byte { return b }, edit)
}

func rewrite(section []byte, edit func(int, []byte) []byte, editColumns func([]column.Info)) []byte {
	s, err := Open(section)
	if err != nil || len(s.Blocks) != 1 {
		panic("no section of one block")
	}
	k := &s.Blocks[0]
	d, err := s.Body(0, s.data)
	if err != nil {
		panic(err)
	}
	c := editor
	var out []byte
	directory := binary.AppendUvarint([]byte{directoryVersion}, uint64(len(d.frames)))
	for n := range d.frames {
		b, err := d.frame(uint32(n))
		if err != nil {
			panic(err)
		}
		at := len(out)
		out = c.AppendFrame(out, edit(n, append([]byte(nil), b...)))
		directory = binary.AppendUvarint(directory, uint64(len(out)-at))
	}
	directory = binary.AppendUvarint(directory, uint64(d.timesAt))
	editColumns(d.columns)
	directory = column.AppendInfos(directory, []column.Info{d.tid})
	directory = column.AppendInfos(directory, d.columns)
	at := len(out)
	out = c.AppendFrame(out, edit(len(d.frames), directory))
	table := s.Table.Append(nil)
	foot := append(binary.AppendUvarint(nil, uint64(len(table))), table...)
	foot = appendBlocks(foot, []BlockInfo{{Rows: k.Rows, Bytes: k.Bytes, MinTime: k.MinTime, MaxTime: k.MaxTime, RunEnds: k.RunEnds,
		Templates: k.Templates, Size: int64(len(out)), directory: len(out) - at}})
	foot = column.AppendSummaries(foot, s.Columns)
	return appendTail(out, c, edit(len(d.frames)+1, foot))
}

// FewReads is how many frames of a sparse body are read one by one.
const FewReads = fewReads

// Frames returns how many frames a body has.
func (b *Body) Frames() int { return len(b.frames) }

// Twice returns how many bytes the body keeps of frames as they are stored that it has
// decompressed; not of one that it was opened with.
func (b *Body) Twice() (n int) {
	for i, p := range b.stored {
		if b.frames[i] != nil {
			n += len(p)
		}
	}
	return n
}

// Held returns how many bytes of frames the body keeps, stored or not.
func (b *Body) Held() int {
	n := len(b.data)
	for _, p := range b.stored {
		n += len(p)
	}
	for _, p := range b.frames {
		if !within(b.data, p) {
			n += len(p)
		}
	}
	return n
}
