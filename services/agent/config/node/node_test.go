package node

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/conf"
)

type inner struct {
	Name string `yaml:"name"`
	N    int    `yaml:"n"`
}

func (i *inner) SetDefaults() { i.N = 7 }

type outer struct {
	In    inner             `yaml:",inline"`
	D     time.Duration     `yaml:"d"`
	B     conf.ByteSize     `yaml:"b"`
	Yes   bool              `yaml:"yes"`
	F     float64           `yaml:"f"`
	List  []string          `yaml:"list"`
	Items []inner           `yaml:"items"`
	Map   map[string]string `yaml:"map"`
	P     *inner            `yaml:"p"`
	Gone  string            `yaml:"-"`
}

func decode(text string, o Options) (outer, Problems) {
	var out outer
	var ps Problems
	if root := Parse([]byte(text), &ps); root != nil {
		Decode(root, "", &out, o, &ps)
	}
	return out, ps
}

func TestDecode(t *testing.T) {
	got, ps := decode(`
base: &base {name: b}
name: x
n: 1_000
d: 1d12h
b: 256kb
yes: on
f: 1e3
list: one
items: [{name: a}, {<<: *base, n: 3}]
map: {a: 5, b: yes}
p: {}
`, Options{})
	if len(ps) != 1 || ps[0].Line != 2 || ps[0].Text != "unknown key" {
		t.Fatal(ps)
	}
	if got.In.Name != "x" || got.In.N != 1000 || got.D != 36*time.Hour || got.B != 256<<10 || !got.Yes || got.F != 1000 ||
		len(got.List) != 1 || got.Items[0] != (inner{"a", 7}) || got.Items[1] != (inner{"b", 3}) || got.Map["a"] != "5" || got.P.N != 7 {
		t.Errorf("got %+v", got)
	}
}

func TestProblems(t *testing.T) {
	for text, want := range map[string]string{
		"n: x":                     `line 1: n: must be a whole number, not "x"`,
		"\nd: 5":                   `line 2: d: "5" is not a duration`,
		"b: x":                     `b: "x" is not a size`,
		"yes: 2":                   `yes: must be true or false, not "2"`,
		"list: {}":                 "list: must be a list, not a mapping",
		"items: [1]":               `items[0]: must be a mapping of keys to values, not "1"`,
		"map: []":                  "map: must be a mapping",
		"name: [a]":                "name: must be a text, not a list",
		"name: a\nname: b":         "line 2: name: given twice, first in line 1",
		"nmae: a":                  "unknown key; did you mean name?",
		"a: b: c":                  "not YAML",
		"a: [":                     "not YAML",
		"name: a\n---\nname: b":    "more than one YAML document",
		"map: &m {a: *m}":          "an alias that contains itself",
		"[1]":                      "must be a mapping",
		"? [a]\n: b":               "a key must be a plain text",
		"refused: 1":               "no longer",
		"d: 99999999999999999999s": "is not a duration",
	} {
		_, ps := decode(text, Options{Refuse: map[string]string{"outer.refused": "no longer"}})
		if !strings.Contains(ps.Error(), want) || ps.Err() == nil {
			t.Errorf("%q: got %q, want %q", text, ps.Error(), want)
		}
	}
	// A few aliases that would be millions of values.
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "]\n"
	}
	if _, ps := decode(bomb, Options{}); ps.Err() == nil {
		t.Error("a bomb is taken")
	}
	got, ps := decode("NAME: a\nN: \"5\"\nyes: \"true\"\nother: 1", Options{Loose: true})
	if ps.Err() != nil || len(ps) != 1 || got.In.Name != "a" || got.In.N != 5 || !got.Yes {
		t.Errorf("got %+v, %v", got, ps)
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{"1.5h": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "1h30m": 90 * time.Minute, "2w": 14 * 24 * time.Hour, "500ms": 500 * time.Millisecond} {
		if d, err := ParseDuration(s); err != nil || d != want {
			t.Errorf("%s: %v, %v", s, d, err)
		}
		if d, err := ParseDuration(FormatDuration(want)); err != nil || d != want {
			t.Errorf("%s is written %s", s, FormatDuration(want))
		}
	}
	for _, s := range []string{"", "d", "5", "5x", "1d2", "-1d"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: a\nitems: [{n: 1}]\nd: 5s"))
	f.Add([]byte("a: &a {<<: *a}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ps Problems
		var out outer
		if root := Parse(b, &ps); root != nil {
			Decode(root, "", &out, Options{}, &ps)
			if ps.Err() == nil {
				n := Encode(out, outer{})
				var again outer
				Decode(n, "", &again, Options{}, &ps)
				if ps.Err() != nil {
					t.Fatalf("%+v: %v", out, ps)
				}
			}
		}
	})
}
