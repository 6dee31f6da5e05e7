package positions

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
)

func sample(n uint64) Snapshot {
	return Snapshot{Seq: n, Last: 5, Cursors: map[string]string{"a \"b": "s=1 2\n", "c": ""}, Clients: map[string]uint64{"": 3, "x y": 1<<64 - 1}, Files: []Position{
		{ID: ID{1, 2}, Path: "/a", Offset: 9, Job: "a \"job\"", Held: []entry.Span{{Start: 1, End: 4}, {Start: 4, End: 9}}},
		{ID: ID{1, 2}, Path: "/var/log/a \"b\"\n\xff.log", Offset: 4096, State: lines.Skip, Head: PrintOf(make([]byte, 1024)), Tail: PrintOf([]byte("x\n")), Mtime: 7, Gen: 8},
		{ID: ID{1<<64 - 1, 3}, Path: "/var/log/z.log", Offset: 2, Head: PrintOf([]byte("x\n")), Tail: PrintOf([]byte("x\n"))},
	}}
}

func TestRoundTrip(t *testing.T) {
	for _, s := range []Snapshot{{}, sample(9)} {
		got, err := Decode(Encode(s))
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v, %v; want %+v", got, err, s)
		}
	}
}

// Whatever happens to a byte, or wherever the file ends: no half snapshot.
func TestDamage(t *testing.T) {
	whole := Encode(sample(9))
	for i := range whole {
		if _, err := Decode(whole[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		if _, err := Decode(bad); !errors.Is(err, ErrDamaged) {
			t.Fatalf("flipped at %d: %v", i, err)
		}
	}
	if _, err := Decode(make([]byte, 4096)); !errors.Is(err, ErrDamaged) {
		t.Fatal("a file of NULs was accepted")
	}
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "positions")
	load := func() (Snapshot, error) { return NewStore(path).Load() }
	write := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := NewStore(path)
	if got, err := s.Load(); err != nil || len(got.Files) != 0 {
		t.Fatalf("empty: %v, %v", got, err)
	}
	for n := uint64(1); n <= 3; n++ {
		if err := s.Save(sample(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := load(); err != nil || got.Seq != 3 {
		t.Fatalf("newest: %d, %v", got.Seq, err)
	}
	// Torn: the generation before. Saving keeps it until there is a better one.
	write(path, Encode(sample(3))[:40])
	s = NewStore(path)
	if got, err := s.Load(); err == nil || got.Seq != 2 {
		t.Fatalf("torn: %d, %v", got.Seq, err)
	}
	if err := s.Save(sample(4)); err != nil {
		t.Fatal(err)
	}
	write(path, nil)
	if got, err := load(); err == nil || got.Seq != 2 {
		t.Fatalf("torn again: %d, %v", got.Seq, err)
	}
	// Both torn: empty, and it says so. Missing newest (a crash between the two
	// renames): the one before, without a complaint.
	write(path+".old", make([]byte, 100))
	if got, err := load(); err == nil || got.Seq != 0 {
		t.Fatalf("both torn: %d, %v", got.Seq, err)
	}
	write(path+".old", Encode(sample(8)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := load(); err != nil || got.Seq != 8 {
		t.Fatalf("missing: %d, %v", got.Seq, err)
	}
}

func TestMatches(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(rt, "data")
		off := rapid.IntRange(0, len(data)).Draw(rt, "offset")
		p := Position{Offset: int64(off), Head: PrintOf(data[:min(off, HeadBytes)]), Tail: PrintOf(data[max(0, off-TailBytes):off])}
		more := append(bytes.Clone(data), "more"...)
		if _, _, ok := p.Matches(bytes.NewReader(more), int64(len(more))); !ok {
			rt.Fatal("the same file, grown, is not recognised")
		}
		if off == 0 {
			return
		}
		if _, _, ok := p.Matches(bytes.NewReader(data[:off-1]), int64(off-1)); ok {
			rt.Fatal("a shorter file is taken for it")
		}
		i := rapid.IntRange(0, off-1).Draw(rt, "changed")
		if i < HeadBytes || i >= off-TailBytes {
			more[i]++
			if _, _, ok := p.Matches(bytes.NewReader(more), int64(len(more))); ok {
				rt.Fatal("another file is taken for it")
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(sample(1)))
	f.Add(Encode(Snapshot{}))
	f.Add([]byte(header))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || len(s.Files) != 0 {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		if again, err := Decode(Encode(s)); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%v, then %v, %v", s, again, err)
		}
	})
}
