package engine

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/model"
)

// Entries of a log query have a total order: by time, then by the labels of their
// stream as stored, then by batch time, position and hash. Backward is exactly
// the reverse. A cursor is the last entry's place in it, so a page begins where
// the one before ended, even between entries of one timestamp. What arrives in
// the meantime at a place that was passed is not seen by later pages.

// cursorVersion is the first byte of a cursor.
const cursorVersion = 1

var errCursor = Errorf(ErrUser, "invalid cursor")

// encodeCursor makes the text of a cursor. query is the identity of what is asked.
func encodeCursor(a *After, query uint64) string {
	b := []byte{cursorVersion}
	b = binary.LittleEndian.AppendUint64(b, query)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Key.Time))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Key.BatchTime))
	b = binary.LittleEndian.AppendUint32(b, a.Key.Position)
	b = binary.LittleEndian.AppendUint64(b, a.Key.Hash)
	for _, l := range a.Stream {
		for _, s := range []string{l.Name, l.Value} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor is the reverse of encodeCursor.
func decodeCursor(text string, query uint64) (*After, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 37 || b[0] != cursorVersion {
		return nil, errCursor
	}
	if binary.LittleEndian.Uint64(b[1:]) != query {
		return nil, Errorf(ErrUser, "the cursor belongs to another query: query, direction and interval must be those of the page before")
	}
	a := &After{Key: model.OrderKey{
		Time:      int64(binary.LittleEndian.Uint64(b[9:])),
		BatchTime: int64(binary.LittleEndian.Uint64(b[17:])),
		Position:  binary.LittleEndian.Uint32(b[25:]),
		Hash:      binary.LittleEndian.Uint64(b[29:]),
	}}
	b = b[37:]
	next := func() (string, bool) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return "", false
		}
		s := string(b[w : w+int(n)])
		b = b[w+int(n):]
		return s, true
	}
	for len(b) > 0 {
		name, ok1 := next()
		value, ok2 := next()
		if n := len(a.Stream); !ok1 || !ok2 || (n > 0 && a.Stream[n-1].Name >= name) {
			return nil, errCursor
		}
		a.Stream = append(a.Stream, model.Label{Name: name, Value: value})
	}
	return a, nil
}

// identity hashes what must stay the same from page to page.
func (r *RangeQuery) identity() uint64 {
	h := xxhash.New()
	h.WriteString(r.Expr.String())
	var b [9]byte
	binary.LittleEndian.PutUint64(b[:], uint64(r.Interval))
	if r.Backward {
		b[8] = 1
	}
	h.Write(b[:])
	return h.Sum64()
}
