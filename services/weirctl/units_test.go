package weirctl

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// writes counts what is written to it at a time.
type writes int

func (w *writes) Write(b []byte) (int, error) {
	*w++
	return len(b), nil
}

// Help is written at once, so that a reader that needs no more than a line of it may go.
func TestHelpIsOneWrite(t *testing.T) {
	all := [][]string{{"--help"}, {"help"}}
	for _, c := range commands(&Env{Getenv: func(string) string { return "" }, Now: time.Now}) {
		all = append(all, []string{c.name, "--help"})
	}
	for _, args := range all {
		var n writes
		if code := Run(t.Context(), &Env{Args: args, Stdout: &n, Stderr: &n, Getenv: func(string) string { return "" }, Now: time.Now}); code != ExitOK || n != 1 {
			t.Errorf("%v: code %d, %d writes", args, code, n)
		}
	}
}

func TestAppendSafe(t *testing.T) {
	tests := map[string]string{
		"plain text\twith a tab": "plain text\twith a tab",
		"größe 漢字 🙂":             "größe 漢字 🙂",
		"👩\u200d💻":               "👩\u200d💻",
		"\x1b[31mred\x1b[0m":     `\x1b[31mred\x1b[0m`,
		"\x1b]0;title\x07":       `\x1b]0;title\x07`,
		"bell\a back\b null\x00": `bell\x07 back\x08 null\x00`,
		"over\rwrite":            `over\rwrite`,
		"two\nlines":             "two<NL>lines",
		"del\x7f":                `del\x7f`,
		"c1 \u009b31m":           `c1 \u009b31m`,
		"raw c1 \x9b31m":         `raw c1 \x9b31m`,
		"latin caf\xe9":          `latin caf\xe9`,
		"bidi \u202egpj.exe":     `bidi \u202egpj.exe`,
		"isolate \u2066x\u2069":  `isolate \u2066x\u2069`,
		"mark \u200f":            `mark \u200f`,
		"zero \u200bwidth":       `zero \u200bwidth`,
		"bom \ufeff":             `bom \ufeff`,
		"separator \u2028":       `separator \u2028`,
		"tag \U000e0041":         `tag \U000e0041`,
		"private \ue000":         `private \ue000`,
		"surrogate \xed\xa0\x80": `surrogate \xed\xa0\x80`,
		"replacement \ufffd":     "replacement \ufffd",
		"backslash \\x1b":        `backslash \x1b`,
	}
	for in, want := range tests {
		if got := string(appendSafe(nil, []byte(in), "<NL>")); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzAppendSafe: whatever comes in, what goes out is text without controls.
func FuzzAppendSafe(f *testing.F) {
	f.Add([]byte("\x1b[2Jx\u202e\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		out := string(appendSafe(nil, in, " "))
		if !utf8.ValidString(out) {
			t.Fatalf("%q is not UTF-8", out)
		}
		for _, r := range out {
			if r != '\t' && (r < ' ' || r == 0x7f || hidden(r)) {
				t.Fatalf("%q has %U", out, r)
			}
		}
	})
}

func TestParseTime(t *testing.T) {
	tests := map[string]time.Time{
		"now":                        noon,
		"now-90m":                    noon.Add(-90 * time.Minute),
		"now-1d":                     noon.AddDate(0, 0, -1),
		"2026-03-01T10:00:00Z":       noon.Add(-2 * time.Hour),
		"2026-03-01T12:00:00+02:00":  noon.Add(-2 * time.Hour),
		"2026-03-01T10:00:00.25Z":    noon.Add(-2*time.Hour + 250*time.Millisecond),
		"2026-03-01 10:00":           time.Date(2026, 3, 1, 10, 0, 0, 0, time.Local),
		"2026-03-01":                 time.Date(2026, 3, 1, 0, 0, 0, 0, time.Local),
		"1772366400":                 noon,
		"1772366400000000001":        noon.Add(1),
		"":                           {},
		"yesterday":                  {},
		"now-":                       {},
		"now--1h":                    {},
		"-5":                         {},
		"2026-13-01":                 {},
		"99999999999999999999999999": {},
	}
	for in, want := range tests {
		got, err := parseTime(in, noon)
		if (err != nil) != want.IsZero() || err == nil && !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	tests := map[string]time.Duration{
		"0": 0, "15m": 15 * time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"7d": 7 * day, "2w": 14 * day, "1w2d3h": 9*day + 3*time.Hour,
		"": -1, "5": -1, "-1h": -1, "1.5d": -1, "d": -1, "1d-1h": -1, "1 hour": -1, "4000000000w": -1, "20000w": -1,
	}
	for in, want := range tests {
		got, err := parseDuration(in)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestByteSize(t *testing.T) {
	tests := map[string]int64{
		"0": 0, "500": 500, "10MB": 10e6, "64KiB": 64 << 10, "1.5kB": 1500, "2 GB": 2e9, "7B": 7,
		"": -1, "MB": -1, "-1": -1, "10XB": -1, "1e40": -1, "5 5": -1,
	}
	for in, want := range tests {
		var b byteSize
		err := b.Set(in)
		if (err != nil) != (want < 0) || err == nil && int64(b) != want {
			t.Errorf("%q: %d, %v, want %d", in, b, err, want)
		}
	}
}

func TestFormatNumbers(t *testing.T) {
	for in, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := formatCount(in); got != want {
			t.Errorf("%d: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[uint64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 999_999: "1 MB", 123_456_789: "123 MB", 5e12: "5 TB"} {
		if got := formatBytes(in); got != want {
			t.Errorf("%d: %q, want %q", in, got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	for in, want := range map[string]string{"tial": "tail", "querry": "query", "lables": "labels", "xyzzy": ""} {
		got := suggest(in, []string{"query", "tail", "push", "labels"})
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSparkline(t *testing.T) {
	samples := func(values ...float64) (s []*queryv1.Sample) {
		for _, v := range values {
			s = append(s, &queryv1.Sample{Value: v})
		}
		return s
	}
	nan := func() float64 { z := 0.0; return z / z }()
	for want, s := range map[string][]*queryv1.Sample{
		"":      nil,
		"▅▅":    samples(3, 3),
		"▁▅█":   samples(0, 4, 7),
		"▁ █":   samples(0, nan, 7),
		"▁▂▇██": samples(0, 0, 1, 0, 5, 6, 0, 7, 7, 6),
		"▁█":    samples(-1e308, 1e308),
	} {
		width := 5
		if got := sparkline(s, width); got != want {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
}
