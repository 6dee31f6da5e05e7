package template

import (
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/model"
)

// Layout is a form of in-line time of fixed length. The numbers are part of the
// format.
type Layout uint8

// The layouts, in the order of their numbers, which is also that in which they are
// tried: the longest of a family first. Y year, y year of the century since 2000, m
// month, d day, e day padded with a space, a and b names of weekday and month in
// English, H M S time of day, f fraction of 9 to 3 digits, E and K seconds and
// milliseconds since the Unix epoch; all else stands for itself. A pattern with an f
// has seven numbers, one per length of the fraction. New ones are only added at the
// end.
var patterns = []string{
	"a b d H:M:S Y", "a b e H:M:S Y", "d/b/Y:H:M:S",
	"Y-m-dTH:M:S.f", "Y-m-dTH:M:S", "Y-m-d H:M:S.f", "Y-m-d H:M:S,f", "Y-m-d H:M:S", "Y/m/d H:M:S", "Y-m-d-H.M.S.f",
	"b d H:M:S", "b e H:M:S", "m-d H:M:S.f", "md H:M:S.f", "m.d H:M:S", "y/m/d H:M:S", "ymd HMS", "K", "E",
}

var layouts = func() (out []*layout) {
	for _, p := range patterns {
		if !strings.Contains(p, "f") {
			out = append(out, newLayout(p, 0))
			continue
		}
		for f := 9; f >= 3; f-- {
			out = append(out, newLayout(p, f))
		}
	}
	return out
}()

// Valid reports whether the layout is known.
func (l Layout) Valid() bool { return int(l) < len(layouts) }

// Unit returns the nanoseconds of the least step of the layout's times.
func (l Layout) Unit() int64 { return layouts[l].unit }

// Pattern returns the layout as text.
func (l Layout) Pattern() string {
	return strings.Replace(layouts[l].pattern, "f", strings.Repeat("f", layouts[l].frac), 1)
}

// InRange reports whether the time has the layout's length when printed.
func (l Layout) InRange(v int64) bool { return v >= layouts[l].min && v <= layouts[l].max }

// Append prints a time in units since the epoch, which must be in range.
func (l Layout) Append(dst []byte, v int64) []byte { return layouts[l].append(dst, v) }

// Floor returns an entry's time in the layout's units.
func (l Layout) Floor(entry int64) int64 { return floorDiv(entry, layouts[l].unit) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

const (
	nearby = 36 * 3600 // seconds that an in-line time may be off the entry's

	maxSeconds = 253402300799 // the end of the year 9999
	y2000      = 946684800
	y2100      = 4102444800
)

// layout is the plan of a Layout: fields at fixed offsets, -1 where there are none.
type layout struct {
	pattern  string
	frac     int
	unit     int64
	min, max int64
	n        int
	shape    []byte // '9' digit, 'A' letter, '_' space or digit, else itself

	year, year2, month, day, padDay, weekday, monthName, hour, minute, second, fraction, epoch int

	letter bool   // begins with a letter
	run    int    // letters and digits that it begins with
	digit  int    // begins with a letter: offset of the day
	probes [2]int // places that tell layouts apart, of bytes that stand for themselves
}

func newLayout(pattern string, frac int) *layout {
	l := &layout{pattern: pattern, frac: frac, unit: 1e9,
		year: -1, year2: -1, month: -1, day: -1, padDay: -1, weekday: -1, monthName: -1, hour: -1, minute: -1, second: -1, fraction: -1, epoch: -1}
	for range frac {
		l.unit /= 10
	}
	for _, c := range []byte(pattern) {
		at, shape := len(l.shape), "99"
		switch c {
		case 'Y':
			l.year, shape = at, "9999"
		case 'y':
			l.year2 = at
		case 'm':
			l.month = at
		case 'd':
			l.day = at
		case 'e':
			l.padDay, shape = at, "_9"
		case 'a':
			l.weekday, shape = at, "AAA"
		case 'b':
			l.monthName, shape = at, "AAA"
		case 'H':
			l.hour = at
		case 'M':
			l.minute = at
		case 'S':
			l.second = at
		case 'f':
			l.fraction, shape = at, "999999999"[:frac]
		case 'E':
			l.epoch, shape = at, "9999999999"
		case 'K':
			l.epoch, shape, l.unit = at, "9999999999999", 1e6
		default:
			shape = string(c)
		}
		l.shape = append(l.shape, shape...)
	}
	l.n = len(l.shape)
	l.letter = l.shape[0] == 'A'
	if l.letter {
		l.digit = max(l.day, l.padDay)
	}
	for l.run < l.n && l.shape[l.run] == '9' {
		l.run++
	}
	for i, at := range [...]int{l.hour - 1, l.second + 2} {
		if l.probes[i] = -1; at > 0 && at < l.n && l.epoch < 0 && !strings.ContainsRune("9A_", rune(l.shape[at])) {
			l.probes[i] = at
		}
	}
	perSecond := 1e9 / l.unit
	switch {
	case l.epoch >= 0:
		l.min, l.max = 1, 10
		for range l.n - 1 {
			l.min, l.max = l.min*10, l.max*10
		}
		l.max--
	case l.year2 >= 0:
		l.min, l.max = y2000*perSecond, y2100*perSecond-1
	case l.unit == 1:
		l.max = 1<<63 - 1
	case l.unit < 1e9:
		l.max = min(maxSeconds, (1<<63-1)/perSecond-1)*perSecond + perSecond - 1
	default:
		l.max = maxSeconds
	}
	return l
}

// likely reports whether s, which is as long as the layout's times at least, may begin
// with one, by a few of its bytes.
func (l *layout) likely(s []byte) bool {
	for _, at := range l.probes {
		if at >= 0 && s[at] != l.shape[at] {
			return false
		}
	}
	return l.shape[l.n-1] != '9' || isDigit(s[l.n-1])
}

func (l *layout) fits(s []byte) bool {
	if len(s) < l.n {
		return false
	}
	for i, p := range l.shape {
		c := s[i]
		switch p {
		case '9':
			if c-'0' > 9 {
				return false
			}
		case 'A':
			if (c|0x20)-'a' > 25 {
				return false
			}
		case '_':
			if c != ' ' && c-'0' > 9 {
				return false
			}
		default:
			if c != p {
				return false
			}
		}
	}
	return true
}

func two(s []byte, at int) int { return int(s[at]-'0')*10 + int(s[at+1]-'0') }

func digits(s []byte) (v int64) {
	for _, c := range s {
		v = v*10 + int64(c-'0')
	}
	return v
}

const (
	monthNames = "JanFebMarAprMayJunJulAugSepOctNovDec"
	dayNames   = "SunMonTueWedThuFriSat"
)

func nameIndex(names string, s []byte) int {
	for i := 0; i < len(names); i += 3 {
		if names[i] == s[0] && names[i+1] == s[1] && names[i+2] == s[2] {
			return i / 3
		}
	}
	return -1
}

var monthDays = [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// parse reads the time that s begins with, in units since the epoch. It fails
// unless the time lies near the entry's and prints as the same bytes.
func (l *layout) parse(s []byte, entry int64) (int64, bool) {
	if !l.fits(s) {
		return 0, false
	}
	entrySec := floorDiv(entry, 1e9)
	if l.epoch >= 0 {
		v := digits(s[:l.n])
		if d := v/(1e9/l.unit) - entrySec; s[0] == '0' || d < -nearby || d > nearby {
			return 0, false
		}
		return v, true
	}
	hour, minute, second := two(s, l.hour), two(s, l.minute), two(s, l.second)
	if hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	year, month, day := -1, 0, 0
	switch {
	case l.year >= 0:
		year = two(s, l.year)*100 + two(s, l.year+2)
	case l.year2 >= 0:
		year = 2000 + two(s, l.year2)
	}
	if l.monthName >= 0 {
		month = nameIndex(monthNames, s[l.monthName:]) + 1
	} else {
		month = two(s, l.month)
	}
	switch {
	case l.day >= 0:
		day = two(s, l.day)
	case s[l.padDay] == ' ':
		day = int(s[l.padDay+1] - '0')
	default:
		if day = two(s, l.padDay); day < 10 {
			return 0, false
		}
	}
	if month < 1 || month > 12 || day < 1 || day > monthDays[month-1] {
		return 0, false
	}
	if year < 0 {
		year = nearestYear(month, day, entrySec)
	}
	if year < 1970 || month == 2 && day == 29 && !leap(year) {
		return 0, false
	}
	days := daysFromCivil(year, month, day)
	if l.weekday >= 0 && int((days+4)%7) != nameIndex(dayNames, s[l.weekday:]) {
		return 0, false
	}
	sec := days*86400 + int64(hour*3600+minute*60+second)
	if d := sec - entrySec; d < -nearby || d > nearby {
		return 0, false
	}
	v := sec * (1e9 / l.unit)
	if l.fraction >= 0 {
		v += digits(s[l.fraction : l.fraction+l.frac])
	}
	return v, v >= l.min && v <= l.max // also fails if it overflows
}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func nearestYear(month, day int, entrySec int64) int {
	y := time.Unix(entrySec, 0).UTC().Year()
	best, found := int64(1<<62), y
	for c := y - 1; c <= y+1; c++ {
		if d := daysFromCivil(c, month, day)*86400 - entrySec; max(d, -d) < best {
			best, found = max(d, -d), c
		}
	}
	return found
}

// Day returns from when until when times have the text of a time but for what SetClock
// writes; nothing is between them if there is no such day.
func (l Layout) Day(v int64) (from, to int64) {
	k := layouts[l]
	if k.epoch >= 0 {
		return 0, 0
	}
	day := 86400 * (1e9 / k.unit)
	from = v - v%day
	return from, from + day
}

// SetClock makes the text of a time that of another one of its day.
func (l Layout) SetClock(text []byte, v int64) {
	k := layouts[l]
	perSecond := 1e9 / k.unit
	k.clock(text, uint64(v/perSecond%86400), v%perSecond)
}

// clock writes the time within a day.
func (l *layout) clock(s []byte, sec uint64, frac int64) {
	put(s, l.hour, sec/3600)
	put(s, l.minute, sec/60%60)
	put(s, l.second, sec%60)
	for p := l.fraction + l.frac - 1; p >= l.fraction && l.fraction >= 0; p-- {
		s[p] = byte('0' + frac%10)
		frac /= 10
	}
}

// put writes two digits.
func put(s []byte, at int, v uint64) {
	s[at], s[at+1] = byte('0'+v/10%10), byte('0'+v%10)
}

func (l *layout) append(dst []byte, v int64) []byte {
	if l.epoch >= 0 {
		return column.AppendUint(dst, uint64(v))
	}
	perSecond := 1e9 / l.unit
	sec := v / perSecond
	days := sec / 86400
	year, month, day := civilFromDays(days)
	at := len(dst)
	dst = append(dst, l.shape...)
	s := dst[at:]
	l.clock(s, uint64(sec%86400), v%perSecond)
	switch {
	case l.year >= 0:
		put(s, l.year, uint64(year)/100)
		put(s, l.year+2, uint64(year)%100)
	case l.year2 >= 0:
		put(s, l.year2, uint64(year)%100)
	}
	if l.monthName >= 0 {
		copy(s[l.monthName:], monthNames[(month-1)*3:month*3])
	} else {
		put(s, l.month, uint64(month))
	}
	if l.day >= 0 {
		put(s, l.day, uint64(day))
	} else if put(s, l.padDay, uint64(day)); day < 10 {
		s[l.padDay] = ' '
	}
	if l.weekday >= 0 {
		w := (days + 4) % 7 * 3
		copy(s[l.weekday:], dayNames[w:w+3])
	}
	return dst
}

// civilFromDays returns the Gregorian date of a day since the epoch, not negative.
func civilFromDays(days int64) (year, month, day int) {
	z := days + 719468 // since 1 March of year 0
	era := z / 146097
	doe := z % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	if month > 12 {
		month -= 12
	}
	year = int(yoe + era*400)
	if month <= 2 {
		year++
	}
	return year, month, day
}

// daysFromCivil returns the day since the epoch of a date after year 0.
func daysFromCivil(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := floorDiv(int64(year), 400)
	yoe := int64(year) - era*400
	doy := int64((153*(month-3)+2)/5 + day - 1)
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

const (
	maxLayouts  = 16  // in a section
	learnLines  = 64  // sampled
	maxRun      = 14  // digits; no layout begins with so many
	learnPrefix = 512 // bytes of each
)

// learnLayouts finds the layouts of in-line times in a sample of lines: those that
// at least one in fifty lines has.
func learnLayouts(lines *model.Strings, times []int64) []Layout {
	counts := make([]int, len(layouts))
	last := make([]int, len(layouts)) // row+1
	sampled := 0
	for r := 0; r < len(times); r += max(1, len(times)/learnLines) {
		sampled++
		line := lines.At(r)
		for i := 0; i < min(len(line), learnPrefix); i++ {
			if !alnum(line[i]) || i > 0 && alnum(line[i-1]) && !(isDigit(line[i]) && !isDigit(line[i-1])) {
				continue
			}
			// Most words can be ruled out for all layouts at once.
			run := 0
			for run < maxRun && i+run < len(line) && isDigit(line[i+run]) {
				run++
			}
			if run == 0 && (len(line)-i < 3 || nameIndex(monthNames, line[i:]) < 0 && nameIndex(dayNames, line[i:]) < 0) {
				continue
			}
			for k, l := range layouts {
				if l.letter != (run == 0) || !l.letter && l.run != run {
					continue
				}
				if _, ok := l.parse(line[i:], times[r]); !ok || i+l.n < len(line) && isDigit(line[i+l.n]) {
					continue
				}
				if last[k] != r+1 {
					last[k] = r + 1
					counts[k]++
				}
				i += l.n - 1
				break
			}
		}
	}
	var found []Layout
	for k, c := range counts {
		if c > 0 && c*50 >= sampled && len(found) < maxLayouts {
			found = append(found, Layout(k))
		}
	}
	return found
}

// Shape returns what times of the layout look like: '9' for a digit, 'A' for a
// letter, '_' for a digit or a space, and all else for itself. It is shared.
func (l Layout) Shape() []byte { return layouts[l].shape }

// Fraction returns where the digits of the fraction of the second are, which are
// those that count units; how many is 0 if there are none.
func (l Layout) Fraction() (at, digits int) {
	if layouts[l].fraction < 0 {
		return 0, 0
	}
	return layouts[l].fraction, layouts[l].frac
}

// Len returns the length of the layout's times.
func (l Layout) Len() int { return layouts[l].n }

// Alike appends the text of a time to dst and returns it, and how many of its first bytes
// all times from lo to hi have, both of them included. Both are in range.
func (l Layout) Alike(dst []byte, lo, hi int64) (text []byte, n int) {
	y := layouts[l]
	at := len(dst)
	dst = y.append(dst, lo)
	perDay := 86400 * (1e9 / y.unit)
	if lo > hi || y.epoch < 0 && lo/perDay != hi/perDay {
		return dst, 0
	}
	// Within a day, and of numbers as long, a later time is a greater text.
	var last [40]byte
	other := y.append(last[:0], hi)
	for n < y.n && dst[at+n] == other[n] {
		n++
	}
	return dst, n
}
