package conf

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ByteSize is a number of bytes, written "64MiB" (powers of 1024), "16MB" (powers of 1000) or as a
// plain number. It is never negative.
type ByteSize int64

// Units of ByteSize.
const (
	KiB ByteSize = 1 << 10
	MiB ByteSize = 1 << 20
	GiB ByteSize = 1 << 30
	TiB ByteSize = 1 << 40
	KB  ByteSize = 1e3
	MB  ByteSize = 1e6
	GB  ByteSize = 1e9
	TB  ByteSize = 1e12
)

// units from the largest down; of equals the binary one is tried first.
var units = []struct {
	name string
	size ByteSize
}{{"TiB", TiB}, {"TB", TB}, {"GiB", GiB}, {"GB", GB}, {"MiB", MiB}, {"MB", MB}, {"KiB", KiB}, {"KB", KB}}

// ParseByteSize reads what String writes, units in any case, fractions ("1.5GiB") and a space
// before the unit too.
func ParseByteSize(s string) (ByteSize, error) {
	text := strings.TrimSpace(s)
	end := strings.LastIndexAny(text, "0123456789.") + 1
	number, unit := text[:end], strings.ToLower(strings.TrimSpace(text[end:]))
	scale := ByteSize(0)
	switch unit {
	case "", "b":
		scale = 1
	default:
		for _, u := range units {
			if unit == strings.ToLower(u.name) {
				scale = u.size
			}
		}
	}
	if scale == 0 {
		return 0, fmt.Errorf("%q is not a size: want a number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil {
		if n > uint64(math.MaxInt64)/uint64(scale) {
			return 0, fmt.Errorf("%q is too large", s)
		}
		return ByteSize(n) * scale, nil
	}
	if strings.Trim(number, "0123456789.") != "" || strings.Count(number, ".") > 1 {
		return 0, fmt.Errorf("%q is not a size: want a number like 64MiB", s)
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: want a number like 64MiB", s)
	}
	f = math.Round(f * float64(scale))
	if f >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return ByteSize(f), nil
}

// String writes b exactly, in the largest unit that leaves a whole number.
func (b ByteSize) String() string {
	if b > 0 {
		for _, u := range units {
			if b >= u.size && b%u.size == 0 {
				return strconv.FormatInt(int64(b/u.size), 10) + u.name
			}
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText is String.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText is ParseByteSize.
func (b *ByteSize) UnmarshalText(text []byte) error {
	v, err := ParseByteSize(string(text))
	if err == nil {
		*b = v
	}
	return err
}

const redacted = "<redacted>"

// Secret is a text that no log, dump or page shows: every way to print it writes "<redacted>".
// The zero Secret is empty and prints as nothing.
type Secret struct {
	// A pointer, because printers that walk structs follow it no further.
	text *string
}

// NewSecret returns a Secret of text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text, for the one place that needs it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns "<redacted>", or nothing for an empty Secret.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format redacts under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText redacts.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML redacts.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue redacts.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText takes the text as it is. The text that String writes is refused, so that a printed
// configuration which is fed back fails loudly and not with a wrong password.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == redacted {
		return errors.New("this secret was redacted when the configuration was printed")
	}
	*s = NewSecret(string(text))
	return nil
}

// Raw is a piece of YAML that is decoded later, onto defaults that are known only then.
type Raw struct {
	node *yaml.Node
}

// Decode writes r over what into, a pointer to a struct, holds already; keys that r lacks stay as
// they are. The error joins all problems, with lines of the file that r came from. The values are
// not validated.
func (r Raw) Decode(into any) error {
	if r.node == nil {
		return nil
	}
	return errors.Join(decodeNode(r.node, structOf(into))...)
}

// MarshalYAML writes r as it was read.
func (r Raw) MarshalYAML() (any, error) {
	if r.node == nil {
		return nil, nil
	}
	return r.node, nil
}

var (
	_ encoding.TextUnmarshaler = (*ByteSize)(nil)
	_ encoding.TextUnmarshaler = (*Secret)(nil)
	_ fmt.Formatter            = Secret{}
)
