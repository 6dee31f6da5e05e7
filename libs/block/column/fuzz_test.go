package column

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func corrupt(t *testing.T, err error) {
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v does not say that it is damage", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	c := NewCompressor(LevelFastest)
	f.Add(c.AppendFrame(nil, []byte("hello hello hello hello hello hello hello"))[:20])
	f.Add([]byte{1, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		// With a good checksum, so that what lies behind it is tried.
		b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
		got, err := ReadFrame(b, 1<<16)
		corrupt(t, err)
		if len(got) > 1<<16 || cap(got) > 1<<17 {
			t.Fatalf("%d bytes", cap(got))
		}
	})
}

func FuzzParseInfos(f *testing.F) {
	var e Encoder
	for _, values := range [][]string{{"x"}, {"1", "2"}, {"1000000", "1000001", "1000009", "1000010"}, {"10.0.0.1", "10.0.0.2"}, numbered(32, func(i int) string { return string(rune('a' + i%4)) })} {
		slab, refs := slabOf(values)
		info, payload := e.Encode(nil, slab, refs)
		f.Add(AppendInfos(nil, []Info{info}), payload)
	}
	f.Fuzz(func(t *testing.T, directory, payload []byte) {
		infos, _, err := ParseInfos(directory)
		corrupt(t, err)
		if len(infos) > len(directory) {
			t.Fatalf("%d columns in %d bytes", len(infos), len(directory))
		}
		var buf, viewed []byte
		for i := range infos {
			view, viewErr := NewView(&infos[i], payload)
			corrupt(t, viewErr)
			v, err := Open(&infos[i], payload)
			corrupt(t, err)
			if viewErr == nil {
				// From the end on, then from the first.
				for k := min(infos[i].N, 1000) - 1; k >= 0; k-- {
					viewed, viewErr = view.Append(viewed[:0], k)
					corrupt(t, viewErr)
				}
			}
			if err != nil {
				continue
			}
			for k := range min(v.Len(), 1000) {
				buf = v.Append(buf[:0], k)
				if view == nil || infos[i].Kind == Signed {
					continue
				}
				if viewed, viewErr = view.Append(viewed[:0], k); viewErr == nil && !bytes.Equal(viewed, buf) {
					t.Fatalf("value %d: %q, viewed %q", k, buf, viewed)
				}
			}
		}
	})
}

func FuzzDecodeTimes(f *testing.F) {
	f.Add(AppendTimes(nil, []int64{1, 2, 5, 1e9}, nil), uint16(4), uint16(0))
	f.Add(AppendTimes(nil, []int64{1, 2, 5, 1e9}, []uint32{2, 4}), uint16(4), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, n, run uint16) {
		var runs []uint32
		if run > 0 {
			runs = []uint32{uint32(run), uint32(n)}
		}
		got, err := DecodeTimes(nil, b, int(n), runs)
		corrupt(t, err)
		if err == nil && len(got) != int(n) {
			t.Fatalf("%d times of %d", len(got), n)
		}
	})
}
