package template

// clock remembers the day of the time that was parsed last.
type clock struct {
	text  [40]byte // of the time; as long as any layout
	day   int64    // its first second since the epoch; times whose dates have the same text are of it
	known bool
}

// parse is layout.parse.
func (c *clock) parse(l *layout, s []byte, entry int64) (int64, bool) {
	if at := l.hour; c.known && len(s) >= l.n && string(s[:at]) == string(c.text[:at]) {
		if v, ok := c.within(l, s, entry); ok {
			return v, true
		}
	}
	v, ok := l.parse(s, entry)
	if ok && l.epoch < 0 {
		copy(c.text[:], s[:l.n])
		c.day, c.known = v/(1e9/l.unit)-int64(two(s, l.hour)*3600+two(s, l.minute)*60+two(s, l.second)), true
	}
	return v, ok
}

// within parses a time of the same day; if it fails, that says nothing.
func (c *clock) within(l *layout, s []byte, entry int64) (int64, bool) {
	at := l.second
	hour, ok1 := twoDigits(s, l.hour)
	minute, ok2 := twoDigits(s, l.minute)
	second, ok3 := twoDigits(s, at)
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 || s[l.minute-1] != l.shape[l.minute-1] && l.minute > l.hour+2 || s[at-1] != l.shape[at-1] && at > l.minute+2 {
		return 0, false
	}
	sec := c.day + int64(hour*3600+minute*60+second)
	// Of a year that is not written the nearest is meant, so this is it.
	if d := sec - floorDiv(entry, 1e9); d < -nearby || d > nearby {
		return 0, false
	}
	perSecond := 1e9 / l.unit
	if l.fraction < 0 {
		return sec, string(s[at+2:l.n]) == string(c.text[at+2:l.n])
	}
	if s[at+2] != l.shape[at+2] {
		return 0, false
	}
	v := int64(0)
	for _, b := range s[at+3 : l.n] {
		if !isDigit(b) {
			return 0, false
		}
		v = v*10 + int64(b-'0')
	}
	v += sec * perSecond
	return v, v >= l.min && v <= l.max && sec <= (1<<63-1)/perSecond-1
}

// twoDigits returns the number of two digits, if that is what they are.
func twoDigits(s []byte, at int) (int, bool) {
	tens, ones := s[at]-'0', s[at+1]-'0'
	return int(tens)*10 + int(ones), tens <= 9 && ones <= 9
}
