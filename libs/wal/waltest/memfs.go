// Package waltest has a file system in memory that can crash and fail at any operation.
package waltest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/weir-logs/weir/libs/wal"
)

// ErrCrashed is returned by every operation after the crash.
var ErrCrashed = errors.New("waltest: crashed")

// Op is one operation that is about to be done.
type Op struct {
	N    int    // counts from 1 over the life of the file system
	Kind string // mkdir readdir open create rename remove syncdir lock read write truncate sync allocate
	Name string // path of the file or directory
	Off  int64  // of a write
	Len  int    // of a write
}

// FS is a wal.FS in memory. It keeps apart what a program sees and what is on the disk: contents
// become durable by Sync of their file, names by SyncDir of their directory. It may be used
// concurrently; hook is called with its lock held.
type FS struct {
	mu      sync.Mutex
	hook    func(Op) error
	ops     int
	crashed bool
	free    uint64
	total   uint64
	seen    map[string]*inode
	disk    map[string]*inode
	pending []dirOp // what SyncDir has not made durable yet, in order
	locks   map[string]bool
	unread  map[string]bool
}

type inode struct {
	seen, disk []byte
	poisoned   bool // a sync failed: the kernel thinks the pages clean, later syncs do nothing
}

// dirOp removes one name, gives another to a file, or both.
type dirOp struct {
	dir     string
	removed string
	added   string
	node    *inode
}

func (op dirOp) apply(names map[string]*inode) {
	delete(names, op.removed)
	if op.added != "" {
		names[op.added] = op.node
	}
}

var _ wal.FS = (*FS)(nil)

// New returns an empty file system with room for a tebibyte.
func New() *FS {
	return &FS{free: 1 << 40, total: 1 << 40, seen: map[string]*inode{}, disk: map[string]*inode{},
		locks: map[string]bool{}, unread: map[string]bool{}}
}

// SetHook sets a function that is asked before every operation; an error fails it. A write that
// fails with *Partial is done in part.
func (f *FS) SetHook(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Partial is an error of a write of which the first N bytes were done.
type Partial struct {
	N   int
	Err error
}

func (p *Partial) Error() string { return p.Err.Error() }
func (p *Partial) Unwrap() error { return p.Err }

// SetSpace sets what Space reports.
func (f *FS) SetSpace(free, total uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free, f.total = free, total
}

// SetUnreadable makes every read of the file fail with an input/output error.
func (f *FS) SetUnreadable(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unread[name] = true
}

// Ops returns the number of operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Crash makes every further operation fail.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Loss says what of the unsynced data a power cut takes.
type Loss int

const (
	LoseAll  Loss = iota // everything that was not synced
	LoseNone             // nothing: the process was killed, the kernel lives, a power cut may follow
	LoseSome             // each unsynced name by chance, and the end of each file from a random byte on
)

// Reboot returns the file system as it is after the process's end, without locks and hook. The
// receiver is not changed. Only LoseSome needs rng.
func (f *FS) Reboot(loss Loss, rng *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := New()
	after.free, after.total = f.free, f.total
	copies := map[*inode]*inode{}
	kept := func(node *inode) *inode {
		if node == nil {
			return nil
		}
		if copies[node] == nil {
			content := node.disk
			switch extra := len(node.seen) - len(node.disk); {
			case loss == LoseNone:
				content = node.seen
			case loss == LoseSome && extra > 0 && !node.poisoned:
				content = node.seen[:len(node.disk)+rng.IntN(extra+1)]
			}
			// Contents are replaced, never changed in place, so they can be shared.
			copies[node] = &inode{seen: content, disk: content}
			if loss == LoseNone {
				copies[node].disk, copies[node].poisoned = node.disk, node.poisoned
			}
		}
		return copies[node]
	}
	for name, node := range f.disk {
		after.disk[name] = kept(node)
	}
	if loss == LoseNone {
		for name, node := range f.seen {
			after.seen[name] = kept(node)
		}
		for _, op := range f.pending {
			op.node = kept(op.node)
			after.pending = append(after.pending, op)
		}
		return after
	}
	if loss == LoseSome {
		for _, op := range f.pending {
			if rng.IntN(2) == 0 {
				op.node = kept(op.node)
				op.apply(after.disk)
			}
		}
	}
	after.seen = maps.Clone(after.disk)
	return after
}

// ReadFile returns a copy of a file's content, nil if there is none.
func (f *FS) ReadFile(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if node := f.seen[name]; node != nil {
		return append([]byte{}, node.seen...)
	}
	return nil
}

// WriteFile sets a file's content, durably; nil removes the file.
func (f *FS) WriteFile(name string, content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if content == nil {
		delete(f.seen, name)
		delete(f.disk, name)
		return
	}
	node := &inode{seen: append([]byte{}, content...), disk: append([]byte{}, content...)}
	f.seen[name], f.disk[name] = node, node
}

// begin counts and asks; the lock is held.
func (f *FS) begin(op Op) error {
	if f.crashed {
		return ErrCrashed
	}
	f.ops++
	op.N = f.ops
	if f.hook == nil {
		return nil
	}
	err := f.hook(op)
	if errors.Is(err, ErrCrashed) {
		f.crashed = true
	}
	return err
}

func (f *FS) rename(op dirOp) {
	op.apply(f.seen)
	f.pending = append(f.pending, op)
}

func notExist(op, name string) error { return &os.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// MkdirAll implements wal.FS; directories need not exist here.
func (f *FS) MkdirAll(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begin(Op{Kind: "mkdir", Name: dir})
}

// ReadDir implements wal.FS.
func (f *FS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "readdir", Name: dir}); err != nil {
		return nil, err
	}
	var names []string
	for name := range f.seen {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

// Open implements wal.FS.
func (f *FS) Open(name string) (wal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "open", Name: name}); err != nil {
		return nil, err
	}
	node := f.seen[name]
	if node == nil {
		return nil, notExist("open", name)
	}
	return &file{f, name, node}, nil
}

// Create implements wal.FS.
func (f *FS) Create(name string) (wal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "create", Name: name}); err != nil {
		return nil, err
	}
	if f.seen[name] != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	node := &inode{}
	f.rename(dirOp{dir: filepath.Dir(name), added: name, node: node})
	return &file{f, name, node}, nil
}

// Rename implements wal.FS.
func (f *FS) Rename(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "rename", Name: newname}); err != nil {
		return err
	}
	node := f.seen[oldname]
	if node == nil {
		return notExist("rename", oldname)
	}
	f.rename(dirOp{dir: filepath.Dir(newname), removed: oldname, added: newname, node: node})
	return nil
}

// Remove implements wal.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "remove", Name: name}); err != nil {
		return err
	}
	if f.seen[name] == nil {
		return notExist("remove", name)
	}
	f.rename(dirOp{dir: filepath.Dir(name), removed: name})
	return nil
}

// SyncDir implements wal.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "syncdir", Name: dir}); err != nil {
		return err
	}
	rest := f.pending[:0:0]
	for _, op := range f.pending {
		if op.dir == dir {
			op.apply(f.disk)
		} else {
			rest = append(rest, op)
		}
	}
	f.pending = rest
	return nil
}

// Lock implements wal.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: "lock", Name: name}); err != nil {
		return nil, err
	}
	if f.locks[name] {
		return nil, &wal.LockedError{Dir: filepath.Dir(name), PID: os.Getpid()}
	}
	f.locks[name] = true
	return unlock(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locks, name)
	}), nil
}

type unlock func()

func (u unlock) Close() error {
	u()
	return nil
}

// Space implements wal.FS.
func (f *FS) Space(string) (free, total uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return 0, 0, ErrCrashed
	}
	return f.free, f.total, nil
}

type file struct {
	fs   *FS
	name string
	node *inode
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.crashed {
		return 0, ErrCrashed
	}
	if h.fs.unread[h.name] {
		return 0, &os.PathError{Op: "read", Path: h.name, Err: errors.New("input/output error")}
	}
	if off >= int64(len(h.node.seen)) {
		return 0, io.EOF
	}
	n := copy(p, h.node.seen[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) WritevAt(bufs [][]byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	err := h.fs.begin(Op{Kind: "write", Name: h.name, Off: off, Len: len(all)})
	n := len(all)
	if err != nil {
		n = 0
		if partial, ok := errors.AsType[*Partial](err); ok {
			n = min(partial.N, len(all))
		}
	}
	if n > 0 {
		grown := append([]byte{}, h.node.seen...)
		if missing := off + int64(n) - int64(len(grown)); missing > 0 {
			grown = append(grown, make([]byte, missing)...)
		}
		copy(grown[off:], all[:n])
		h.node.seen = grown
	}
	return n, err
}

func (h *file) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.begin(Op{Kind: "truncate", Name: h.name}); err != nil {
		return err
	}
	if size <= int64(len(h.node.seen)) {
		h.node.seen = append([]byte{}, h.node.seen[:size]...)
	} else {
		h.node.seen = append(append([]byte{}, h.node.seen...), make([]byte, size-int64(len(h.node.seen)))...)
	}
	return nil
}

func (h *file) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.begin(Op{Kind: "sync", Name: h.name}); err != nil {
		h.node.poisoned = !h.fs.crashed
		return err
	}
	if !h.node.poisoned {
		h.node.disk = h.node.seen // never changed in place
	}
	return nil
}

func (h *file) Allocate(size int64, keepSize bool) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.fs.begin(Op{Kind: "allocate", Name: h.name}); err != nil {
		return err
	}
	if !keepSize && size > int64(len(h.node.seen)) {
		h.node.seen = append(append([]byte{}, h.node.seen...), make([]byte, size-int64(len(h.node.seen)))...)
	}
	return nil
}

func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.crashed {
		return 0, ErrCrashed
	}
	return int64(len(h.node.seen)), nil
}

func (h *file) Close() error { return nil }
