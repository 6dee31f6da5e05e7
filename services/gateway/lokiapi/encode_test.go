package lokiapi

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

func FuzzAppendString(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("q\"\\\n\r\t\x00\x1f\x7f\xff\u2028\u2029é😀\xf0\x9f"))
	f.Fuzz(func(t *testing.T, in []byte) {
		text, bytes := appendString(nil, string(in)), appendString(nil, in)
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		// The standard library replaces each bad byte, as we do.
		var want string
		std, _ := json.Marshal(string(in))
		if err := json.Unmarshal(std, &want); err != nil {
			t.Fatal(err)
		}
		if got != want || string(text) != string(bytes) {
			t.Fatalf("%q: %q, %q, want %q", in, got, bytes, want)
		}
	})
}

func TestAppendSeconds(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0", 1: "0", 1e6: "0.001", 1_795_170_000_250_000_000: "1795170000.25", 1_795_170_000_000_000_001: "1795170000",
		-1_500_000_000: "-1.5", 10_000_000: "0.01", 999_999_999: "0.999", 120_000_000: "0.12",
	} {
		if got := string(appendSeconds(nil, in)); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-1<<52, 1<<52).Draw(t, "ns")
		want := strconv.FormatFloat(float64(ns/1e6)/1e3, 'f', -1, 64)
		if got := string(appendSeconds(nil, ns)); got != want && want != "-0" {
			t.Fatalf("%d: %s, want %s", ns, got, want)
		}
	})
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]time.Time{
		"0":                              time.Unix(0, 0),
		"1795170000":                     time.Unix(1795170000, 0),
		"4000000000":                     time.Unix(4000000000, 0),
		"1795170000000000000":            time.Unix(1795170000, 0),
		"17951700000":                    time.Unix(17, 951700000),
		"-5":                             time.Unix(-5, 0),
		"1795170000.5":                   time.Unix(1795170000, 5e8),
		"1795170040.0":                   time.Unix(1795170040, 0),
		"2026-11-20T10:20:00.000000001Z": time.Date(2026, 11, 20, 10, 20, 0, 1, time.UTC),
		"2026-11-20T11:20:00+01:00":      time.Date(2026, 11, 20, 10, 20, 0, 0, time.UTC),
	} {
		if got, err := parseTime(in); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "1.2.3", "NaN.", "99999999999999999999", "1e400.0", "2026-11-20"} {
		if got, err := parseTime(in); err == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{"1795170000.5", "15000ms", "1m30s", "-1h", "0.5", "1e300", "2026-11-20T10:20:00Z", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		// What comes out is what grpc-gateway reads.
		if text, err := TimeText(in); err == nil && !strings.HasPrefix(text, "-") && len(text) < 32 {
			var ts timestamppb.Timestamp
			if at, _ := parseTime(in); at.Year() > 0 && at.Year() < 10000 {
				if err := protojson.Unmarshal([]byte(strconv.Quote(text)), &ts); err != nil {
					t.Fatalf("%q: %q: %v", in, text, err)
				}
			}
		}
		if text, err := DurationText(in); err == nil {
			want, err := parseSeconds(in)
			if err != nil {
				if want, err = time.ParseDuration(in); err != nil {
					t.Fatal(err)
				}
			}
			var d durationpb.Duration
			if err := protojson.Unmarshal([]byte(strconv.Quote(text)), &d); err != nil || d.AsDuration() != want {
				t.Fatalf("%q: %q: %v, %v, want %v", in, text, d.AsDuration(), err, want)
			}
		}
	})
}

func TestDurationTextIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Duration(rapid.Int64Range(-math.MaxInt64, math.MaxInt64).Draw(t, "d"))
		text, err := DurationText(want.String())
		if err != nil {
			t.Fatal(err)
		}
		var d durationpb.Duration
		if err := protojson.Unmarshal([]byte(`"`+text+`"`), &d); err != nil || d.AsDuration() != want {
			t.Fatalf("%s: %s: %v", want, text, err)
		}
	})
}

func TestCloseText(t *testing.T) {
	for _, n := range []int{0, 60, 61, 62, 63, 200} {
		got := closeText(badParam("%s", "x"+strings.Repeat("é", n)))
		if len(got) > maxCloseText || strings.ContainsRune(got, '\uFFFD') || !strings.HasPrefix(got, "x") {
			t.Errorf("%d: %q", n, got)
		}
	}
}
