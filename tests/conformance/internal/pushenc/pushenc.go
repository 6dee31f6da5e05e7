// Package pushenc encodes push requests: Loki's JSON and protobuf forms, and
// OTLP logs in protobuf. It writes the wire formats by hand; the messages are
// small and a generated client would be most of this module.
package pushenc

import (
	"encoding/binary"
	"math"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/klauspost/compress/snappy"

	"github.com/weir-logs/weir/tests/conformance/internal/corpus"
)

// Snappy compresses in the block format the push API expects.
func Snappy(b []byte) []byte { return snappy.Encode(nil, b) }

// JSON encodes a push request. Bytes that are not UTF-8 are left as they are,
// which encoding/json would not do.
func JSON(streams []*corpus.Stream) []byte {
	b := []byte(`{"streams":[`)
	for i, s := range streams {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"stream":`...)
		b = appendMap(b, s.Labels)
		b = append(b, `,"values":[`...)
		for k, e := range s.Entries {
			if k > 0 {
				b = append(b, ',')
			}
			b = append(b, `["`...)
			b = strconv.AppendInt(b, e.TS, 10)
			b = append(b, `",`...)
			b = appendString(b, e.Line)
			if len(e.Metadata) > 0 {
				b = append(b, ',')
				b = appendMap(b, e.Metadata)
			}
			b = append(b, ']')
		}
		b = append(b, `]}`...)
	}
	return append(b, `]}`...)
}

func appendMap(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	for i, k := range sorted(m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, m[k])
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			_, n := utf8.DecodeRuneInString(s[i:])
			b = append(b, s[i:i+n]...)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

func sorted(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Protobuf encodes a push request, uncompressed.
func Protobuf(streams []*corpus.Stream) []byte {
	var out []byte
	for _, s := range streams {
		out = Bytes(out, 1, Stream(corpus.LabelsKey(s.Labels), s.Entries))
	}
	return out
}

// Stream encodes one stream with its labels given as text, which may be wrong.
func Stream(labels string, entries []corpus.Entry) []byte {
	b := String(nil, 1, labels)
	for _, e := range entries {
		ts := Varint(nil, 1, uint64(e.TS/1e9))
		ts = Varint(ts, 2, uint64(e.TS%1e9))
		eb := Bytes(nil, 1, ts)
		eb = String(eb, 2, e.Line)
		for _, k := range sorted(e.Metadata) {
			eb = Bytes(eb, 3, String(String(nil, 1, k), 2, e.Metadata[k]))
		}
		b = Bytes(b, 2, eb)
	}
	return b
}

// Varint, Fixed64, Double, String and Bytes append one protobuf field.
func Varint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), v)
}

func Fixed64(b []byte, field int, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, uint64(field)<<3|1), v)
}

func Double(b []byte, field int, v float64) []byte { return Fixed64(b, field, math.Float64bits(v)) }

func String(b []byte, field int, s string) []byte { return Bytes(b, field, []byte(s)) }

func Bytes(b []byte, field int, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}
