package local

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

const (
	suffix        = ".blocks"
	tempSuffix    = ".tmp"
	damagedSuffix = ".damaged"
)

// Step is called before a writer does what its name says; an error ends the writing
// there, as a crash would. Tests use it.
type Step func(name string) error

// Writer writes a container. It is used by one goroutine.
type Writer struct {
	dir, name string
	file      *os.File
	buf       *bufio.Writer
	sum       *xxhash.Digest
	at        int64
	directory Directory
	step      Step
}

// Create begins a container in dir, under a temporary name. random makes its name
// unique. step may be nil.
func Create(dir string, d Directory, random io.Reader, step Step) (*Writer, error) {
	if step == nil {
		step = func(string) error { return nil }
	}
	var unique [6]byte
	if _, err := io.ReadFull(random, unique[:]); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%016x-%s", uint64(d.Created.UnixNano()), hex.EncodeToString(unique[:]))
	if err := step("create"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name+suffix+tempSuffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	d.Blocks = nil
	return &Writer{dir: dir, name: name, file: f, buf: bufio.NewWriterSize(f, 256<<10), sum: xxhash.New(), directory: d, step: step}, nil
}

// Write adds bytes to the block being written.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	_, _ = w.sum.Write(p[:n]) // never fails
	w.at += int64(n)
	return n, err
}

// End ends the block being written: the bytes since the last End are its object. The
// writer fills in where they are.
func (w *Writer) End(b Block) error {
	b.Offset = 0
	if n := len(w.directory.Blocks); n > 0 {
		last := &w.directory.Blocks[n-1]
		b.Offset = last.Offset + last.Size
	}
	b.Size = w.at - b.Offset
	b.Sum = w.sum.Sum64()
	w.sum.Reset()
	w.directory.Blocks = append(w.directory.Blocks, b)
	return w.step("block")
}

// Size returns the bytes of the blocks so far.
func (w *Writer) Size() int64 { return w.at }

// Empty reports whether there is no block yet.
func (w *Writer) Empty() bool { return len(w.directory.Blocks) == 0 }

// Detach ends the writing and returns the temporary file, which holds the one block that
// was written from its begin on, with the block's checksum. The caller closes and
// removes it.
func (w *Writer) Detach() (*os.File, uint64, error) {
	err := w.buf.Flush()
	if err = errors.Join(err, w.file.Close()); err == nil && len(w.directory.Blocks) != 1 {
		err = fmt.Errorf("%d blocks were written, not one", len(w.directory.Blocks))
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(w.path() + tempSuffix)
	}
	if err != nil {
		return nil, 0, errors.Join(err, os.Remove(w.path()+tempSuffix))
	}
	return f, w.directory.Blocks[0].Sum, nil
}

// Abort removes what was written.
func (w *Writer) Abort() {
	_ = w.file.Close() // it is being thrown away
	_ = os.Remove(w.path() + tempSuffix)
}

func (w *Writer) path() string { return filepath.Join(w.dir, w.name+suffix) }

// Commit makes the container durable, reads it back and opens it. After an error
// nothing of it is there, but for what the next Open of the directory removes.
func (w *Writer) Commit(ctx context.Context) (_ *Container, err error) {
	temp := w.path() + tempSuffix
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	dir := w.directory.encode()
	if len(dir) > maxDirectory {
		return nil, errors.Join(fmt.Errorf("a directory of %d bytes is too large", len(dir)), w.file.Close())
	}
	_, err = w.buf.Write(dir)
	if err == nil {
		_, err = w.buf.Write(encodeTail(dir, w.at))
	}
	if err == nil {
		err = w.buf.Flush()
	}
	if err == nil {
		err = w.step("sync")
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err = errors.Join(err, w.file.Close()); err != nil {
		return nil, err
	}
	// The name is given only to what was read back whole.
	if err = w.step("verify"); err != nil {
		return nil, err
	}
	c, err := open(temp)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer func() {
		if err != nil {
			_ = c.file.Close()
		}
	}()
	if err = c.Verify(ctx); err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	if err = w.step("rename"); err != nil {
		return nil, err
	}
	if err = os.Rename(temp, w.path()); err != nil {
		return nil, err
	}
	if err = w.step("syncdir"); err != nil {
		return nil, err
	}
	if err = syncDir(w.dir); err != nil {
		return nil, err
	}
	c.path, c.name = w.path(), w.name
	return c, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Container is an open container. Whoever reads from it holds it; it is removed from
// disk once it was dropped and nobody does.
type Container struct {
	Directory
	name, path string
	size       int64
	file       *os.File

	mu      sync.Mutex // guards everything below
	holders int
	dropped bool
	closed  bool
}

// Name identifies the container in its directory.
func (c *Container) Name() string { return c.name }

// Size returns the bytes of the container.
func (c *Container) Size() int64 { return c.size }

// Path returns where it is.
func (c *Container) Path() string { return c.path }

// open reads a container's directory and nothing else of it.
func open(path string) (*Container, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c := &Container{path: path, name: strings.TrimSuffix(filepath.Base(path), suffix), file: f}
	if err := c.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func (c *Container) load() error {
	st, err := c.file.Stat()
	if err != nil {
		return err
	}
	c.size = st.Size()
	if c.size < tailSize {
		return damaged("it has %d bytes", c.size)
	}
	tail := make([]byte, tailSize)
	if _, err := c.file.ReadAt(tail, c.size-tailSize); err != nil {
		return err
	}
	offset, length, sum, err := decodeTail(tail, c.size)
	if err != nil {
		return err
	}
	b := make([]byte, length)
	if _, err := c.file.ReadAt(b, offset); err != nil {
		return err
	}
	if xxhash.Sum64(b) != sum {
		return damaged("the checksum of its directory is wrong")
	}
	d, err := decodeDirectory(b, offset)
	if err != nil {
		return err
	}
	c.Directory = *d
	return nil
}

// Verify reads all of the container and checks its checksums.
func (c *Container) Verify(ctx context.Context) error {
	buf := make([]byte, 256<<10)
	for i := range c.Blocks {
		b := &c.Blocks[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		h := xxhash.New()
		n, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(c.file, b.Offset, b.Size)}, buf)
		if err != nil {
			return fmt.Errorf("block %s: %w", b.ID, err)
		}
		if n != b.Size || h.Sum64() != b.Sum {
			return fmt.Errorf("block %s: %w", b.ID, damaged("its checksum is wrong"))
		}
	}
	return nil
}

// Hold keeps the container readable until Release.
func (c *Container) Hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders++
}

// Release ends a Hold.
func (c *Container) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders--
	c.settle()
}

// Drop removes the container once nobody holds it.
func (c *Container) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = true
	c.settle()
}

// Close closes the container's file, whoever holds it.
func (c *Container) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.file.Close()
}

// settle is called with mu held.
func (c *Container) settle() {
	if !c.dropped || c.holders > 0 || c.closed {
		return
	}
	c.closed = true
	// What cannot be removed now is found again, and merged or dropped, later: a copy is
	// harmless.
	_ = os.Remove(c.path)
	_ = c.file.Close()
}

// Section returns the bytes of a block.
func (c *Container) Section(b *Block) *Section {
	return &Section{io.NewSectionReader(c.file, b.Offset, b.Size)}
}

// Section is the bytes of a block in a container. It may be used concurrently while the
// container is held.
type Section struct {
	*io.SectionReader
}

// ReadRange returns n bytes at off.
func (s *Section) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > s.Size() || int64(n) > s.Size()-off {
		return nil, damaged("%d bytes at %d are wanted of a block of %d", n, off, s.Size())
	}
	b := make([]byte, n)
	if _, err := s.ReadAt(b, off); err != nil && !(errors.Is(err, io.EOF) && off+int64(n) == s.Size()) {
		return nil, err
	}
	return b, nil
}

// Damage is a container that was set aside.
type Damage struct {
	Name string
	Err  error
}

func (d Damage) String() string { return fmt.Sprintf("local blocks %s: %v", d.Name, d.Err) }

// OpenDir opens all containers of a directory, oldest first, and creates the directory
// if there is none. What was being written when a process ended is removed. A
// container that is damaged is set aside under the suffix .damaged, where an operator
// can look at it; those set aside before are reported again. An error means that the
// directory cannot be read or that a later version wrote to it.
func OpenDir(ctx context.Context, dir string) (list []*Container, lost []Damage, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			for _, c := range list {
				_ = c.Close() // the first error tells
			}
		}
	}()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch name := e.Name(); {
		case strings.HasSuffix(name, tempSuffix):
			if err := os.Remove(path); err != nil {
				return list, nil, err
			}
		case strings.HasSuffix(name, suffix+damagedSuffix):
			lost = append(lost, Damage{strings.TrimSuffix(name, suffix+damagedSuffix), errors.New("damaged and set aside before")})
		case strings.HasSuffix(name, suffix):
			c, err := open(path)
			if errors.Is(err, ErrDamaged) {
				err = os.Rename(path, path+damagedSuffix)
				lost = append(lost, Damage{strings.TrimSuffix(name, suffix), ErrDamaged})
				if err == nil {
					continue
				}
			}
			if err != nil {
				return list, nil, fmt.Errorf("local blocks %s: %w", name, err)
			}
			list = append(list, c)
		}
	}
	list = dropReplaced(ctx, list)
	return list, lost, syncDir(dir)
}

// dropReplaced drops what a crash kept a merge from dropping.
func dropReplaced(ctx context.Context, list []*Container) []*Container {
	byName := map[string]*Container{}
	for _, c := range list {
		byName[c.name] = c
	}
	gone := map[string]bool{}
	for _, c := range list {
		here := false
		for _, name := range c.Replaces {
			here = here || byName[name] != nil
		}
		// Nothing goes in favour of what was not read back whole.
		if !here || c.Verify(ctx) != nil {
			continue
		}
		for _, name := range c.Replaces {
			if o := byName[name]; o != nil && o != c && !gone[name] {
				gone[name] = true
				o.Drop()
			}
		}
	}
	out := list[:0]
	for _, c := range list {
		if !gone[c.name] {
			out = append(out, c)
		}
	}
	return out
}

// SetAside gives up a container that turned out to be damaged.
func (c *Container) SetAside() error { return os.Rename(c.path, c.path+damagedSuffix) }
