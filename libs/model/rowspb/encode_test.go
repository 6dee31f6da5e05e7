package rowspb

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// anyOf draws a value that is often the zero value.
func anyOf[T any](t *rapid.T, g *rapid.Generator[T], name string) (v T) {
	if rapid.Bool().Draw(t, name+" set") {
		v = g.Draw(t, name)
	}
	return v
}

func anyColumns(t *rapid.T, name string, unknown func(*rapid.T, proto.Message)) (out []*ingestv1.Column) {
	numbers := rapid.SliceOfN(rapid.Uint32(), 0, 40)
	for range rapid.IntRange(0, 3).Draw(t, name) {
		c := &ingestv1.Column{
			Name: anyOf(t, rapid.String(), "name"), Rows: numbers.Draw(t, "rows"), Ends: numbers.Draw(t, "ends"),
			Slab: anyOf(t, rapid.SliceOfN(rapid.Byte(), 0, 200), "values"), Version: anyOf(t, rapid.Uint32(), "version"),
		}
		unknown(t, c)
		out = append(out, c)
	}
	return out
}

// anyUnknown gives a message a field that this version does not know.
func anyUnknown(t *rapid.T, m proto.Message) {
	if rapid.IntRange(0, 3).Draw(t, "unknown") == 0 {
		m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), rapid.Uint64().Draw(t, "value")))
	}
}

// anyRequest draws a request; unknown may give its messages fields that are not known.
func anyRequest(t *rapid.T, unknown func(*rapid.T, proto.Message)) *ingestv1.IngestRequest {
	numbers := rapid.SliceOfN(rapid.Uint32(), 0, 40)
	r := &ingestv1.IngestRequest{
		Tenant: anyOf(t, rapid.String(), "tenant"), BatchTimeUnixNano: anyOf(t, rapid.Int64(), "batch time"),
		TableVersion: anyOf(t, rapid.Uint64(), "table"), ReplicationFactor: anyOf(t, rapid.Uint32(), "factor"),
	}
	if rapid.Bool().Draw(t, "deadline") {
		r.Deadline = &ingestv1.ProcessClock{}
		unknown(t, r.Deadline)
	}
	for range rapid.IntRange(0, 3).Draw(t, "streams") {
		b := &ingestv1.StreamBlock{
			Labels: anyOf(t, rapid.String(), "labels"), Token: anyOf(t, rapid.Uint64(), "token"),
			Times: rapid.SliceOfN(rapid.Int64(), 0, 40).Draw(t, "times"), LineEnds: numbers.Draw(t, "line ends"),
			Slab:     anyOf(t, rapid.SliceOfN(rapid.Byte(), 0, 200), "lines"),
			Metadata: anyColumns(t, "metadata", unknown), Derived: anyColumns(t, "derived", unknown),
			Copies: numbers.Draw(t, "copies"), Position: anyOf(t, rapid.Uint32(), "position"), Positions: numbers.Draw(t, "positions"),
		}
		unknown(t, b)
		r.Streams = append(r.Streams, b)
	}
	unknown(t, r)
	return r
}

// TestAppendRequest: a request is encoded as package proto does it.
func TestAppendRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRequest(t, anyUnknown)
		want, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := AppendRequest([]byte("before"), r)
		if err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Fatalf("%x, %v\nwant %x", got, err, want)
		}
		if size := RequestSize(r); size != len(want) {
			t.Errorf("the size is %d, want %d", size, len(want))
		}
	})
}

// TestAppendRequestSizes: blocks and columns are encoded alike whether their sizes were told
// right from what they hold or not: those around where a size takes another byte.
func TestAppendRequestSizes(t *testing.T) {
	for _, limit := range []int{1 << 7, 1 << 14, 1 << 21} {
		for n := max(0, limit-160); n < limit+16; n++ {
			slab := bytes.Repeat([]byte{'x'}, n)
			r := &ingestv1.IngestRequest{Streams: []*ingestv1.StreamBlock{
				{Slab: slab, Labels: "{}"},
				{Derived: []*ingestv1.Column{{Slab: slab}}, Position: 7},
				{Metadata: []*ingestv1.Column{{Name: "a"}, {Slab: slab[:max(0, n-20)], Name: "b", Version: 300}}},
			}}
			r.Streams[0].ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), slab[:n/2]))
			want, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := AppendRequest(nil, r); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: %d encoded, %v; want %d", n, len(got), err, len(want))
			}
		}
	}
}

// TestStreamSize: a block is never larger than it is told to be.
func TestStreamSize(t *testing.T) {
	most := uint32(math.MaxUint32)
	column := &ingestv1.Column{Name: strings.Repeat("n", 1<<14), Rows: make([]uint32, 1<<12), Ends: make([]uint32, 1<<12), Slab: make([]byte, 1<<14), Version: most}
	all := &ingestv1.StreamBlock{
		Labels: column.Name, Token: math.MaxUint64, Times: make([]int64, 1<<12), LineEnds: column.Ends, Slab: column.Slab,
		Metadata: []*ingestv1.Column{column}, Derived: []*ingestv1.Column{column},
		Copies: slices.Repeat([]uint32{most}, 1<<12), Position: most, Positions: slices.Repeat([]uint32{most}, 1<<12),
	}
	if told, size := StreamSize(all), bytesSize(proto.Size(all)); told < size || told > size+size/50 {
		t.Fatalf("%d bytes of everything are told to be %d", size, told)
	}
	rapid.Check(t, func(t *rapid.T) {
		r := anyRequest(t, func(*rapid.T, proto.Message) {})
		for _, b := range r.Streams {
			if told, size := StreamSize(b), bytesSize(proto.Size(b)); told < size {
				t.Errorf("%d bytes are told to be %d", size, told)
			}
		}
	})
}

// TestAppendRequestNotUTF8: what could not be decoded is not encoded.
func TestAppendRequestNotUTF8(t *testing.T) {
	for name, r := range map[string]*ingestv1.IngestRequest{
		"tenant":   {Tenant: "\xff"},
		"labels":   {Streams: []*ingestv1.StreamBlock{{Labels: "\xff"}}},
		"metadata": {Streams: []*ingestv1.StreamBlock{{Metadata: []*ingestv1.Column{{Name: "\xff"}}}}},
		"derived":  {Streams: []*ingestv1.StreamBlock{{Derived: []*ingestv1.Column{{Name: "\xff"}}}}},
	} {
		if _, err := AppendRequest(nil, r); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := proto.Marshal(r); err == nil {
			t.Errorf("%s: package proto sees no error", name)
		}
	}
}
