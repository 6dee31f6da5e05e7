package block

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/weir-logs/weir/libs/block/grams"
	"github.com/weir-logs/weir/libs/block/lines"
)

// Section is the footer of a section's lines, and its matrix of grams, opened. Safe for
// concurrent use.
type Section struct {
	*lines.Section
	Grams *grams.Region // nil: there is none
}

// MemorySize returns about how many bytes of memory the section takes.
func (s *Section) MemorySize() int {
	n := s.Section.MemorySize()
	if s.Grams != nil {
		n += s.Grams.MemorySize()
	}
	return n
}

// SectionFooter is the footer of a section's lines and its matrix of grams, of which the
// matrix is opened: often it tells that no more is needed. Safe for concurrent use.
type SectionFooter struct {
	Grams *grams.Region // nil: there is none

	reader *Reader
	number int
	size   int

	mu      sync.Mutex
	bytes   []byte // nil once it is opened
	section atomic.Pointer[Section]
	memory  int // without the footer, opened or not
}

// Groups returns the first row group of the section, and how many there are.
func (f *SectionFooter) Groups() (first, n int) {
	s := &f.reader.foot.sections[f.number]
	return s.first, s.groups
}

// Opened reports whether the footer has been opened.
func (f *SectionFooter) Opened() bool { return f.section.Load() != nil }

// MemorySize returns about how many bytes of memory the footer takes, which are more once
// it is opened, and once something is derived from it.
func (f *SectionFooter) MemorySize() int {
	if s := f.section.Load(); s != nil {
		return f.memory + s.Section.MemorySize()
	}
	return f.memory + f.size
}

// Open opens the footer of the section's lines, once.
func (f *SectionFooter) Open() (*Section, error) {
	if s := f.section.Load(); s != nil {
		return s, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.section.Load(); s != nil {
		return s, nil
	}
	ls, err := f.reader.openLines(f.number, f.bytes)
	if err != nil {
		return nil, err
	}
	s := &Section{Section: ls, Grams: f.Grams}
	f.section.Store(s)
	f.bytes = nil
	return s, nil
}

// ReadSectionFooter reads the footer of a section's lines and its matrix of grams, in one
// read.
func (r *Reader) ReadSectionFooter(ctx context.Context, section int) (*SectionFooter, error) {
	s := &r.foot.sections[section]
	fail := func(err error) (*SectionFooter, error) { return nil, &Error{r.foot.info.ID, section, -1, err} }
	b, err := r.read(ctx, s.linesAt+s.linesSize-s.footerSize, s.footerSize+s.gramsSize)
	if err != nil {
		return fail(err)
	}
	f := &SectionFooter{reader: r, number: section, size: int(s.footerSize), bytes: b[:s.footerSize:s.footerSize]}
	f.memory = 128
	if s.gramsSize > 0 {
		// Each in memory of its own: the footer's bytes go once it is opened, which may be
		// never, and would hold on to those of the grams until then.
		f.bytes = bytes.Clone(f.bytes)
		if f.Grams, err = grams.Open(bytes.Clone(b[s.footerSize:]), r.minor >= minorChosen); err != nil {
			return fail(err)
		}
		if f.Grams.Blocks() != s.groups {
			return fail(corrupt("grams of %d blocks, %d row groups", f.Grams.Blocks(), s.groups))
		}
		f.memory += f.Grams.MemorySize()
	}
	return f, nil
}

// ReadSection reads the footer of a section's lines and its matrix of grams, in one
// read, and opens both.
func (r *Reader) ReadSection(ctx context.Context, section int) (*Section, error) {
	f, err := r.ReadSectionFooter(ctx, section)
	if err != nil {
		return nil, err
	}
	return f.Open()
}

// openLines opens the footer of a section's lines.
func (r *Reader) openLines(section int, footer []byte) (*lines.Section, error) {
	s := &r.foot.sections[section]
	fail := func(err error) (*lines.Section, error) { return nil, &Error{r.foot.info.ID, section, -1, err} }
	ls, err := lines.OpenFooter(footer, s.linesSize)
	if err != nil {
		return fail(err)
	}
	if len(ls.Blocks) != s.groups {
		return fail(corrupt("%d blocks of lines, %d row groups", len(ls.Blocks), s.groups))
	}
	at := int64(0)
	for i := range ls.Blocks {
		k, g := &ls.Blocks[i], &r.foot.groups[s.first+i]
		if k.Rows != g.rows || int64(k.Bytes) != g.bytes || k.MinTime != g.minTime || k.MaxTime != g.maxTime || k.Offset != at {
			return nil, r.error(s.first+i, corrupt("the lines' footer differs from the block's"))
		}
		at += k.Size
	}
	if at != s.linesSize-s.footerSize {
		return fail(corrupt("blocks of %d bytes of lines, not %d", at, s.linesSize-s.footerSize))
	}
	return ls, nil
}
