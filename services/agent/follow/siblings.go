package follow

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/weir-logs/weir/services/agent/positions"
)

// sibling is a file in a folder.
type sibling struct {
	path string
	id   positions.ID
	info os.FileInfo
}

// siblings lists the regular files beside a path, and beside what it links to,
// and gives the names that the path has there.
func siblings(path string) (out []sibling, bases []string) {
	places := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		places = append(places, real)
	}
	for _, p := range places {
		bases = append(bases, filepath.Base(p))
		out = append(out, listFolder(filepath.Dir(p))...)
	}
	return out, bases
}

// listFolder lists the regular files of a folder. A file that is renamed during
// the listing may be missing from it, so it is done again until the folder has
// not changed meanwhile, a few times at most.
func listFolder(dir string) (out []sibling) {
	for range 5 {
		before, err := os.Stat(dir)
		if err != nil {
			return nil
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil
		}
		out = out[:0]
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			if st, err := e.Info(); err == nil {
				out = append(out, sibling{filepath.Join(dir, e.Name()), idOf(st), st})
			}
		}
		after, err := os.Stat(dir)
		if err == nil && after.ModTime().Equal(before.ModTime()) {
			break
		}
	}
	return out
}

// generation says whether a file called name is what rotation made of one called
// base: base.1, base-20260131, base.old, or the number before the extension.
// Compressed ones are not.
func generation(base, name string) bool {
	number := func(s string) bool {
		if len(s) < 2 || !strings.ContainsRune(".-_", rune(s[0])) {
			return false
		}
		return s[1:] == "old" || strings.Trim(s[1:], "0123456789.-_:+TZ") == "" && strings.ContainsAny(s, "0123456789")
	}
	if rest, ok := strings.CutPrefix(name, base); ok && number(rest) {
		return true
	}
	ext := filepath.Ext(base)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext))
	if !ok || ext == "" {
		return false
	}
	rest, ok = strings.CutSuffix(rest, ext)
	return ok && number(rest)
}
