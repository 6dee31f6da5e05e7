package match

import (
	"encoding/binary"
	"unsafe"
)

// digitProbe finds long runs of hexadecimal digits in packed values by a look at four
// digits, or twice four, of each: which ones these may be where the run is anywhere in a
// value is known beforehand.
type digitProbe struct {
	text  *byte // that it is for, which never moves
	n     int   // length of it
	of    int   // digits of a value
	at    []int // bytes of a value that are looked at, and the one behind each; none: it is not worth while
	table [][1 << 16 / 64]uint64
}

const (
	maxProbes = 2
	// minProbed is how many values are worth a table, and mostProbed how many of all that four
	// digits can be are in it at most.
	minProbed  = 256
	mostProbed = 1 << 16 / 32
)

// findDigits finds digits, which text shows, in packed values of size bytes each that have n
// digits: it calls hit at least once for each value that has them, and only for these and
// for values that have them with what is behind their last digit.
func (e *evaluation) findDigits(p []byte, size, n int, text, digits []byte, hit func(value, at int)) {
	values := len(p) / size
	if values < minProbed {
		packed(p, size, digits, hit)
		return
	}
	d := &e.digits
	if d.text != unsafe.SliceData(text) || d.n != len(text) || d.of != n {
		d.text = nil // it is for none if this does not return
		d.prepare(digits, n)
		d.text, d.n, d.of = unsafe.SliceData(text), len(text), n
	}
	if len(d.at) == 0 {
		packed(p, size, digits, hit)
		return
	}
	for k, at := range d.at {
		table := &d.table[k]
		for i, o := 0, at; i < values; i, o = i+1, o+size {
			if x := binary.LittleEndian.Uint16(p[o:]); table[x>>6]>>(x&63)&1 == 0 {
				continue
			}
			for q := 0; q+len(digits) <= n; q++ {
				if digitsAt(p[i*size:(i+1)*size], q, digits) {
					hit(i, q)
				}
			}
		}
	}
}

// prepare makes it ready for digits in values of n.
func (d *digitProbe) prepare(digits []byte, n int) {
	d.at = d.at[:0]
	places := n - len(digits) + 1
	for probes := 1; probes <= maxProbes && places > 0; probes++ {
		d.at = d.at[:0]
		for len(d.table) < probes {
			d.table = append(d.table, [1 << 16 / 64]uint64{})
		}
		count := 0
		for k := range probes {
			d.table[k] = [1 << 16 / 64]uint64{}
			// The places that it stands for are from … to-1.
			from, to := places*k/probes, places*(k+1)/probes
			// Its digits are those in the middle of the run where the run is in the middle of these.
			at := min(max(0, (from+to-1+len(digits))/2-2)/2, n/2-2)
			if at < 0 {
				d.at = d.at[:0]
				return
			}
			for q := from; q < to && count <= mostProbed; q++ {
				count += d.mark(k, at, q, digits)
			}
			d.at = append(d.at, at)
		}
		if count <= mostProbed {
			return
		}
	}
	d.at = d.at[:0]
}

// mark adds what bytes at and at+1 of a value may be that has the digits from place q on, and
// returns how many that are.
func (d *digitProbe) mark(k, at, q int, digits []byte) int {
	free := []int{} // of the four digits, those not of the run
	x := uint16(0)
	shift := [4]int{4, 0, 12, 8}
	for i := range 4 {
		if j := 2*at + i - q; j >= 0 && j < len(digits) {
			x |= uint16(digits[j]) << shift[i]
		} else {
			free = append(free, shift[i])
		}
	}
	n := 1 << (4 * len(free))
	if n > mostProbed {
		return n
	}
	for v := range n {
		y := x
		for i, s := range free {
			y |= uint16(v>>(4*i)&15) << s
		}
		d.table[k][y>>6] |= 1 << (y & 63)
	}
	return n
}
