package discover

import (
	"bytes"
	"cmp"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type lbl struct{ Name, Value string }

func TestLineLevel(t *testing.T) {
	for line, want := range map[string]string{
		"level=info msg=x":           "info",
		"LEVEL=warn msg=x":           "warn",
		"lvl=err msg=x":              "error",
		"severity=critical msg=x":    "critical",
		"Severity=FATAL msg=x":       "fatal",
		"level=Warning msg=x":        "warn",
		"level=trc msg=x":            "trace",
		"level=dbg msg=x":            "debug",
		"level=inf msg=x":            "info",
		"level=wrn msg=x":            "warn",
		"level=information msg=x":    "info",
		"level=notice msg=x":         "unknown",
		"level=5 msg=x":              "unknown",
		"level= msg=x":               "unknown",
		"lvl=debug level=error":      "error",
		"lvl=debug x=\"y level=e":    "debug",
		"msg=\"level=error inside\"": "error",
		`user=bob level="debug" x=1`: "debug",
		"level=notice an error":      "error",

		`{"level":"info"}`:                           "info",
		`{"level":"ERROR"}`:                          "error",
		`{"severity":"warning"}`:                     "warn",
		`{"lvl":"debug"}`:                            "debug",
		`{"log":{"level":"fatal"}}`:                  "fatal",
		`{"a":{"b":{"level":"error"}}}`:              "error", // as text
		`{"a":{"b":{"level":"dbg"}}}`:                "unknown",
		`{"msg":"an error happened"}`:                "error",
		`{"level":30}`:                               "unknown",
		`{"level":30,"lvl":"warn"}`:                  "warn",
		`{"level":"whatever","msg":"warn me"}`:       "warn",
		`{"err":"level=error"}`:                      "error",
		`[{"level":"error"}]`:                        "error",
		`{"a":[{"level":"dbg"}],"lvl":"wrn"}`:        "warn",
		`{"msg":"a \"level\": \"dbg\"","lvl":"inf"}`: "info",
		`{"x":"level","y":"dbg"}`:                    "unknown",
		`  {"level" : "dbg" } ` + "\n":               "debug",
		`{"LeVeL":"dbg"}`:                            "unknown",

		"INFO starting":         "info",
		"[ERROR] failed":        "error",
		"an error: something":   "error",
		"warning! careful":      "warn",
		"this is fatal":         "fatal",
		"critical issue":        "critical",
		"DEBUG trace":           "debug",
		"misc:error colon left": "unknown",
		"terror is not a level": "unknown",
		"errors are plural":     "unknown",
		"error.log opened":      "unknown",
		"(warn)":                "warn",
		"err=nil":               "error",
		"ERR x":                 "error",
		"WARN and ERROR":        "warn",
		"trace: on":             "trace",
		"no keyword here":       "unknown",
		"":                      "unknown",
		"<4>kernel":             "unknown",
		"panic: oh no":          "unknown",
	} {
		if got := LineLevel([]byte(line)); got != want {
			t.Errorf("LineLevel(%q) = %s, want %s", line, got, want)
		}
	}
}

func TestLevelOrder(t *testing.T) {
	line := []byte("level=debug")
	for _, c := range []struct {
		labels, meta []lbl
		want         string
	}{
		{nil, nil, "debug"},
		{[]lbl{{"level", "Warning"}}, []lbl{{"level", "error"}}, "warn"},
		{[]lbl{{"level", "Warning"}}, []lbl{{"detected_level", "ERR"}}, "error"},
		{nil, []lbl{{"detected_level", "odd"}}, "odd"},
		{[]lbl{{"severity", "custom"}}, nil, "custom"},
		{[]lbl{{"severity", "custom"}, {"LEVEL", "inf"}}, nil, "info"},
		{nil, []lbl{{"severity_number", "17"}, {"severity_text", "Info"}}, "info"},
		{nil, []lbl{{"severity_number", "17"}}, "error"},
		{nil, []lbl{{"severity_number", "24"}}, "fatal"},
		{nil, []lbl{{"severity_number", "1"}}, "trace"},
		{nil, []lbl{{"severity_number", "0"}}, "unknown"},
		{nil, []lbl{{"severity_number", "25"}}, "unknown"},
		{nil, []lbl{{"severity_number", "x"}}, "info"},
		{[]lbl{{"leveL", "error"}}, nil, "debug"},
	} {
		if got := Level(c.labels, c.meta, line); got != c.want {
			t.Errorf("Level(%v, %v) = %s, want %s", c.labels, c.meta, got, c.want)
		}
	}
}

func TestServiceName(t *testing.T) {
	for _, c := range []struct {
		labels []lbl
		want   string
	}{
		{nil, "unknown_service"},
		{[]lbl{{"zone", "z"}}, "unknown_service"},
		{[]lbl{{"app", "loses"}, {"service", "svc"}}, "svc"},
		{[]lbl{{"app", "other"}, {"service_name", "explicit"}}, "explicit"},
		{[]lbl{{"job", "nightly"}}, "nightly"},
		{[]lbl{{"app", ""}, {"container", "sidecar"}}, "sidecar"},
	} {
		if got := ServiceName(c.labels); got != c.want {
			t.Errorf("ServiceName(%v) = %s, want %s", c.labels, got, c.want)
		}
	}
}

// The naive twin of textLevel.
var words = regexp.MustCompile("(?i)(?:^|[ \t\n\\[({\"'=|])(trace|debug|fatal|critical|error|err|warning|warn|info)(?:$|[ \t\n\r\\[\\](){}:,!\"'=|])")

func TestTextLevelAgainstRegexp(t *testing.T) {
	part := rapid.SampledFrom(strings.Split("trace,DEBUG,fatal,critical,Error,err,warning,warn,info,x,xerr,errx, ,\t,\n,[,],(,),{,},\",',=,|,:,!,.,;,é", ","))
	rapid.Check(t, func(t *rapid.T) {
		line := strings.Join(rapid.SliceOfN(part, 0, 12).Draw(t, "parts"), "")
		want := "unknown"
		// Matches of the twin overlap at their bounds, so it is asked at every position.
		for i := 0; i < len(line) && want == "unknown"; i++ {
			from := max(i-1, 0)
			if m := words.FindStringSubmatchIndex(line[from:]); m != nil && from+m[2] == i {
				if from > 0 && m[0] == m[2] {
					continue // "^" of the cut, not of the line
				}
				want = normal(line[i : from+m[3]])
			}
		}
		if got := textLevel([]byte(line)); got != want {
			t.Fatalf("textLevel(%q) = %s, want %s", line, got, want)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	labels := []lbl{{"app", "x"}}
	lines := [][]byte{
		[]byte("plain text without anything"), []byte(`{"a":"b","level":"error"}`), []byte("a=b c=\"d e\" level=warn"),
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, l := range lines {
			Level(labels, labels, l)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTextLevelIsTheFirstWord: against a look at each byte for a word of any level.
func TestTextLevelIsTheFirstWord(t *testing.T) {
	pieces := []string{" ", "\t", "\n", "\r", "[", "(", "{", "]", "\"", "'", "=", "|", ":", ",", "x", "e", "in", "wa", "7", "\xff",
		"trace", "Debug", "FATAL", "critical", "info", "INFO", "warn", "warning", "error", "eRR", "inform", "errors", "warnin"}
	rapid.Check(t, func(t *rapid.T) {
		line := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "line"), ""))
		want := LevelUnknown
		for i := range line {
			if i > 0 && !strings.ContainsRune(" \t\n[({\"'=|", rune(line[i-1])) {
				continue
			}
			if want = cmp.Or(wordAt(line[i:]), LevelUnknown); want != LevelUnknown {
				break
			}
		}
		if got := textLevel(line); got != want {
			t.Errorf("textLevel(%q) = %s, want %s", line, got, want)
		}
	})
}

func FuzzLineLevel(f *testing.F) {
	f.Add([]byte(`{"level":"info\""}`))
	f.Add([]byte(`a="\`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if l := LineLevel(line); l != LevelUnknown && normal(l) != l {
			t.Errorf("%q is no normal form", l)
		}
	})
}

func BenchmarkLineLevel(b *testing.B) {
	for name, line := range map[string]string{
		"text":   "2026-11-20 10:08:30.123 dfs.DataNode$PacketResponder: Received block blk_-1608999687919862906 of size 91178 from /10.250.10.6 " + strings.Repeat("terminating the connection ", 4),
		"logfmt": `ts=2026-11-20T10:00:04.731Z caller=main.go:100 msg="request served" method=PUT path=/api/v1/orders status=304 level=info`,
		"json":   `{"time":"2026-11-20T10:00:04.692179651Z","msg":"query run","request":{"method":"POST","headers":{"x-id":"r9765"}},"level":"info"}`,
	} {
		b.Run(name, func(b *testing.B) {
			l := bytes.Clone([]byte(line))
			b.SetBytes(int64(len(l)))
			for b.Loop() {
				LineLevel(l)
			}
		})
	}
}
