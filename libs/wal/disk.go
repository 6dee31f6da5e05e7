package wal

import (
	"errors"
	"fmt"
	"io/fs"
)

// DiskState is how full the log's file system is.
type DiskState struct {
	FreeBytes, TotalBytes uint64
	UsedPercent           float64
	Full                  bool // above the watermark: appends are refused with ErrDiskFull
}

// DiskState asks the file system.
func (l *Log) DiskState() (DiskState, error) {
	free, total, err := l.dir.fs.Space(l.dir.path)
	if err != nil {
		return DiskState{}, fmt.Errorf("wal: %w", err)
	}
	return l.judge(free, total), nil
}

func (l *Log) judge(free, total uint64) DiskState {
	s := DiskState{FreeBytes: free, TotalBytes: total}
	if total > 0 {
		s.UsedPercent = 100 * (1 - float64(free)/float64(total))
	}
	s.Full = free < l.opts.MustStayFree(total)
	return s
}

// checkSpace returns ErrDiskFull if the disk is, or would be after writing so many bytes. If the
// file system does not say, the write will.
func (l *Log) checkSpace(bytes int64) error {
	free, total, err := l.dir.fs.Space(l.dir.path)
	if err != nil {
		return nil
	}
	if s := l.judge(free-min(free, uint64(bytes)), total); s.Full {
		return fmt.Errorf("%w: %d MiB free, %.1f %% used under %s", ErrDiskFull, s.FreeBytes/mebibyte, s.UsedPercent, l.dir.path)
	}
	return nil
}

// ReleaseReserve removes the reserve file, which frees Options.ReserveBytes. It comes back by
// itself when the log is truncated or reopened and there is room.
func (l *Log) ReleaseReserve() error {
	l.reserveMu.Lock()
	defer l.reserveMu.Unlock()
	if err := l.dir.removeIfThere(l.dir.join(reserveFile)); err != nil {
		return fmt.Errorf("wal: release the reserve: %w", err)
	}
	return nil
}

// makeRoom releases the reserve of a full disk at start.
func (l *Log) makeRoom() {
	if s, err := l.DiskState(); err != nil || !s.Full {
		return
	}
	if err := l.ReleaseReserve(); err != nil {
		l.logger.Error("wal: cannot release the reserve", "err", err)
		return
	}
	l.logger.Warn("wal: the disk is full; released the reserve")
}

// keepReserve creates the reserve file if there is none and room for twice its size above the
// watermark, so that it never is what fills the disk. Failing to is no error: it is tried again.
func (l *Log) keepReserve() {
	if l.opts.ReserveBytes < 0 {
		return
	}
	l.reserveMu.Lock()
	defer l.reserveMu.Unlock()
	if l.hasReserve() {
		return
	}
	free, total, err := l.dir.fs.Space(l.dir.path)
	if need := 2 * uint64(l.opts.ReserveBytes); err != nil || free < need || l.judge(free-need, total).Full {
		return
	}
	if err := l.createReserve(); err != nil {
		l.logger.Warn("wal: cannot create the reserve file", "err", err)
	}
}

func (l *Log) hasReserve() bool {
	f, err := l.dir.fs.Open(l.dir.join(reserveFile))
	if err != nil {
		return false
	}
	defer f.Close()
	size, err := f.Size()
	return err == nil && size == l.opts.ReserveBytes
}

func (l *Log) createReserve() error {
	path := l.dir.join(reserveFile)
	if err := l.dir.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.dir.fs.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Allocate(l.opts.ReserveBytes, false), f.Close()); err != nil {
		return errors.Join(err, l.dir.removeIfThere(path))
	}
	return nil
}
