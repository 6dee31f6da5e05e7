// Package lines encodes the lines and times of rows as a section: blocks that share
// one template table, the innermost part of a block object. See docs/format/block.md.
//
// The package is pure. Every byte read is covered by a checksum; readers refuse what
// does not add up with an error that wraps column.ErrCorrupt, and allocate no more
// than a fixed multiple of what the section says its lines take, within the limits
// below.
package lines

import (
	"fmt"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/template"
)

// Limits of a block.
const (
	MaxRows   = 1 << 16
	MaxBytes  = 32 << 20 // of lines
	MaxBlocks = 1024     // in a section
)

const (
	magic        = "WLIN"
	majorVersion = 1
	minorVersion = 3 // 1: summaries of columns; 2: grams that templates and values share; 3: what columns are plain for

	directoryVersion = 1
	pagedVersion     = 2 // some frames are pages
	rowsVersion      = 3 // some are pages of rows

	flagPacked = 1 // of a frame of pages: some are compressed
	flagParts  = 2 // of a frame of pages: their payloads' sizes are told
	flagRows   = 4 // of a frame of pages: they are of rows

	maxFooter = 64 << 20
	// How payloads are put together in frames.
	ownFrame   = 4 << 10  // payloads from this size on have a frame to themselves
	smallFrame = 32 << 10 // smaller ones share frames of this size
	groupFrame = 1 << 20  // payloads of bytes, or of hexadecimal digits, share these
)

// BlockInfo is what a section's footer tells about a block.
type BlockInfo struct {
	Rows             int
	Bytes            int // of lines
	MinTime, MaxTime int64
	RunEnds          []uint32         // where the runs of rows of one stream each end
	Templates        []template.Count // in use, the most frequent first

	// Where the block is in the section. A block is fetched as a whole.
	Offset, Size int64

	directory int    // bytes of the directory's frame, at the block's end
	shared    []byte // which grams of its templates its values have
}

// payloadLimit bounds the payload of any frame of a block: a number of one digit
// may take eight bytes.
func (b *BlockInfo) payloadLimit() int {
	return min(8*b.Bytes+24*b.Rows+32*len(b.RunEnds)+column.MaxFrame>>12, column.MaxFrame)
}

// check checks what the footer says of block i. listed is by template the last block before
// that lists it, plus one: a list has each template once, and so no more than there are.
func (b *BlockInfo) check(i int, listed []uint32) error {
	if b.Rows < 1 || b.Rows > MaxRows || b.Bytes > MaxBytes {
		return column.Corrupt("block of %d rows and %d bytes", b.Rows, b.Bytes)
	}
	rows := 0
	for _, c := range b.Templates {
		if int(c.Template) >= len(listed) || c.Rows == 0 {
			return column.Corrupt("block with %d rows of template %d of %d", c.Rows, c.Template, len(listed))
		}
		if listed[c.Template] == uint32(i)+1 {
			return column.Corrupt("template %d is listed twice", c.Template)
		}
		listed[c.Template] = uint32(i) + 1
		if rows += int(c.Rows); rows > b.Rows {
			break
		}
	}
	if rows != b.Rows {
		return column.Corrupt("templates of %d rows of %d", rows, b.Rows)
	}
	return nil
}

func at(block int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("block %d: %w", block, err)
}
