package checker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Lines of a history's file, after which come: writer, number, and of an entry that is
// sent its stream and time.
const (
	sentLine    = 's'
	ackedLine   = 'a'
	refusedLine = 'r'
)

// compactAbove is the size from which a history's file is written anew when most of what
// it holds is forgotten.
const compactAbove = 16 << 20

// journal is a history's file. The zero journal has none, and keeps nothing.
type journal struct {
	mu   sync.Mutex
	f    *os.File
	path string
	size int64
	err  error // the first failure; nothing is written after it
}

// open begins to write to a file after its first bytes, the rest of which are dropped.
func (j *journal) open(path string, whole int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	if _, err := f.Seek(whole, 0); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.f, j.path, j.size = f, path, whole
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // nothing was written to it
	return d.Sync()
}

func appendLine(b []byte, kind byte, e Entry) []byte {
	if kind == sentLine {
		return fmt.Appendf(b, "%c %d %d %d %d\n", kind, e.Writer, e.Seq, e.Stream, e.Time)
	}
	return fmt.Appendf(b, "%c %d %d\n", kind, e.Writer, e.Seq)
}

// write writes a line for each entry, and waits until they are on disk.
func (j *journal) write(kind byte, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil || j.err != nil {
		return
	}
	var b []byte
	for _, e := range entries {
		b = appendLine(b, kind, e)
	}
	n, err := j.f.Write(b)
	j.size += int64(n)
	if err == nil {
		err = j.f.Sync()
	}
	j.err = err
}

func (j *journal) failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// compact writes the file anew if most of it is about what h has forgotten. The caller
// holds the lock of h.
func (j *journal) compact(h *History) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil || j.err != nil || j.size < compactAbove {
		return
	}
	var b []byte
	for _, r := range h.all() {
		for range r.sent { // as often as it was sent, so that the rest are without an outcome
			b = appendLine(b, sentLine, r.entry)
		}
		for range r.sent - r.open - min(1, int16(r.acked)) {
			b = appendLine(b, refusedLine, r.entry)
		}
	}
	for _, id := range h.acks {
		if h.find(id) != nil {
			b = appendLine(b, ackedLine, Entry{ID: id})
		}
	}
	if int64(len(b)) > j.size/2 {
		return
	}
	j.err = j.replace(b)
}

func (j *journal) replace(b []byte) error {
	f, err := os.Create(j.path + ".new")
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return err
	}
	_ = j.f.Close() // what it held is in the new one
	j.f, j.size = f, int64(len(b))
	return syncDir(filepath.Dir(j.path))
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	f := j.f
	j.f = nil
	return f.Close()
}

// replay takes in what a file holds and returns how many of its bytes are whole lines.
func (h *History) replay(b []byte) (whole int, err error) {
	for n := 1; ; n++ {
		line, _, ok := bytes.Cut(b[whole:], []byte("\n"))
		if !ok {
			return whole, nil
		}
		var e Entry
		var kind byte
		want := 3
		if len(line) > 0 && line[0] == sentLine {
			want = 5
		}
		if got, _ := fmt.Sscanf(string(line), "%c %d %d %d %d", &kind, &e.Writer, &e.Seq, &e.Stream, &e.Time); got != want {
			return 0, fmt.Errorf("line %d is no line of a history: %.60q", n, line)
		}
		switch kind {
		case sentLine:
			h.sent(e)
		case ackedLine:
			h.acked(e.ID)
		case refusedLine:
			if r := h.find(e.ID); r != nil {
				r.open--
			}
		default:
			return 0, fmt.Errorf("line %d is no line of a history: %.60q", n, line)
		}
		whole += len(line) + 1
	}
}
