package syntax

import (
	"math"
	"strconv"
)

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
	// Tenths of the unit, rounded half up; the quotient is below 10,000.
	tenths := math.Floor(float64(v)/float64(size)*10 + 0.5)
	if tenths < 100 {
		text := strconv.FormatFloat(tenths/10, 'f', 1, 64) + units[exp]
		return text, uint64(tenths) * (size / 10)
	}
	n := math.RoundToEven(tenths / 10)
	return strconv.FormatFloat(n, 'f', 0, 64) + units[exp], uint64(n) * size
}
