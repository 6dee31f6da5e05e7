// Package positions remembers how far files were read, and tells whether a file
// is still the one that was read.
//
// A file is named by device and inode, which outlive a rename but may be used
// again for another file. So a position also has fingerprints of what lies
// before it: of the head, up to 1 KiB, and of the 256 bytes just before the
// offset. A file is the one that was read if it is at least as long as the offset
// and both fingerprints agree. Files with equal heads (a banner, a header line),
// a file that was truncated and has grown past the old offset, and an inode that
// was given to a new file are told apart that way.
package positions

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
)

// HeadBytes and TailBytes are the most that the fingerprints cover.
const (
	HeadBytes = 1024
	TailBytes = 256
)

// ID names a file while it exists.
type ID struct{ Dev, Ino uint64 }

// Print is the fingerprint of some bytes.
type Print struct {
	Len int
	Sum uint64
}

// PrintOf gives the fingerprint of b.
func PrintOf(b []byte) Print {
	h := sha256.Sum256(b)
	return Print{len(b), binary.BigEndian.Uint64(h[:])}
}

// Position is how far a file was read.
type Position struct {
	ID
	// Path is the name under which the file was found first. It stays when the
	// file is renamed.
	Path string
	// Offset is where the next unread byte is.
	Offset int64
	// State is where in a line the offset is.
	State lines.State
	// Head and Tail are the fingerprints. Head covers bytes behind the offset too
	// where the file was found and not read yet.
	Head, Tail Print
	// Mtime is the file's time of modification when it was read, in ns.
	Mtime int64
	// Gen orders the files that have borne one path by age: a younger one has a
	// greater number.
	Gen uint64
	// Job is which job follows the file; two jobs have each their own position.
	Job string
	// Held are parts before the offset that were read and not delivered, because
	// their lines wait to be joined with others. They are to be read again.
	Held []entry.Span
}

// Key names a position.
type Key struct {
	Job string
	ID
}

// Key gives the position's name.
func (p Position) Key() Key { return Key{p.Job, p.ID} }

// MaxHeld is how many parts the sources of positions may hold; a position takes some
// more, what one reading adds beyond it.
const (
	MaxHeld = 4096
	maxHeld = 4 * MaxHeld
)

// Matches says whether the file r, of size bytes, is the one that p is a position
// of. It returns the head and the bytes before the offset for use in the next
// comparison.
func (p Position) Matches(r io.ReaderAt, size int64) (head, tail []byte, ok bool) {
	if size < p.Offset || int64(p.Head.Len) > size || int64(p.Tail.Len) > p.Offset {
		return nil, nil, false
	}
	head = make([]byte, p.Head.Len, HeadBytes)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(p.Head.Len)), head); err != nil || PrintOf(head) != p.Head {
		return nil, nil, false
	}
	tail = make([]byte, p.Tail.Len)
	if _, err := io.ReadFull(io.NewSectionReader(r, p.Offset-int64(p.Tail.Len), int64(p.Tail.Len)), tail); err != nil || PrintOf(tail) != p.Tail {
		return nil, nil, false
	}
	return head[:min(int64(len(head)), p.Offset)], tail, true
}

// Snapshot is positions of files at one moment.
type Snapshot struct {
	// Seq is the newest batch that they cover.
	Seq uint64
	// Last is the newest timestamp given to an entry, in ns.
	Last int64
	// Files is the positions, at most one a file and job.
	Files []Position
	// Cursors is where other sources go on, by the source's name.
	Cursors map[string]string
	// Clients is the newest batch that each client's server has acknowledged.
	Clients map[string]uint64
}

const (
	header    = "weir-agent positions 1\n"
	trailer   = "crc32c "
	crcLength = len(trailer) + 8 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode writes a snapshot as text: a header, a line a file, a checksum.
func Encode(s Snapshot) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	fmt.Fprintf(&b, "seq %d\nlast %d\n", s.Seq, s.Last)
	files := append([]Position(nil), s.Files...)
	sort.Slice(files, func(i, j int) bool {
		a, b := files[i], files[j]
		if a.Path != b.Path {
			return a.Path < b.Path
		}
		if a.Dev != b.Dev || a.Ino != b.Ino {
			return a.Dev < b.Dev || a.Dev == b.Dev && a.Ino < b.Ino
		}
		return a.Job < b.Job
	})
	for _, p := range files {
		fmt.Fprintf(&b, "file %d %d %d %d %d:%016x %d:%016x %d %d %s", p.Dev, p.Ino, p.Offset, p.State,
			p.Head.Len, p.Head.Sum, p.Tail.Len, p.Tail.Sum, p.Mtime, p.Gen, strconv.Quote(p.Path))
		if p.Job != "" || len(p.Held) > 0 {
			fmt.Fprintf(&b, " %s", strconv.Quote(p.Job))
		}
		for _, h := range p.Held[:min(len(p.Held), maxHeld)] {
			fmt.Fprintf(&b, " %d-%d", h.Start, h.End)
		}
		b.WriteByte('\n')
	}
	for _, k := range slices.Sorted(maps.Keys(s.Cursors)) {
		fmt.Fprintf(&b, "cursor %s %s\n", strconv.Quote(k), strconv.Quote(s.Cursors[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Clients)) {
		fmt.Fprintf(&b, "client %s %d\n", strconv.Quote(k), s.Clients[k])
	}
	fmt.Fprintf(&b, "%s%08x\n", trailer, crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

// ErrDamaged is the error of all that Decode does not accept.
var ErrDamaged = errors.New("damaged positions")

// Decode reads what Encode wrote.
func Decode(data []byte) (Snapshot, error) {
	var s Snapshot
	damaged := func(format string, args ...any) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	if !bytes.HasPrefix(data, []byte(header)) {
		return damaged("no header")
	}
	body := len(data) - crcLength
	if body < len(header) {
		return damaged("it ends early")
	}
	if want := fmt.Sprintf("%s%08x\n", trailer, crc32.Checksum(data[:body], castagnoli)); string(data[body:]) != want {
		return damaged("wrong checksum")
	}
	text := strings.Split(strings.TrimSuffix(string(data[len(header):body]), "\n"), "\n")
	if len(text) < 2 {
		return damaged("no sequence")
	}
	if _, err := fmt.Sscanf(text[0]+" "+text[1], "seq %d last %d", &s.Seq, &s.Last); err != nil {
		return damaged("sequence: %v", err)
	}
	seen := map[Key]bool{}
	for i, l := range text[2:] {
		if ok, err := s.decodeOther(l); err != nil {
			return damaged("line %d: %v", i+4, err)
		} else if ok {
			continue
		}
		p, err := decodeLine(l)
		if err != nil {
			return damaged("line %d: %v", i+4, err)
		}
		if seen[p.Key()] {
			return damaged("line %d: a file twice", i+4)
		}
		seen[p.Key()] = true
		s.Files = append(s.Files, p)
	}
	return s, nil
}

func decodeLine(l string) (p Position, err error) {
	const fields = 9
	f := strings.SplitN(l, " ", fields+1)
	if len(f) != fields+1 || f[0] != "file" {
		return p, errors.New("not a file")
	}
	num := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 10, 63)
		err = errors.Join(err, e)
		return n
	}
	sum := func(s string, most int) (out Print) {
		n, h, ok := strings.Cut(s, ":")
		v, e := strconv.ParseUint(h, 16, 64)
		if out = (Print{int(num(n)), v}); !ok || e != nil || out.Len > most {
			err = errors.Join(err, errors.New("fingerprint"))
		}
		return out
	}
	dev, e1 := strconv.ParseUint(f[1], 10, 64)
	ino, e2 := strconv.ParseUint(f[2], 10, 64)
	p.Dev, p.Ino = dev, ino
	p.Offset = int64(num(f[3]))
	st := num(f[4])
	if st > uint64(lines.Skip) {
		return p, errors.New("state")
	}
	p.State = lines.State(st)
	p.Head, p.Tail = sum(f[5], HeadBytes), sum(f[6], TailBytes)
	mtime, e3 := strconv.ParseInt(f[7], 10, 64)
	p.Mtime = mtime
	p.Gen = num(f[8])
	path, rest, e4 := unquote(f[9])
	p.Path = path
	var e5 error
	if rest != "" {
		p.Job, rest, e5 = unquote(rest)
	}
	for e5 == nil && rest != "" {
		var one string
		one, rest, _ = strings.Cut(rest, " ")
		from, to, _ := strings.Cut(one, "-")
		h := entry.Span{Start: int64(num(from)), End: int64(num(to))}
		if h.Start > h.End || h.End > p.Offset || len(p.Held) >= maxHeld {
			e5 = errors.New("held part")
		}
		p.Held = append(p.Held, h)
	}
	return p, errors.Join(err, e1, e2, e3, e4, e5)
}

// unquote reads a quoted word from the beginning of s, and the space behind it.
func unquote(s string) (word, rest string, err error) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", err
	}
	word, err = strconv.Unquote(q)
	rest = s[len(q):]
	if err == nil && rest != "" && (rest[0] != ' ' || len(rest) == 1) {
		err = errors.New("no space behind a word")
	}
	return word, strings.TrimPrefix(rest, " "), err
}

// decodeOther reads a line that is not about a file.
func (s *Snapshot) decodeOther(l string) (ok bool, err error) {
	kind, rest, _ := strings.Cut(l, " ")
	if kind != "cursor" && kind != "client" {
		return false, nil
	}
	key, rest, err := unquote(rest)
	if err != nil {
		return false, err
	}
	if kind == "client" {
		n, err := strconv.ParseUint(rest, 10, 64)
		if s.Clients == nil {
			s.Clients = map[string]uint64{}
		}
		s.Clients[key] = n
		return true, err
	}
	value, rest, err := unquote(rest)
	if err == nil && rest != "" {
		err = errors.New("more than a cursor")
	}
	if s.Cursors == nil {
		s.Cursors = map[string]string{}
	}
	s.Cursors[key] = value
	return true, err
}

// State is a snapshot that changes batch by batch.
type State struct {
	Seq     uint64
	Last    int64
	Files   map[Key]Position
	Cursors map[string]string
	Clients map[string]uint64
}

// NewState makes a State of a snapshot.
func NewState(s Snapshot) *State {
	st := &State{Files: map[Key]Position{}, Cursors: map[string]string{}, Clients: map[string]uint64{}}
	st.Apply(s)
	return st
}

// Apply takes over what a snapshot of some of the sources has.
func (st *State) Apply(s Snapshot) {
	st.Seq, st.Last = max(st.Seq, s.Seq), max(st.Last, s.Last)
	for _, p := range s.Files {
		st.Files[p.Key()] = p
	}
	maps.Copy(st.Cursors, s.Cursors)
	for k, v := range s.Clients {
		st.Clients[k] = max(st.Clients[k], v)
	}
}

// Snapshot gives a copy.
func (st *State) Snapshot() Snapshot {
	s := Snapshot{Seq: st.Seq, Last: st.Last, Cursors: maps.Clone(st.Cursors), Clients: maps.Clone(st.Clients)}
	for _, p := range st.Files {
		s.Files = append(s.Files, p)
	}
	return s
}
