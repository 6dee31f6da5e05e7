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
			if i > 0 && infos[i].ID <= infos[i-1].ID {
				t.Fatalf("column %d after %d", infos[i].ID, infos[i-1].ID)
			}
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

// FuzzPages joins and views pages of any column, and reads times by parts.
func FuzzPages(f *testing.F) {
	times := make([]int64, 300)
	for i := range times {
		times[i] = int64(i) * 1e6
	}
	ends := []uint32{10, 300}
	head, parts := CutTimes(AppendTimes(nil, times, ends), times, ends, TimesGroup)
	f.Add(byte(Int), byte(2), uint16(100), uint16(30), []byte{}, bytes.Repeat([]byte{1}, 60))
	f.Add(byte(Bytes), byte(1), uint16(9), uint16(3), []byte{}, []byte("\x01\x02\x03abcdef"))
	f.Add(byte(Signed), byte(1), uint16(300), uint16(128), head, parts[0])
	f.Fuzz(func(t *testing.T, kind, width byte, n, count uint16, head, part []byte) {
		if n == 0 || count == 0 {
			return
		}
		c := Info{Kind: Kind(kind % byte(kinds)), Width: width % 9, N: int(n), MinLen: int(width >> 4), MaxLen: int(width >> 4), IndexAt: len(head)}
		if c.Kind == Dict {
			c.Values = &Info{Kind: Bytes, N: min(int(n), len(head)), MinLen: 1, MaxLen: 1}
		}
		if _, ok := c.PageSize(1); ok {
			c.Size = uint32(len(head) + len(part)*((int(n)+int(count)-1)/int(count)))
			all, err := JoinPages(&c, head, int(count), func(int) ([]byte, error) { return part, nil })
			if err == nil && len(all) != int(c.Size) {
				t.Fatalf("%d bytes, not %d", len(all), c.Size)
			}
			mustBeCorrupt(t, err)
			var dict *View
			if c.Kind == Dict {
				if dict, err = NewHeadView(&c, head); err != nil {
					mustBeCorrupt(t, err)
					return
				}
			}
			m := min(int(count), int(n))
			v, err := PageView(&c, m, dict, part)
			mustBeCorrupt(t, err)
			for i := 0; err == nil && i < m; i++ {
				if c.Kind == Signed {
					v.Signed(i)
				} else {
					_, err = v.Append(nil, i)
					mustBeCorrupt(t, err)
				}
			}
		}
		p, err := OpenTimesPages(head, int(n), ends, TimesGroup)
		mustBeCorrupt(t, err)
		if err != nil {
			return
		}
		for i := range p.Parts() {
			rows, err := p.Decode(nil, i, part)
			mustBeCorrupt(t, err)
			if from, to := p.Rows(i); err == nil && len(rows) != to-from {
				t.Fatalf("%d rows of %d", len(rows), to-from)
			}
		}
	})
}

func mustBeCorrupt(t *testing.T, err error) {
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%v does not say that it is damage", err)
	}
}
