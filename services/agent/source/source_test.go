package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
)

func FuzzDecoders(f *testing.F) {
	f.Add([]byte("__CURSOR=c1\nMESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00x\n\n"))
	f.Add([]byte("\n\x1a\n\x07{c=\"d\"}\x12\x0f\n\x06\x08\xe8\x07\x10\xe8\x07\x12\x05proto"))
	f.Add([]byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"m":"n"}]]}]}`))
	f.Add([]byte(`{"version":"1.1","host":"h","short_message":"s","timestamp":1.5,"level":3}`))
	f.Add([]byte("\x1e\x0f12345678\x00\x02part"))
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x1f2023-11-14T22:13:20.000000001Z x\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			if _, err := ReadExport(r); err != nil {
				break
			}
		}
		_, _ = DecodeLokiProto(b)
		_, _ = DecodeLokiJSON(b)
		_, _ = ParseLabels(string(b))
		_, _, _ = ParseGELF(b, time.Unix(1, 0))
		_, _ = newChunks().add(b, time.Unix(1, 0))
		for _, tty := range []bool{false, true} {
			at := places{}
			d := &dockerReader{br: bufio.NewReader(bytes.NewReader(b)), tty: tty, maxLine: 100, at: &at, put: func([]entry.Entry) error { return nil }}
			_ = d.run()
		}
	})
}

func TestParseLabels(t *testing.T) {
	for in, want := range map[string]map[string]string{
		`{}`: {}, `{a="b"}`: {"a": "b"}, ` { a = "b\"c" , _d1="" } `: {"a": `b"c`, "_d1": ""},
		``: nil, `{a}`: nil, `{a="b"`: nil, `{a="b" c="d"}`: nil, `{="b"}`: nil,
	} {
		got, err := ParseLabels(in)
		if (err != nil) != (want == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func TestReadExport(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("\n\nA=1\nB=x=y\nM\n")
	_ = binary.Write(&b, binary.LittleEndian, uint64(3))
	b.WriteString("a\nb\n\nC=2")
	r := bufio.NewReader(&b)
	got, err := ReadExport(r)
	if err != nil || !reflect.DeepEqual(got, map[string]string{"A": "1", "B": "x=y", "M": "a\nb"}) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := ReadExport(r); !errors.Is(err, errExport) && !errors.Is(err, io.EOF) {
		t.Errorf("%v %v", got, err)
	}
}

func TestPlaces(t *testing.T) {
	for in, want := range map[string]place{
		"": {}, "x": {}, "1700000000": {at: 1_700_000_000_000_000_000}, "1700000000000000002/3": {1_700_000_000_000_000_002, 3},
	} {
		if got := parsePlace(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
	p := places{1: {1_700_000_000_000_000_002, 3}, 2: {1_700_000_000_000_000_001, 1}}
	if got := parsePlaces(p.String()); got != p || got.since() != p[2].at {
		t.Error(got)
	}
	if got := parsePlaces("1700000000"); got[1] != got[2] || got.since() != 1_700_000_000_000_000_000 {
		t.Error(got)
	}
	if got := (places{1: p[1]}).since(); got != p[1].at-silent {
		t.Error(got)
	}
}

// TestOutputsOutOfOrder: a line of one output lies behind a later one of the other, and
// reading breaks off between them.
func TestOutputsOutOfOrder(t *testing.T) {
	var whole bytes.Buffer
	var ends []int
	frame := func(stream byte, ns int, text string) {
		line := time.Unix(1_700_000_000, int64(ns)).UTC().Format("2006-01-02T15:04:05.000000000Z") + " " + text + "\n"
		whole.Write(binary.BigEndian.AppendUint32([]byte{stream, 0, 0, 0}, uint32(len(line))))
		whole.WriteString(line)
		ends = append(ends, whole.Len())
	}
	frame(1, 10, "a")
	frame(1, 30, "b")
	frame(2, 20, "c")
	frame(2, 20, "d")
	frame(1, 30, "e")
	sets := map[byte]*entry.Set{1: {}, 2: {}}
	for _, cut := range append(ends, 0) {
		var got strings.Builder
		at := places{}
		read := func(b []byte) {
			r := &dockerReader{br: bufio.NewReader(bytes.NewReader(b)), maxLine: 100, at: &at, skip: at, sets: sets, put: func(ents []entry.Entry) error {
				for _, e := range ents {
					got.Write(e.Line)
				}
				return nil
			}}
			if err := r.run(); err != nil {
				t.Fatal(err)
			}
		}
		read(whole.Bytes()[:cut])
		at = parsePlaces(at.String())
		read(whole.Bytes())
		if got.String() != "abcde" {
			t.Errorf("cut at %d: %s", cut, got.String())
		}
	}
}
