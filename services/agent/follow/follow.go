// Package follow reads growing files line by line.
//
// A [Follower] finds files by patterns, keeps each open, as far as it may, and hands its
// lines to a [Sink], in order. It knows a file by what it is (package positions), not by its
// name:
//
//   - Renamed away or deleted, a file is read to its end, and on for a grace time,
//     then closed. Its name keeps naming its lines. The file that takes its name is
//     read only where the old one has been read to its end since, and the sink holds
//     nothing of it, so that the lines under one name keep their order.
//   - Between two looks, or while the follower was not running, a file may have been
//     replaced more than once. The ones in between are found beside it: names that
//     go on with a number or a date, modified since. They may be renamed while they
//     are looked for: it looks until two looks agree. If the last that was read was
//     deleted by then, others may have been too: that is told and counted.
//   - Truncated, a file is read from its start. That it was truncated shows by its
//     size, or, where it has grown past the old offset since, by other bytes before
//     the offset. If a copy was made first (copytruncate), the rest is read there.
//   - Where there are more files than may be open, those that are read to their end are
//     closed, and opened again when they grow.
//
// One goroutine does all of it, in Run; little but a position is kept per file. When the sink is full, reading stops,
// and the files that are replaced meanwhile are still opened, so that they are not
// lost.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
	"github.com/weir-logs/weir/services/agent/positions"
)

// Sink takes what is read. Its methods are called by Run's goroutine.
type Sink interface {
	// Full says that nothing should be read now.
	Full() bool
	// Space is closed while, or once, there is room.
	Space() <-chan struct{}
	// Lines takes lines of f, whose Position is already the one behind them. What
	// they point to is valid during the call. An error means that nothing more
	// will be taken: Run ends.
	Lines(ctx context.Context, f *File, lines []entry.Entry) error
	// Close is told that f is done with, before its last position is kept.
	Close(f *File)
	// Anew is told that what f has was replaced and is read from its start, before
	// anything of it is. What is held of what was there is read again, from a copy,
	// or is to be given out now.
	Anew(f *File, again bool)
	// Tick is called between reads, at least as often as it asks for: it returns
	// when it wants to be called next (zero: no wish).
	Tick(now time.Time) time.Time
	// Start notes that a file is followed from here on that was not before.
	Start(p positions.Position)
	// Saved makes durable what was noted by Start. It is called before anything is
	// read of those files.
	Saved()
	// Forget notes that positions of a file are of no use any more.
	Forget(k positions.Key)
}

// Group is files that are treated alike.
type Group struct {
	// Paths are the patterns: * ? [] {a,b}, and ** for any folders.
	Paths []string
	// Exclude are patterns of paths that are left out.
	Exclude []string
	// FromEnd: files that are there at the start and were never read before are
	// read from their end. Others from their beginning.
	FromEnd bool
	// Labels are the labels of their lines. FilenameLabel, if it is not empty,
	// gets the path.
	Labels        model.Labels
	FilenameLabel string
	// Encoding is how their bytes are text. nil: they are taken as they are.
	Encoding *lines.Encoding
}

// Config is how files are followed. Zero durations and sizes mean the defaults.
type Config struct {
	// Job is the name that positions bear.
	Job    string
	Groups []Group
	// MaxLine is the longest line in bytes. Default: 256 KiB.
	MaxLine int
	// Poll is how often a file that grows is looked at; an idle one up to ten
	// times more rarely. Default: 100 ms.
	Poll time.Duration
	// Scan is how often the patterns are matched where no event tells of a new
	// file. Default: 5 s.
	Scan time.Duration
	// Grace is how long a file that was renamed or deleted is kept open after
	// the last that was read from it. Default: 5 s.
	Grace time.Duration
	// Partial is how long an unfinished line is waited for. Default: 5 s.
	Partial time.Duration
	// Budget is the process'. nil: files are not counted.
	Budget *Budget
	// NoEvents does without the file system's events.
	NoEvents bool
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&c.Poll, 100*time.Millisecond)
	or(&c.Scan, 5*time.Second)
	or(&c.Grace, 5*time.Second)
	or(&c.Partial, 5*time.Second)
	if c.MaxLine <= 0 {
		c.MaxLine = 256 << 10
	}
	c.MaxLine = max(c.MaxLine, lines.MinLimit)
	return c
}

const (
	// readBytes and readLines are how much of a file is read before the next has
	// its turn.
	readBytes = 256 << 10
	readLines = 8192
	// maxGenerations is how many files that bore one name are kept open.
	maxGenerations = 32
	// scanGap is the least time between two scans.
	scanGap = 10 * time.Millisecond
	// pruneEvery is how often positions of files that are gone are looked for.
	pruneEvery = time.Minute
	// keepMissing is how long positions of files in a folder that is missing are
	// kept after the file was last written to.
	keepMissing = 24 * time.Hour
)

// Follower follows files.
type Follower struct {
	disk
	cfg  Config
	sink Sink
	log  *slog.Logger
	m    *Metrics

	groups  []*Group
	newMu   sync.Mutex
	newGrps []*Group // to take the place of groups; nil: none
	regroup chan struct{}
	ended   error
	status  atomic.Pointer[[]FileStatus]
	shown   time.Time

	files  map[positions.ID]*File // followed
	order  []*File                // the same, by path and age
	newest map[string]*File       // by Path, the youngest that is followed
	known  map[positions.ID]positions.Position
	// stuckAt is the size of the known files that were closed with a rest of which
	// nothing can be given out.
	stuckAt map[positions.ID]int64
	// away are the known files that were not followed since the start.
	away  map[positions.ID]bool
	buf   []byte
	ents  []entry.Entry
	arena []byte // of lines that do not lie in buf
	gen   uint64 // newest Gen given out
	lag   int64
	turn  int // index in order of whose turn is next
	waker int // and of those that rest

	watch     *watcher
	started   bool // the first scan is done
	lastScan  time.Time
	lastPrune time.Time
	since     time.Time            // of the scan before; zero: other files were looked for
	dirty     bool                 // an event asks for a scan
	lacked    string               // the path that was not met for want of a descriptor
	awaited   map[string]*match    // by path, what bore it first of those that never had a descriptor
	wait      time.Duration        // until the look after one that lacked descriptors
	freed     <-chan struct{}      // closed when one is given back; nil: nothing waits
	told      time.Time            // when the log told of that
	short     bool                 // files are left because too many of their path are open
	matches   map[string]*match    // during a scan
	strays    map[string][]sibling // during a scan: by folder, files that were modified a moment ago and are neither matched nor met
	full      bool
	fresh     bool            // the sink was told of files since Saved
	openErrs  map[string]bool // paths whose trouble was reported
}

// New makes a Follower that goes on at the given positions. Those of
// other jobs are left alone. log and m may be nil.
func New(cfg Config, sink Sink, known []positions.Position, log *slog.Logger, m *Metrics) *Follower {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	f := &Follower{
		disk: disk{budget: cfg.Budget}, cfg: cfg.withDefaults(), sink: sink, log: log, m: m, regroup: make(chan struct{}, 1),
		files: map[positions.ID]*File{}, newest: map[string]*File{},
		known: map[positions.ID]positions.Position{}, stuckAt: map[positions.ID]int64{}, away: map[positions.ID]bool{}, awaited: map[string]*match{}, openErrs: map[string]bool{},
	}
	if cfg.Budget != nil {
		m.most.Set(float64(cfg.Budget.Max()))
	} else {
		f.budget = &Budget{max: unbounded}
	}
	f.groups = pointers(cfg.Groups)
	for _, p := range known {
		if p.Job != cfg.Job {
			continue
		}
		f.known[p.ID], f.away[p.ID] = p, true
		f.gen = max(f.gen, p.Gen)
	}
	f.buf = make([]byte, positions.TailBytes+max(readBytes, f.cfg.MaxLine+2))
	return f
}

func pointers(groups []Group) []*Group {
	out := make([]*Group, len(groups))
	for i := range groups {
		out[i] = &groups[i]
	}
	return out
}

// SetGroups changes which files are followed, and how. Files that are open stay
// so, with new labels if theirs have changed. Safe for concurrent use.
func (fw *Follower) SetGroups(groups []Group) {
	fw.newMu.Lock()
	fw.newGrps = pointers(groups)
	fw.newMu.Unlock()
	select {
	case fw.regroup <- struct{}{}:
	default:
	}
}

// Run follows until ctx ends. It closes all files before it returns.
func (fw *Follower) Run(ctx context.Context) {
	fw.watch = newWatcher(fw.cfg.NoEvents, fw.log)
	defer fw.watch.close()
	defer func() {
		for _, f := range fw.order {
			fw.sink.Close(f)
			fw.done(f)
		}
		fw.m.lag.Sub(float64(fw.lag))
		fw.status.Store(nil)
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && fw.ended == nil {
		now := time.Now()
		fw.newMu.Lock()
		if fw.newGrps != nil {
			fw.groups, fw.newGrps, fw.lastScan, fw.lack = fw.newGrps, nil, time.Time{}, nil
		}
		fw.newMu.Unlock()
		if fw.scanDue(now) <= 0 {
			fw.scan(now)
		}
		progress, next := false, now.Add(fw.cfg.Scan)
		if !fw.full {
			progress, next = fw.round(ctx, now)
		}
		progress = fw.turns(now) || progress
		fw.show(now)
		if want := fw.sink.Tick(time.Now()); !want.IsZero() && want.Before(next) {
			next = want
		}
		if progress && !fw.full {
			continue
		}
		now = time.Now()
		next = minTime(next, now.Add(fw.scanDue(now)))
		// Files that are due at nearly the same time get one turn together.
		timer.Reset(max(next.Sub(now), fw.cfg.Poll/5, time.Millisecond))
		select {
		case <-ctx.Done():
		case <-timer.C:
			fw.full = false // the sink may have room for another reason
		case <-fw.watch.events:
			fw.dirty = true
		case <-fw.regroup:
		case <-fw.freed:
		case <-fw.space():
			fw.full = false
		}
	}
}

// space is of interest only while the sink is full.
func (fw *Follower) space() <-chan struct{} {
	if !fw.full {
		return nil
	}
	return fw.sink.Space()
}

// scanDue says how long it is until the next scan.
func (fw *Follower) scanDue(now time.Time) time.Duration {
	select {
	case <-fw.watch.events:
		fw.dirty = true
	default:
	}
	select {
	case <-fw.freed:
		fw.freed, fw.wait = nil, min(fw.wait, scanGap)
	default:
	}
	wait := fw.cfg.Scan
	if fw.dirty {
		wait = scanGap
	}
	if fw.lack != nil {
		wait = fw.wait
	}
	return fw.lastScan.Add(wait).Sub(now)
}

// round lets each file that is due have a turn. It says whether anything was
// read, and when the next file is due.
func (fw *Follower) round(ctx context.Context, now time.Time) (progress bool, next time.Time) {
	next = now.Add(10 * fw.cfg.Poll)
	var closing []*File
	order := fw.order // grows by new slices only
	for i := range order {
		at := (fw.turn + i) % len(order)
		f := order[at]
		if f.due.After(now) {
			next = minTime(next, f.due)
			continue
		}
		if f.f == nil {
			fw.glance(f, now)
			next = minTime(next, f.due)
			continue
		}
		took, drained := fw.visit(ctx, f, now)
		if fw.full || fw.ended != nil {
			fw.turn = at + 1 // the others first, next time
			return progress, next
		}
		if took {
			progress = true
			f.pause = fw.cfg.Poll
			f.due = now
			continue
		}
		if f.rotated {
			f.pause = fw.cfg.Poll
		}
		f.due = now.Add(f.pause)
		f.pause = min(2*f.pause, 10*fw.cfg.Poll)
		next = minTime(next, f.due)
		if f.rotated && drained && !f.waiting() && now.Sub(f.lastRead) >= fw.cfg.Grace {
			closing = append(closing, f)
		}
	}
	for _, f := range closing {
		fw.close(f)
	}
	fw.updateLag()
	return progress, next
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (fw *Follower) updateLag() {
	var lag int64
	for _, f := range fw.order {
		lag += max(0, f.size-f.pos.Offset)
	}
	fw.m.lag.Add(float64(lag - fw.lag)) // of all followers
	fw.lag = lag
}

// add takes an open file in, at its place among those of its path by age; one
// that was not known before is the youngest.
func (fw *Follower) add(f *File) {
	n := fw.newest[f.pos.Path]
	if n == nil || f.pos.Gen == 0 || n.pos.Gen < f.pos.Gen {
		f.after = n
		fw.newest[f.pos.Path] = f
	} else {
		for n.after != nil && n.after.pos.Gen > f.pos.Gen {
			n = n.after
		}
		f.after, n.after = n.after, f
	}
	fw.insert(f)
}

func (fw *Follower) insert(f *File) {
	if f.pos.Gen == 0 {
		f.pos.Gen = fw.nextGen()
	}
	f.setGroup(f.group)
	delete(fw.known, f.pos.ID)
	delete(fw.away, f.pos.ID)
	delete(fw.awaited, f.pos.Path)
	delete(fw.stuckAt, f.pos.ID)
	f.opened = time.Now()
	fw.files[f.pos.ID] = f
	fw.order = append(fw.order[:len(fw.order):len(fw.order)], f)
	delete(fw.openErrs, f.pos.Path)
	fw.m.active.Inc()
	fw.log.Info("following", "path", f.pos.Path, "file", f.f.Name(), "offset", f.pos.Offset, "replaced", f.rotated)
}

func (fw *Follower) nextGen() uint64 {
	fw.gen++
	return fw.gen
}

// close ends a file that was read to its end. Its position stays known, in case
// the file is met again under another name.
func (fw *Follower) close(f *File) {
	fw.sink.Close(f)
	fw.done(f)
	fw.dirty = fw.dirty || fw.short // there is room for another
	delete(fw.files, f.pos.ID)
	fw.known[f.pos.ID] = f.Position()
	if f.stuck {
		fw.stuckAt[f.pos.ID] = f.size
	}
	fw.order = slices.DeleteFunc(slices.Clone(fw.order), func(o *File) bool { return o == f })
	for _, o := range fw.order {
		if o.after == f {
			o.after = f.after
		}
	}
	if fw.newest[f.pos.Path] == f {
		delete(fw.newest, f.pos.Path)
		if f.after != nil {
			fw.newest[f.pos.Path] = f.after
		}
	}
	fw.log.Info("closed", "path", f.pos.Path, "offset", f.pos.Offset)
}

// done closes what a file is in.
func (fw *Follower) done(f *File) {
	if f.f == nil {
		fw.m.resting.Dec()
		return
	}
	fw.m.active.Dec()
	fw.shut(f.f)
}

var errNotRegular = errors.New("not a regular file")
