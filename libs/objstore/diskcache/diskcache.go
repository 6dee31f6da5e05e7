// Package diskcache keeps what was read of a store over the network on the local disk.
//
// Only ranges of objects that never change are kept, each in a file of its own. Nothing
// is synced: every file ends with its checksum, so that what a crash or the disk has
// damaged is read from the store again. The cache is bounded, and gives way when the
// disk fills up.
package diskcache

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/objstore"
)

const (
	maxFiles   = 256 << 10 // each takes some memory, too
	fileUnit   = 4 << 10   // that files take space in
	sumSize    = 8
	tempPrefix = "new-"
	// touchAfter is after how long a file that is read is marked as used lately, so
	// that the order outlives a restart.
	touchAfter = 10 * time.Minute
	// pauseAfterError is how long nothing is written after the disk has refused it.
	pauseAfterError = time.Minute
)

// Options say how a cache works.
type Options struct {
	Dir  string // the cache's own: what is in it that is none of its files is removed
	Size int64  // most bytes of files
	// Keep reports whether an object never changes, so that it may be kept. nil: all.
	Keep func(key string) bool
	// Free returns how many bytes of the disk are free, Reserve how many are to stay so.
	// nil: it does not matter.
	Free    func() (int64, error)
	Reserve int64
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
	Reg     prometheus.Registerer
}

// Cache is a Bucket whose Get asks the disk first. All else goes to the bucket. It is
// safe for concurrent use.
type Cache struct {
	objstore.Bucket
	o Options

	mu     sync.Mutex // guards what follows
	files  map[string]*list.Element
	order  *list.List // of *file, the one used last in front
	bytes  int64
	silent time.Time // nothing is written before

	hits, misses, evicted, damaged, failed prometheus.Counter
}

type file struct {
	name    string
	size    int64
	touched time.Time
}

// New returns a cache of a bucket. It goes on with what an earlier one has left in the
// directory.
func New(b objstore.Bucket, o Options) (*Cache, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep == nil {
		o.Keep = func(string) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := promauto.With(o.Reg)
	c := &Cache{
		Bucket: b, o: o, files: map[string]*list.Element{}, order: list.New(),
		hits: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_disk_cache_hits_total", Help: "Ranges of objects that were read from the disk cache."}),
		misses: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_disk_cache_misses_total", Help: "Ranges of objects that the disk cache did not have."}),
		evicted: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_disk_cache_evictions_total", Help: "Files removed from the disk cache to make room."}),
		damaged: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_disk_cache_damaged_total", Help: "Files of the disk cache whose checksum was wrong, and which were read from the store again."}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_disk_cache_write_failures_total", Help: "Files that could not be written to the disk cache."}),
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("disk cache: %w", err)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_disk_cache_bytes", Help: "Bytes of files in the disk cache."}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.bytes)
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_disk_cache_limit_bytes", Help: "Most bytes of files in the disk cache."}, func() float64 { return float64(o.Size) })
	return c, nil
}

// load finds the files that are there.
func (c *Cache) load() error {
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return err
	}
	var found []*file
	err := filepath.WalkDir(c.o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(c.o.Dir, path)
		name := strings.ReplaceAll(rel, string(filepath.Separator), "")
		info, err := d.Info()
		if err != nil {
			return err
		}
		if _, err := hex.DecodeString(name); err != nil || len(name) != nameLength || !info.Mode().IsRegular() || c.path(name) != path {
			return os.Remove(path)
		}
		found = append(found, &file{name, space(info.Size()), info.ModTime()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b *file) int { return b.touched.Compare(a.touched) })
	for _, f := range found {
		c.files[f.name] = c.order.PushBack(f)
		c.bytes += f.size
	}
	c.shrink(c.o.Size)
	return nil
}

// nameLength is that of the names of ranges: 128 bits of a hash, hex.
const nameLength = 32

func nameOf(key string, off int64, n int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%d+%d %s", off, n, key))
	return hex.EncodeToString(h[:nameLength/2])
}

func (c *Cache) path(name string) string { return filepath.Join(c.o.Dir, name[:2], name[2:]) }

func space(n int64) int64 { return (n + fileUnit - 1) / fileUnit * fileUnit }

// Get implements objstore.Bucket.
func (c *Cache) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if !c.o.Keep(key) || space(int64(n)+sumSize) > c.o.Size/8 {
		return c.Bucket.Get(ctx, key, off, n)
	}
	name := nameOf(key, off, n)
	if b := c.read(name, n); b != nil {
		c.hits.Inc()
		return b, nil
	}
	c.misses.Inc()
	b, err := c.Bucket.Get(ctx, key, off, n)
	if err == nil {
		c.write(name, b)
	}
	return b, err
}

// read returns a file's bytes, or nil.
func (c *Cache) read(name string, n int) []byte {
	c.mu.Lock()
	e := c.files[name]
	if e == nil {
		c.mu.Unlock()
		return nil
	}
	c.order.MoveToFront(e)
	f, now, touch := e.Value.(*file), c.o.Now(), false
	if touch = now.Sub(f.touched) >= touchAfter; touch {
		f.touched = now
	}
	c.mu.Unlock()
	b, err := os.ReadFile(c.path(name))
	if err == nil && (len(b) != n+sumSize || xxhash.Sum64(b[:n]) != binary.LittleEndian.Uint64(b[n:])) {
		c.damaged.Inc()
		err = errors.New("damaged")
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.files[name] == e {
			c.drop(e)
		}
		return nil
	}
	if touch {
		_ = os.Chtimes(c.path(name), now, now) // the order is only a guess
	}
	return b[:n:n]
}

// write keeps bytes, if that can be.
func (c *Cache) write(name string, b []byte) {
	size := space(int64(len(b)) + sumSize)
	now := c.o.Now()
	c.mu.Lock()
	silent := now.Before(c.silent)
	c.mu.Unlock()
	if silent {
		return
	}
	if c.o.Free != nil {
		if free, err := c.o.Free(); err != nil || free-size < c.o.Reserve {
			// Others need the disk more.
			c.mu.Lock()
			c.shrink(c.bytes - 4*size)
			c.mu.Unlock()
			return
		}
	}
	path := c.path(name)
	temp, err := writeTemp(filepath.Dir(path), b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if c.files[name] != nil { // another one was quicker
			_ = os.Remove(temp) // what stays is found when the cache is opened again
			return
		}
		// With mu held: else who makes room might remove it between this and the entry.
		if err = os.Rename(temp, path); err != nil {
			err = errors.Join(err, os.Remove(temp))
		}
	}
	if err != nil {
		c.failed.Inc()
		c.silent = now.Add(pauseAfterError)
		c.o.Log.Warn("cannot write to the disk cache", "err", err)
		return
	}
	c.files[name] = c.order.PushFront(&file{name, size, now})
	c.bytes += size
	c.shrink(c.o.Size)
}

// writeTemp writes bytes and their checksum to a new file of a directory.
func writeTemp(dir string, b []byte) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err == nil {
		_, err = f.Write(binary.LittleEndian.AppendUint64(nil, xxhash.Sum64(b)))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// shrink removes the files used least lately until limit is kept. Call with mu held.
func (c *Cache) shrink(limit int64) {
	for len(c.files) > 0 && (c.bytes > limit || len(c.files) > maxFiles) {
		c.drop(c.order.Back())
		c.evicted.Inc()
	}
}

// drop removes a file. Call with mu held.
func (c *Cache) drop(e *list.Element) {
	f := c.order.Remove(e).(*file)
	delete(c.files, f.name)
	c.bytes -= f.size
	_ = os.Remove(c.path(f.name)) // what stays is found when the cache is opened again
}
