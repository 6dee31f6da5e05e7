package local

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/catalog"
)

var update = flag.Bool("update", false, "write the golden file anew")

func random() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

var created = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func directory() Directory {
	return Directory{Incarnation: [16]byte{1, 2, 3}, Covers: Ranges{{1, 10}, {20, 30}}, Created: created, Replaces: []string{"old"}}
}

// write writes a container of blocks with these contents.
func write(t testing.TB, dir string, d Directory, contents ...string) (*Container, error) {
	t.Helper()
	w, err := Create(dir, d, random(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range contents {
		if _, err := w.Write([]byte(c)); err != nil {
			t.Fatal(err)
		}
		b := Block{ID: catalog.ID("id" + "abc"[i:i+1]), Tenant: "t", MinTime: int64(-i), MaxTime: int64(i), Level: i, Streams: 1, Rows: 2, RawBytes: 3, Born: created}
		if i > 0 {
			b.Partition = time.Date(2026, 11, 20+i, 0, 0, 0, 0, time.UTC)
		}
		if err := w.End(b); err != nil {
			t.Fatal(err)
		}
	}
	c, err := w.Commit(t.Context())
	if c != nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func read(t testing.TB, c *Container, i int) string {
	t.Helper()
	b := &c.Blocks[i]
	s, err := c.Section(b).ReadRange(context.Background(), 0, int(b.Size))
	if err != nil {
		t.Fatal(err)
	}
	return string(s)
}

// TestGolden: this and every later version reads what version 1 wrote.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	c, err := write(t, dir, directory(), "first", "", "third")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "v1.blocks")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, got, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes have changed: that is another version")
	}
	o, err := open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if len(o.Blocks) != 3 || !slices.Equal(o.Covers, directory().Covers) || !o.Created.Equal(created) || !slices.Equal(o.Replaces, []string{"old"}) {
		t.Errorf("%+v", o.Directory)
	}
	for i, s := range []string{"first", "", "third"} {
		if read(t, o, i) != s {
			t.Errorf("block %d is %q", i, read(t, o, i))
		}
	}
	if b := o.Blocks[2]; b.Level != 2 || b.MinTime != -2 || !b.Partition.Equal(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)) || !o.Blocks[0].Partition.IsZero() {
		t.Errorf("%+v", b)
	}
}

// TestEveryByteFlipped: a container with a damaged byte is set aside or found out when it
// is verified; never is it served for what it was not.
func TestEveryByteFlipped(t *testing.T) {
	dir := t.TempDir()
	c, err := write(t, dir, directory(), "first", "second")
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, filepath.Base(c.Path())), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		list, lost, err := OpenDir(t.Context(), other)
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		if len(list)+len(lost) != 1 {
			t.Fatalf("byte %d: %d open, %d set aside", i, len(list), len(lost))
		}
		if len(list) == 1 {
			if err := list[0].Verify(t.Context()); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d: %v", i, err)
			}
			_ = list[0].Close()
			continue
		}
		if names, _ := filepath.Glob(filepath.Join(other, "*"+suffix)); len(names) > 0 {
			t.Errorf("byte %d: the damaged file is still there", i)
		}
		if _, again, _ := OpenDir(t.Context(), other); len(again) != 1 {
			t.Errorf("byte %d: after another restart the gap is forgotten", i)
		}
	}
	for i := range good { // cut short
		if _, err := decodeAll(good[:i]); err == nil {
			t.Errorf("%d bytes of it are taken for whole", i)
		}
	}
}

// decodeAll reads the directory of a container that is in memory.
func decodeAll(b []byte) (*Directory, error) {
	if len(b) < tailSize {
		return nil, ErrDamaged
	}
	offset, length, _, err := decodeTail(b[len(b)-tailSize:], int64(len(b)))
	if err != nil {
		return nil, err
	}
	return decodeDirectory(b[offset:offset+length], offset)
}

func FuzzDirectory(f *testing.F) {
	d := directory()
	d.Blocks = []Block{{ID: "a", Tenant: "t", Size: 5}, {ID: "b", Tenant: "u", Partition: created.Truncate(day), Offset: 5, Size: 7}}
	f.Add(d.encode(), int64(12))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		d, err := decodeDirectory(b, offset)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeDirectory(d.encode(), offset)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !bytes.Equal(again.encode(), d.encode()) {
			t.Fatal("what was read is written otherwise")
		}
	})
}

func FuzzTail(f *testing.F) {
	f.Add(encodeTail([]byte("x"), 3), int64(3+1+tailSize))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		offset, length, _, err := decodeTail(b, size)
		if err == nil && (offset < 0 || length < 0 || offset+length+tailSize != size) {
			t.Fatalf("a directory of %d bytes at %d in %d", length, offset, size)
		}
	})
}

// A container that others read from stays until they are done.
func TestDroppedWhenNobodyHolds(t *testing.T) {
	c, err := write(t, t.TempDir(), directory(), "first")
	if err != nil {
		t.Fatal(err)
	}
	c.Hold()
	c.Drop()
	if got := read(t, c, 0); got != "first" {
		t.Errorf("read %q", got)
	}
	if _, err := os.Stat(c.Path()); err != nil {
		t.Error(err)
	}
	c.Release()
	if _, err := os.Stat(c.Path()); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// What a merge has replaced goes at the next start, unless the merge is damaged.
func TestReplacedGoesAtTheStart(t *testing.T) {
	for _, damage := range []bool{false, true} {
		dir := t.TempDir()
		old, err := write(t, dir, Directory{Created: created}, "first")
		if err != nil {
			t.Fatal(err)
		}
		c, err := write(t, dir, Directory{Created: created.Add(1), Replaces: []string{old.Name()}}, "first")
		if err != nil {
			t.Fatal(err)
		}
		if damage {
			f, err := os.OpenFile(c.Path(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("F"), 0); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
		if err := os.WriteFile(filepath.Join(dir, "x"+suffix+tempSuffix), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		list, _, err := OpenDir(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if damage {
			want = 2
		}
		if len(list) != want {
			t.Errorf("damage %t: %d containers", damage, len(list))
		}
		for _, c := range list {
			_ = c.Close()
		}
		if names, _ := filepath.Glob(filepath.Join(dir, "*"+tempSuffix)); len(names) > 0 {
			t.Errorf("left over: %v", names)
		}
	}
}

// Nothing gets its name that cannot be read back.
func TestReadBackBeforeItCounts(t *testing.T) {
	dir := t.TempDir()
	w, err := Create(dir, directory(), random(), func(step string) error {
		if step != "verify" {
			return nil
		}
		names, err := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		b, err := os.ReadFile(names[0])
		if err != nil {
			return err
		}
		b[0]++
		return os.WriteFile(names[0], b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := w.End(Block{ID: "a", Tenant: "t"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left over: %v", entries)
	}
}

func TestLaterVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	c, err := write(t, dir, directory(), "first")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	copy(b[len(b)-tailSize:], laterTail(b[len(b)-tailSize:]))
	if err := os.WriteFile(c.Path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenDir(t.Context(), dir); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("error %v", err)
	}
}

func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rs Ranges
		twin := map[uint64]bool{}
		for range rapid.IntRange(0, 10).Draw(t, "n") {
			first := rapid.Uint64Range(0, 30).Draw(t, "first")
			last := first + rapid.Uint64Range(0, 5).Draw(t, "more")
			rs = rs.Add(Range{first, last})
			for i := first; i <= last; i++ {
				twin[i] = true
			}
		}
		for i := range uint64(40) {
			if rs.Has(i) != twin[i] {
				t.Fatalf("%v has %d: %t", rs, i, rs.Has(i))
			}
		}
		for i := 1; i < len(rs); i++ {
			if rs[i-1].Last+1 >= rs[i].First {
				t.Fatalf("%v touch", rs)
			}
		}
	})
	if rs := (Ranges{{5, math.MaxUint64}}).Add(Range{1, 2}); len(rs) != 2 || !rs.Has(math.MaxUint64) {
		t.Errorf("%v", rs)
	}
}
