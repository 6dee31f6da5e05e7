package deliver

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
)

// The wire form of weir.push.v1.PushRequest is written here by hand, line by
// line, so that a line costs one copy and no allocation.
const (
	tagStreams   = 1<<3 | 2 // PushRequest.streams
	tagBatchTime = 2<<3 | 1 // PushRequest.batch_time_unix_nano
	tagLabels    = 1<<3 | 2 // Stream.labels
	tagEntries   = 2<<3 | 2 // Stream.entries
	tagTime      = 1<<3 | 1 // Entry.timestamp_unix_nano
	tagText      = 2<<3 | 2 // Entry.text
	tagRaw       = 3<<3 | 2 // Entry.raw
	tagMetadata  = 4<<3 | 2 // Entry.structured_metadata
	tagKey       = 1<<3 | 2 // of a map's pair
	tagValue     = 2<<3 | 2
)

func uvarintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// pairLen is the size of a pair of a map, without tag and length.
func pairLen(name, value string) int {
	return 2 + uvarintLen(len(name)) + len(name) + uvarintLen(len(value)) + len(value)
}

func appendPair(b []byte, tag byte, name, value string) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(pairLen(name, value)))
	b = append(b, tagKey)
	b = binary.AppendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	b = append(b, tagValue)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// valid makes text what protobuf and servers accept.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// appendLabels appends a stream's labels, those of more that it lacks included.
func appendLabels(b []byte, labels []model.Label, more []model.Label) []byte {
	for _, l := range labels {
		b = appendPair(b, tagLabels, valid(l.Name), valid(l.Value))
	}
	for _, m := range more {
		if !slices.ContainsFunc(labels, func(l model.Label) bool { return l.Name == m.Name }) {
			b = appendPair(b, tagLabels, m.Name, m.Value)
		}
	}
	return b
}

// appendEntry appends an entry with its tag.
func appendEntry(b []byte, t int64, line []byte, metadata []model.Label) []byte {
	n := 9 + 1 + uvarintLen(len(line)) + len(line)
	for i := range metadata {
		if m := &metadata[i]; !utf8.ValidString(m.Name) || !utf8.ValidString(m.Value) {
			metadata = slices.Clone(metadata)
			for j := range metadata {
				metadata[j] = model.Label{Name: valid(metadata[j].Name), Value: valid(metadata[j].Value)}
			}
			break
		}
	}
	for _, m := range metadata {
		k := pairLen(m.Name, m.Value)
		n += 1 + uvarintLen(k) + k
	}
	b = append(b, tagEntries)
	b = binary.AppendUvarint(b, uint64(n))
	b = append(b, tagTime)
	b = binary.LittleEndian.AppendUint64(b, uint64(t))
	if utf8.Valid(line) {
		b = append(b, tagText)
	} else {
		b = append(b, tagRaw)
	}
	b = binary.AppendUvarint(b, uint64(len(line)))
	b = append(b, line...)
	for _, m := range metadata {
		b = appendPair(b, tagMetadata, m.Name, m.Value)
	}
	return b
}

// stream is the entries of one stream in the batch that is being made.
type stream struct {
	buf     []byte
	entries int
}

// tenant is the streams of one tenant.
type tenant struct {
	name    string
	streams []*stream
	bySet   map[*entry.Set]*stream
	byKey   map[string]*stream
	entries int
}

// body puts a tenant's request together.
func (t *tenant) body(dst []byte, batchTime int64) []byte {
	for _, s := range t.streams {
		dst = append(dst, tagStreams)
		dst = binary.AppendUvarint(dst, uint64(len(s.buf)))
		dst = append(dst, s.buf...)
	}
	dst = append(dst, tagBatchTime)
	return binary.LittleEndian.AppendUint64(dst, uint64(batchTime))
}
