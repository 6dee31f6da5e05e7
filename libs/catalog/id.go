package catalog

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

const idLength = 26 // characters for 16 bytes

// NewID returns an id that sorts by now, in milliseconds, and else consists of 80 bits of rand, which
// must be unpredictable: two blocks with one id would be taken for one.
func NewID(now time.Time, rand io.Reader) (ID, error) {
	var b [16]byte
	ms := max(now.UnixMilli(), 0)
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(ms))
	copy(b[:6], t[2:])
	if _, err := io.ReadFull(rand, b[6:]); err != nil {
		return "", fmt.Errorf("id: %w", err)
	}
	return ID(idEncoding.EncodeToString(b[:])), nil
}

// ValidateID returns an error unless NewID could have made id.
func ValidateID(id ID) error {
	if len(id) != idLength {
		return fmt.Errorf("%q is no id: it has %d characters, not %d", id, len(id), idLength)
	}
	b, err := idEncoding.DecodeString(string(id))
	if err != nil || idEncoding.EncodeToString(b) != string(id) {
		return fmt.Errorf("%q is no id", id)
	}
	return nil
}

// Time returns when a valid id was made, by the clock of who made it; else the zero time.
func (id ID) Time() time.Time {
	b, err := idEncoding.DecodeString(string(id))
	if err != nil || len(b) != 16 {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(append([]byte{0, 0}, b[:6]...)))).UTC()
}
