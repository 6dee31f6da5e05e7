// Package entry is what sources, the pipeline and delivery hand to each other:
// batches of lines of one source. It is pure.
//
// The usual batch is many lines of one file, which share one label set, and costs
// nothing per line but a slot in a slice: lines alias the source's buffer, and
// label sets are shared.
package entry

import (
	"context"
	"errors"

	"github.com/weir-logs/weir/libs/model"
)

// TenantLabel is the label by which Promtail's configurations name a tenant. It
// never leaves the agent: where a stage or a source sets it, it becomes
// Entry.Tenant.
const TenantLabel = "__tenant_id__"

// Set is a label set with its identity. It is immutable and shared; two Sets are
// the same stream if their Keys are equal. Make one per stream, not per line.
type Set struct {
	labels model.Labels
	key    string
}

// NewSet makes a Set of labels, which nobody may change afterwards.
func NewSet(labels model.Labels) *Set {
	return &Set{labels: labels, key: string(AppendKey(nil, labels))}
}

// SetOf makes a Set of a map. Labels without a value are left out.
func SetOf(m map[string]string) *Set { return NewSet(model.LabelsFromMap(m)) }

// Labels gives the labels, which the caller only reads. nil is the empty set.
func (s *Set) Labels() model.Labels {
	if s == nil {
		return nil
	}
	return s.labels
}

// Key tells the set from all others. It is for maps, not for people.
func (s *Set) Key() string {
	if s == nil {
		return ""
	}
	return s.key
}

// String is the canonical text {a="b"}.
func (s *Set) String() string { return s.Labels().String() }

// AppendKey appends the Key that a Set of labels would have.
func AppendKey(dst []byte, labels []model.Label) []byte {
	for _, l := range labels {
		dst = appendSized(appendSized(dst, l.Name), l.Value)
	}
	return dst
}

func appendSized(dst []byte, s string) []byte {
	n := len(s)
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(append(dst, byte(n)), s...)
}

// Span is where in its source an entry's bytes lie: [Start, End). For files these
// are byte offsets; other sources number what they read in any ascending way, and
// know themselves what stands behind a number.
type Span struct{ Start, End int64 }

// Entry is a line on its way. What it points to is owned by who made it and is
// valid during the call it is passed in; who keeps it copies.
type Entry struct {
	// Labels is the stream. Of names that begin with __ there are only those that
	// stages set.
	Labels *Set
	// Time is in nanoseconds since the Unix epoch.
	Time int64
	// OwnTime says that Time is the entry's own: from its text or its source, so
	// that reading it again gives the same. Otherwise it is when it was read, and
	// delivery may move it.
	OwnTime bool
	// Line is any bytes.
	Line []byte
	// Metadata is structured metadata: ascending by name, each name once.
	Metadata []model.Label
	// Tenant is who it belongs to. Empty: the client's tenant.
	Tenant string
	// Span is where it was read. Of lines that were joined: from the first to
	// the last, though lines of other streams may lie between.
	Span Span
}

// Bytes is the size that limits and batches count: the line and the metadata.
func (e *Entry) Bytes() int {
	n := len(e.Line)
	for _, m := range e.Metadata {
		n += len(m.Name) + len(m.Value)
	}
	return n
}

// Batch is entries of one source in the order in which they were read.
type Batch struct {
	// Source is the source's identity: no two sources of an agent share it, and
	// it stays the same over a restart where the source is the same (a file under
	// another name included).
	Source string
	// Entries are the lines.
	Entries []Entry
}

// Handler takes batches.
type Handler interface {
	// Handle takes all entries of a batch. It blocks while there is no room,
	// which is how back-pressure reaches the sources. An error means that the
	// batch was not taken and nothing more will be: the handler has ended, or
	// ctx has. Handle keeps nothing that the batch points to, and may change the
	// entries.
	Handle(ctx context.Context, b *Batch) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, b *Batch) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, b *Batch) error { return f(ctx, b) }

// ErrClosed is what a Handler returns that has ended.
var ErrClosed = errors.New("closed")
