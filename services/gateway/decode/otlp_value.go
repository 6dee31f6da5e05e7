package decode

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/rpcerr"
)

var errTooDeep = rpcerr.New(rpcerr.InvalidArgument, "a value nests more than %d levels deep", maxDepth)

// Kinds of an AnyValue, by the number of the field that is set.
const (
	anyNone   = 0
	anyString = 1
	anyBool   = 2
	anyInt    = 3
	anyDouble = 4
	anyArray  = 5
	anyMap    = 6
	anyBytes  = 7
)

// anyValue is an AnyValue that is read one level deep.
type anyValue struct {
	kind   protowire.Number
	number uint64
	bytes  []byte // of an array or a map the message
}

// readAny reads an AnyValue; of several fields the last counts.
func readAny(data []byte) (out anyValue, err error) {
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		want := protowire.BytesType
		switch num {
		case anyBool, anyInt:
			want = protowire.VarintType
		case anyDouble:
			want = protowire.Fixed64Type
		case anyString, anyArray, anyMap, anyBytes:
		default:
			return nil
		}
		if typ == want {
			out = anyValue{num, v.number, v.bytes}
		}
		return nil
	})
	return out, err
}

// textWriter writes values as text. Its buffer is used again, and counted.
type textWriter struct {
	memory  *Reservation
	b       []byte
	counted int
}

// of returns a value's text: of maps and arrays JSON, whose maps are sorted by key.
// It is valid until the next call, and aliases the request if it can.
func (w *textWriter) of(v anyValue, depth int) ([]byte, error) {
	if v.kind == anyString {
		return v.bytes, nil
	}
	w.b = w.b[:0]
	err := w.value(v, false, depth)
	return w.b, err
}

// grow counts n more bytes of text, before they are there.
func (w *textWriter) grow(n int) error {
	if n += len(w.b); n <= w.counted {
		return nil
	}
	more := n - w.counted
	w.counted = n
	return w.memory.Grow(more)
}

func (w *textWriter) value(v anyValue, asJSON bool, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	if err := w.grow(32); err != nil {
		return err
	}
	switch v.kind {
	case anyNone:
		if asJSON {
			w.b = append(w.b, "null"...)
		}
	case anyString: // as JSON, or else it would not come here
		return w.string(v.bytes)
	case anyBool:
		w.b = strconv.AppendBool(w.b, v.number != 0)
	case anyInt:
		w.b = strconv.AppendInt(w.b, int64(v.number), 10)
	case anyDouble:
		w.b = appendDouble(w.b, math.Float64frombits(v.number), asJSON)
	case anyBytes:
		if err := w.grow(base64.StdEncoding.EncodedLen(len(v.bytes)) + 2); err != nil {
			return err
		}
		if asJSON {
			w.b = append(w.b, '"')
		}
		w.b = base64.StdEncoding.AppendEncode(w.b, v.bytes)
		if asJSON {
			w.b = append(w.b, '"')
		}
	case anyArray:
		return w.array(v.bytes, depth)
	case anyMap:
		return w.object(v.bytes, depth)
	}
	return nil
}

func (w *textWriter) array(data []byte, depth int) error {
	w.b = append(w.b, '[')
	first := true
	err := fields(data, func(num protowire.Number, typ protowire.Type, e value) error {
		if num != 1 || typ != protowire.BytesType {
			return nil
		}
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		v, err := readAny(e.bytes)
		if err != nil {
			return err
		}
		return w.value(v, true, depth+1)
	})
	w.b = append(w.b, ']')
	return err
}

func (w *textWriter) object(data []byte, depth int) error {
	n, _, err := count(data, 1)
	if err != nil {
		return err
	}
	const size = 48 // of an attribute
	if err := w.memory.Grow(n * size); err != nil {
		return err
	}
	defer w.memory.Shrink(n * size)
	pairs := make([]attribute, 0, n)
	err = fields(data, func(num protowire.Number, typ protowire.Type, e value) error {
		if num != 1 || typ != protowire.BytesType {
			return nil
		}
		key, val, err := pair(e.bytes)
		pairs = append(pairs, attribute{key, val})
		return err
	})
	if err != nil {
		return err
	}
	w.b = append(w.b, '{')
	for i, p := range lastOfEqual(pairs) {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		if err := w.string(p.name); err != nil {
			return err
		}
		w.b = append(w.b, ':')
		v, err := readAny(p.value)
		if err != nil {
			return err
		}
		if err := w.value(v, true, depth+1); err != nil {
			return err
		}
	}
	w.b = append(w.b, '}')
	return nil
}

// string appends a JSON string; what is not UTF-8 becomes U+FFFD.
func (w *textWriter) string(s []byte) error {
	n := len(s) + 8
	for _, c := range s {
		switch {
		case c < ' ':
			n += 5
		case c == '"' || c == '\\':
			n++
		case c >= utf8.RuneSelf:
			n += 2
		}
	}
	if err := w.grow(n); err != nil {
		return err
	}
	w.b = appendJSONString(w.b, s)
	return nil
}

// appendDouble appends a number as JSON's usual writers do; those that JSON does not
// have are strings there.
func appendDouble(b []byte, f float64, asJSON bool) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		if !asJSON {
			return strconv.AppendFloat(b, f, 'f', -1, 64)
		}
		b = strconv.AppendFloat(append(b, '"'), f, 'f', -1, 64)
		return append(b, '"')
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		from := len(b)
		b = strconv.AppendFloat(b, f, 'e', -1, 64)
		// e-09 is written e-9.
		if i := bytes.Index(b[from:], []byte("e-0")); i >= 0 {
			b = slices.Delete(b, from+i+2, from+i+3)
		}
		return b
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

const hexDigits = "0123456789abcdef"

func appendJSONString(b, s []byte) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRune(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}
