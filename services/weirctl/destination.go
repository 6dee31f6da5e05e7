package weirctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/libs/shopgen"
)

// fileDestination appends to one file for each stream.
type fileDestination struct {
	dir    string
	rotate int64 // 0: never
	keep   int
	files  []*logFile

	records, bytes uint64
}

type logFile struct {
	path string
	f    *os.File
	w    *bufio.Writer
	size int64
}

func newFileDestination(dir string, rotate int64, keep int, streams []shopgen.Stream) (*fileDestination, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &fileDestination{dir: dir, rotate: rotate, keep: keep}
	for _, s := range streams {
		f := &logFile{path: filepath.Join(dir, s.FileName())}
		if err := f.open(); err != nil {
			return nil, errors.Join(err, d.close(context.Background()))
		}
		d.files = append(d.files, f)
	}
	return d, nil
}

func (f *logFile) open() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.f, f.w, f.size = file, bufio.NewWriterSize(file, 64<<10), info.Size()
	return nil
}

func (f *logFile) close() error { return errors.Join(f.w.Flush(), f.f.Close()) }

// write appends a record; the lines of a stack trace are lines of the file.
func (d *fileDestination) write(_ context.Context, r shopgen.Record) error {
	f := d.files[r.Stream]
	if d.rotate > 0 && f.size > 0 && f.size+int64(len(r.Line))+1 > d.rotate {
		if err := f.rotate(d.keep); err != nil {
			return err
		}
	}
	// A bufio.Writer keeps its first error for the next call.
	f.w.Write(r.Line) //nolint:errcheck
	f.size += int64(len(r.Line)) + 1
	d.records++
	d.bytes += uint64(len(r.Line))
	return f.w.WriteByte('\n')
}

// rotate renames a file to NAME.1, NAME.1 to NAME.2 and so on, drops the oldest
// and begins a new one.
func (f *logFile) rotate(keep int) error {
	if err := f.close(); err != nil {
		return err
	}
	name := func(n int) string {
		if n == 0 {
			return f.path
		}
		return fmt.Sprintf("%s.%d", f.path, n)
	}
	for n := keep - 1; n >= 0; n-- {
		if err := os.Rename(name(n), name(n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return f.open()
}

func (d *fileDestination) flush(context.Context) error {
	for _, f := range d.files {
		if err := f.w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (d *fileDestination) close(context.Context) error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

func (d *fileDestination) stored() (records, bytes uint64) { return d.records, d.bytes }

func (d *fileDestination) refused() uint64 { return 0 }

const (
	// generatedBatch is the most bytes of lines in one request.
	generatedBatch = 1 << 20
	// pushesInFlight bounds the requests, and with them the memory, in work.
	pushesInFlight = 4
)

// pushDestination pushes batches, several at a time.
type pushDestination struct {
	env    *Env
	server *server
	client *client.Client
	pusher *client.Pusher
	labels []map[string]string

	streams []*pushv1.Stream // the batch: one for each stream that has entries
	index   []int            // of a stream in streams; -1: not there
	size    int

	slots   chan struct{}
	pushes  sync.WaitGroup
	accepts atomic.Uint64
	bytes   atomic.Uint64
	rejects atomic.Uint64
	told    atomic.Bool

	mu  sync.Mutex // guards err
	err error      // the first failure
}

func newPushDestination(env *Env, s *server, c *client.Client, streams []shopgen.Stream) *pushDestination {
	d := &pushDestination{
		env: env, server: s, client: c,
		index: make([]int, len(streams)),
		slots: make(chan struct{}, pushesInFlight),
	}
	for i, s := range streams {
		d.labels = append(d.labels, s.Labels())
		d.index[i] = -1
	}
	d.pusher = c.NewPusher(client.PusherOptions{Now: env.Now, OnRetry: s.tellRetry})
	return d
}

func (d *pushDestination) write(ctx context.Context, r shopgen.Record) error {
	i := d.index[r.Stream]
	if i < 0 {
		i = len(d.streams)
		d.index[r.Stream] = i
		d.streams = append(d.streams, &pushv1.Stream{Labels: d.labels[r.Stream]})
	}
	s := d.streams[i]
	s.Entries = append(s.Entries, &pushv1.Entry{TimestampUnixNano: r.Time, Line: &pushv1.Entry_Text{Text: string(r.Line)}})
	if d.size += len(r.Line); d.size < generatedBatch {
		return nil
	}
	return d.flush(ctx)
}

// flush sends the batch without waiting for the answer, and returns the first
// failure of those before.
func (d *pushDestination) flush(ctx context.Context) error {
	if d.size == 0 {
		return d.failure()
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	req, size := &pushv1.PushRequest{Streams: d.streams}, d.size
	d.streams, d.size = nil, 0
	for i := range d.index {
		d.index[i] = -1
	}
	d.pushes.Add(1)
	go func() {
		defer func() { <-d.slots; d.pushes.Done() }()
		d.push(ctx, req, uint64(size))
	}()
	return d.failure()
}

// push stores a batch. An interruption leaves it the grace that the command has
// to stop.
func (d *pushDestination) push(ctx context.Context, req *pushv1.PushRequest, size uint64) {
	pushing, cancel := d.server.limit(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	r, err := d.pusher.Push(pushing, req)
	d.accepts.Add(r.GetAcceptedEntries())
	d.rejects.Add(r.GetRejectedEntries())
	if rejections := r.GetRejections(); len(rejections) > 0 && d.told.CompareAndSwap(false, true) {
		warn(d.env.Stderr, []string{fmt.Sprintf("entries are refused, the first because: %s", rejections[0].GetMessage())})
	}
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.err == nil {
			d.err = err
		}
		return
	}
	d.bytes.Add(size)
}

func (d *pushDestination) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *pushDestination) close(ctx context.Context) error {
	err := d.flush(ctx)
	d.pushes.Wait()
	if failure := d.failure(); failure != nil {
		err = failure
	}
	return errors.Join(err, d.client.Close())
}

func (d *pushDestination) stored() (records, bytes uint64) {
	return d.accepts.Load(), d.bytes.Load()
}

func (d *pushDestination) refused() uint64 { return d.rejects.Load() }
