package lines

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

func encode16(s string, big bool) (out []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			out = append(out, byte(u>>8), byte(u))
		} else {
			out = append(out, byte(u), byte(u>>8))
		}
	}
	return out
}

// all cuts data that comes in pieces of step bytes.
func all(e *Encoding, data []byte, step, limit int) (out []string) {
	at, st := 0, Start
	for end := 0; end < len(data) || at < len(data); {
		end = min(len(data), end+step)
		last := end == len(data)
		for {
			r := e.Next(data[at:end], int64(at), st, limit, last)
			if r.N == 0 {
				break
			}
			if r.Emit {
				s := string(e.Append(nil, r.Line))
				if r.Cut {
					s += Mark
				}
				out = append(out, s)
			}
			at, st = at+r.N, r.State
		}
		if last {
			break
		}
	}
	return out
}

func TestEncodings(t *testing.T) {
	text := "one\r\n\nü Ċ 世\n🦫\nlast"
	want := []string{"one", "", "ü Ċ 世", "🦫", "last"}
	for name, data := range map[string][]byte{
		"utf-16le": encode16(text, false), "utf-16be": encode16(text, true),
		"utf-16": append([]byte{0xfe, 0xff}, encode16(text, true)...), "UTF-16": append([]byte{0xff, 0xfe}, encode16(text, false)...),
	} {
		for _, step := range []int{1, 2, 3, 1000} {
			e, err := NewEncoding(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := all(e.Clone(nil), data, step, 100); !reflect.DeepEqual(got, want) {
				t.Errorf("%s by %d: %q", name, step, got)
			}
		}
	}
	e, err := NewEncoding("ISO-8859-1")
	if err != nil {
		t.Fatal(err)
	}
	if got := all(e, []byte("gr\xfcn\nx\r\n"), 1, 100); !reflect.DeepEqual(got, []string{"grün", "x"}) {
		t.Errorf("%q", got)
	}
	e, _ = NewEncoding("utf-16le")
	if got := all(e, encode16(strings.Repeat("x", 200)+"\ny\n", false), 7, 40); len(got) != 2 || got[0] != strings.Repeat("x", 20)+Mark || got[1] != "y" {
		t.Errorf("%q", got)
	}
	for _, name := range []string{"utf-99", "UTF-32", "iso-2022-jp"} {
		if _, err := NewEncoding(name); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzEncoding(f *testing.F) {
	f.Add(encode16("a\nb\r\n", false), 3, 30)
	f.Fuzz(func(t *testing.T, data []byte, step, limit int) {
		step, limit = 1+(step&0xff), MinLimit+(limit&0xff)
		for _, name := range []string{"utf-16", "utf-16be", "windows-1252", "Shift_JIS"} {
			e, err := NewEncoding(name)
			if err != nil {
				t.Fatal(err)
			}
			all(e.Clone(nil), data, step, limit)
		}
	})
}
