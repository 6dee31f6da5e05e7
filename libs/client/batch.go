package client

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// Batch collects entries into one request, grouped by stream. Entries of a
// stream keep the order in which they were added. The zero value is an empty
// batch. Not safe for concurrent use.
type Batch struct {
	req     *pushv1.PushRequest
	streams map[string]*pushv1.Stream
	key     []byte
	names   []string
	entries int
	bytes   int
}

// Add appends an entry. A zero time leaves the timestamp to the server, which
// makes the entry a new one each time that it is sent. The batch keeps labels
// and metadata (do not change them afterwards) and copies line.
func (b *Batch) Add(labels map[string]string, t time.Time, line []byte, metadata map[string]string) {
	e := &pushv1.Entry{StructuredMetadata: metadata}
	if !t.IsZero() {
		e.TimestampUnixNano = t.UnixNano()
	}
	if utf8.Valid(line) {
		e.Line = &pushv1.Entry_Text{Text: string(line)}
	} else {
		e.Line = &pushv1.Entry_Raw{Raw: slices.Clone(line)}
	}
	b.AddEntry(labels, e)
}

// AddEntry appends an entry that the batch may keep.
func (b *Batch) AddEntry(labels map[string]string, e *pushv1.Entry) {
	if b.streams == nil {
		b.streams = map[string]*pushv1.Stream{}
		b.req = &pushv1.PushRequest{}
	}
	b.appendKey(labels)
	s := b.streams[string(b.key)]
	if s == nil {
		s = &pushv1.Stream{Labels: labels}
		b.streams[string(b.key)] = s
		b.req.Streams = append(b.req.Streams, s)
		b.bytes += len(b.key) + 16
	}
	s.Entries = append(s.Entries, e)
	b.entries++
	b.bytes += entrySize(e)
}

// appendKey makes the canonical form of a label set: sorted and with lengths,
// so that no two sets share it.
func (b *Batch) appendKey(labels map[string]string) {
	b.names = b.names[:0]
	for n := range labels {
		b.names = append(b.names, n)
	}
	slices.Sort(b.names)
	b.key = b.key[:0]
	for _, n := range b.names {
		for _, s := range [2]string{n, labels[n]} {
			b.key = strconv.AppendInt(b.key, int64(len(s)), 10)
			b.key = append(b.key, ':')
			b.key = append(b.key, s...)
		}
	}
}

// entrySize is an upper estimate of an entry's bytes on the wire.
func entrySize(e *pushv1.Entry) int {
	n := 24 + len(e.GetText()) + len(e.GetRaw())
	for k, v := range e.GetStructuredMetadata() {
		n += len(k) + len(v) + 12
	}
	return n
}

// Len is the number of entries.
func (b *Batch) Len() int { return b.entries }

// Size is about how many bytes the batch has on the wire; never fewer than it
// has.
func (b *Batch) Size() int { return b.bytes }

// Take gives the entries as a request, which belongs to the caller, and leaves
// the batch empty.
func (b *Batch) Take() *pushv1.PushRequest {
	req := b.req
	if req == nil {
		req = &pushv1.PushRequest{}
	}
	*b = Batch{key: b.key, names: b.names}
	return req
}
