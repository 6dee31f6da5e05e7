package syntax

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// isDurationByte reports whether c can be in a duration token; µ and μ are two
// bytes each.
func isDurationByte(c byte) bool {
	return isDigit(c) || strings.IndexByte(".nuµmshdwy\xce\xbc", c) >= 0
}

func isBytesByte(c byte) bool {
	return isDigit(c) || strings.IndexByte(".BikKMGTP", c) >= 0
}

// parseDuration takes Prometheus and Go notation, with a sign; a unit is required.
func parseDuration(s string) (time.Duration, bool) {
	if last := s[len(s)-1]; isDigit(last) || last == '.' {
		return 0, false
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d, true
	}
	body, negative := strings.CutPrefix(s, "-")
	d, err := parsePromDuration(body)
	if err != nil {
		return 0, false
	}
	if negative {
		d = -d
	}
	return d, true
}

var promUnits = []struct {
	name string
	size time.Duration
}{
	{"y", 365 * 24 * time.Hour}, {"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour},
	{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond},
}

// parsePromDuration takes whole numbers of descending units: 1h30m.
func parsePromDuration(s string) (time.Duration, error) {
	switch s {
	case "":
		return 0, errors.New("empty duration string")
	case "0":
		return 0, nil
	}
	invalid := func() (time.Duration, error) {
		return 0, fmt.Errorf("not a valid duration string: %q", s)
	}
	total, from := time.Duration(0), 0
	for rest := s; rest != ""; {
		i := runEnd(rest, 0, isDigit)
		if i == 0 {
			return invalid()
		}
		j := runEnd(rest, i, func(c byte) bool { return !isDigit(c) })
		if j == i {
			return invalid()
		}
		unit := -1
		for k, u := range promUnits {
			if u.name == rest[i:j] {
				unit = k
			}
		}
		if unit < 0 {
			return 0, fmt.Errorf("unknown unit %q in duration %q", rest[i:j], s)
		}
		if unit < from {
			return invalid()
		}
		from = unit + 1
		n, err := strconv.ParseUint(rest[:i], 10, 63)
		size := promUnits[unit].size
		if err != nil || n > uint64((math.MaxInt64-total)/size) {
			return 0, errors.New("duration out of range")
		}
		total += time.Duration(n) * size
		rest = rest[j:]
	}
	return total, nil
}

// formatPromDuration writes d in whole units down to milliseconds, as parsePromDuration reads them.
func formatPromDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	if d < 0 {
		b.WriteByte('-')
		d = -d
	}
	for _, u := range promUnits {
		// Years and weeks only where nothing else is left: 90d reads better than 12w6d.
		if (u.name == "y" || u.name == "w") && d%u.size != 0 {
			continue
		}
		if n := d / u.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10))
			b.WriteString(u.name)
			d %= u.size
		}
	}
	return b.String()
}

// parseBytes takes a decimal number with a unit from B to PiB. Fractions of a
// byte are cut off. The arithmetic is exact: printed sizes have to come back.
func parseBytes(s string) (uint64, bool) {
	i := runEnd(s, 0, func(c byte) bool { return isDigit(c) || c == '.' })
	size, ok := byteUnits[strings.ToLower(s[i:])]
	if !ok {
		return 0, false
	}
	whole, fraction, _ := strings.Cut(s[:i], ".")
	if whole+fraction == "" || strings.Contains(fraction, ".") {
		return 0, false
	}
	n, err := strconv.ParseUint("0"+whole, 10, 64)
	if err != nil || n > math.MaxUint64/size {
		return 0, false
	}
	fraction = fraction[:min(len(fraction), 18)]
	f, _ := strconv.ParseUint("0"+fraction, 10, 64)
	one := uint64(1)
	for range fraction {
		one *= 10
	}
	hi, lo := bits.Mul64(f, size)
	f, _ = bits.Div64(hi, lo, one) // f < one, so that the quotient is below size
	sum, carry := bits.Add64(n*size, f, 0)
	return sum, carry == 0
}

var byteUnits = map[string]uint64{
	"b": 1,
	"k": 1e3, "kb": 1e3, "ki": 1 << 10, "kib": 1 << 10,
	"m": 1e6, "mb": 1e6, "mi": 1 << 20, "mib": 1 << 20,
	"g": 1e9, "gb": 1e9, "gi": 1 << 30, "gib": 1 << 30,
	"t": 1e12, "tb": 1e12, "ti": 1 << 40, "tib": 1 << 40,
	"p": 1e15, "pb": 1e15, "pi": 1 << 50, "pib": 1 << 50,
}

// RoundBytes rounds to what two digits in SI units can say (1.6MB, 12kB), as
// bytes literals of label filters are.
func RoundBytes(v uint64) uint64 {
	_, r := roundBytes(v)
	return r
}

// roundBytes returns the rounded text and its value.
func roundBytes(v uint64) (string, uint64) {
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	if v < 10 {
		return strconv.FormatUint(v, 10) + "B", v
	}
	exp, size := 0, uint64(1)
	for exp < len(units)-1 && v/size >= 1000 {
		exp, size = exp+1, size*1000
	}
	// Tenths of the unit, half up.
	tenths := math.Floor(float64(v)/float64(size)*10 + 0.5)
	if tenths < 100 {
		return strconv.FormatFloat(tenths/10, 'f', 1, 64) + units[exp], uint64(tenths) * (size / 10)
	}
	n := math.RoundToEven(tenths / 10)
	return strconv.FormatFloat(n, 'f', 0, 64) + units[exp], uint64(n) * size
}

// formatOffset writes d in Prometheus units if that is exact, else as Go does.
func formatOffset(d time.Duration) string {
	if d%time.Millisecond == 0 {
		return formatPromDuration(d)
	}
	return d.String()
}

// unescape decodes the inside of a string in quote characters.
func unescape(s string, quote byte) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		r, multibyte, rest, err := strconv.UnquoteChar(s[i:], quote)
		if err != nil {
			return "", false
		}
		if multibyte {
			b = utf8.AppendRune(b, r)
		} else {
			b = append(b, byte(r)) // ASCII, or a byte given as \xff or \377
		}
		i = len(s) - len(rest)
	}
	return string(b), true
}
