package wal

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

const (
	lockFile        = "lock"
	incarnationFile = "incarnation"
	stateFile       = "state"
	reserveFile     = "reserve"
	tempSuffix      = ".tmp"
	tornSuffix      = ".torn"    // behind segmentSuffix: a segment without a single intact record
	damagedSuffix   = ".damaged" // behind segmentSuffix: what TruncateBefore leaves of a damaged segment
	smallFileBytes  = 4096
)

// directory is the shell around the names and small files of a log.
type directory struct {
	fs   FS
	path string
}

func (d directory) join(name string) string { return filepath.Join(d.path, name) }

// readSmall returns nil without an error if the file is not there.
func (d directory) readSmall(name string) ([]byte, error) {
	f, err := d.fs.Open(d.join(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, smallFileBytes))
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// writeSmall replaces the file durably; on an error the old one is still whole.
func (d directory) writeSmall(name string, content []byte) error {
	temp := d.join(name + tempSuffix)
	if err := d.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.fs.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WritevAt([][]byte{content}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.fs.Rename(temp, d.join(name))
	}
	if err != nil {
		return errors.Join(err, d.removeIfThere(temp))
	}
	return d.fs.SyncDir(d.path)
}

func (d directory) removeIfThere(path string) error {
	if err := d.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// incarnation returns the directory's id, drawing one if there is none or it cannot be read. An
// unreadable file is kept beside the new one.
func (d directory) incarnation(rand io.Reader) (id Incarnation, fresh bool, err error) {
	b, err := d.readSmall(incarnationFile)
	if id, ok := decodeIncarnation(b); err == nil && ok {
		return id, false, nil
	}
	if b != nil || err != nil {
		if err := d.fs.Rename(d.join(incarnationFile), d.join(incarnationFile+damagedSuffix)); err != nil {
			return id, false, fmt.Errorf("wal: set the damaged incarnation file aside: %w", err)
		}
	}
	if _, err := io.ReadFull(rand, id[:]); err != nil {
		return id, false, fmt.Errorf("wal: draw an incarnation id: %w", err)
	}
	if err := d.writeSmall(incarnationFile, encodeIncarnation(id)); err != nil {
		return id, false, fmt.Errorf("wal: write the incarnation file: %w", err)
	}
	return id, true, nil
}

// segment is a file of the log that is no longer written to, or the place of one that is lost.
type segment struct {
	name   string
	first  uint64 // LSN of its first record
	end    uint64 // every record in it is below; set by walk
	size   int64
	salt   uint32
	intact bool // the header is
	lost   bool // the state file knows it, the directory does not
	// damaged segments are kept aside by TruncateBefore
	damaged bool
}

// list returns the segments by first LSN, and removes temporary files. It does not fail for
// a segment that cannot be read, only for one that a later version wrote.
func (d directory) list() ([]segment, error) {
	names, err := d.fs.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", d.path, err)
	}
	slices.Sort(names)
	var segs []segment
	for _, name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			if err := d.removeIfThere(d.join(name)); err != nil {
				return nil, fmt.Errorf("wal: remove a stale temporary file: %w", err)
			}
			continue
		}
		first, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		seg := segment{name: name, first: first, size: -1}
		if err := d.readHeader(&seg); err != nil {
			return nil, err
		}
		segs = append(segs, seg)
	}
	sortSegments(segs)
	return segs, nil
}

// sortSegments puts a renamed segment where its header says; stable, so that of twins the right
// name wins.
func sortSegments(segs []segment) {
	slices.SortStableFunc(segs, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
}

// readHeader leaves size -1 if the file cannot be read at all.
func (d directory) readHeader(seg *segment) error {
	f, err := d.fs.Open(d.join(seg.name))
	if err != nil {
		return nil // walk meets the error again and reports it
	}
	defer f.Close()
	if seg.size, err = f.Size(); err != nil {
		seg.size = -1
		return nil
	}
	b := make([]byte, segmentHeaderSize)
	if n, _ := f.ReadAt(b, 0); n < len(b) {
		return nil
	}
	h, ok := decodeSegmentHeader(b)
	if !ok {
		return nil
	}
	if h.version != formatVersion {
		return fmt.Errorf("wal: segment %s has format version %d, this program reads version %d: %w",
			d.join(seg.name), h.version, formatVersion, errors.ErrUnsupported)
	}
	if h.firstLSN > 0 && h.firstLSN <= maxFirstLSN {
		seg.first, seg.salt, seg.intact = h.firstLSN, h.salt, true
	}
	return nil
}

// loadState returns the state file's content and whether it can be relied on: it is written before
// the first segment, so segments without one mean that it is lost.
func (d directory) loadState() (s state, exists, ok bool) {
	b, err := d.readSmall(stateFile)
	if err == nil && b == nil {
		return state{}, false, false
	}
	s, ok = decodeState(bytes.Clone(b))
	return s, true, ok && err == nil
}
