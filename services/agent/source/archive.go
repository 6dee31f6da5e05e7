package source

import (
	"bufio"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/follow"
	"github.com/weir-logs/weir/services/agent/lines"
)

// Archive reads compressed files, each once and to its end. A file is known by a
// fingerprint of its compressed bytes, whatever its name is.
type Archive struct {
	h       *Hub
	format  string
	delay   time.Duration
	maxLine int
	every   time.Duration
	coding  string

	mu     sync.Mutex
	groups []follow.Group
	now    chan struct{}
	done   map[string]string // of this run, by cursor key: path
	failed map[string]bool
}

// NewArchive makes an Archive of files of a format: gz, z, bz2, zst; empty: by the
// names. Files are read when they have not changed for delay.
func NewArchive(h *Hub, format string, delay time.Duration, maxLine int, every time.Duration, encoding string) (*Archive, error) {
	switch format {
	case "", "gz", "z", "bz2", "zst":
	default:
		return nil, fmt.Errorf("decompression: format %q is none of gz, z, bz2, zst", format)
	}
	if every <= 0 {
		every = 5 * time.Second
	}
	return &Archive{
		h: h, format: format, delay: delay, maxLine: maxLine, every: every, coding: encoding,
		now: make(chan struct{}, 1), done: map[string]string{}, failed: map[string]bool{},
	}, nil
}

// SetGroups says which files there are to be read. Safe for concurrent use.
func (a *Archive) SetGroups(groups []follow.Group) {
	a.mu.Lock()
	a.groups = groups
	a.mu.Unlock()
	select {
	case a.now <- struct{}{}:
	default:
	}
}

// Run implements Source.
func (a *Archive) Run(ctx context.Context) error {
	t := time.NewTicker(a.every)
	defer t.Stop()
	for {
		a.mu.Lock()
		groups := a.groups
		a.mu.Unlock()
		there, whole := map[string]bool{}, true
		for i := range groups {
			paths, err := groups[i].Files()
			if err != nil {
				whole = false
				a.h.Count("archive", "list")
			}
			for _, path := range paths {
				there[path] = true
				if err := a.file(ctx, path, &groups[i]); err != nil {
					if ctx.Err() != nil {
						return nil
					}
					a.h.Count("archive", "read")
					if !a.failed[path] {
						a.failed[path] = true
						a.h.log().Error("cannot read a compressed file", "path", path, "err", err)
					}
				}
			}
		}
		for key, path := range a.done {
			if whole && !there[path] {
				delete(a.done, key)
				a.h.forget(key)
			}
		}
		select {
		case <-t.C:
		case <-a.now:
		case <-ctx.Done():
			return nil
		}
	}
}

// file reads a file, unless that was done.
func (a *Archive) file(ctx context.Context, path string, g *follow.Group) error {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 {
		return err
	}
	// Also without a delay: it may be in the making.
	if time.Since(st.ModTime()) < max(a.delay, time.Second) {
		return nil
	}
	head := make([]byte, min(4096, st.Size()))
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	tail := make([]byte, min(512, st.Size()))
	if _, err := f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil {
		return err
	}
	key := fmt.Sprintf("archive/%s/%x", a.h.Job, sha256.Sum256(append(head, tail...)))[:len("archive/")+len(a.h.Job)+1+32]
	if a.done[key] != "" {
		a.done[key] = path // it may have been renamed
		return nil
	}
	p := a.h.Open("archive", path, key)
	defer a.h.Done(p)
	at, end, _ := strings.Cut(p.Cursor(), " ")
	if end != "" {
		a.done[key] = path
		return nil
	}
	skip, _ := strconv.ParseInt(at, 10, 64)
	r, err := decompress(f, path, a.format)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, skip); err != nil {
		return err
	}
	enc, err := lines.NewEncoding(a.coding)
	if err != nil {
		return err
	}
	set := entry.NewSet(g.Labels)
	if g.FilenameLabel != "" {
		m := g.Labels.Map()
		m[g.FilenameLabel] = strings.ToValidUTF8(path, "\uFFFD")
		set = entry.SetOf(m)
	}
	p.Stat().Labels.Store(set)
	err = Copy(ctx, r, a.maxLine, enc, func(batch []entry.Entry, n int64) error {
		return p.Put(ctx, batch, strconv.FormatInt(skip+n, 10))
	}, set, false)
	if err != nil {
		return err
	}
	p.Flush()
	if err := p.Put(ctx, nil, strconv.FormatInt(st.Size(), 10)+" done"); err != nil {
		return err
	}
	a.done[key] = path
	a.h.log().Info("read a compressed file", "path", path, "lines", p.Stat().Lines.Load())
	return nil
}

// decompress gives what is in a compressed file.
func decompress(f io.Reader, path, format string) (io.ReadCloser, error) {
	if format == "" {
		format = strings.TrimPrefix(strings.ToLower(filepath.Ext(path)), ".")
	}
	in := bufio.NewReaderSize(f, 64<<10)
	switch format {
	case "gz", "gzip", "tgz":
		return gzip.NewReader(in)
	case "z", "zlib":
		return zlib.NewReader(in)
	case "bz2":
		return io.NopCloser(bzip2.NewReader(in)), nil
	case "zst", "zstd":
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%s: the name says nothing about how it is compressed", path)
}
