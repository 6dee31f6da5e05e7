package template

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is remembered of the day of a time changes nothing about how the next parses.
func TestTimesParseTheSameBehindOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Layout(rapid.IntRange(0, len(layouts)-1).Draw(t, "layout"))
		base := rapid.SampledFrom([]int64{day.UnixNano(), time.Date(2027, 12, 31, 23, 59, 30, 0, time.UTC).UnixNano(), time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC).UnixNano()}).Draw(t, "base")
		var c clock
		for range 30 {
			at := base + rapid.SampledFrom([]int64{1e6, 1e9, 60e9, 3600e9, 100 * 3600e9}).Draw(t, "unit")*rapid.Int64Range(-70, 70).Draw(t, "steps")
			text := append(l.Append(nil, l.Floor(at)), " behind"...)
			if rapid.Bool().Draw(t, "changed") {
				text[rapid.IntRange(0, layouts[l].n-1).Draw(t, "place")] = rapid.SampledFrom([]byte("0123456789 :.-,aJ")).Draw(t, "byte")
			}
			text = text[:rapid.SampledFrom([]int{len(text), layouts[l].n, layouts[l].n - 1}).Draw(t, "length")]
			entry := at + rapid.SampledFrom([]int64{0, 5e9, 35 * 3600e9, -37 * 3600e9, 400 * 86400e9}).Draw(t, "off")
			want, ok := layouts[l].parse(text, entry)
			if got, is := c.parse(layouts[l], text, entry); is != ok || is && got != want {
				t.Fatalf("%q of %s: %d %t, want %d %t", text, l.Pattern(), got, is, want, ok)
			}
			if ok && !layouts[l].likely(text) {
				t.Fatalf("%q is not likely to be %s", text, l.Pattern())
			}
		}
	})
}

// A time's text with the clock of another time of its day is that one's text.
func TestClocksAreSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Layout(rapid.IntRange(0, len(layouts)-1).Draw(t, "layout"))
		v := rapid.OneOf(rapid.Int64Range(l.Floor(day.UnixNano()), l.Floor(day.UnixNano()+1e18)), rapid.Int64Range(layouts[l].min, layouts[l].max)).Draw(t, "time")
		from, to := l.Day(v)
		if layouts[l].epoch >= 0 || to < from { // at the end of all times
			if v >= from && v < to {
				t.Fatalf("%d of %s has a day from %d to %d", v, l.Pattern(), from, to)
			}
			return
		}
		if v < from || v >= to {
			t.Fatalf("%d of %s is not of its day, %d to %d", v, l.Pattern(), from, to)
		}
		other := rapid.OneOf(rapid.Int64Range(from, to-1), rapid.Just(from), rapid.Just(to-1)).Draw(t, "other")
		if !l.InRange(other) {
			return
		}
		text := l.Append(nil, v)
		if l.SetClock(text, other); string(text) != string(l.Append(nil, other)) {
			t.Fatalf("%q of %s, want %q", text, l.Pattern(), l.Append(nil, other))
		}
	})
}

// Each layout is found, at the beginning of a line, within it, and behind a letter.
func TestLayoutsAreFound(t *testing.T) {
	for k := range layouts {
		l := Layout(k)
		for _, form := range []string{"%s", "%s up", "at %s.", "[%s] 12", "x=%s,"} {
			lines, times := input(day.UnixNano(), fmt.Sprintf(form, l.Append(nil, l.Floor(day.UnixNano()))))
			if found := learnLayouts(lines, times); !slices.Contains(found, l) {
				t.Errorf("%s is not found in %q, but %v", l.Pattern(), lines.Slab, found)
			}
		}
	}
}
