package syntax

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParsePromDuration(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
		err  string
	}{
		{"5m", 5 * time.Minute, ""},
		{"1y1w1d1h1m1s1ms", (365+7+1)*24*time.Hour + time.Hour + time.Minute + time.Second + time.Millisecond, ""},
		{"0", 0, ""}, {"0s", 0, ""},
		{"", 0, "empty duration string"},
		{"5", 0, `not a valid duration string: "5"`},
		{"-5m", 0, `not a valid duration string: "-5m"`},
		{" 5m", 0, `not a valid duration string: " 5m"`},
		{"1m1h", 0, `not a valid duration string: "1m1h"`},
		{"1m1m", 0, `not a valid duration string: "1m1m"`},
		{"5m ", 0, `unknown unit "m " in duration "5m "`},
		{"1.5m", 0, `unknown unit "." in duration "1.5m"`},
		{"5µs", 0, `unknown unit "µs" in duration "5µs"`},
		{"292y200d", 0, "duration out of range"},
		{"99999999999999999999s", 0, "duration out of range"},
	} {
		got, err := parsePromDuration(c.in)
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%q: %v, %v", c.in, got, err)
		}
	}
}

func TestFormatPromDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 90 * time.Second: "1m30s", 24 * time.Hour: "1d", 90 * 24 * time.Hour: "90d",
		14 * 24 * time.Hour: "2w", 365 * 24 * time.Hour: "1y", -time.Hour: "-1h", 1500 * time.Millisecond: "1s500ms",
	} {
		if got := formatPromDuration(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64/1_000_000).Draw(t, "ms")) * time.Millisecond
		if got, err := parsePromDuration(formatPromDuration(d)); err != nil || got != d {
			t.Fatalf("%d: %s: %d, %v", d, formatPromDuration(d), got, err)
		}
	})
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]uint64{
		"5B": 5, "5K": 5000, "5KB": 5000, "5Ki": 5120, "5KiB": 5120, "1.5MiB": 1572864, "2.3MB": 2300000,
		"1G": 1e9, "1T": 1e12, "1P": 1e15, "1PiB": 1 << 50, "18446744073709551615B": math.MaxUint64, ".5K": 500,
	} {
		if got, ok := parseBytes(in); !ok || got != want {
			t.Errorf("%s: %d, %v, want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"5", "5KK", "5iB", "20000P", "18446744073709551616B", "1.2.3K", ".K"} {
		if got, ok := parseBytes(in); ok {
			t.Errorf("%s: %d", in, got)
		}
	}
	for v, want := range map[uint64]string{
		0: "0B", 9: "9B", 10: "10B", 999: "999B", 1000: "1.0kB", 1572864: "1.6MB", 12 << 10: "12kB",
		4 << 20: "4.2MB", 999_950: "1000kB", 12_500: "12kB", 13_500: "14kB", math.MaxUint64: "18EB",
	} {
		if got, _ := roundBytes(v); got != want {
			t.Errorf("%d: %s, want %s", v, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64().Draw(t, "bytes")
		text, rounded := roundBytes(v)
		if again := RoundBytes(rounded); again != rounded {
			t.Fatalf("%d rounds to %d, then to %d", v, rounded, again)
		}
		if v < 1e18 {
			if back, ok := parseBytes(text); !ok || back != rounded {
				t.Fatalf("%d prints %s = %d, parsed as %d", v, text, rounded, back)
			}
		}
	})
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "1.5h": 90 * time.Minute, "250µs": 250 * time.Microsecond, "250μs": 250 * time.Microsecond,
		"1d": 24 * time.Hour, "-1d": -24 * time.Hour, "-5m": -5 * time.Minute, "1w2d": 9 * 24 * time.Hour, "3ns": 3, ".5s": time.Second / 2,
	} {
		if got, ok := parseDuration(in); !ok || got != want {
			t.Errorf("%s: %s, %v", in, got, ok)
		}
	}
	for _, in := range []string{"5", "5m6", "1.5d", "mm", "5.", "400y"} {
		if got, ok := parseDuration(in); ok {
			t.Errorf("%s: %s", in, got)
		}
	}
}

func TestPatternParts(t *testing.T) {
	lit := func(s string) PatternPart { return PatternPart{Text: s} }
	capture := func(s string) PatternPart { return PatternPart{Text: s, Capture: true} }
	for in, want := range map[string][]PatternPart{
		"":               nil,
		"abc":            {lit("abc")},
		"<a>":            {capture("a")},
		"<a> - <_> x":    {capture("a"), lit(" - "), capture("_"), lit(" x")},
		"<<a>>":          {lit("<"), capture("a"), lit(">")},
		"<1a><a b><><é>": {lit("<1a><a b><><é>")},
		"<a":             {lit("<a")},
		"<a><b>":         {capture("a"), capture("b")},
		"日<a1_>本":        {lit("日"), capture("a1_"), lit("本")},
	} {
		got := PatternParts(in)
		if len(got) != len(want) {
			t.Errorf("%q: %v", in, got)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: %v", in, got)
			}
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range []struct {
		op         BinaryOp
		a, b, want float64
	}{
		{OpAdd, 1, 2, 3}, {OpSub, 1, 2, -1}, {OpMul, 2, 3, 6}, {OpDiv, 1, 4, 0.25}, {OpMod, -7, 4, -3}, {OpPow, 2, -1, 0.5},
		{OpEqual, 1, 1, 1}, {OpNotEqual, 1, 1, 0}, {OpGreater, 2, 1, 1}, {OpGreaterEqual, 1, 1, 1}, {OpLess, 2, 1, 0}, {OpLessEqual, 2, 1, 0},
	} {
		if got := Fold(c.op, c.a, c.b); got != c.want {
			t.Errorf("%v %s %v = %v", c.a, c.op, c.b, got)
		}
	}
	if !math.IsNaN(Fold(OpDiv, 1, 0)) || !math.IsNaN(Fold(OpMod, 1, 0)) {
		t.Error("division by zero is a number")
	}
}
