package follow

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

// Where more files are to be read than may be open, those that are read to their end rest: they
// are closed, and keep their place among the files of their path. One that rests is looked at by
// its path, as often as an idle one, and is opened again when that shows another size or time.
// When its path does not bear it any more it is looked for in its folder, and opened before
// anything else is, so that a file whose place another one has taken is always open until it is
// read to its end. What was written to it after the last look is lost only if it is deleted, or
// moved out of its folder, before it is open again.

// idle is how long a file must have been open, or unchanged, before it rests: that bounds how
// often files take turns where all of them grow.
func (fw *Follower) idle() time.Duration { return 10 * fw.cfg.Poll }

// mayRest says whether a file was read to its end when it was looked at last and all of that was
// given out, and nothing is known to be before it.
func (fw *Follower) mayRest(f *File, now time.Time) bool {
	return f.f != nil && !f.rotated && !f.torn && f.after == nil && f.partial == 0 && len(f.redo) == 0 && len(f.held) == 0 &&
		f.size == f.pos.Offset && f.pos.Mtime == f.checked &&
		(now.Sub(f.opened) >= fw.idle() || now.Sub(time.Unix(0, f.pos.Mtime)) >= fw.idle())
}

// rest closes a file that may rest, if it is still as it was when it was read and bears its path.
func (fw *Follower) rest(f *File, now time.Time) bool {
	st, err := f.f.Stat()
	if err != nil || st.Size() != f.pos.Offset || st.ModTime().UnixNano() != f.checked {
		return false
	}
	if st, err = os.Stat(f.pos.Path); err != nil || idOf(st) != f.pos.ID {
		return false
	}
	if f.place, err = filepath.EvalSymlinks(f.pos.Path); err != nil {
		return false
	}
	fw.shut(f.f)
	f.f = nil
	f.pause = fw.idle()
	f.due = now.Add(f.pause)
	fw.m.active.Dec()
	fw.m.resting.Inc()
	return true
}

// rouse gives a file that rests what it is in again.
func (fw *Follower) rouse(f *File, in *os.File, now time.Time) {
	f.f, f.opened, f.due, f.pause, f.wants = in, now, now, fw.cfg.Poll, false
	f.checked = 0 // it may be another file of the same inode
	fw.m.active.Inc()
	fw.m.resting.Dec()
}

// glance looks at a file that rests, and notes if it is to be opened.
func (fw *Follower) glance(f *File, now time.Time) {
	f.due = now.Add(f.pause)
	st, err := os.Stat(f.pos.Path)
	if err != nil || idOf(st) != f.pos.ID {
		fw.dirty = true // the scan sees to it
		return
	}
	f.size = st.Size()
	f.seen = max(f.seen, f.size)
	f.wants = f.size != f.pos.Offset || st.ModTime().UnixNano() != f.checked
}

// turns opens files that rest and have grown, and lets others rest for them and for all that
// wait for a descriptor. It says whether a file was opened.
func (fw *Follower) turns(now time.Time) (opened bool) {
	var wanting []*File
	for i := range fw.order {
		if f := fw.order[(fw.waker+i)%len(fw.order)]; f.wants {
			wanting = append(wanting, f)
		}
	}
	had := len(wanting)
	wanting = fw.wake(wanting, had, now)
	if len(wanting) > 0 {
		fw.ask(len(wanting), now)
	}
	if given := fw.relieve(fw.budget.asked(now), now); given > 0 && len(wanting) > 0 {
		if fw.lack != nil {
			given -= given / 2 // the rest is for files that were never open
		}
		wanting = fw.wake(wanting, given, now)
	}
	if len(wanting) > 0 {
		fw.m.postponed.Inc()
		fw.waker = slices.Index(fw.order, wanting[0]) // first, next time
	}
	return len(wanting) < had
}

// relieve lets files rest, n at most, those that have had nothing new for the longest time first.
func (fw *Follower) relieve(n int, now time.Time) (given int) {
	if n <= 0 {
		return 0
	}
	var idle []*File
	for _, f := range fw.order {
		if fw.mayRest(f, now) {
			idle = append(idle, f)
		}
	}
	slices.SortStableFunc(idle, func(a, b *File) int { return int(min(max(a.pos.Mtime-b.pos.Mtime, -1), 1)) })
	for _, f := range idle {
		if given == n {
			break
		}
		if fw.rest(f, now) {
			given++
		}
	}
	return given
}

// wake opens files that rest where they bear their path, most of them at most, and returns those
// that lack a descriptor, or their turn.
func (fw *Follower) wake(wanting []*File, most int, now time.Time) []*File {
	lack := fw.lack
	defer func() { fw.lack = lack }() // that these wait holds up no others
	for i, f := range wanting {
		if i == most {
			return wanting[i:]
		}
		var in *os.File
		if !fw.without(func() { in, _ = fw.openAt(f, f.pos.Path, false) }) {
			return wanting[i:]
		}
		if f.wants = false; in == nil {
			fw.dirty = true // it was renamed a moment ago
			continue
		}
		fw.rouse(f, in, now)
	}
	return nil
}

// ask tells that n files of this follower wait for descriptors.
func (fw *Follower) ask(n int, now time.Time) {
	fw.freed = fw.budget.ask(n, now.Add(2*max(fw.cfg.Scan, fw.idle())))
}

// openAt opens what bears a name if it is the file f. followed: as openFile.
func (fw *Follower) openAt(f *File, name string, followed bool) (*os.File, error) {
	in, st, err := fw.openFile(name, followed)
	if err == nil && idOf(st) != f.pos.ID {
		fw.shut(in)
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// follow opens the files that rest and do not bear their path any more, and closes for good those
// that are not there. Where a descriptor lacks, the others are left for later.
func (fw *Follower) follow(matches map[string]*match, now time.Time) {
	names := map[string]map[positions.ID]string{} // by folder
	for _, f := range fw.order {
		if m := matches[f.pos.Path]; f.f != nil || m != nil && m.id == f.pos.ID {
			continue
		}
		in, err := fw.find(f, names)
		if fw.lack != nil {
			return
		}
		if in != nil {
			fw.rouse(f, in, now)
			fw.stat(f)
			if in.Name() == f.place || fw.unchanged(f) {
				continue
			}
			// It has the inode of one that was deleted, whose position is of no use any more.
			fw.gone(f)
			fw.close(f)
			delete(fw.known, f.pos.ID)
			fw.sink.Forget(f.pos.Key())
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			fw.gone(f)
		} else {
			fw.trouble(f.pos.Path, "open", err) // known as it is then, it is read on when it is met
		}
		fw.close(f)
	}
}

// gone tells of a file that was deleted, or moved out of its folder, while it rested.
func (fw *Follower) gone(f *File) {
	lost := max(0, f.seen-f.pos.Offset)
	fw.m.goneResting.Inc()
	fw.m.goneBytes.Add(float64(lost))
	if lost > 0 {
		fw.log.Warn("a file was deleted, or moved out of its folder, while it waited for a descriptor",
			"path", f.pos.Path, "offset", f.pos.Offset, "bytes_lost", lost)
	}
}

// find opens a file that rests under whatever name it has in its folder. An error that is not
// fs.ErrNotExist: it may be there.
func (fw *Follower) find(f *File, names map[string]map[positions.ID]string) (*os.File, error) {
	for range maxLooks {
		name := ""
		for _, dir := range []string{filepath.Dir(f.place), filepath.Dir(f.pos.Path)} {
			ids := names[dir]
			if ids == nil {
				ids = map[positions.ID]string{}
				fw.failed = nil
				for _, s := range fw.listFolder(dir) {
					ids[s.id] = s.path
				}
				if fw.failed != nil {
					return nil, fw.failed
				}
				names[dir] = ids
			}
			if name = ids[f.pos.ID]; name != "" {
				break
			}
		}
		if name == "" {
			return nil, fs.ErrNotExist
		}
		in, err := fw.openAt(f, name, true)
		if in != nil || fw.lack != nil || !errors.Is(err, fs.ErrNotExist) {
			return in, err
		}
		clear(names) // it was renamed a moment ago
	}
	return nil, errors.New("it is renamed again and again")
}
