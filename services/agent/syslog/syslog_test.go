package syslog

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestParse5424(t *testing.T) {
	m, err := Parse5424([]byte(`<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource="App\"l\]\\ication"][b c="d"] ` + "\xef\xbb\xbfAn event"))
	want := Message{
		Priority: 165, Time: time.Date(2003, 10, 11, 22, 14, 15, 3e6, time.UTC), Hostname: "mymachine.example.com", AppName: "evntslog", MsgID: "ID47",
		Data: []Element{{"exampleSDID@32473", []Param{{"iut", "3"}, {"eventSource", `App"l]\ication`}}}, {"b", []Param{{"c", "d"}}}},
		Text: []byte("An event"),
	}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, %v", m, err)
	}
	if m.Severity() != "notice" || m.Facility() != "local4" {
		t.Error(m.Severity(), m.Facility())
	}
	if m, err := Parse5424([]byte(`<0>1 - - - - - -`)); err != nil || m.Text != nil || !m.Time.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
	for _, s := range []string{
		"", "<", "<1>", "<192>1 - - - - - -", "<1>1 x - - - - - a", "<1>1 - - - - - [", "<1>1 - - - - - [a b=c] x", `<1>1 - - - - - [a b="c`,
		"<1>1 - - - - -", "<1>01 - - - - - -", "1 - - - - - -", `<1>1 - - - - - [a]x`,
	} {
		if m, err := Parse5424([]byte(s)); !errors.Is(err, ErrMessage) {
			t.Errorf("%q: %+v, %v", s, m, err)
		}
	}
}

func TestParse3164(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.FixedZone("x", 3600))
	for in, want := range map[string]Message{
		"<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed": {
			Priority: 34, Time: time.Date(2025, 10, 11, 22, 14, 15, 0, now.Location()), Hostname: "mymachine", AppName: "su", ProcID: "12", Text: []byte("'su root' failed"),
		},
		"<13>Jan  2 00:00:01 h tag: x": {
			Priority: 13, Time: time.Date(2026, 1, 2, 0, 0, 1, 0, now.Location()), Hostname: "h", AppName: "tag", Text: []byte("x"),
		},
		"<13>just text":           {Priority: 13, Text: []byte("just text")},
		"<13>Jan  2 00:00:01 h x": {Priority: 13, Time: time.Date(2026, 1, 2, 0, 0, 1, 0, now.Location()), Hostname: "h", Text: []byte("x")},
		"<13>2026-01-02T03:04:05Z h a: x": {
			Priority: 13, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Hostname: "h", AppName: "a", Text: []byte("x"),
		},
	} {
		m, err := Parse3164([]byte(in), now)
		if err != nil || !reflect.DeepEqual(m, want) {
			t.Errorf("%q: %+v, %v", in, m, err)
		}
	}
}

func frames(in []byte, step, limit int) (out []string, err error) {
	var buf []byte
	skip := 0
	for len(in) > 0 || len(buf) > 0 {
		n := min(step, len(in))
		buf, in = append(buf, in[:n]...), in[n:]
		for {
			if skip > 0 {
				k := min(skip, len(buf))
				buf, skip = buf[k:], skip-k
			}
			msg, n, s, err := Frame(buf, limit, len(in) == 0)
			if err != nil {
				return out, err
			}
			if n == 0 {
				break
			}
			if msg != nil {
				out = append(out, string(msg))
			}
			buf, skip = buf[n:], max(s, 0)
			if s < 0 {
				return out, nil
			}
		}
		if len(in) == 0 {
			return out, nil
		}
	}
	return out, nil
}

func TestFrame(t *testing.T) {
	for _, step := range []int{1, 3, 1000} {
		for in, want := range map[string][]string{
			"<1>a\n<2>b\r\n<3>c":         {"<1>a", "<2>b", "<3>c"},
			"5 <1>ab4 <2>c\n4 <3>d":      {"<1>ab", "<2>c", "<3>d"},
			"12 <1>345678901" + "4 <2>c": {"<1>3456789", "4 <2"},
		} {
			if in[0] == '1' {
				want = []string{"<1>3456789"[:10]}
				got, _ := frames([]byte(in), step, 10)
				if len(got) == 0 || got[0] != want[0] {
					t.Errorf("%q: %q", in, got)
				}
				continue
			}
			got, err := frames([]byte(in), step, 100)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q by %d: %q, %v", in, step, got, err)
			}
		}
		if _, err := frames([]byte("hello\n"), step, 100); !errors.Is(err, ErrFrame) {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<165>1 2003-10-11T22:14:15.003Z m e - ID47 [e@1 a="3"] x`))
	f.Add([]byte("<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed"))
	f.Add([]byte("5 <1>ab4 <2>c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Parse5424(b); err == nil {
			_, _ = m.Severity(), m.Facility()
		}
		if m, err := Parse3164(b, time.Unix(1e9, 0)); err == nil && len(m.Text) > len(b) {
			t.Error("more text than there is")
		}
		_, n, _, _ := Frame(b, 20, true)
		if n > len(b) {
			t.Error("more used than there is")
		}
	})
}
