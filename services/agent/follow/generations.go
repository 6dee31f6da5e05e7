package follow

import (
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

const (
	// maxLooks bounds how often a folder is looked at until two looks agree.
	maxLooks = 10
	// clockLag is how far the times of files may be behind the clock.
	clockLag = 20 * time.Millisecond
)

// meet sees that the file that bears a path is followed, and what has borne it
// since it was looked at last. id is the file that was found there, zero for
// none. It returns the one that bears the path after all.
func (fw *Follower) meet(path string, group *Group, id positions.ID) positions.ID {
	if fw.lack != nil {
		return id // later, after what could not be opened
	}
	if fw.files[id] != nil {
		return id // it is, under this name or the one that it was found with
	}
	room := maxGenerations - fw.generationsOpen(path)
	if room <= 0 {
		fw.short = true
		return id // later: it is read in its turn
	}
	if k, ok := fw.known[id]; ok {
		if fw.resume(k, path, group) {
			return id
		}
	}
	last, seen := fw.lastSeen(path)
	// What bore the path before may have been renamed since, even a moment ago.
	fw.reopen(path, group, nil, lists{})
	if l, ok := fw.lastSeen(path); seen && (!ok || l.Gen < last.Gen) {
		last.ID = positions.ID{} // its file is another one now
	} else if ok {
		last = l
	}
	since := int64(math.MaxInt64) // of a path that was never looked at, older files are none of ours
	switch {
	case seen:
		since = last.Mtime
		if n := fw.newest[path]; n != nil && n.pos.Gen == last.Gen {
			since = n.since()
		}
	case fw.awaited[path] != nil:
		if a := fw.awaited[path]; a.id != id {
			since = a.mtime // it has been renamed since
		}
	case !fw.since.IsZero():
		since = fw.since.Add(-clockLag).UnixNano()
	}
	stray := !seen && fw.hasStray(path, since)
	if fw.lack != nil {
		return id // what comes after waits, too
	}
	if !seen && !stray {
		f := fw.open(path, path, group)
		switch {
		case f == nil:
			return id
		case f.pos.ID == id:
			fw.begin(f, group.FromEnd && !fw.started)
			return id
		}
		fw.shut(f.f) // it was rotated a moment ago
	}
	g := fw.generations(path, group, room, func(s sibling) bool { return s.path == path || s.id == id || s.mtime >= since && s.id != last.ID })
	if g.names == nil {
		return id
	}
	inPlace := seen && g.bearer == last.ID
	gone := seen && !inPlace && !fw.exists(last.ID, g)
	files := g.files
	if seen {
		var cur *File
		if n := len(files); n > 0 && files[n-1].pos.ID == g.bearer {
			cur = files[n-1]
		}
		files = fw.sift(last, files, cur, inPlace, inPlace || gone)
	}
	if gone && len(files) > 0 && !(len(files) == 1 && files[0].pos.ID == g.bearer) {
		fw.m.gaps.Inc()
		fw.log.Warn("files were rotated faster than they were looked for; between the last that was read and the oldest that is there, others may have been deleted unread",
			"path", path, "oldest", files[0].f.Name())
	}
	for _, f := range files {
		if f.rotated = f.pos.ID != g.bearer; f.rotated {
			fw.m.found.Inc()
		}
		fw.begin(f, group.FromEnd && !fw.started && !seen)
	}
	return g.bearer
}

// begin follows a file that was not before.
func (fw *Follower) begin(f *File, fromEnd bool) {
	if fromEnd {
		if err := f.seekEnd(); err != nil {
			fw.trouble(f.pos.Path, "read", err)
		}
	}
	if !f.rotated {
		f.bore = fw.lastScan
	}
	fw.add(f)
	fw.start(f)
}

// hasStray says whether there may be a generation of a path that was modified
// since and is not met.
func (fw *Follower) hasStray(path string, since int64) bool {
	if since == math.MaxInt64 {
		return false
	}
	dir, base := filepath.Split(path)
	strays, ok := fw.strays[dir]
	if !ok { // many paths may be new there
		oldest := since
		for _, a := range fw.awaited {
			oldest = min(oldest, a.mtime)
		}
		if !fw.since.IsZero() {
			oldest = min(oldest, fw.since.Add(-clockLag).UnixNano())
		}
		for _, s := range fw.listFolder(dir) {
			if s.mtime >= oldest && fw.matches[s.path] == nil && fw.unmet(s, "") {
				strays = append(strays, s)
			}
		}
		fw.strays[dir] = strays
	}
	for _, s := range strays {
		if s.mtime < since {
			continue
		}
		if _, ok := generation(base, filepath.Base(s.path)); ok {
			return true
		}
	}
	return false
}

// meetMissing meets what has borne a path and was rotated away too since it was
// looked at last, where nothing bears the path now.
func (fw *Follower) meetMissing() {
	newest := map[string]positions.Position{} // of each path that is missing
	miss := func(p positions.Position) {
		if n, ok := newest[p.Path]; fw.matches[p.Path] == nil && (!ok || p.Gen > n.Gen) {
			newest[p.Path] = p
		}
	}
	for _, k := range fw.known {
		miss(k)
	}
	for path, f := range fw.newest {
		p := f.pos
		p.Path, p.Mtime = path, f.since()
		miss(p)
	}
	for path, a := range fw.awaited {
		miss(positions.Position{Path: path, Mtime: a.mtime})
	}
	folders := map[string][]string{}
	for path := range newest {
		folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], path)
	}
	for dir, paths := range folders {
		for _, s := range fw.readFolder(dir) {
			if !fw.unmet(s, "") {
				continue // mostly, and there may be many paths
			}
			for _, path := range paths {
				if s.mtime < newest[path].Mtime || !fw.unmet(s, "") {
					continue
				}
				_, ok := generation(filepath.Base(path), filepath.Base(s.path))
				if group := fw.groupOf(path); ok && group != nil {
					fw.meet(path, group, positions.ID{})
					newest[path] = positions.Position{Mtime: math.MaxInt64} // once is enough
				}
			}
		}
	}
}

// since is the time from which on another file may have borne f's path.
func (f *File) since() int64 {
	if f.bore.IsZero() {
		return f.pos.Mtime
	}
	// f's writer may have gone on after it was renamed.
	return min(f.pos.Mtime, f.bore.Add(-clockLag).UnixNano())
}

// resume goes on with a known file that bears path, if it is still that one and
// there may be more of it.
func (fw *Follower) resume(k positions.Position, path string, group *Group) bool {
	st, err := os.Stat(path)
	if err != nil || idOf(st) != k.ID {
		return false
	}
	if k.Path != path && fw.readAll(k, st.Size()) && k.Mtime == st.ModTime().UnixNano() {
		return true // was read to its end under another name
	}
	f := fw.open(path, path, group)
	if f == nil {
		return false
	}
	if f.pos.ID != k.ID || !f.resume(k) {
		fw.shut(f.f)
		return false
	}
	if k.Path != path {
		// Renamed to a name that the patterns name too.
		f.pos.Path, f.rotated = k.Path, true
	} else {
		f.bore = fw.lastScan
	}
	fw.add(f)
	return true
}

// exists says whether a file that bore a path is still there, under any name if
// it is open.
func (fw *Follower) exists(id positions.ID, g generations) bool {
	if f := fw.files[id]; f != nil {
		st, err := f.f.Stat()
		return err != nil || linked(st)
	}
	for _, other := range g.names {
		if other == id {
			return true
		}
	}
	return false
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

func (fw *Follower) generationsOpen(path string) int {
	n := 0
	for f := fw.newest[path]; f != nil; f = f.after {
		n++
	}
	return n
}

// generations are what bears a path and what has borne it.
type generations struct {
	files  []*File                 // those not followed yet, the oldest first
	bearer positions.ID            // zero: none, or it is to be met later
	names  map[string]positions.ID // all that there are
}

// generations opens the generations of a path that are wanted and not followed or
// known, at most room, the oldest first. Files are renamed meanwhile: a name may
// be another file's when it is opened, and a list may lack a file that had two
// names while it was made. So it looks until two looks agree, and keeps what it
// has opened. Where one cannot be opened for want of a descriptor, it and the younger ones are
// left as if there was no room; where the folder cannot be listed for that, names is nil.
func (fw *Follower) generations(path string, group *Group, room int, wanted func(sibling) bool) (g generations) {
	found := map[positions.ID]*File{}
	var last map[positions.ID]sibling
	var rest []sibling // no room for them
	for range maxLooks {
		var list []sibling
		if !fw.without(func() { list = fw.look(path) }) {
			for _, f := range found {
				fw.shut(f.f)
			}
			return generations{}
		}
		names := make(map[string]positions.ID, len(list))
		last = make(map[positions.ID]sibling, len(list))
		for _, s := range list {
			names[s.path] = s.id
			if last[s.id].path != path {
				last[s.id] = s
			}
		}
		sort.Slice(list, func(i, j int) bool { return older(path, list[i], list[j]) })
		opened := false
		rest = nil
		for i, s := range list {
			if found[s.id] != nil || !fw.unmet(s, path) || !wanted(s) {
				continue
			}
			if len(found) >= room {
				rest = list[i:]
				break
			}
			f := fw.open(s.path, path, group)
			if f == nil && fw.lack != nil {
				rest = list[i:]
				break
			}
			if f == nil {
				continue
			}
			s.id, s.size, s.mtime = f.pos.ID, f.size, f.pos.Mtime // it may be another
			if found[s.id] != nil || !fw.unmet(s, path) || !wanted(s) || !fw.another(f) {
				fw.shut(f.f)
				continue
			}
			found[s.id], opened = f, true
		}
		agree := maps.Equal(names, g.names)
		if g.names = names; agree && !opened || fw.lack != nil {
			break
		}
	}
	g.bearer = g.names[path]
	at := func(f *File) sibling {
		s := last[f.pos.ID]
		s.mtime = f.pos.Mtime
		return s
	}
	g.files = slices.SortedFunc(maps.Values(found), func(a, b *File) int {
		if older(path, at(a), at(b)) {
			return -1
		}
		return 1
	})
	if len(rest) > 0 {
		// None is taken that is younger than one that is left.
		fw.short = true
		n := sort.Search(len(g.files), func(i int) bool { return older(path, rest[0], at(g.files[i])) })
		for _, f := range g.files[n:] {
			fw.shut(f.f)
		}
		g.files = g.files[:n]
		if fw.files[g.bearer] == nil {
			g.bearer = positions.ID{}
		}
	}
	return g
}

// unmet says whether a file is, as far as is seen without opening it, one that is
// not followed or known.
func (fw *Follower) unmet(s sibling, path string) bool {
	if fw.files[s.id] != nil {
		return false
	}
	k, ok := fw.known[s.id]
	return !ok || s.path == path || k.Path != path && (!fw.readAll(k, s.size) || k.Mtime != s.mtime)
}

// readAll says whether all of a known file of that size was given out that can be, and
// delivered.
func (fw *Follower) readAll(k positions.Position, size int64) bool {
	stuck, ok := fw.stuckAt[k.ID]
	return len(k.Held) == 0 && (k.Offset == size || ok && stuck == size)
}

// another says whether an open file is not one that is known, though it may have
// the inode of one.
func (fw *Follower) another(f *File) bool {
	k, ok := fw.known[f.pos.ID]
	if !ok {
		return true
	}
	_, _, same := k.Matches(f.f, f.size)
	return !same
}

// sift leaves out of files, found after the one at position last, what copies have
// that was read already, if there may be copies. cur is the file that bears the
// path, or nil; inPlace: it is the one at last, but has other content.
func (fw *Follower) sift(last positions.Position, files []*File, cur *File, inPlace, copies bool) (out []*File) {
	for _, f := range files {
		// A copy of the one that was read has only its rest to give, and one of
		// the file that is there now has nothing.
		isCopy := f != cur && copies && last.Offset > 0 && f.resume(last)
		switch {
		case f != cur && inPlace && (f.size == 0 || !isCopy && cur != nil && f.prefixOf(cur)):
			fw.shut(f.f)
		case isCopy && f.size == f.pos.Offset && len(f.redo) == 0:
			fw.known[f.pos.ID] = f.Position()
			fw.shut(f.f)
		default:
			out = append(out, f)
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

// reopen follows again the known files that have borne a path and have another
// name now, if there is more to read in them or there may be. byID says where to look
// where they are not beside the path; nil: it is not the start. has: folders that were
// listed a moment ago. Who bears the path is looked at here: the one that bore it when the
// patterns were matched may have been renamed since, and its rest comes before what is in
// the file that took its place.
func (fw *Follower) reopen(path string, group *Group, byID map[positions.ID]string, has lists) {
	var all []positions.Position
	for _, k := range fw.known {
		if k.Path == path {
			all = append(all, k)
		}
	}
	if len(all) == 0 {
		return
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Gen < all[j].Gen })
	name := fw.elsewhere(path, has)
	for _, k := range all {
		if fw.lack != nil {
			return // the younger ones wait for it
		}
		var f *File
		for range maxLooks {
			at := name(k.ID)
			if at == "" && byID[k.ID] != path {
				at = byID[k.ID]
			}
			if at == "" {
				break
			}
			if f = fw.open(at, path, group); f != nil && f.pos.ID == k.ID {
				break
			} else if f != nil {
				fw.shut(f.f)
				f = nil
			} else if fw.lack != nil {
				return
			}
			clear(has) // it was renamed a moment ago
			name = fw.elsewhere(path, has)
		}
		if f == nil {
			continue
		}
		// At the start, a writer may not have noticed yet that the file was renamed.
		recent := byID != nil && fw.away[k.ID] && time.Since(time.Unix(0, f.pos.Mtime)) < max(fw.cfg.Grace, time.Minute)
		switch {
		case !f.resume(k):
			delete(fw.known, k.ID)
			fw.shut(f.f)
		case fw.readAll(k, f.size) && !recent:
			fw.shut(f.f)
		default:
			f.rotated = true
			if f.size > k.Offset {
				fw.m.found.Inc()
			}
			fw.add(f)
		}
	}
}
