package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
	"github.com/weir-logs/weir/services/agent/positions"
)

const nonblock = syscall.O_NONBLOCK

// File is a file that is followed.
type File struct {
	// Data is the sink's.
	Data any

	group     *Group
	set       *entry.Set
	enc       *lines.Encoding
	redo      []entry.Span // to be read again first
	held      []entry.Span
	f         *os.File           // nil: it rests
	pos       positions.Position // Head and Tail are made when asked for
	head      []byte             // the first bytes, as far as read, up to HeadBytes
	tail      []byte             // the bytes before the offset, up to TailBytes; may lie in the read buffer
	headLen   int                // of what headPrint is of
	headPrint positions.Print
	own       []byte // where tail lies between reads
	size      int64
	seen      int64     // the greatest size since it began anew, as far as that was looked at
	rotated   bool      // another file, or none, bears its path now
	bore      time.Time // when it did last, as far as was looked
	after     *File     // must be read to its end first
	opened    time.Time
	wants     bool   // rests and is to be opened
	place     string // where it rests: its path without links

	partial   int64 // size of the unfinished line at the end
	partialAt time.Time
	stuck     bool  // of which nothing can be given out
	restarted bool  // and not read since
	torn      bool  // was truncated; the copies made before are not opened yet
	readMtime int64 // Mtime when it was last read, or began anew
	checked   int64 // Mtime when the bytes before the offset were compared
	lastRead  time.Time
	due       time.Time
	pause     time.Duration

	lines, bytes           uint64 // read
	shownLines, shownBytes uint64
	behindSince            time.Time // when it was last read to its end
}

func idOf(st os.FileInfo) positions.ID {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return positions.ID{Dev: uint64(s.Dev), Ino: uint64(s.Ino)} //nolint:unconvert // other widths elsewhere
	}
	return positions.ID{}
}

// linked says whether an open file still has a name.
func linked(st os.FileInfo) bool {
	s, ok := st.Sys().(*syscall.Stat_t)
	return !ok || s.Nlink > 0
}

// newFile takes an open file that was not read before.
func newFile(f *os.File, st os.FileInfo, path string, group *Group, job string, pause time.Duration) *File {
	return &File{
		group: group, f: f, size: st.Size(), pause: pause, lastRead: time.Now(), behindSince: time.Now(),
		pos: positions.Position{Job: job, ID: idOf(st), Path: path, Mtime: st.ModTime().UnixNano()}, readMtime: st.ModTime().UnixNano(),
		own: make([]byte, 0, positions.TailBytes),
	}
}

// resume sets a new file to a position of this file, or of one that it is a copy
// of. It says whether the file is that one.
func (f *File) resume(p positions.Position) bool {
	head, tail, ok := p.Matches(f.f, f.size)
	if !ok {
		return false
	}
	f.head, f.tail = head, tail
	f.pos.Offset, f.pos.State = p.Offset, p.State
	f.redo = p.Held
	f.held = p.Held
	if f.pos.ID == p.ID {
		f.pos.Gen, f.readMtime = p.Gen, p.Mtime
	}
	return true
}

// seekEnd sets a new file to its end, and says whether that is behind a line's
// end or amid a line.
func (f *File) seekEnd() error {
	n := min(f.size, positions.HeadBytes)
	f.head = make([]byte, n, positions.HeadBytes)
	if _, err := f.f.ReadAt(f.head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	f.tail = make([]byte, min(f.size, positions.TailBytes))
	if _, err := f.f.ReadAt(f.tail, f.size-int64(len(f.tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	f.pos.Offset = f.size
	if len(f.tail) > 0 && f.tail[len(f.tail)-1] != '\n' {
		f.pos.State = lines.Middle
	}
	return nil
}

// setGroup makes f one of a group's files.
func (f *File) setGroup(g *Group) {
	f.group = g
	f.enc = g.Encoding.Clone(f.head)
	if g.FilenameLabel == "" {
		f.set = entry.NewSet(g.Labels)
		return
	}
	labels := g.Labels.Map()
	labels[g.FilenameLabel] = strings.ToValidUTF8(f.pos.Path, "\uFFFD")
	f.set = entry.SetOf(labels)
}

// Labels are those of the file's lines.
func (f *File) Labels() *entry.Set { return f.set }

// SetHeld notes the parts before the offset that are still to be delivered. The
// file keeps held.
func (f *File) SetHeld(held []entry.Span) {
	if len(f.redo) > 0 {
		held = slices.Concat(f.redo, held)
	}
	f.held = held
}

// Path is the name under which the file was found.
func (f *File) Path() string { return f.pos.Path }

// ID names the file.
func (f *File) ID() positions.ID { return f.pos.ID }

// Position is where the next line to be given out begins.
func (f *File) Position() positions.Position {
	p := f.pos
	if f.headLen != len(f.head) || f.headLen == 0 {
		f.headPrint, f.headLen = positions.PrintOf(f.head), len(f.head)
	}
	p.Head, p.Tail = f.headPrint, positions.PrintOf(f.tail)
	p.Held = f.held
	return p
}

// waiting says whether an unfinished line is yet to be given out.
func (f *File) waiting() bool { return f.partial > 0 && !f.stuck }

// restart goes back to the beginning of a file whose content was replaced.
func (f *File) restart() {
	f.pos.Offset, f.pos.State, f.readMtime, f.seen = 0, lines.Start, f.pos.Mtime, 0
	f.head, f.tail, f.partial, f.stuck, f.headLen = f.head[:0], f.own[:0], 0, false, 0
	f.redo, f.held = nil, nil
}

// visit reads a piece of f, or of those that come before it, and hands its lines
// on. It says whether anything was taken, and whether there is nothing more in
// all of them.
func (fw *Follower) visit(ctx context.Context, f *File, now time.Time) (took, drained bool) {
	before := f.size
	size, ok := fw.stat(f)
	if ok && (f.torn || f.pos.Offset == 0 && size < before) { // while it waited for its turn
		if !f.torn {
			f.seen = max(f.seen, before)
		}
		if !fw.truncated(f, now) {
			return false, false
		}
	}
	if f.after != nil {
		// f may be read as far as it was before the older one was found to be
		// at its end: what was written later may come after what is yet to be
		// written to the older one.
		took, drained = fw.visit(ctx, f.after, now)
		if took || fw.full || fw.ended != nil || !drained || len(f.after.held) > 0 {
			return took, false
		}
	}
	if !ok {
		return false, true // what cannot be read must not hold up the others
	}
	if size < f.pos.Offset || !fw.unchanged(f) {
		return fw.truncated(f, now), false
	}
	f.seen = size
	if f.restarted && size > 0 {
		// It may have been copied and truncated again before it was looked at.
		g, ok := fw.copies(positions.Position{Mtime: f.readMtime}, f, now)
		if !ok {
			return false, false
		}
		f.restarted = false
		if len(fw.chain(g, positions.Position{Mtime: f.readMtime}, f)) > 0 {
			return true, false
		}
	}
	if len(f.redo) > 0 {
		return fw.again(ctx, f), false
	}
	took = fw.read(ctx, f, size, now)
	return took, !took && !fw.full && !f.waiting()
}

func (fw *Follower) stat(f *File) (size int64, ok bool) {
	st, err := f.f.Stat()
	if err != nil {
		fw.trouble(f.pos.Path, "stat", err)
		return 0, false
	}
	f.size, f.pos.Mtime = st.Size(), st.ModTime().UnixNano()
	return f.size, true
}

// unchanged says whether the bytes before the offset are still those that were
// read.
func (fw *Follower) unchanged(f *File) bool {
	if f.size == f.pos.Offset && f.pos.Mtime == f.checked {
		return true
	}
	f.checked = f.pos.Mtime
	b := fw.buf[:len(f.head)]
	if _, err := f.f.ReadAt(b, 0); err != nil {
		return !errors.Is(err, io.EOF)
	}
	if !bytes.Equal(b, f.head) {
		return false
	}
	b = fw.buf[:len(f.tail)]
	if _, err := f.f.ReadAt(b, f.pos.Offset-int64(len(b))); err != nil {
		return !errors.Is(err, io.EOF)
	}
	return bytes.Equal(b, f.tail)
}

// truncated starts a file anew, after what copies have that were made before. false: these
// cannot be opened now, and it is to be called again.
func (fw *Follower) truncated(f *File, now time.Time) bool {
	last, seen := f.Position(), f.seen
	last.Mtime = f.readMtime
	g, ok := fw.copies(last, f, now)
	if f.torn = !ok; !ok {
		return false
	}
	fw.m.truncations.Inc()
	f.restart()
	f.restarted = true
	copies := fw.chain(g, last, f)
	// Of what was there beyond the offset, a copy may have all or the most.
	have, again := last.Offset, false
	for _, g := range copies {
		if g.pos.Offset == last.Offset {
			have = max(have, g.size)
			again = again || len(g.redo) > 0
		}
	}
	fw.sink.Anew(f, again)
	lost := max(0, seen-have)
	fw.m.lost.Add(float64(lost))
	fw.log.Warn("the file was truncated; reading it from its start", "path", f.pos.Path, "offset", last.Offset,
		"size", f.size, "size_seen", seen, "copies", len(copies), "bytes_lost", lost)
	return true
}

// copies opens the files that may be copies of f which were made since last. false: there are
// not enough descriptors for that now.
func (fw *Follower) copies(last positions.Position, f *File, now time.Time) (files []*File, ok bool) {
	path := f.pos.Path
	ok = fw.without(func() {
		files = fw.generations(path, f.group, maxGenerations, func(s sibling) bool {
			return s.path != path && s.id != last.ID && s.mtime >= last.Mtime
		}).files
	})
	if !ok {
		for _, g := range files {
			fw.shut(g.f)
		}
		fw.postponed(now, 1)
		return nil, false
	}
	return files, true
}

// chain puts before f what those of files have that are copies of what f was at last.
func (fw *Follower) chain(files []*File, last positions.Position, f *File) (copies []*File) {
	for _, g := range fw.sift(last, files, f, true, true) {
		fw.m.found.Inc()
		g.rotated = true
		copies = append(copies, g)
		// The copy has the age of what it is a copy of.
		g.pos.Gen, f.pos.Gen = f.pos.Gen, fw.nextGen()
		g.after, f.after = f.after, g
		fw.insert(g)
		fw.start(g)
	}
	fw.saved()
	return copies
}

// read hands on lines of f, up to size.
func (fw *Follower) read(ctx context.Context, f *File, size int64, now time.Time) bool {
	avail := size - f.pos.Offset
	if avail <= 0 {
		f.partial, f.stuck = 0, false
		f.behindSince = now
		return false
	}
	flush := false
	if f.partial == avail {
		if f.stuck || now.Sub(f.partialAt) < fw.cfg.Partial {
			return false
		}
		flush = true
	}
	if fw.sink.Full() {
		fw.full = true
		return false
	}
	// The buffer begins with the bytes before the offset, for later Positions.
	pre := copy(fw.buf, f.tail)
	n, err := f.f.ReadAt(fw.buf[pre:min(int64(len(fw.buf)), int64(pre)+avail)], f.pos.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		fw.trouble(f.pos.Path, "read", err)
		f.partial = 0 // nothing is waited for
		return false
	}
	data := fw.buf[:pre+n]
	at := fw.cut(f, data, pre, flush)
	took := at > pre
	f.own = append(f.own[:0], data[max(0, at-positions.TailBytes):at]...)
	f.tail = f.own
	f.partial, f.stuck = 0, false
	if rest := size - f.pos.Offset; rest > 0 && int64(len(data)-at) == rest {
		f.partial, f.partialAt = rest, now
		f.stuck = flush && !took
	}
	if !took {
		return false
	}
	f.lastRead, f.readMtime = now, f.pos.Mtime
	if len(f.head) < positions.HeadBytes {
		f.head = append(f.head, data[pre:min(at, pre+positions.HeadBytes-len(f.head))]...)
	}
	fw.m.bytes.Add(float64(at - pre))
	f.bytes += uint64(at - pre)
	fw.hand(ctx, f, flush)
	return true
}

// cut cuts lines of f from data[at:], which lies at f's offset, into fw.ents, and
// moves the offset. It returns where in data that is then.
func (fw *Follower) cut(f *File, data []byte, at int, flush bool) int {
	fw.ents, fw.arena = fw.ents[:0], fw.arena[:0]
	enc := f.enc
	for len(fw.ents) < readLines {
		r := enc.Next(data[at:], f.pos.Offset, f.pos.State, fw.cfg.MaxLine, flush)
		if r.N == 0 {
			break
		}
		if r.Emit {
			line := r.Line
			if r.Cut || enc != nil {
				from := len(fw.arena)
				fw.arena = enc.Append(fw.arena, line)
				if r.Cut {
					fw.arena = append(fw.arena, lines.Mark...)
					fw.m.cut.Inc()
				}
				line = fw.arena[from:len(fw.arena):len(fw.arena)]
			}
			fw.ents = append(fw.ents, entry.Entry{
				Labels: f.set, Line: line, Span: entry.Span{Start: f.pos.Offset, End: f.pos.Offset + int64(r.N)},
			})
		}
		at += r.N
		f.pos.Offset += int64(r.N)
		f.pos.State = r.State
	}
	return at
}

// hand gives what was cut to the sink.
func (fw *Follower) hand(ctx context.Context, f *File, flush bool) {
	fw.m.lines.Add(float64(len(fw.ents)))
	f.lines += uint64(len(fw.ents))
	if flush {
		fw.m.partial.Add(float64(len(fw.ents)))
	}
	fw.ended = fw.sink.Lines(ctx, f, fw.ents)
}

// again reads what was held when the position was saved: lines before the offset
// that were not delivered.
func (fw *Follower) again(ctx context.Context, f *File) bool {
	if fw.sink.Full() {
		fw.full = true
		return false
	}
	h := f.redo[0]
	f.redo = f.redo[1:]
	n := min(h.End-h.Start, int64(fw.cfg.MaxLine)+int64(readBytes))
	data := make([]byte, n)
	k, err := f.f.ReadAt(data, h.Start)
	if err != nil && !errors.Is(err, io.EOF) {
		fw.trouble(f.pos.Path, "read", err)
		return true
	}
	offset, state := f.pos.Offset, f.pos.State
	f.pos.Offset, f.pos.State = h.Start, lines.Start
	fw.cut(f, data[:k], 0, true)
	f.pos.Offset, f.pos.State = offset, state
	f.held = f.redo
	fw.hand(ctx, f, false)
	return true
}

func (fw *Follower) trouble(path, what string, err error) {
	fw.m.errors.WithLabelValues(what).Inc()
	if !fw.openErrs[path] {
		fw.openErrs[path] = true
		fw.log.Error("cannot "+what+" a file", "path", path, "err", err)
	}
}
