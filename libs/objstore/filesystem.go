package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	dirMode  = 0o750
	fileMode = 0o640
	// scratch is where objects are written before they get their name. It begins with a dot, as no
	// key's element does.
	scratch = ".incoming"
	// leftover is the age at which a file in scratch, or an empty directory, has no owner any more.
	// Another process may be writing to the same directory, but not one file for that long.
	leftover = 24 * time.Hour
)

// Filesystem is a Bucket in a directory: an object is a file named by its key. It may be shared by
// processes, over a network too if its file system knows atomic rename, hard links and fsync. Make
// one with OpenFilesystem.
type Filesystem struct {
	root *os.Root
	name string // unlike other processes' names, also after a restart
	puts atomic.Uint64
	// durable has the directories whose names this process has synced.
	durable sync.Map

	// at, if set by a test, is called before each step that changes the disk; an error ends the
	// operation there, as a crash would.
	at func(step string) error
}

var _ Bucket = (*Filesystem)(nil)

// OpenFilesystem opens the bucket in dir, creating it, and clears away what puts left behind that
// were interrupted more than a day before now.
func OpenFilesystem(dir string, now time.Time) (*Filesystem, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	f := &Filesystem{root: root, name: fmt.Sprintf("%d-%x", os.Getpid(), now.UnixNano())}
	if err = f.mkdir(scratch); err == nil {
		err = f.tidy(now.Add(-leftover))
	}
	if err != nil {
		root.Close() //nolint:errcheck // a directory that was only read
		return nil, fmt.Errorf("open object store: %w", err)
	}
	return f, nil
}

// Close releases the directory. No operation may run or follow.
func (f *Filesystem) Close() error { return f.root.Close() }

// tidy removes files in scratch and empty directories that were last changed before old.
func (f *Filesystem) tidy(old time.Time) error {
	names, err := f.readDir(scratch)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = path.Join(scratch, name)
		if info, err := f.root.Lstat(name); err == nil && info.ModTime().Before(old) {
			if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return f.tidyDirs(".", old)
}

// tidyDirs removes old empty directories below dir. A directory that a put made a moment ago is not
// old, and of one that is not empty the system refuses the removal, so nothing in use goes.
func (f *Filesystem) tidyDirs(dir string, old time.Time) error {
	entries, err := f.entries(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.dir {
			continue
		}
		name := path.Join(dir, e.name)
		info, err := f.root.Lstat(name) // before its children go, which would make it new
		if err != nil {
			continue
		}
		if err := f.tidyDirs(name, old); err != nil {
			return err
		}
		if info.ModTime().Before(old) {
			if names, err := f.readDir(name); err == nil && len(names) == 0 {
				_ = f.root.Remove(name) // it stays if something came into it
			}
		}
	}
	return nil
}

func (f *Filesystem) readDir(dir string) ([]string, error) {
	d, err := f.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // only read
	return d.Readdirnames(-1)
}

type entry struct {
	name string
	dir  bool
}

// entries returns the elements of keys in dir, in the order of the keys that go through them. A
// directory that is not there has none.
func (f *Filesystem) entries(dir string) ([]entry, error) {
	d, err := f.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // only read
	list, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	out := make([]entry, 0, len(list))
	for _, e := range list {
		if ValidateKey(e.Name()) == nil && (e.IsDir() || e.Type().IsRegular()) {
			out = append(out, entry{e.Name(), e.IsDir()})
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.order(), b.order()) })
	return out, nil
}

// order sorts "a/x" behind "a-b", as keys do, though "a" is before "a-b".
func (e entry) order() string {
	if e.dir {
		return e.name + "/"
	}
	return e.name
}

func (f *Filesystem) step(name string) error {
	if f.at == nil {
		return nil
	}
	return f.at(name)
}

// sync makes a file's content, or a directory's names, durable.
func (f *Filesystem) sync(file *os.File, step string) error {
	if err := f.step(step); err != nil {
		return err
	}
	return file.Sync()
}

// syncDir makes the names in dir durable.
func (f *Filesystem) syncDir(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only synced
	return f.sync(d, "sync directory "+dir)
}

// mkdir makes dir and its parents, durably. A directory that is there already may have been made a
// moment ago by another put whose sync is still to come, so its name is synced all the same, once.
func (f *Filesystem) mkdir(dir string) error {
	if dir == "." {
		return nil
	}
	if _, ok := f.durable.Load(dir); ok {
		return nil
	}
	parent := path.Dir(dir)
	if err := f.mkdir(parent); err != nil {
		return err
	}
	if err := f.step("make directory " + dir); err != nil {
		return err
	}
	if err := f.root.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := f.syncDir(parent); err != nil {
		return err
	}
	f.durable.Store(dir, nil)
	return nil
}

// write puts body into a new file of scratch, durably, and returns its name.
func (f *Filesystem) write(ctx context.Context, body io.ReaderAt, size int64) (name string, err error) {
	temp := path.Join(scratch, fmt.Sprintf("%s-%d", f.name, f.puts.Add(1)))
	if err := f.step("create"); err != nil {
		return "", err
	}
	file, err := f.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil && f.at == nil {
			_ = f.root.Remove(temp) // else it is cleared away at an open
		}
	}()
	const chunk = 4 << 20
	for off := int64(0); off < size; off += chunk {
		if err := errors.Join(ctx.Err(), f.step("write")); err != nil {
			return "", err
		}
		n := min(chunk, size-off)
		if _, err := io.CopyN(file, io.NewSectionReader(body, off, n), n); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the body ended before %d bytes: %w", size, io.ErrUnexpectedEOF)
			}
			return "", err
		}
	}
	return temp, f.sync(file, "sync file")
}

// publish gives the file temp the name key by move, and makes that durable. A directory that was
// cleared away as empty in between is made again.
func (f *Filesystem) publish(temp, key string, move func(temp, key string) error) error {
	var err error
	for range 3 {
		if err = f.mkdir(path.Dir(key)); err != nil {
			return err
		}
		if err = f.step("publish"); err != nil {
			return err
		}
		if err = move(temp, key); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		f.durable.Clear()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Who is told that the object exists relies on it as much as who made it.
	return errors.Join(err, f.syncDir(path.Dir(key)))
}

// Put implements Bucket.
func (f *Filesystem) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), validatePut(key, size)); err != nil {
		return err
	}
	temp, err := f.write(ctx, body, size)
	if err == nil {
		if err = f.publish(temp, key, f.root.Rename); err != nil && f.at == nil {
			_ = f.root.Remove(temp)
		}
	}
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	return nil
}

// PutNew implements Bucket.
func (f *Filesystem) PutNew(ctx context.Context, key string, body []byte) error {
	if err := errors.Join(ctx.Err(), validatePut(key, int64(len(body)))); err != nil {
		return err
	}
	temp, err := f.write(ctx, bytes.NewReader(body), int64(len(body)))
	if err == nil {
		err = f.publish(temp, key, f.root.Link)
		if f.step("remove") == nil {
			_ = f.root.Remove(temp) // else it is cleared away at an open
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, key)
	}
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	return nil
}

// notFound turns what the system says about a missing file into ErrNotFound. A path through a file
// is as missing as one through no directory.
func notFound(op, key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	return fmt.Errorf("%s object %s: %w", op, key, err)
}

// Get implements Bucket.
func (f *Filesystem) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := errors.Join(ctx.Err(), validateRange(key, off, n)); err != nil {
		return nil, err
	}
	file, err := f.root.Open(key)
	if err != nil {
		return nil, notFound("get", key, err)
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("get object %s: %w", key, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	if off+int64(n) > info.Size() {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d from %d", ErrRange, key, info.Size(), n, off)
	}
	out := make([]byte, n)
	if _, err := file.ReadAt(out, off); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, fmt.Errorf("get object %s: %w", key, err)
	}
	return out, nil
}

// Stat implements Bucket.
func (f *Filesystem) Stat(ctx context.Context, key string) (Object, error) {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return Object{}, err
	}
	info, err := f.root.Lstat(key)
	if err != nil {
		return Object{}, notFound("stat", key, err)
	}
	if !info.Mode().IsRegular() {
		return Object{}, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	return Object{key, info.Size(), info.ModTime()}, nil
}

// List implements Bucket.
func (f *Filesystem) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := validatePrefix(prefix); err != nil {
		return err
	}
	dir := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i]
	}
	return f.walk(ctx, dir, prefix, yield)
}

func (f *Filesystem) walk(ctx context.Context, dir, prefix string, yield func(Object) error) error {
	entries, err := f.entries(dir)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := path.Join(dir, e.name)
		if e.dir {
			// On the way to the prefix and below it.
			if strings.HasPrefix(key+"/", prefix) || strings.HasPrefix(prefix, key+"/") {
				if err := f.walk(ctx, key, prefix, yield); err != nil {
					return err
				}
			}
			continue
		}
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		info, err := f.root.Lstat(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		if err := yield(Object{key, info.Size(), info.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Bucket: it unlinks one file. Directories stay.
func (f *Filesystem) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return err
	}
	info, err := f.root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err == nil {
		if err = f.step("unlink"); err == nil {
			err = f.root.Remove(key)
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete object %s: %w", key, err)
	}
	if err := f.syncDir(path.Dir(key)); err != nil {
		return fmt.Errorf("delete object %s: %w", key, err)
	}
	return nil
}
