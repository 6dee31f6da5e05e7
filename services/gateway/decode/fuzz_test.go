package decode

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func FuzzPush(f *testing.F) {
	seed, err := proto.Marshal(&pushv1.PushRequest{BatchTimeUnixNano: 5, Streams: []*pushv1.Stream{{
		Labels: map[string]string{"a": "b", "c": ""},
		Entries: []*pushv1.Entry{
			{TimestampUnixNano: 1, Line: &pushv1.Entry_Text{Text: "x"}, StructuredMetadata: map[string]string{"k": "v"}},
			{Line: &pushv1.Entry_Raw{Raw: []byte{0xff}}, Copy: 3},
		},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0x0a, 0x02, 0x12, 0x00, 0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, data []byte) {
		var m pushv1.PushRequest
		want := proto.Unmarshal(data, &m)
		req, err := Push(data, nil)
		if (err == nil) != (want == nil) {
			t.Fatalf("%v, the generated code says %v", err, want)
		}
		if err == nil {
			same(t, plain(t, req), naive(&m))
		}
		_, _, _ = PushStream(data, nil)
	})
}

func FuzzLoki(f *testing.F) {
	f.Add(lokiWire([]stream{{Labels: `{a="b"}`, Rows: []row{{Time: 5, Line: "x", Metadata: map[string]string{"k": "v"}}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if req, err := Loki(bytes.Clone(data), nil); err == nil {
			same(t, plain(t, req), naiveLoki(t, data))
		} else if !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Fatal(err)
		}
	})
}

func FuzzLokiJSON(f *testing.F) {
	for _, s := range []string{
		`{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"k":"v"}],[]]}]}`,
		`{"streams":[{"labels":"{}","entries":[{"ts":"2026-01-02T03:04:05Z","line":"x"}]}],"y":[1,-2.5e3,true,null]}`,
		`{"x":"\u0041\ud83d\ude00\n"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, decode := range []func([]byte, *Reservation) error{
			func(b []byte, m *Reservation) error {
				req, err := LokiJSON(b, m)
				if err == nil {
					plain(t, req)
				}
				return err
			},
			func(b []byte, m *Reservation) error {
				req, err := LokiLegacyJSON(b, m)
				if err == nil {
					plain(t, req)
				}
				return err
			},
		} {
			if err := decode(data, nil); err == nil && !json.Valid(data) {
				t.Fatalf("%q is not JSON", data)
			} else if err != nil && !rpcerr.Is(err, rpcerr.ParseError) {
				t.Fatal(err)
			}
		}
	})
}

// Strings are read as encoding/json reads them, but for bytes that are not UTF-8,
// which are kept.
func FuzzJSONString(f *testing.F) {
	f.Add([]byte(`"\u0041\ud83d\ude00\n"`))
	f.Add([]byte(`"\ud83d\ud83d\ude00"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || data[0] != '"' {
			return
		}
		s := &scanner{b: data}
		got, err := s.text()
		if err == nil {
			err = s.end()
		}
		var want string
		if wantErr := json.Unmarshal(data, &want); (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json says %v", data, err, wantErr)
		}
		if err == nil && utf8.Valid(data) && string(got) != want {
			t.Fatalf("%q: %q, want %q", data, got, want)
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add(pack(f, "gzip", []byte("hello")), "gzip")
	f.Add(pack(f, "deflate", []byte("hello")), "deflate")
	f.Add(pack(f, "zlib", []byte("hello")), "deflate")
	f.Add([]byte{5, 16, 'h', 'e', 'l', 'l', 'o'}, "snappy")
	f.Fuzz(func(t *testing.T, data []byte, encoding string) {
		small := Sizes{Wire: 64 << 10, Raw: 256 << 10}
		body, err := Body(bytes.NewReader(data), -1, encoding, small, nil)
		if err == nil && int64(len(body)) > small.Raw {
			t.Fatalf("%d bytes are more than the limit", len(body))
		}
		if raw, err := Snappy(data, small, nil); err == nil && int64(len(raw)) > small.Raw {
			t.Fatalf("%d bytes are more than the limit", len(raw))
		}
	})
}
