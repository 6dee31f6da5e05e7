package decode

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/rpcerr"
)

var sizes = Sizes{Wire: 1 << 20, Raw: 4 << 20}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func pack(t testing.TB, encoding string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "deflate":
		f, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		w = f
	default:
		return data
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBody(t *testing.T) {
	text := []byte(strings.Repeat("hello body ", 1000))
	for _, c := range []struct{ encoding, packing string }{{"", ""}, {"snappy", ""}, {"gzip", "gzip"}, {"deflate", "deflate"}, {"deflate", "zlib"}} {
		packed := pack(t, c.packing, text)
		mem := NewMemory(1 << 20)
		for _, length := range []int64{-1, int64(len(packed))} {
			res := mem.Reserve(1 << 20)
			got, err := Body(iotest.HalfReader(bytes.NewReader(packed)), length, c.encoding, sizes, res)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s: %v", c.packing, err)
			}
			if res.used != int64(len(text)) {
				t.Errorf("%s: %d bytes are counted for %d", c.packing, res.used, len(text))
			}
			res.Release()
		}
		if mem.Used() != 0 {
			t.Errorf("%s: %d bytes are still held", c.packing, mem.Used())
		}
	}
}

func TestBodyRefuses(t *testing.T) {
	gz := pack(t, "gzip", []byte("hello"))
	for _, c := range []struct {
		name, encoding string
		body           io.Reader
		length         int64
		reason         rpcerr.Reason
	}{
		{"encoding", "br", strings.NewReader("x"), 1, rpcerr.InvalidArgument},
		{"identity", "identity", strings.NewReader("x"), 1, rpcerr.InvalidArgument},
		{"two encodings", "gzip, gzip", bytes.NewReader(gz), -1, rpcerr.InvalidArgument},
		{"announced", "", strings.NewReader("x"), 2 << 20, rpcerr.TooLarge},
		{"long", "", io.LimitReader(zeros{}, 2<<20), -1, rpcerr.TooLarge},
		{"endless", "", zeros{}, -1, rpcerr.TooLarge},
		{"not gzip", "gzip", strings.NewReader(`{"streams":[]}`), -1, rpcerr.InvalidArgument},
		{"not deflate", "deflate", strings.NewReader(`{"streams":[]}`), -1, rpcerr.InvalidArgument},
		{"cut gzip", "gzip", bytes.NewReader(gz[:len(gz)-3]), -1, rpcerr.InvalidArgument},
		{"broken", "", iotest.ErrReader(errors.New("reset")), -1, rpcerr.InvalidArgument},
	} {
		if _, err := Body(c.body, c.length, c.encoding, sizes, nil); rpcerr.ReasonOf(err) != c.reason {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCompressionBombs(t *testing.T) {
	bomb := pack(t, "gzip", make([]byte, 64<<20))
	inflated := pack(t, "deflate", make([]byte, 64<<20))
	for encoding, packed := range map[string][]byte{"gzip": bomb, "deflate": inflated} {
		n := allocated(func() {
			if _, err := Body(bytes.NewReader(packed), int64(len(packed)), encoding, sizes, nil); !rpcerr.Is(err, rpcerr.TooLarge) {
				t.Errorf("%s: %v", encoding, err)
			}
		})
		// A slice that grows by a quarter is allocated about five times over.
		if n > 32<<20 {
			t.Errorf("%s: %d bytes were allocated for a limit of 4 MiB", encoding, n)
		}
	}
}

func TestSnappyLies(t *testing.T) {
	for _, claim := range []uint64{5 << 20, 1 << 30, 1<<32 - 1, 1 << 40, 1<<64 - 1, 3 << 20} {
		block := append(binary.AppendUvarint(nil, claim), 0, 0, 0)
		var err error
		n := allocated(func() { _, err = Snappy(block, sizes, nil) })
		if err == nil || n > 64<<10 {
			t.Errorf("%d: %v, %d bytes allocated", claim, err, n)
		}
		if want := claim > 4<<20 && claim < 1<<32; want != rpcerr.Is(err, rpcerr.TooLarge) {
			t.Errorf("%d: %v", claim, err)
		}
	}
	// What compresses best is still taken.
	plain := make([]byte, 4<<20)
	got, err := Snappy(snappy.Encode(nil, plain), sizes, nil)
	if err != nil || !bytes.Equal(got, plain) {
		t.Error(err)
	}
	for _, block := range [][]byte{nil, []byte("not snappy"), {4, 0xff, 0xff, 0xff, 0xff}} {
		if _, err := Snappy(block, sizes, nil); !rpcerr.Is(err, rpcerr.InvalidArgument) {
			t.Errorf("%q: %v", block, err)
		}
	}
}

func TestManyStreamsAndColumns(t *testing.T) {
	message := func(b []byte, num protowire.Number, m []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), m)
	}
	// A stream takes two bytes on the wire, a metadata name a few.
	streams := bytes.Repeat([]byte{0x0a, 0x00}, 1<<20)
	var entry []byte
	for i := range 100_000 {
		entry = message(entry, 3, message(message(nil, 1, strconv.AppendInt(nil, int64(i), 36)), 2, []byte("v")))
	}
	columns := message(nil, 1, message(nil, 2, entry))
	rows := message(nil, 1, bytes.Repeat([]byte{0x12, 0x00}, 1<<20))
	for name, data := range map[string][]byte{"streams": streams, "columns": columns, "rows": rows} {
		mem := NewMemory(64 << 20)
		res := mem.Reserve(8 << 20)
		n := allocated(func() {
			if _, err := Loki(data, res); !rpcerr.Is(err, rpcerr.TooLarge) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if n > 64<<20 {
			t.Errorf("%s: %d bytes were allocated for a bound of 8 MiB", name, n)
		}
		res.Release()
		if mem.Used() != 0 {
			t.Errorf("%s: %d bytes are still held", name, mem.Used())
		}
	}
}

func TestMemoryIsShared(t *testing.T) {
	mem := NewMemory(1 << 20)
	first, second := mem.Reserve(1<<20), mem.Reserve(1<<20)
	if err := first.Grow(900 << 10); err != nil {
		t.Fatal(err)
	}
	err := second.Grow(200 << 10)
	if !rpcerr.Is(err, rpcerr.Overloaded) || rpcerr.RetryAfter(err) == 0 {
		t.Fatal(err)
	}
	first.Release()
	second.Release()
	if err := second.Grow(200 << 10); err != nil {
		t.Fatal(err)
	}
	second.Release()
	if mem.Used() != 0 {
		t.Fatal(mem.Used())
	}
}

func TestLinesAllocateNothing(t *testing.T) {
	var few, many []stream
	for _, n := range []int{10, 10_000} {
		s := stream{Labels: `{a="b"}`}
		for i := range n {
			s.Rows = append(s.Rows, row{Time: int64(i), Line: "a line of text", Metadata: map[string]string{"trace_id": "abc", "user": "u"}})
		}
		few, many = many, []stream{s}
	}
	allocs := func(s []stream) float64 {
		wire := lokiWire(s)
		return testing.AllocsPerRun(5, func() {
			if _, err := Loki(wire, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if a, b := allocs(few), allocs(many); b > a+100 {
		t.Errorf("%.0f allocations for 10 lines, %.0f for 10,000", a, b)
	}
}
