package harness

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/weir-logs/weir/libs/wal"
)

var errGone = errors.New("the process is dead")

// disk is the file system of a write-ahead log, which can be cut off from those who use
// it: whatever they do then changes nothing. The last write that they try gets through in
// part, as that of a process that is killed may.
type disk struct {
	wal.OS

	mu   sync.RWMutex // held for reading by changes in work
	gone bool
	torn bool // guarded by mu, as gone: the last write has been tried
}

// cut waits for the changes that are in work; there will be no others.
func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
}

func (d *disk) change(f func() error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.gone {
		return errGone
	}
	return f()
}

func (d *disk) MkdirAll(dir string) error {
	return d.change(func() error { return d.OS.MkdirAll(dir) })
}

func (d *disk) Rename(oldname, newname string) error {
	return d.change(func() error { return d.OS.Rename(oldname, newname) })
}

func (d *disk) Remove(name string) error {
	return d.change(func() error { return d.OS.Remove(name) })
}

func (d *disk) SyncDir(dir string) error {
	return d.change(func() error { return d.OS.SyncDir(dir) })
}

func (d *disk) Lock(name string) (c io.Closer, err error) {
	err = d.change(func() error { c, err = d.OS.Lock(name); return err })
	return c, err
}

func (d *disk) Open(name string) (wal.File, error) { return d.file(d.OS.Open(name)) }

func (d *disk) Create(name string) (f wal.File, err error) {
	err = d.change(func() error { f, err = d.file(d.OS.Create(name)); return err })
	return f, err
}

func (d *disk) file(f wal.File, err error) (wal.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

type diskFile struct {
	wal.File
	d *disk
}

func (f *diskFile) WritevAt(bufs [][]byte, off int64) (n int, err error) {
	err = f.d.change(func() error { n, err = f.File.WritevAt(bufs, off); return err })
	if errors.Is(err, errGone) {
		f.last(bufs, off)
	}
	return n, err
}

// last writes a part of the last write.
func (f *diskFile) last(bufs [][]byte, off int64) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.torn {
		return
	}
	f.d.torn = true
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	_, _ = f.File.WritevAt([][]byte{all[:rand.IntN(len(all)+1)]}, off) // nobody is left to be told
}

func (f *diskFile) Truncate(size int64) error {
	return f.d.change(func() error { return f.File.Truncate(size) })
}

func (f *diskFile) Sync() error { return f.d.change(f.File.Sync) }

func (f *diskFile) Allocate(size int64, keepSize bool) error {
	return f.d.change(func() error { return f.File.Allocate(size, keepSize) })
}
