package pipeline

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func sprint(v ...any) string { return fmt.Sprint(v...) }

func TestTemplateFunctions(t *testing.T) {
	const failed = "TemplateFormatErr"
	for tmpl, want := range map[string]string{
		`{{__line__ | len}}`:                   "4",
		`{{__timestamp__}}`:                    "2026-11-20 10:05:00 +0000 UTC",
		`{{__timestamp__.Unix}}`:               "1795169100",
		`{{lower "ÀB"}}{{upper "àb"}}`:         "àbÀB",
		`{{title "ab cd-ef g_h"}}`:             "Ab Cd-Ef G_h",
		`{{trim " a "}}|{{trimAll "x" "xax"}}`: "a|a",
		`{{Trim "xay" "xy"}}{{TrimLeft "xax" "x"}}{{TrimRight "xax" "x"}}`:                             "aaxxa",
		`{{trimPrefix "a" "ab"}}{{TrimPrefix "ab" "a"}}{{trimSuffix "b" "ab"}}{{TrimSuffix "ab" "b"}}`: "bbaa",
		`{{replace "a" "b" "aa"}}{{Replace "aa" "a" "b" 1}}{{Replace "aa" "" "-" -1}}`:                 "bbba-a-a-",
		`{{contains "a" "ba"}}{{hasPrefix "b" "ba"}}{{hasSuffix "b" "ba"}}`:                            "truetruefalse",
		`{{regexReplaceAll "a(.)" "abac" "${1}x"}}`:                                                    "bxcx",
		`{{regexReplaceAll "" "ab" "-"}}`:                                                              "-a-b-",
		`{{regexReplaceAllLiteral "a(.)" "abac" "$1"}}`:                                                "$1$1",
		`{{regexReplaceAll "(" "a" "b"}}`:                                                              failed,
		`{{count "" "hello world"}}{{count "l" "hello"}}`:                                              "122",
		`{{trunc 2 "abc"}}|{{trunc -2 "abc"}}|{{trunc 9 "abc"}}|{{trunc -9 "abc"}}|{{trunc 0 "abc"}}`:  "ab|bc|abc|abc|",
		`{{substr 1 2 "abc"}}{{substr -1 2 "abc"}}{{substr 1 -1 "abc"}}{{substr 1 9 "abc"}}`:           "babbcbc",
		`{{substr 5 9 "abc"}}`:  failed,
		`{{substr 2 1 "abc"}}`:  failed,
		`{{substr -1 9 "abc"}}`: failed,
		`{{alignLeft 3 "a"}}|{{alignRight 3 "a"}}|{{alignLeft 1 "日本"}}|{{alignRight 1 "日本"}}|{{alignLeft -1 "a"}}|{{alignLeft 0 "a"}}`: "a  |  a|日|本|a|",
		`{{repeat 3 "ab"}}`:                                "ababab",
		`{{repeat -1 "ab"}}`:                               failed,
		`{{indent 2 "a\nb"}}{{nindent 1 "a\nb"}}`:          "  a\n  b\n a\n b",
		`{{b64enc "hi"}}{{b64dec "aGk"}}{{b64dec "aGk="}}`: "aGk=hihi",
		`{{b64dec "!"}}`:                                   "illegal base64 data at input byte 0",
		`{{urlencode "a b/é"}}{{urldecode "a+b%2F"}}`:      "a+b%2F%C3%A9a b/",
		`{{urldecode "%zz"}}`:                              failed,
		`{{bytes "5MiB"}} {{bytes "42"}} {{duration "1500ms"}} {{duration_seconds "1m"}}`: "5.24288e+06 42 1.5 60",
		`{{bytes ""}}`:     failed,
		`{{duration "5"}}`: failed,
		`{{int "0x10"}} {{int "010"}} {{int "1_0"}} {{int "3.9"}} {{int "x"}} {{int "99999999999999999999"}} {{int 3.9}} {{int "08"}}`: "16 8 10 3 0 0 3 0",
		`{{add 1 "2" 3}} {{sub 5 7}} {{mul 2 3 4}} {{div 7 2}} {{mod 7 2}} {{max 1 3 2}} {{min 3 -2 8}}`:                               "6 -2 24 3 1 3 -2",
		`{{div 1 0}}`:                       failed,
		`{{mod 1 "x"}}`:                     failed,
		`{{float64 "1.5"}} {{float64 "x"}}`: "1.5 0",
		`{{addf 0.1 0.2}} {{subf 5.5 2}} {{mulf 1.5 2}} {{divf 8 42}} {{divf -1 3}} {{addf 1 2 3.5}}`: "0.3 3.5 3 0.1904761904761905 -0.3333333333333333 6.5",
		`{{divf 1 0}}`:     failed,
		`{{addf 1 "NaN"}}`: failed,
		`{{maxf 1.5 2.5}} {{minf 1.5 0.5}} {{ceil 1.2}} {{floor "3.14"}} {{round 3.14159 2}} {{round 2.5 0}} {{round -2.5 0}} {{round -2.1 0}}`:                           "2.5 0.5 2 3 3.14 3 -3 -3",
		`{{default "d" ""}}{{default "d" 0}}{{default "d" "v"}}{{default "d" false}}{{.nosuch | default "e"}}`:                                                            "ddvde",
		`{{(fromJson "{\"a\":[1,2.5,\"x\"]}").a}}{{index (fromJson "[1,2]") 1}}{{fromJson "bad"}}`:                                                                        "[1 2.5 x]2<no value>",
		`{{range $i, $v := fromJson "[\"a\",\"b\"]"}}{{$i}}{{$v}}{{end}}`:                                                                                                 "0a1b",
		`{{date "2006-01-02" __timestamp__}} {{date "15:04" 60}} {{date "2006" "junk"}}`:                                                                                  "2026-11-20 00:01 2030",
		`{{now | date "2006"}}{{now | unixEpoch}}`:                                                                                                                        "20301893456000",
		`{{toDate "2006-01-02" "2026-07-01" | unixEpoch}} {{toDate "2006-01-02" "x" | unixEpoch}}`:                                                                        "1782864000 -62135596800",
		`{{toDateInZone "2006-01-02 15:04" "Europe/Berlin" "2026-07-01 12:00" | unixEpoch}} {{toDateInZone "2006-01-02 15:04" "No/Zone" "2026-07-01 12:00" | unixEpoch}}`: "1782900000 1782907200",
		`{{unixEpochMillis __timestamp__}} {{unixEpochNanos __timestamp__}}`:                                                                                              "1795169100000 1795169100000000000",
		`{{unixToTime "20777"}}`: "2026-11-20 00:00:00 +0000 UTC",
		`{{unixToTime "1795169640"}} {{unixToTime "1795169640123"}} {{unixToTime "1795169640123456" | unixEpochNanos}} {{unixToTime "1795169640123456789" | unixEpochNanos}}`: "2026-11-20 10:14:00 +0000 UTC 2026-11-20 10:14:00.123 +0000 UTC 1795169640123456000 1795169640123456789",
		`{{unixToTime "12"}}`: failed,
		`{{printf "%05d|%-4s|%x|%.2f|%q" 1 "a" "b" 1.5 "c"}}`:                                                  `00001|a   |62|1.50|"c"`,
		`{{print "a" 1}}{{println "b"}}`:                                                                       "a1b\n",
		`{{html "<a>"}} {{js "it's"}} {{urlquery "a b"}}`:                                                      `&lt;a&gt; it\'s a+b`,
		`{{len "abc"}}{{slice "abc" 1 2}}{{if eq .app "x"}}y{{else}}n{{end}}{{with .nosuch}}a{{else}}b{{end}}`: "3byb",
		`{{eq 1 "1"}}`:       failed,
		`{{index .app 100}}`: failed,
		`{{unixEpoch "x"}}`:  failed,
		`{{lower 1}}`:        failed,
		`{{define "a"}}[{{.}}]{{end}}{{template "a" .app}}`: "[x]",
		`{{range $k, $v := .}}{{$k}}={{$v}} {{end}}`:        "app=x env=test env_extracted=meta trace=t1 ",
		`{{template "x"}}`:              failed,
		`{{$x := .app}}{{$x}}{{$.env}}`: "xtest",
	} {
		p, err := Compile(stages(t, "| line_format "+fmt.Sprintf("%q", tmpl)), Hints{Now: func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }})
		if err != nil {
			t.Errorf("%s: %v", tmpl, err)
			continue
		}
		line, set, _ := p.ForStream(testLabels).Process(1_795_169_100_000_000_000, []byte("line"), testMeta)
		kind, details := set.Err()
		got := string(line)
		if kind != "" {
			got = kind
		}
		if got != want {
			t.Errorf("%s: got %q (%s), want %q", tmpl, got, details, want)
		}
	}
}

// TestBombs: templates that would take all memory or time fail instead.
func TestBombs(t *testing.T) {
	nested := "{{define \"t0\"}}x{{end}}"
	for i := range 40 {
		nested += fmt.Sprintf("{{define \"t%d\"}}{{template \"t%d\"}}{{template \"t%d\"}}{{end}}", i+1, i, i)
	}
	doubling := "{{$x := __line__}}" + strings.Repeat("{{$x = print $x $x}}", 60)
	for name, tmpl := range map[string]string{
		"repeat":       `{{repeat 1000000000 "x" | trunc 5}}`,
		"repeat twice": `{{repeat 100000 (repeat 100000 "x")}}`,
		"indent":       `{{indent 1000000000 "x"}}`,
		"indent lines": `{{indent 1000 (repeat 100000 "\n")}}`,
		"align":        `{{alignLeft 1000000000 "x"}}`,
		"printf width": `{{printf "%1000000000d" 1}}`,
		"printf many":  `{{printf "` + strings.Repeat("%999999d", 50) + `" 1}}`,
		"printf star":  `{{printf "%*d" 999999999 1}}`,
		"printf index": `{{$x := repeat 100000 "x"}}{{printf "` + strings.Repeat("%[1]s", 1000) + `" $x}}`,
		"print":        doubling,
		"replace":      `{{$x := repeat 100000 "x"}}{{replace "x" $x $x}}`,
		"regex":        `{{$x := repeat 100000 "x"}}{{regexReplaceAll "x" $x $x}}`,
		"regex groups": `{{$x := repeat 1000000 "x"}}{{regexReplaceAll "(x)(x)(x)?" $x "$1"}}`,
		"regex lit":    `{{$x := repeat 100000 "x"}}{{regexReplaceAllLiteral "x" $x $x}}`,
		"regex size":   `{{regexReplaceAll "` + strings.Repeat("x{1000}", 100) + `" "x" "y"}}`,
		"html":         `{{html (repeat 1000000 "<")}}`,
		"js":           `{{js (repeat 1000000 "<")}}`,
		"urlencode":    `{{urlencode (repeat 1000000 "<")}}`,
		"b64enc":       `{{b64enc (repeat 1000000 "<")}}`,
		"range":        `{{range 1000000000}}{{end}}`,
		"range range":  `{{range 100000}}{{range 100000}}{{end}}{{end}}`,
		"templates":    nested + `{{template "t40"}}`,
		"output":       `{{$x := repeat 100000 "x"}}{{range 100}}{{$x}}{{end}}`,
		"date":         `{{date (repeat 1000000 "Monday") now}}`,
		"work":         `{{$x := repeat 1000000 "x"}}{{range 1000}}{{$y := lower $x}}{{end}}`,
		"json":         `{{$x := fromJson (printf "[%s0]" (repeat 100000 "\"xxxxxxxx\","))}}{{range 100}}{{$x}}{{end}}`,
	} {
		t.Run(name, func(t *testing.T) {
			p := compile(t, "| line_format "+fmt.Sprintf("%q", tmpl))
			st := p.ForStream(testLabels)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			line, set, _ := st.Process(0, []byte("line"), nil)
			runtime.ReadMemStats(&after)
			if kind, _ := set.Err(); kind != ErrTemplateFormat || string(line) != "line" {
				t.Errorf("no error, line of %d bytes", len(line))
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
				t.Errorf("%d MiB allocated", n>>20)
			}
		})
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{`{{.a}}`, `{{range $k, $v := .}}{{$k}}{{end}}`, `{{printf "%*d" 5 3}}`, `{{define "x"}}{{.}}{{end}}{{template "x" .}}`} {
		f.Add(s, "line")
	}
	f.Fuzz(func(t *testing.T, text, line string) {
		c := newCompiler(Hints{})
		tmpl, err := newTemplate(text, c.slot)
		if err != nil {
			return
		}
		c.add(&lineFormat{tmpl}, use{})
		c.need(nil)
		out, _, ok := c.p.ForStream(testLabels).Process(0, []byte(line), testMeta)
		if !ok || len(out) > maxOutput+len(line) {
			t.Errorf("%v, %d bytes", ok, len(out))
		}
	})
}
