package follow

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/bmatcuk/doublestar/v4"
)

const (
	// firstWait is how long it is, at first, until what could not be opened for want of a
	// descriptor is tried again; it doubles up to Config.Scan.
	firstWait = 100 * time.Millisecond
	// tellEvery is how often the log tells that descriptors are short.
	tellEvery = time.Minute
)

// Budget bounds how many files the Followers of a process have open together, and tells those
// that have idle ones open how many others wait for. Of the last eighth only files get some
// that belong to a path which is followed already: what was renamed, what took its place,
// copies. Safe for concurrent use.
type Budget struct {
	max int64

	mu    sync.Mutex
	open  int64
	owed  int           // descriptors that are waited for, but for those that were given back since
	until time.Time     // when that holds no longer
	freed chan struct{} // closed when one is given back; nil: nobody waits
}

// NewBudget makes one of most files, or of what the system allows the process but for a quarter
// of that, at least 32, where most is 0 or greater than that: it needs descriptors for other
// things, too.
func NewBudget(most int) *Budget {
	b := &Budget{max: int64(most)}
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil && r.Cur < 1<<40 { // more is no bound
		if own := max(int64(r.Cur)-max(int64(r.Cur)/4, 32), 1); b.max <= 0 || b.max > own { //nolint:unconvert // other types elsewhere
			b.max = own
		}
	} else if b.max <= 0 {
		b.max = unbounded
	}
	return b
}

const unbounded = 1 << 20

// Max is how many may be open.
func (b *Budget) Max() int { return int(b.max) }

func (b *Budget) take(followed bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := b.max
	if !followed {
		most -= most / 8
	}
	if b.open >= most {
		return false
	}
	b.open++
	return true
}

func (b *Budget) give() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	b.owed = max(b.owed-1, 0)
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
}

// ask tells that n descriptors are waited for, until a time before which it is called again if
// they still are. What it returns is closed when the next one is given back.
func (b *Budget) ask(n int, until time.Time) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed = max(b.owed, n)
	b.until = until
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed
}

// asked is how many descriptors should be given up by those that have no need of them.
func (b *Budget) asked(now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.After(b.until) {
		b.owed = 0
	}
	return b.owed
}

var errBudget = errors.New("as many files are open as may be (read.max_open_files)")

// disk opens files and lists folders for a follower, and remembers whether that failed for
// want of a descriptor: what was not seen or opened then may come before what was.
type disk struct {
	budget *Budget
	lack   error // the last such failure; nil: none
	failed error // the last failure to list a folder that is there
	// before is called before a descriptor is taken, if it is not nil, and fails that with its
	// error: for tests.
	before func(name string) error
}

// note notes an error if it tells that there was no descriptor.
func (d *disk) note(err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, errBudget) {
		d.lack = err
	}
}

// without calls f, and says whether it lacked nothing.
func (d *disk) without(f func()) bool {
	before := d.lack
	d.lack = nil
	f()
	if d.lack != nil {
		return false
	}
	d.lack = before
	return true
}

// openFile opens a regular file. followed: of a path that is followed already. What it gives
// is to be closed by shut.
func (d *disk) openFile(name string, followed bool) (f *os.File, st os.FileInfo, err error) {
	defer func() { d.note(err) }()
	if !d.budget.take(followed) {
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: errBudget}
	}
	if d.before != nil {
		err = d.before(name)
	}
	if err == nil {
		// Not blocking, so that a pipe put in a file's place cannot stop everything.
		f, err = os.OpenFile(name, os.O_RDONLY|nonblock, 0)
	}
	if err != nil {
		d.budget.give()
		return nil, nil, err
	}
	st, err = f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		d.shut(f)
		return nil, nil, err
	}
	return f, st, nil
}

// shut closes a file that openFile opened.
func (d *disk) shut(f *os.File) {
	_ = f.Close()
	d.budget.give()
}

// readDir lists a folder.
func (d *disk) readDir(dir string) (entries []os.DirEntry, err error) {
	if d.before != nil {
		err = d.before(dir)
	}
	if err == nil {
		entries, err = os.ReadDir(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.failed = err
	}
	d.note(err)
	return entries, err
}

// glob gives the paths that a pattern names; a file whose name is the pattern
// itself is the only one. Trouble with one folder does not hide the others' files.
func (d *disk) glob(pattern string) []string {
	if abs, err := filepath.Abs(pattern); err == nil {
		pattern = abs
	}
	if _, err := os.Lstat(pattern); err == nil {
		return []string{pattern}
	}
	base, rest := doublestar.SplitPattern(filepath.ToSlash(pattern))
	found, _ := doublestar.Glob(folder{os.DirFS(base), d, base}, rest)
	for i := range found {
		found[i] = filepath.FromSlash(path.Join(base, found[i]))
	}
	return found
}

// folder is a folder that is searched by way of a disk.
type folder struct {
	fs.FS
	d    *disk
	base string
}

// ReadDir implements fs.ReadDirFS.
func (f folder) ReadDir(name string) ([]fs.DirEntry, error) {
	return f.d.readDir(filepath.Join(f.base, filepath.FromSlash(name)))
}

// Stat implements fs.StatFS.
func (f folder) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }
