package pipeline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var byteUnits = func() map[string]float64 {
	units := map[string]float64{"": 1, "b": 1}
	si, iec := 1.0, 1.0
	for _, u := range []string{"k", "m", "g", "t", "p", "e"} {
		si, iec = si*1000, iec*1024
		units[u], units[u+"b"] = si, si
		units[u+"i"], units[u+"ib"] = iec, iec
	}
	return units
}()

// ParseBytes reads a number of bytes: decimal digits, commas ignored, an optional
// blank and a unit up to EB or EiB in any case. kB is 1000, KiB 1024.
func ParseBytes(s string) (uint64, error) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' || s[i] == ',') {
		i++
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s[:i], ",", ""), 64)
	if err != nil {
		return 0, err
	}
	name := strings.TrimSpace(s[i:])
	var lower [3]byte
	n := copy(lower[:], name)
	for j := range lower[:n] {
		if c := lower[j]; c >= 'A' && c <= 'Z' {
			lower[j] += 'a' - 'A'
		}
	}
	unit, ok := byteUnits[string(lower[:n])]
	if !ok || n < len(name) {
		return 0, fmt.Errorf("unhandled size name: %s", name)
	}
	if f *= unit; f >= math.MaxUint64 {
		return 0, fmt.Errorf("too large: %s", s)
	}
	return uint64(f), nil
}
