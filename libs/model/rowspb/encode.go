package rowspb

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// Requests of very many streams are measured and encoded by what follows: package proto
// takes three times as long where each stream has few rows.

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
)

var errNotUTF8 = errors.New("a text of the request is not UTF-8")

// fixed is more than what a message takes besides its texts, bytes and lists: tags, sizes
// and numbers.
const fixed = 64

// StreamSize returns about how many bytes a block takes in an encoded request, told from the
// lengths of what it has; never less, but for fields that this version does not know.
func StreamSize(b *ingestv1.StreamBlock) int {
	size := fixed + len(b.GetLabels()) + 8*len(b.GetTimes()) + 4*len(b.GetLineEnds()) + len(b.GetSlab()) +
		binary.MaxVarintLen32*(len(b.GetCopies())+len(b.GetPositions()))
	for _, set := range [...][]*ingestv1.Column{b.GetMetadata(), b.GetDerived()} {
		for _, c := range set {
			size += fixed + len(c.GetName()) + 4*(len(c.GetRows())+len(c.GetEnds())) + len(c.GetSlab())
		}
	}
	return size
}

// RequestSize returns how many bytes [AppendRequest] appends.
func RequestSize(r *ingestv1.IngestRequest) int {
	size := textSize(r.GetTenant()) + len(r.ProtoReflect().GetUnknown())
	if r.GetBatchTimeUnixNano() != 0 {
		size += 1 + 8
	}
	for _, b := range r.GetStreams() {
		size += bytesSize(blockSize(b))
	}
	if r.GetTableVersion() != 0 {
		size += 1 + 8
	}
	size += numberSize(r.GetReplicationFactor())
	if r.GetDeadline() != nil {
		size += bytesSize(proto.Size(r.GetDeadline()))
	}
	return size
}

// AppendRequest appends the encoding of a request, the bytes that proto.Marshal makes. A
// text that is not UTF-8, and could not be decoded, is an error.
func AppendRequest(dst []byte, r *ingestv1.IngestRequest) ([]byte, error) {
	if !utf8.ValidString(r.GetTenant()) {
		return dst, errNotUTF8
	}
	dst = appendText(dst, 1, r.GetTenant())
	if t := r.GetBatchTimeUnixNano(); t != 0 {
		dst = binary.LittleEndian.AppendUint64(append(dst, 2<<3|wireFixed64), uint64(t))
	}
	var err error
	for _, b := range r.GetStreams() {
		about := StreamSize(b)
		var from int
		dst, from = begin(dst, 3, about)
		if dst, err = appendBlock(dst, b); err != nil {
			return dst, err
		}
		dst = end(dst, from, about)
	}
	if v := r.GetTableVersion(); v != 0 {
		dst = binary.LittleEndian.AppendUint64(append(dst, 5<<3|wireFixed64), v)
	}
	dst = appendNumber(dst, 6, r.GetReplicationFactor())
	if d := r.GetDeadline(); d != nil {
		dst = appendSize(append(dst, 7<<3|wireBytes), proto.Size(d))
		if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst, d); err != nil {
			return dst, err
		}
	}
	return append(dst, r.ProtoReflect().GetUnknown()...), nil
}

func blockSize(b *ingestv1.StreamBlock) int {
	size := textSize(b.GetLabels()) + len(b.ProtoReflect().GetUnknown())
	if b.GetToken() != 0 {
		size += 1 + 8
	}
	size += listSize(8*len(b.GetTimes())) + listSize(4*len(b.GetLineEnds())) + listSize(len(b.GetSlab()))
	for _, c := range b.GetMetadata() {
		size += bytesSize(columnSize(c))
	}
	for _, c := range b.GetDerived() {
		size += bytesSize(columnSize(c))
	}
	return size + listSize(numbersSize(b.GetCopies())) + numberSize(b.GetPosition()) + listSize(numbersSize(b.GetPositions()))
}

func appendBlock(dst []byte, b *ingestv1.StreamBlock) ([]byte, error) {
	if !utf8.ValidString(b.GetLabels()) {
		return dst, errNotUTF8
	}
	dst = appendText(dst, 1, b.GetLabels())
	if t := b.GetToken(); t != 0 {
		dst = binary.LittleEndian.AppendUint64(append(dst, 2<<3|wireFixed64), t)
	}
	if times := b.GetTimes(); len(times) > 0 {
		dst = appendSize(append(dst, 3<<3|wireBytes), 8*len(times))
		for _, t := range times {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
		}
	}
	dst = appendBytes(appendFixed(dst, 4, b.GetLineEnds()), 5, b.GetSlab())
	var err error
	for _, c := range b.GetMetadata() {
		if dst, err = appendColumn(dst, 6, c); err != nil {
			return dst, err
		}
	}
	for _, c := range b.GetDerived() {
		if dst, err = appendColumn(dst, 7, c); err != nil {
			return dst, err
		}
	}
	dst = appendNumbers(dst, 8, b.GetCopies())
	dst = appendNumber(dst, 9, b.GetPosition())
	dst = appendNumbers(dst, 10, b.GetPositions())
	return append(dst, b.ProtoReflect().GetUnknown()...), nil
}

func columnSize(c *ingestv1.Column) int {
	return textSize(c.GetName()) + listSize(4*len(c.GetRows())) + listSize(4*len(c.GetEnds())) + listSize(len(c.GetSlab())) +
		numberSize(c.GetVersion()) + len(c.ProtoReflect().GetUnknown())
}

func appendColumn(dst []byte, field byte, c *ingestv1.Column) ([]byte, error) {
	if !utf8.ValidString(c.GetName()) {
		return dst, errNotUTF8
	}
	about := 8 + len(c.GetName()) + 4*(len(c.GetRows())+len(c.GetEnds())) + len(c.GetSlab())
	dst, from := begin(dst, field, about)
	dst = appendText(dst, 1, c.GetName())
	dst = appendFixed(appendFixed(dst, 2, c.GetRows()), 3, c.GetEnds())
	dst = appendNumber(appendBytes(dst, 4, c.GetSlab()), 5, c.GetVersion())
	return end(append(dst, c.ProtoReflect().GetUnknown()...), from, about), nil
}

// A message within another one has its size in front of it, which is known when it is there:
// to measure it before would take half as long as to encode it. Room is left for the size that
// it has most likely, and where that was wrong the message is moved.

// begin begins a message of about size bytes as a field, and returns where it is.
func begin(dst []byte, field byte, size int) (_ []byte, from int) {
	dst = binary.AppendUvarint(append(dst, field<<3|wireBytes), uint64(size))
	return dst, len(dst)
}

// end ends a message, for which begin was told a size.
func end(dst []byte, from, told int) []byte {
	size, room := len(dst)-from, varintSize(uint64(told))
	at := from - room
	if need := varintSize(uint64(size)); need != room {
		dst = append(dst, make([]byte, max(0, need-room))...)
		copy(dst[at+need:], dst[from:from+size])
		dst = dst[:at+need+size]
	}
	binary.PutUvarint(dst[at:], uint64(size))
	return dst
}

// The fields have numbers below 16, and so tags of one byte; those without a value are left
// out.

func appendText(dst []byte, field byte, s string) []byte {
	if s == "" {
		return dst
	}
	return append(appendSize(append(dst, field<<3|wireBytes), len(s)), s...)
}

func appendBytes(dst []byte, field byte, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return append(appendSize(append(dst, field<<3|wireBytes), len(b)), b...)
}

func appendFixed(dst []byte, field byte, list []uint32) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = appendSize(append(dst, field<<3|wireBytes), 4*len(list))
	for _, n := range list {
		dst = binary.LittleEndian.AppendUint32(dst, n)
	}
	return dst
}

func appendNumbers(dst []byte, field byte, list []uint32) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = appendSize(append(dst, field<<3|wireBytes), numbersSize(list))
	for _, n := range list {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

func appendNumber(dst []byte, field byte, n uint32) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, field<<3|wireVarint), uint64(n))
}

func appendSize(dst []byte, n int) []byte { return binary.AppendUvarint(dst, uint64(n)) }

// bytesSize returns what n bytes take as a field.
func bytesSize(n int) int { return 1 + varintSize(uint64(n)) + n }

// listSize is bytesSize of a field that is left out where it is empty.
func listSize(n int) int {
	if n == 0 {
		return 0
	}
	return bytesSize(n)
}

func textSize(s string) int { return listSize(len(s)) }

func numberSize(n uint32) int {
	if n == 0 {
		return 0
	}
	return 1 + varintSize(uint64(n))
}

func numbersSize(list []uint32) int {
	size := 0
	for _, n := range list {
		size += varintSize(uint64(n))
	}
	return size
}

func varintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }
