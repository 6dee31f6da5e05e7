package decode

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// naiveLoki decodes a message that is well formed, a copy of each thing at a time.
func naiveLoki(t interface{ Fatal(...any) }, data []byte) (out []stream) {
	each := func(data []byte, f func(num protowire.Number, v []byte, n uint64)) {
		for len(data) > 0 {
			num, typ, k := protowire.ConsumeTag(data)
			n := protowire.ConsumeFieldValue(num, typ, data[k:])
			if k < 0 || n < 0 {
				t.Fatal("the message is malformed")
			}
			switch typ {
			case protowire.BytesType:
				v, _ := protowire.ConsumeBytes(data[k:])
				f(num, v, 0)
			case protowire.VarintType:
				v, _ := protowire.ConsumeVarint(data[k:])
				f(num, nil, v)
			}
			data = data[k+n:]
		}
	}
	each(data, func(num protowire.Number, v []byte, _ uint64) {
		if num != 1 || v == nil {
			return
		}
		var s stream
		each(v, func(num protowire.Number, v []byte, _ uint64) {
			switch {
			case v == nil:
			case num == 1:
				if s.Labels = string(v); !utf8.Valid(v) {
					s.Labels = quote(s.Labels)
				}
			case num == 2:
				r := row{Time: NoTime, Metadata: map[string]string{}}
				each(v, func(num protowire.Number, v []byte, _ uint64) {
					switch {
					case v == nil:
					case num == 1:
						var seconds, nanos int64
						each(v, func(num protowire.Number, v []byte, n uint64) {
							switch {
							case v != nil:
							case num == 1:
								seconds = int64(n)
							case num == 2:
								nanos = int64(int32(n))
							}
						})
						r.Time = nanoseconds(seconds, nanos)
					case num == 2:
						r.Line = string(v)
					case num == 3:
						var name, value string
						each(v, func(num protowire.Number, v []byte, _ uint64) {
							switch {
							case v == nil:
							case num == 1:
								name = string(bytes.ToValidUTF8(v, []byte("_")))
							case num == 2:
								value = string(v)
							}
						})
						if r.Metadata[name] = value; value == "" {
							delete(r.Metadata, name)
						}
					}
				})
				s.Rows = append(s.Rows, r)
			}
		})
		out = append(out, s)
	})
	return out
}

// TestLokiOfAnyOrder: messages whose fields come in any order, several times, among others
// that are not known, are decoded as a reader does that takes them one by one, and
// what is cut short is refused unless it is whole.
func TestLokiOfAnyOrder(t *testing.T) {
	text := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 200), func(b []byte) []byte { return bytes.Repeat(b, 1+len(b)%3) })
	rapid.Check(t, func(t *rapid.T) {
		field := func(dst []byte, num protowire.Number, v []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), v)
		}
		other := func(dst []byte) []byte {
			if rapid.Bool().Draw(t, "number") {
				return protowire.AppendVarint(protowire.AppendTag(dst, rapid.SampledFrom([]protowire.Number{1, 2, 3, 99}).Draw(t, "tag"), protowire.VarintType), 7)
			}
			return field(dst, 9, text.Draw(t, "other"))
		}
		var data []byte
		for range rapid.IntRange(0, 4).Draw(t, "streams") {
			var s []byte
			for range rapid.IntRange(0, 8).Draw(t, "fields") {
				switch rapid.SampledFrom([]string{"labels", "entry", "entry", "entry", "other"}).Draw(t, "field") {
				case "labels":
					s = field(s, 1, text.Draw(t, "labels"))
				case "other":
					s = other(s)
				default:
					var e []byte
					for range rapid.IntRange(0, 5).Draw(t, "parts") {
						switch rapid.SampledFrom([]string{"time", "line", "line", "pair", "other"}).Draw(t, "part") {
						case "time":
							e = field(e, 1, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), rapid.Uint64().Draw(t, "seconds")))
						case "line":
							e = field(e, 2, text.Draw(t, "line"))
						case "pair":
							name := []byte(rapid.SampledFrom([]string{"a", "b", "c\xff", ""}).Draw(t, "name"))
							e = field(e, 3, field(field(nil, 1, name), 2, text.Draw(t, "value")))
						default:
							e = other(e)
						}
					}
					s = field(s, 2, e)
				}
			}
			data = field(data, 1, s)
		}
		want := naiveLoki(t, data)
		req, err := Loki(bytes.Clone(data), nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, plain(t, req), want)
		if cut := len(data); cut > 0 { // what ends too early is refused, or is what is there
			cut = rapid.IntRange(0, cut-1).Draw(t, "cut")
			if req, err := Loki(bytes.Clone(data[:cut]), nil); err == nil {
				same(t, plain(t, req), naiveLoki(t, data[:cut]))
			} else if !rpcerr.Is(err, rpcerr.InvalidArgument) {
				t.Fatal(err)
			}
		}
	})
}
