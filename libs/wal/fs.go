package wal

import (
	"fmt"
	"io"
)

// FS is what the log asks of a file system. Names are paths; directories are synced explicitly.
// Errors are os errors: errors.Is with fs.ErrNotExist, fs.ErrExist and syscall.ENOSPC must work.
type FS interface {
	// MkdirAll creates dir and its parents, durably.
	MkdirAll(dir string) error
	// ReadDir returns the names of dir's entries in any order.
	ReadDir(dir string) ([]string, error)
	// Open opens an existing file for reading and Sync.
	Open(name string) (File, error)
	// Create creates a file that must not exist.
	Create(name string) (File, error)
	// Rename replaces newname.
	Rename(oldname, newname string) error
	Remove(name string) error
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Lock takes the exclusive lock of the named file, creating it, until the result is closed or
	// the process ends. If another holds it the error is a *LockedError.
	Lock(name string) (io.Closer, error)
	// Space returns the bytes an unprivileged process may still write under dir, and the total
	// that such processes can use.
	Space(dir string) (free, total uint64, err error)
}

// File is an open file. ReadAt follows io.ReaderAt.
type File interface {
	io.ReaderAt
	io.Closer
	// WritevAt writes the buffers one after the other at off and returns the bytes written; fewer
	// than all come with an error.
	WritevAt(bufs [][]byte, off int64) (int, error)
	Truncate(size int64) error
	// Sync makes contents and size durable.
	Sync() error
	// Allocate reserves blocks for size bytes, growing the file to size unless keepSize.
	Allocate(size int64, keepSize bool) error
	Size() (int64, error)
}

// LockedError says that another process owns the directory.
type LockedError struct {
	Dir string
	PID int // 0 if unknown
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is locked by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is locked by process %d", e.Dir, e.PID)
}
