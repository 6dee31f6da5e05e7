package follow

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/weir-logs/weir/services/agent/positions"
)

// match is a file that a pattern names.
type match struct {
	path  string
	group *Group
	id    positions.ID
	size  int64
	mtime int64
}

// scan looks which files there are. Where there are too few descriptors for that nothing more
// is begun that might come too early: what is open is read on, and the next look, soon, is the
// one that counts.
func (fw *Follower) scan(now time.Time) {
	if fw.lack == nil || fw.since.IsZero() {
		fw.since = fw.lastScan
	}
	fw.lastScan, fw.dirty, fw.short, fw.lack = now, false, false, nil
	m := fw.match()
	if fw.lack == nil {
		fw.take(now, m)
	}
	if fw.lack == nil {
		fw.wait = 0
		clear(fw.awaited)
		return
	}
	wait := 0
	for path, m := range m {
		if !fw.unmet(sibling{path: path, id: m.id, size: m.size, mtime: m.mtime}, "") {
			continue
		}
		wait++
		if fw.awaited[path] == nil && fw.newest[path] == nil {
			fw.awaited[path] = m
		}
	}
	fw.postponed(now, wait)
}

// postponed tells that about n files wait for descriptors, and makes the time longer until the
// next look.
func (fw *Follower) postponed(now time.Time, n int) {
	fw.ask(max(n, 1), now)
	fw.wait = min(max(2*fw.wait, firstWait), max(fw.cfg.Scan, firstWait))
	fw.m.postponed.Inc()
	if now.Sub(fw.told) < tellEvery {
		return
	}
	fw.told = now
	fw.log.Warn("no descriptor for a file: it waits, and those that come after it, till one that is read to its end is closed",
		"err", fw.lack, "files", len(fw.order), "waiting", n, "max_open_files", fw.budget.Max())
}

// take sees that what the patterns named a moment ago is followed. Files may have been
// renamed since.
func (fw *Follower) take(now time.Time, matches map[string]*match) {
	fw.matches, fw.strays = matches, map[string][]sibling{}
	defer func() { fw.matches, fw.strays = nil, nil }()
	if !fw.started {
		fw.findKnown(matches)
	}
	fw.follow(matches, now)
	paths := make([]string, 0, len(matches))
	for p := range matches {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	first := sort.SearchStrings(paths, fw.lacked) // whose turn it is
	for i := range paths {
		p := paths[(first+i)%len(paths)]
		m := matches[p]
		if m.id = fw.meet(p, m.group, m.id); fw.lack != nil {
			fw.lacked = p
			break
		}
	}
	for _, f := range fw.order {
		m := matches[f.pos.Path]
		switch bears := m != nil && m.id == f.pos.ID; {
		case !bears && f.f == nil: // it is to be opened first
		case !bears && !f.rotated:
			f.rotated, f.lastRead, f.due = true, now, now
			fw.m.replaced.Inc()
		case bears:
			f.rotated, f.bore = false, now
			if !f.torn {
				f.seen = max(f.seen, m.size) // reading may stand still
			}
			if f.group != m.group {
				f.setGroup(m.group)
			}
		}
	}
	fw.meetMissing()
	fw.started = fw.started || fw.lack == nil
	fw.saved()
	if fw.lastPrune.IsZero() {
		fw.lastPrune = now
	}
	if now.Sub(fw.lastPrune) >= pruneEvery && fw.lack == nil {
		fw.lastPrune = now
		fw.prune(now)
	}
	if folders := fw.folders(matches); fw.lack == nil {
		fw.watch.set(folders)
	}
}

// match gives the regular files that the patterns name, by path.
func (fw *Follower) match() map[string]*match {
	out := map[string]*match{}
	for _, g := range fw.groups {
		for _, pattern := range g.Paths {
			for _, path := range fw.glob(pattern) {
				if out[path] != nil || excluded(path, g.Exclude) {
					continue
				}
				st, err := os.Stat(path)
				if err != nil {
					if !errors.Is(err, fs.ErrNotExist) {
						fw.trouble(path, "stat", err)
					}
					continue
				}
				if st.Mode().IsRegular() {
					out[path] = &match{path: path, group: g, id: idOf(st), size: st.Size(), mtime: st.ModTime().UnixNano()}
				}
			}
		}
	}
	return out
}

func excluded(path string, patterns []string) bool {
	for _, p := range patterns {
		if abs, err := filepath.Abs(p); err == nil {
			p = abs
		}
		if ok, _ := doublestar.PathMatch(p, path); ok || p == path {
			return true
		}
	}
	return false
}

// groupOf gives the group that names a path, or nil.
func (fw *Follower) groupOf(path string) *Group {
	for _, g := range fw.groups {
		if excluded(path, g.Paths) && !excluded(path, g.Exclude) {
			return g
		}
	}
	return nil
}

// folders gives the folders in which files may come and go.
func (fw *Follower) folders(matches map[string]*match) map[string]bool {
	out := map[string]bool{}
	for _, g := range fw.groups {
		for _, pattern := range g.Paths {
			if abs, err := filepath.Abs(pattern); err == nil {
				pattern = abs
			}
			base, _ := doublestar.SplitPattern(filepath.ToSlash(pattern))
			for _, d := range append(fw.glob(filepath.Dir(pattern)), filepath.FromSlash(base)) {
				if len(out) >= maxWatches {
					break
				}
				if st, err := os.Stat(d); err == nil && st.IsDir() {
					out[d] = true
				}
			}
		}
	}
	for p := range matches {
		out[filepath.Dir(p)] = true
		if real, err := filepath.EvalSymlinks(p); err == nil && real != p {
			out[filepath.Dir(real)] = true
		}
	}
	return out
}

// start tells the sink of a file that was not followed before: killed before its
// first line is delivered, the agent must know it although it may have another
// name then.
func (fw *Follower) start(f *File) {
	p := f.Position()
	if f.pos.Offset == 0 && f.size > 0 {
		head := make([]byte, min(f.size, positions.HeadBytes))
		if n, err := f.f.ReadAt(head, 0); err == nil || errors.Is(err, io.EOF) {
			p.Head = positions.PrintOf(head[:n])
		}
	}
	fw.sink.Start(p)
	fw.fresh = true
}

func (fw *Follower) saved() {
	if fw.fresh {
		fw.fresh = false
		fw.sink.Saved()
	}
}

// open opens the file at name, to be followed as path. nil: it cannot be.
func (fw *Follower) open(name, path string, group *Group) *File {
	lacked := fw.lack
	f, st, err := fw.openFile(name, fw.newest[path] != nil)
	if err != nil {
		if fw.lack == lacked && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotRegular) {
			fw.trouble(name, "open", err)
		}
		return nil
	}
	return newFile(f, st, path, group, fw.cfg.Job, fw.cfg.Poll)
}

// findKnown looks, at the start, for files that were read before and have been
// renamed since, so that their rest is not lost.
func (fw *Follower) findKnown(matches map[string]*match) {
	byID := map[positions.ID]string{}
	for p, m := range matches {
		byID[m.id] = p
	}
	paths := map[string]bool{}
	for _, k := range fw.known {
		paths[k.Path] = true
	}
	has := lists{} // once for all paths: there may be many, and many looks until all are open
	for path := range paths {
		if fw.lack != nil {
			return
		}
		if group := fw.groupOf(path); group != nil {
			fw.reopen(path, group, byID, has)
		}
	}
}

// prune forgets positions of files that are gone.
func (fw *Follower) prune(now time.Time) {
	lists := map[string]map[positions.ID]bool{}
	for id, k := range fw.known {
		// A folder that is missing may be a disk that is not mounted now.
		if _, err := os.Stat(filepath.Dir(k.Path)); err != nil && now.Sub(time.Unix(0, k.Mtime)) < keepMissing {
			continue
		}
		there, ok := lists[k.Path]
		if !ok {
			there = map[positions.ID]bool{}
			fw.failed = nil
			for _, s := range fw.siblings(k.Path) {
				there[s.id] = true
			}
			if fw.failed != nil {
				continue // it may be there
			}
			lists[k.Path] = there
		}
		if !there[id] {
			delete(fw.known, id)
			delete(fw.stuckAt, id)
			fw.sink.Forget(k.Key())
		}
	}
}

// Files gives the regular files that a group's patterns name, and why there may be more:
// a folder could not be listed.
func (g *Group) Files() (out []string, err error) {
	var d disk
	for _, pattern := range g.Paths {
		for _, path := range d.glob(pattern) {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && !excluded(path, g.Exclude) {
				out = append(out, path)
			}
		}
	}
	return out, d.failed
}
