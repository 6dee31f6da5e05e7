package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
)

// OTLPJSON decodes the JSON form of what [OTLP] decodes: protobuf's JSON, with trace
// and span ids in hexadecimal. 64-bit numbers may be strings or numbers, names may be
// in camel or snake case, and keys that are not known are skipped. It is brought into
// protobuf's binary form first, so that there is one decoder for the meaning.
func OTLPJSON(data []byte, cfg *limits.OTLPConfig, memory *Reservation) (*ingestv1.WriteRequest, error) {
	t := &transcoder{scanner: scanner{b: data}, memory: memory}
	if !t.null() {
		if err := t.message(exportSchema, 0); err != nil {
			return nil, err
		}
	}
	if err := t.end(); err != nil {
		return nil, err
	}
	req, err := OTLP(t.out, cfg, memory)
	memory.Shrink(t.counted)
	return req, err
}

// jsonKind is how a field is written in JSON and on the wire.
type jsonKind uint8

const (
	kindMessage jsonKind = iota
	kindMessages
	kindString
	kindBase64
	kindHex
	kindBool
	kindVarint // signed or enum
	kindFixed64
	kindFixed32
	kindUint32
	kindDouble
)

type jsonField struct {
	number protowire.Number
	kind   jsonKind
	schema jsonSchema
}

// jsonSchema is the fields of a message by name, in camel case.
type jsonSchema map[string]jsonField

var (
	exportSchema = jsonSchema{"resourceLogs": {1, kindMessages, jsonSchema{
		"resource":  {1, kindMessage, jsonSchema{"attributes": {1, kindMessages, keyValueSchema}}},
		"scopeLogs": {2, kindMessages, scopeLogsSchema},
	}}}
	scopeLogsSchema = jsonSchema{
		"scope": {1, kindMessage, jsonSchema{
			"name": {1, kindString, nil}, "version": {2, kindString, nil},
			"attributes": {3, kindMessages, keyValueSchema}, "droppedAttributesCount": {4, kindUint32, nil},
		}},
		"logRecords": {2, kindMessages, jsonSchema{
			"timeUnixNano": {1, kindFixed64, nil}, "severityNumber": {2, kindVarint, nil}, "severityText": {3, kindString, nil},
			"body": {5, kindMessage, anyValueSchema}, "attributes": {6, kindMessages, keyValueSchema},
			"droppedAttributesCount": {7, kindUint32, nil}, "flags": {8, kindFixed32, nil},
			"traceId": {9, kindHex, nil}, "spanId": {10, kindHex, nil},
			"observedTimeUnixNano": {11, kindFixed64, nil}, "eventName": {12, kindString, nil},
		}},
	}
	anyValueSchema = jsonSchema{
		"stringValue": {anyString, kindString, nil}, "boolValue": {anyBool, kindBool, nil}, "intValue": {anyInt, kindVarint, nil},
		"doubleValue": {anyDouble, kindDouble, nil}, "bytesValue": {anyBytes, kindBase64, nil},
	}
	keyValueSchema = jsonSchema{"key": {1, kindString, nil}, "value": {2, kindMessage, anyValueSchema}}
)

func init() {
	// An AnyValue holds AnyValues.
	anyValueSchema["arrayValue"] = jsonField{anyArray, kindMessage, jsonSchema{"values": {1, kindMessages, anyValueSchema}}}
	anyValueSchema["kvlistValue"] = jsonField{anyMap, kindMessage, jsonSchema{"values": {1, kindMessages, keyValueSchema}}}
}

// maxMessages bounds how deep messages nest: an AnyValue takes three in a map.
const maxMessages = 3*maxDepth + 8

// transcoder brings JSON into the wire form of the message that a schema describes.
type transcoder struct {
	scanner
	memory  *Reservation
	out     []byte
	counted int // bytes of out that are counted
}

func (t *transcoder) count() error {
	if len(t.out) <= t.counted {
		return nil
	}
	n := len(t.out) - t.counted
	t.counted = len(t.out)
	return t.memory.Grow(n)
}

// message reads an object and appends its fields.
func (t *transcoder) message(schema jsonSchema, depth int) error {
	if depth > maxMessages {
		return t.fail("it nests too deep")
	}
	return t.object(func(key []byte) error {
		f, ok := schema[string(key)]
		if !ok {
			f, ok = schema[camel(key)]
		}
		if !ok {
			return t.skip(1)
		}
		if t.null() {
			return nil
		}
		if f.kind == kindMessages {
			return t.array(func(int) error { return t.nested(f, depth) })
		}
		if f.kind == kindMessage {
			return t.nested(f, depth)
		}
		if err := t.scalarField(f); err != nil {
			return err
		}
		return t.count()
	})
}

// camel brings a name from snake into camel case.
func camel(key []byte) string {
	out := make([]byte, 0, min(len(key), 64))
	for i := 0; i < len(key) && len(out) < 64; i++ {
		if key[i] == '_' && i+1 < len(key) && 'a' <= key[i+1] && key[i+1] <= 'z' {
			i++
			out = append(out, key[i]-'a'+'A')
			continue
		}
		out = append(out, key[i])
	}
	return string(out)
}

// lengthBytes is how many bytes the length of a nested message takes: it is known only
// behind the message, and a varint may be longer than it need be.
const lengthBytes = 5

func (t *transcoder) nested(f jsonField, depth int) error {
	t.out = protowire.AppendTag(t.out, f.number, protowire.BytesType)
	t.out = append(t.out, make([]byte, lengthBytes)...)
	if err := t.count(); err != nil {
		return err
	}
	from := len(t.out)
	if err := t.message(f.schema, depth+1); err != nil {
		return err
	}
	n := len(t.out) - from
	if n > math.MaxInt32 {
		return t.fail("it is too large")
	}
	for i := range lengthBytes {
		t.out[from-lengthBytes+i] = byte(n)&0x7f | 0x80
		n >>= 7
	}
	t.out[from-1] &= 0x7f
	return nil
}

func (t *transcoder) scalarField(f jsonField) error {
	switch f.kind {
	case kindString:
		s, err := t.text()
		t.out = protowire.AppendBytes(protowire.AppendTag(t.out, f.number, protowire.BytesType), s)
		return err
	case kindBase64, kindHex:
		return t.bytesField(f)
	case kindBool:
		v, err := t.scalar()
		if err == nil && string(v) != "true" && string(v) != "false" {
			err = t.fail("expected true or false")
		}
		n := uint64(0)
		if string(v) == "true" {
			n = 1
		}
		t.out = protowire.AppendVarint(protowire.AppendTag(t.out, f.number, protowire.VarintType), n)
		return err
	}
	v, err := t.numberText()
	if err != nil {
		return err
	}
	switch f.kind {
	case kindDouble:
		n, err := strconv.ParseFloat(string(v), 64)
		if err != nil && !math.IsInf(n, 0) {
			return t.fail("expected a number")
		}
		t.out = protowire.AppendFixed64(protowire.AppendTag(t.out, f.number, protowire.Fixed64Type), math.Float64bits(n))
	case kindVarint:
		n, ok := severity(v)
		if !ok || f.number != 2 { // only severity is an enum
			if n, err = strconv.ParseInt(string(v), 10, 64); err != nil {
				return t.fail("expected a whole number of 64 bits")
			}
		}
		t.out = protowire.AppendVarint(protowire.AppendTag(t.out, f.number, protowire.VarintType), uint64(n))
	case kindFixed64:
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return t.fail("expected a whole number of 64 bits that is not negative")
		}
		t.out = protowire.AppendFixed64(protowire.AppendTag(t.out, f.number, protowire.Fixed64Type), n)
	case kindFixed32, kindUint32:
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil {
			return t.fail("expected a whole number of 32 bits that is not negative")
		}
		if f.kind == kindFixed32 {
			t.out = protowire.AppendFixed32(protowire.AppendTag(t.out, f.number, protowire.Fixed32Type), uint32(n))
		} else {
			t.out = protowire.AppendVarint(protowire.AppendTag(t.out, f.number, protowire.VarintType), n)
		}
	}
	return nil
}

// numberText reads a number, or a string that ought to hold one.
func (t *transcoder) numberText() ([]byte, error) {
	if t.peek() == '"' {
		return t.text()
	}
	return t.scalar()
}

func (t *transcoder) bytesField(f jsonField) error {
	s, err := t.text()
	if err != nil {
		return err
	}
	var b []byte
	if f.kind == kindHex {
		b, err = hex.AppendDecode(nil, s)
	} else {
		// Either alphabet, with padding or without.
		s = bytes.TrimRight(s, "=")
		enc := base64.RawStdEncoding
		if bytes.ContainsAny(s, "-_") {
			enc = base64.RawURLEncoding
		}
		b, err = enc.AppendDecode(nil, s)
	}
	if err != nil {
		return t.fail("bytes that are not encoded as they ought to be")
	}
	t.out = protowire.AppendBytes(protowire.AppendTag(t.out, f.number, protowire.BytesType), b)
	return nil
}

// severity returns the number of a severity's name, such as SEVERITY_NUMBER_WARN2.
func severity(name []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(name, []byte("SEVERITY_NUMBER_"))
	if !ok {
		return 0, false
	}
	if string(rest) == "UNSPECIFIED" {
		return 0, true
	}
	n := int64(1)
	if last := len(rest) - 1; last >= 0 && '2' <= rest[last] && rest[last] <= '4' {
		n, rest = int64(rest[last]-'0'), rest[:last]
	}
	for i, s := range [...]string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"} {
		if string(rest) == s {
			return int64(4*i) + n, true
		}
	}
	return 0, false
}
