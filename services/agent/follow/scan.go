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

// scan looks which files there are.
func (fw *Follower) scan(now time.Time) {
	fw.lastScan, fw.dirty = now, false
	matches := fw.match()
	if !fw.started {
		fw.findKnown(matches)
	}
	paths := make([]string, 0, len(matches))
	for p := range matches {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		fw.meet(matches[p])
	}
	for _, f := range fw.order {
		m := matches[f.pos.Path]
		switch bears := m != nil && m.id == f.pos.ID; {
		case !bears && !f.rotated:
			f.rotated, f.lastRead, f.due = true, now, now
			fw.m.replaced.Inc()
		case bears:
			f.rotated = false
			f.seen = max(f.seen, m.size) // reading may stand still
			if f.group != m.group {
				f.setGroup(m.group)
			}
		}
	}
	fw.started = true
	fw.saved()
	if fw.lastPrune.IsZero() {
		fw.lastPrune = now
	}
	if now.Sub(fw.lastPrune) >= pruneEvery {
		fw.lastPrune = now
		fw.prune(now)
	}
	fw.watch.set(fw.folders(matches))
}

// match gives the regular files that the patterns name, by path.
func (fw *Follower) match() map[string]*match {
	out := map[string]*match{}
	for _, g := range fw.groups {
		for _, pattern := range g.Paths {
			for _, path := range glob(pattern) {
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

// glob gives the paths that a pattern names; a file whose name is the pattern
// itself is the only one.
func glob(pattern string) []string {
	if abs, err := filepath.Abs(pattern); err == nil {
		pattern = abs
	}
	if _, err := os.Lstat(pattern); err == nil {
		return []string{pattern}
	}
	// Trouble with one folder must not hide the others' files.
	paths, _ := doublestar.FilepathGlob(pattern)
	return paths
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
			dirs, _ := doublestar.FilepathGlob(filepath.Dir(pattern))
			for _, d := range append(dirs, filepath.FromSlash(base)) {
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

// meet sees that the file that bears a path is followed.
func (fw *Follower) meet(m *match) {
	if fw.files[m.id] != nil {
		return // it is, under this name or the one that it was found with
	}
	if k, ok := fw.known[m.id]; ok && k.Path != m.path && k.Offset == m.size && k.Mtime == m.mtime {
		return // was read to its end under another name
	}
	if fw.generationsOpen(m.path) >= maxGenerations {
		return // later: it is read in its turn
	}
	f := fw.open(m.path, m.path, m.group)
	if f == nil {
		return
	}
	m.id = f.pos.ID // it may have been replaced a moment ago
	if fw.files[m.id] != nil {
		_ = f.f.Close()
		return
	}
	k, ok := fw.known[m.id]
	if ok && f.resume(k) {
		if k.Path != m.path {
			// Renamed to a name that the patterns name too.
			f.pos.Path, f.rotated = k.Path, true
		}
		fw.add(f)
		return
	}
	// What bore the path before may have been renamed since, even a moment ago.
	fw.reopen(m.path, m.group, m.id, nil)
	last, seen := fw.lastSeen(m.path)
	switch {
	case seen:
		for _, g := range fw.between(last, f) {
			fw.add(g)
			fw.start(g)
		}
	case !fw.started && m.group.FromEnd:
		if err := f.seekEnd(); err != nil {
			fw.trouble(m.path, "read", err)
		}
	}
	fw.add(f)
	fw.start(f)
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

func (fw *Follower) generationsOpen(path string) int {
	n := 0
	for f := fw.newest[path]; f != nil; f = f.after {
		n++
	}
	return n
}

// open opens the file at name, to be followed as path. nil: it cannot be.
func (fw *Follower) open(name, path string, group *Group) *File {
	f, st, err := openFile(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotRegular) {
			fw.trouble(name, "open", err)
		}
		return nil
	}
	return newFile(f, st, path, group, fw.cfg.Job, fw.cfg.Poll)
}

// lastSeen gives the position of the youngest file that bore a path.
func (fw *Follower) lastSeen(path string) (last positions.Position, ok bool) {
	if n := fw.newest[path]; n != nil {
		fw.stat(n)
		last, ok = n.Position(), true
	}
	for _, k := range fw.known {
		if k.Path == path && (!ok || k.Gen > last.Gen) {
			last, ok = k, true
		}
	}
	return last, ok
}

// candidates opens the generations of a path that are not followed or known.
func (fw *Follower) candidates(path string, group *Group, wanted func(sibling) bool) []*File {
	list, bases := siblings(path)
	var out []*File
	seen := map[positions.ID]bool{}
	for _, s := range list {
		if _, known := fw.known[s.id]; known || fw.files[s.id] != nil || seen[s.id] || !wanted(s) {
			continue
		}
		for _, b := range bases {
			if generation(b, filepath.Base(s.path)) {
				if f := fw.open(s.path, path, group); f != nil {
					if f.pos.ID != s.id {
						_ = f.f.Close()
						break
					}
					seen[s.id] = true
					out = append(out, f)
				}
				break
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].pos.Mtime < out[j].pos.Mtime })
	return out
}

// between gives, oldest first, what bore the path of cur after the file at
// position last and before cur, or before cur was truncated.
func (fw *Follower) between(last positions.Position, cur *File) []*File {
	all := fw.candidates(cur.pos.Path, cur.group, func(s sibling) bool {
		return s.id != cur.pos.ID && s.id != last.ID && s.info.ModTime().UnixNano() >= last.Mtime
	})
	var out []*File
	for _, g := range all {
		// A copy of the one that was read has only its rest to give, and one of
		// the file that is there now has nothing.
		isCopy := last.Offset > 0 && g.resume(last)
		switch {
		case len(out) >= maxGenerations, g.size == 0, !isCopy && g.prefixOf(cur):
			_ = g.f.Close()
		case g.size == g.pos.Offset:
			fw.known[g.pos.ID] = g.Position()
			_ = g.f.Close()
		default:
			fw.m.found.Inc()
			g.rotated = true
			out = append(out, g)
		}
	}
	return out
}

// prefixOf says whether g looks like a copy of the beginning of f.
func (g *File) prefixOf(f *File) bool {
	p := positions.Position{Offset: g.size}
	head, tail := make([]byte, min(g.size, positions.HeadBytes)), make([]byte, min(g.size, positions.TailBytes))
	if _, err := g.f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	if _, err := g.f.ReadAt(tail, g.size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	p.Head, p.Tail = positions.PrintOf(head), positions.PrintOf(tail)
	st, err := f.f.Stat()
	if err != nil {
		return false
	}
	_, _, ok := p.Matches(f.f, st.Size())
	return ok
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
	for path := range paths {
		var bears positions.ID
		if m := matches[path]; m != nil {
			bears = m.id
		}
		if group := fw.groupOf(path); group != nil {
			fw.reopen(path, group, bears, byID)
		}
	}
}

// reopen follows again the known files that have borne a path and have another
// name now, if there is more to read in them or there may be. bears is the file
// that is left out; byID says where to look first.
func (fw *Follower) reopen(path string, group *Group, bears positions.ID, byID map[positions.ID]string) {
	var all []positions.Position
	for _, k := range fw.known {
		if k.Path == path && k.ID != bears {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		return
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Gen < all[j].Gen })
	list, _ := siblings(path)
	for _, k := range all {
		name := byID[k.ID]
		for _, s := range list {
			if s.id == k.ID {
				name = s.path
			}
		}
		if name == "" {
			continue
		}
		f := fw.open(name, path, group)
		if f == nil {
			continue
		}
		// At the start, a writer may not have noticed yet that the file was renamed.
		recent := byID != nil && time.Since(time.Unix(0, f.pos.Mtime)) < max(fw.cfg.Grace, time.Minute)
		switch {
		case f.pos.ID != k.ID:
			_ = f.f.Close()
		case !f.resume(k):
			delete(fw.known, k.ID)
			_ = f.f.Close()
		case f.size == k.Offset && !recent:
			_ = f.f.Close()
		default:
			f.rotated = true
			if f.size > k.Offset {
				fw.m.found.Inc()
			}
			fw.add(f)
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
			list, _ := siblings(k.Path)
			for _, s := range list {
				there[s.id] = true
			}
			lists[k.Path] = there
		}
		if !there[id] {
			delete(fw.known, id)
			fw.sink.Forget(k.Key())
		}
	}
}

// Files gives the regular files that a group's patterns name.
func (g *Group) Files() (out []string) {
	for _, pattern := range g.Paths {
		for _, path := range glob(pattern) {
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && !excluded(path, g.Exclude) {
				out = append(out, path)
			}
		}
	}
	return out
}
