package positions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// ErrNotPromtail is what ImportPromtail returns for a file that is something else.
var ErrNotPromtail = errors.New("not a positions file of Promtail")

// ImportPromtail reads a positions file that Promtail wrote and gives it as a
// snapshot. Its files get no job: they are for whichever job follows them. What
// cannot be taken over, such as an offset behind a file's end, is named in
// skipped and left out: such a file is read from its start.
func ImportPromtail(name string) (s Snapshot, skipped []string, err error) {
	st, err := os.Stat(name)
	if err != nil {
		return s, nil, err
	}
	if st.Size() > maxFile {
		return s, nil, ErrNotPromtail
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return s, nil, err
	}
	all, ok := ParsePromtail(data)
	if !ok {
		return s, nil, ErrNotPromtail
	}
	s.Cursors = map[string]string{}
	gen := uint64(0)
	for path, value := range all {
		if strings.HasPrefix(path, "cursor-") || strings.HasPrefix(path, "journal-") {
			s.Cursors[path] = value
			continue
		}
		offset, err := strconv.ParseInt(value, 10, 64)
		if err != nil || offset < 0 || !filepath.IsAbs(path) {
			skipped = append(skipped, path)
			continue
		}
		if offset == 0 {
			continue
		}
		p, err := positionAt(path, offset)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				skipped = append(skipped, path)
			}
			continue
		}
		gen++
		p.Gen = gen
		s.Files = append(s.Files, p)
	}
	return s, skipped, nil
}

// ParsePromtail reads the text of a positions file; false: it is none.
func ParsePromtail(data []byte) (map[string]string, bool) {
	if bytes.HasPrefix(data, []byte(header)) {
		return nil, false
	}
	var f struct {
		Positions map[string]string `yaml:"positions"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil || f.Positions == nil {
		return nil, false
	}
	return f.Positions, true
}

// positionAt makes a position of a file as it is now.
func positionAt(path string, offset int64) (p Position, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return p, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return p, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.Mode().IsRegular() || st.Size() < offset {
		return p, fmt.Errorf("%s: has no place %d", path, offset)
	}
	head, tail := make([]byte, min(offset, HeadBytes)), make([]byte, min(offset, TailBytes))
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(head))), head); err != nil {
		return p, err
	}
	if _, err := io.ReadFull(io.NewSectionReader(f, offset-int64(len(tail)), int64(len(tail))), tail); err != nil {
		return p, err
	}
	return Position{
		ID: ID{Dev: uint64(sys.Dev), Ino: uint64(sys.Ino)}, Path: path, Offset: offset, //nolint:unconvert // other widths elsewhere
		Head: PrintOf(head), Tail: PrintOf(tail), Mtime: st.ModTime().UnixNano(),
	}, nil
}
