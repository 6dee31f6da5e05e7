package follow

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-logs/weir/services/agent/positions"
)

// sibling is a file in a folder.
type sibling struct {
	path        string
	id          positions.ID
	size, mtime int64
	suffix      string // what rotation added to the name
}

func siblingOf(path string, st os.FileInfo) sibling {
	return sibling{path: path, id: idOf(st), size: st.Size(), mtime: st.ModTime().UnixNano()}
}

// places gives a path and, if it is a link, what it links to.
func places(path string) []string {
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		return []string{path, real}
	}
	return []string{path}
}

// siblings lists the regular files beside a path, and beside what it links to.
func (d *disk) siblings(path string) (out []sibling) {
	for _, p := range places(path) {
		out = append(out, d.listFolder(filepath.Dir(p))...)
	}
	return out
}

// lists are names of files, by folder and by what they are.
type lists map[string]map[positions.ID]string

// elsewhere gives the name of a file beside a path that does not bear it, by what it is. What
// has of the folders is not listed again; the others are added.
func (d *disk) elsewhere(path string, has lists) func(positions.ID) string {
	var dirs []string
	for _, p := range places(path) {
		dir := filepath.Dir(p)
		dirs = append(dirs, dir)
		if has[dir] != nil {
			continue
		}
		has[dir] = map[positions.ID]string{}
		for _, s := range d.listFolder(dir) {
			has[dir][s.id] = s.path
		}
	}
	var bearer positions.ID
	if st, err := os.Stat(path); err == nil {
		bearer = idOf(st)
	}
	return func(id positions.ID) (name string) {
		for _, dir := range dirs {
			if n := has[dir][id]; n != "" && id != bearer {
				name = n
			}
		}
		return name
	}
}

// look lists the regular file that bears a path and the generations of it. Where
// files are renamed meanwhile it may miss some, or have one twice.
func (d *disk) look(path string) (out []sibling) {
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		out = append(out, siblingOf(path, st))
	}
	for _, p := range places(path) {
		dir, base := filepath.Split(p)
		entries, err := d.readDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			suffix, ok := generation(base, e.Name())
			if !ok || !e.Type().IsRegular() {
				continue
			}
			if st, err := e.Info(); err == nil {
				s := siblingOf(filepath.Join(dir, e.Name()), st)
				s.suffix = suffix
				out = append(out, s)
			}
		}
	}
	return out
}

// older says whether a is an older generation of a path than b: what bears the
// path is the youngest, then the times tell, and between files of one time (a
// clock's tick apart at most) the names.
func older(path string, a, b sibling) bool {
	switch {
	case a.path == path || b.path == path:
		return a.path != path
	case a.mtime != b.mtime:
		return a.mtime < b.mtime
	}
	i, numbered := index(a.suffix)
	j, also := index(b.suffix)
	if numbered && also {
		return i > j
	}
	return a.suffix < b.suffix // dates; of one that is gone it is empty
}

// index gives the number of a suffix that counts generations, as no date does.
func index(suffix string) (int, bool) {
	if len(suffix) < 2 || len(suffix) > 6 {
		return 0, false
	}
	n, err := strconv.Atoi(suffix[1:])
	return n, err == nil && n >= 0
}

// listFolder lists the regular files of a folder, also those that are renamed meanwhile.
func (d *disk) listFolder(dir string) []sibling { return settled(dir, d.readFolder) }

// settled lists a folder with read, which may miss a file that is renamed meanwhile: so
// again, a few times at most, until the folder's time says that nothing was. Where that
// is so young that another change might not show in it, two lists must agree as well.
func settled(dir string, read func(string) []sibling) (out []sibling) {
	same := func(a, b sibling) bool { return a.path == b.path && a.id == b.id }
	for look := range 5 {
		before, err := os.Stat(dir)
		if err != nil {
			return nil
		}
		last := out
		out = read(dir)
		after, err := os.Stat(dir)
		if err == nil && after.ModTime().Equal(before.ModTime()) &&
			(time.Since(after.ModTime()) > clockLag || look > 0 && slices.EqualFunc(out, last, same)) {
			break
		}
	}
	return out
}

// readFolder lists the regular files of a folder but for some that are renamed meanwhile.
func (d *disk) readFolder(dir string) (out []sibling) {
	entries, err := d.readDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if st, err := e.Info(); err == nil {
			out = append(out, siblingOf(filepath.Join(dir, e.Name()), st))
		}
	}
	return out
}

// generation says whether a file called name is what rotation made of one called
// base: base.1, base-20260131, base.old, or the number before the extension.
// Compressed ones are not. suffix is what was added.
func generation(base, name string) (suffix string, ok bool) {
	number := func(s string) bool {
		if len(s) < 2 || !strings.ContainsRune(".-_", rune(s[0])) {
			return false
		}
		return s[1:] == "old" || strings.Trim(s[1:], "0123456789.-_:+TZ") == "" && strings.ContainsAny(s, "0123456789")
	}
	if rest, ok := strings.CutPrefix(name, base); ok && number(rest) {
		return rest, true
	}
	ext := filepath.Ext(base)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext))
	if !ok || ext == "" {
		return "", false
	}
	rest, ok = strings.CutSuffix(rest, ext)
	return rest, ok && number(rest)
}
