package agent

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/services/agent/follow"
	"github.com/weir-logs/weir/services/agent/positions"
)

// maxAhead is how far ahead of the clock the times of entries may run: less than
// what servers accept (10 min).
const maxAhead = 5 * time.Minute

// sealed is a batch that is complete.
type sealed struct {
	req     *pushv1.PushRequest
	encoded []byte // until it is in the journal
	after   positions.Snapshot
	entries int
	bytes   int
}

// outlet is where sealed batches go.
type outlet interface {
	// offer takes a batch, or says that it cannot now.
	offer(b *sealed) bool
	// room says whether an offer could succeed.
	room() bool
	// retryAt is when an offer may succeed although room gives nothing new.
	retryAt() time.Time
	space() <-chan struct{}
	start(p positions.Position)
	forget(id positions.ID)
	// tick is called now and then.
	tick(now time.Time)
}

// batcher is a follow.Sink that collects lines into batches. It has no lock: all
// of it belongs to the follower's goroutine.
type batcher struct {
	cfg Config
	out outlet
	now func() time.Time

	seq  uint64 // of the last batch sealed
	last int64  // newest time given to an entry

	streams map[string]*pushv1.Stream // by key
	touched map[positions.ID]*follow.File
	req     *pushv1.PushRequest
	entries int
	bytes   int
	since   time.Time // when the first line came
	waiting *sealed   // sealed, but not taken yet

	labels map[labelsOf]*labelSet
	slab   []entrySlab
}

// entrySlab is an entry with a text, in one allocation for many.
type entrySlab struct {
	entry pushv1.Entry
	text  pushv1.Entry_Text
}

type labelsOf struct {
	path  string
	group int
}

type labelSet struct {
	labels map[string]string
	key    string
}

func newBatcher(cfg Config, out outlet, seq uint64, last int64) *batcher {
	b := &batcher{cfg: cfg, out: out, now: time.Now, seq: seq, last: last, labels: map[labelsOf]*labelSet{}}
	b.reset()
	return b
}

func (b *batcher) reset() {
	b.req = &pushv1.PushRequest{}
	b.streams = map[string]*pushv1.Stream{}
	b.touched = map[positions.ID]*follow.File{}
	b.entries, b.bytes = 0, 0
}

// Line implements follow.Sink.
func (b *batcher) Line(f *follow.File, line []byte) error {
	const overhead = 24 // of an entry on the wire, at most
	if b.waiting != nil || b.entries > 0 && b.bytes+len(line)+overhead > int(b.cfg.Batch.MaxBytes) {
		if !b.seal() {
			return follow.ErrFull
		}
	}
	now := b.now()
	ls := b.labelsOf(f)
	s := b.streams[ls.key]
	if s == nil {
		s = &pushv1.Stream{Labels: ls.labels}
		b.streams[ls.key] = s
		b.req.Streams = append(b.req.Streams, s)
		b.bytes += len(ls.key) + overhead
	}
	if b.entries == 0 {
		b.since = now
	}
	b.touched[f.ID()] = f
	s.Entries = append(s.Entries, b.entry(b.stamp(now), line))
	b.entries++
	b.bytes += len(line) + overhead
	return nil
}

// stamp gives a time for an entry: now, and more than any before.
func (b *batcher) stamp(now time.Time) int64 {
	t := now.UnixNano()
	if t <= b.last && b.last-t < int64(maxAhead) {
		t = b.last + 1
	}
	b.last = t
	return t
}

func (b *batcher) entry(t int64, line []byte) *pushv1.Entry {
	if len(b.slab) == 0 {
		b.slab = make([]entrySlab, 128)
	}
	s := &b.slab[0]
	b.slab = b.slab[1:]
	s.entry.TimestampUnixNano = t
	if utf8.Valid(line) {
		s.text.Text = string(line)
		s.entry.Line = &s.text
	} else {
		s.entry.Line = &pushv1.Entry_Raw{Raw: append([]byte(nil), line...)}
	}
	return &s.entry
}

// labelsOf gives the labels of a file's lines.
func (b *batcher) labelsOf(f *follow.File) *labelSet {
	k := labelsOf{f.Path(), f.Group}
	if ls := b.labels[k]; ls != nil {
		return ls
	}
	if len(b.labels) >= 10_000 { // paths come and go
		clear(b.labels)
	}
	ls := &labelSet{labels: map[string]string{}}
	for n, v := range b.cfg.ExternalLabels {
		ls.labels[n] = v
	}
	if b.cfg.FilenameLabel != "" {
		ls.labels[b.cfg.FilenameLabel] = strings.ToValidUTF8(f.Path(), "\uFFFD")
	}
	for n, v := range b.cfg.Files[f.Group].Labels {
		ls.labels[n] = v
	}
	for _, n := range sortedKeys(ls.labels) {
		ls.key += strconv.Quote(n) + strconv.Quote(ls.labels[n])
	}
	b.labels[k] = ls
	return ls
}

// seal completes the batch, if there is one, and hands it over. false: it cannot
// be handed over now.
func (b *batcher) seal() bool {
	if b.waiting == nil {
		if b.entries == 0 {
			return true
		}
		if !b.out.room() {
			return false // it may still grow, by the clock
		}
		b.waiting = b.complete()
	}
	if !b.out.offer(b.waiting) {
		return false
	}
	b.waiting = nil
	return true
}

func (b *batcher) complete() *sealed {
	b.seq++
	b.req.BatchTimeUnixNano = b.last
	s := &sealed{
		req: b.req, entries: b.entries, bytes: b.bytes,
		after: positions.Snapshot{Seq: b.seq, Last: b.last},
	}
	for _, f := range b.touched {
		s.after.Files = append(s.after.Files, f.Position())
	}
	var err error
	if s.encoded, err = proto.Marshal(b.req); err != nil {
		// Text is checked to be UTF-8, and so are labels: there is no other cause.
		panic("agent: a request that cannot be encoded: " + err.Error())
	}
	b.reset()
	return s
}

// Space implements follow.Sink.
func (b *batcher) Space() <-chan struct{} { return b.out.space() }

// Tick implements follow.Sink.
func (b *batcher) Tick(now time.Time) time.Time {
	b.out.tick(now)
	if b.waiting != nil {
		b.seal()
	}
	if b.waiting == nil && b.entries > 0 && now.Sub(b.since) >= b.cfg.Batch.MaxWait {
		b.seal()
	}
	switch {
	case b.waiting != nil:
		return b.out.retryAt()
	case b.entries == 0 || !b.out.room():
		return time.Time{}
	}
	return b.since.Add(b.cfg.Batch.MaxWait)
}

// Start implements follow.Sink.
func (b *batcher) Start(p positions.Position) { b.out.start(p) }

// Forget implements follow.Sink.
func (b *batcher) Forget(id positions.ID) { b.out.forget(id) }
