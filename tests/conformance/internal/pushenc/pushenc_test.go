package pushenc

import (
	"encoding/json"
	"testing"

	"github.com/weir-logs/weir/tests/conformance/internal/corpus"
)

func TestJSON(t *testing.T) {
	line := "a\"b\\c\nd\te\x00\x1f é 日 \u2028"
	in := []*corpus.Stream{{
		Labels:  map[string]string{"b": "2", "a": "q\"x"},
		Entries: []corpus.Entry{{TS: 5, Line: line}, {TS: 6, Metadata: map[string]string{"k": "v"}}},
	}}
	var out struct {
		Streams []struct {
			Stream map[string]string
			Values [][]any
		}
	}
	if err := json.Unmarshal(JSON(in), &out); err != nil {
		t.Fatal(err)
	}
	s := out.Streams[0]
	if s.Stream["a"] != "q\"x" || s.Values[0][0] != "5" || s.Values[0][1] != line || s.Values[1][2].(map[string]any)["k"] != "v" {
		t.Errorf("%+v", s)
	}
}

func TestProtobuf(t *testing.T) {
	got := Stream(`{a="1"}`, []corpus.Entry{{TS: 2_000_000_003, Line: "hi", Metadata: map[string]string{"k": "v"}}})
	want := "\x0a\x07{a=\"1\"}" + "\x12\x12" + "\x0a\x04\x08\x02\x10\x03" + "\x12\x02hi" + "\x1a\x06\x0a\x01k\x12\x01v"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
