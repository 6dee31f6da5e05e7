package column

import (
	"math/bits"
	"slices"
)

const pairs = "00010203040506070809" + "10111213141516171819" + "20212223242526272829" + "30313233343536373839" +
	"40414243444546474849" + "50515253545556575859" + "60616263646566676869" + "70717273747576777879" +
	"80818283848586878889" + "90919293949596979899"

// AppendUint appends a number in decimal.
func AppendUint(dst []byte, x uint64) []byte {
	at := len(dst)
	if cap(dst)-at < maxUint {
		dst = slices.Grow(dst, maxUint)
	}
	return dst[:at+PutUint(dst[at:at+maxUint], x)]
}

// maxUint is how many digits a number has at most.
const maxUint = 20

// PutUint prints a number and returns its length. dst has room for any: 20 bytes.
func PutUint(dst []byte, x uint64) int {
	_ = dst[19]
	switch {
	case x < 10:
		dst[0] = byte('0' + x)
		return 1
	case x < 100:
		dst[0], dst[1] = pairs[2*x], pairs[2*x+1]
		return 2
	case x < 1000:
		q := x / 100
		r := x - q*100
		dst[0], dst[1], dst[2] = byte('0'+q), pairs[2*r], pairs[2*r+1]
		return 3
	}
	n := digitsOf(x)
	k := n
	for x >= 100 {
		q := x / 100
		r := (x - q*100) * 2
		k -= 2
		dst[k], dst[k+1] = pairs[r], pairs[r+1]
		x = q
	}
	if x >= 10 {
		dst[0], dst[1] = pairs[2*x], pairs[2*x+1]
	} else {
		dst[0] = byte('0' + x)
	}
	return n
}

// digitsOf returns how many digits a number has.
func digitsOf(x uint64) int {
	x = max(x, 1)
	n := bits.Len64(x) * 1233 >> 12 // or one less
	if x >= powers[n] {
		n++
	}
	return n
}

// powers[n] is the least number of n+1 digits.
var powers = func() (t [20]uint64) {
	t[0] = 1
	for n := 1; n < len(t); n++ {
		t[n] = 10 * t[n-1]
	}
	return t
}()

// AppendPadded appends the last digits decimal digits of a number, with leading
// zeros; at most 19.
func AppendPadded(dst []byte, x uint64, digits int) []byte {
	at := len(dst)
	dst = append(dst, "0000000000000000000"[:digits]...)
	for p := len(dst) - 1; p >= at && x > 0; p-- {
		dst[p] = byte('0' + x%10)
		x /= 10
	}
	return dst
}
