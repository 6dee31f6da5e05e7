package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func drawIndex(t *rapid.T) *Index {
	x := &Index{Tenant: "tenant", Taken: time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "taken")).UTC()}
	for n := range rapid.Uint64Range(0, 20).Draw(t, "blocks") {
		e := IndexEntry{Block: drawBlock(t), State: State(rapid.IntRange(0, 2).Draw(t, "state"))}
		e.ID, e.Tenant = testID(n), x.Tenant
		e.Rows, e.RawBytes = rapid.Int64Range(0, math.MaxInt64).Draw(t, "rows"), rapid.Int64Range(0, math.MaxInt64).Draw(t, "raw")
		if e.State != Present {
			e.Since = time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "since")).UTC()
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "sources") {
			e.Sources = append(e.Sources, Source{ID: testID(uint64(100 + i)), Part: i, Of: 3, Merge: testID(200)})
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "tombstones") {
			e.Tombstones = append(e.Tombstones, fmt.Sprint("delete ", i))
		}
		x.Entries = append(x.Entries, e)
	}
	return x
}

func TestIndexRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawIndex(t)
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Entries) == 0 {
			x.Entries = got.Entries[:0]
		}
		if !reflect.DeepEqual(got, x) {
			t.Fatalf("%+v became %+v", x, got)
		}
	})
}

// TestDamagedIndex: whichever bit flips and wherever it ends, an index is refused.
func TestDamagedIndex(t *testing.T) {
	b, err := goldenIndex().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if _, err := DecodeIndex(c); !errors.Is(err, ErrIndex) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if _, err := DecodeIndex(b[:i]); !errors.Is(err, ErrIndex) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	// What claims to be larger than it is takes no memory.
	c := bytes.Clone(b[:len(b)-8])
	binary.LittleEndian.PutUint64(c[8:], maxIndexPayload)
	if _, err := DecodeIndex(binary.LittleEndian.AppendUint64(c, xxhash.Sum64(c))); !errors.Is(err, ErrIndex) {
		t.Errorf("a payload that is not there: %v", err)
	}
}

func goldenIndex() *Index {
	d := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	return &Index{Tenant: "fake", Taken: d.Add(time.Hour), Entries: []IndexEntry{
		{Block: Block{ID: testID(1), Tenant: "fake", Partition: d, Level: 1, MinTime: d.UnixNano(), MaxTime: d.Add(time.Minute).UnixNano(), Size: 1000,
			Rows: 10, RawBytes: 20_000, Sources: []Source{{testID(2), 0, 2, testID(7)}, {testID(3), 0, 1, testID(7)}}, Tombstones: []string{string(testID(8))}}},
		{Block: Block{ID: testID(2), Tenant: "fake", MinTime: -5, MaxTime: math.MaxInt64, Size: 0}, State: Gone, Since: d.Add(time.Second)},
		{Block: Block{ID: testID(3), Tenant: "fake", Partition: d, MinTime: math.MinInt64, MaxTime: math.MinInt64, Size: math.MaxInt64}, State: Lost, Since: d.Add(2 * time.Second)},
	}}
}

// TestGoldenIndex: the index objects of all versions are read for ever.
func TestGoldenIndex(t *testing.T) {
	name := filepath.Join("testdata", "index.v1")
	want := goldenIndex()
	if *update {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeIndex(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// A later minor version may say more.
	var later []byte
	later = append(later, b[:len(b)-8]...)
	later[6] = 1
	if _, err := DecodeIndex(binary.LittleEndian.AppendUint64(later, xxhash.Sum64(later))); err != nil {
		t.Errorf("a later minor version: %v", err)
	}
	later[4] = 2
	if _, err := DecodeIndex(binary.LittleEndian.AppendUint64(later, xxhash.Sum64(later))); !errors.Is(err, ErrIndex) {
		t.Errorf("a later major version: %v", err)
	}
}

func FuzzDecodeIndex(f *testing.F) {
	b, err := goldenIndex().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-8])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeIndex(binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b)))
		if err != nil {
			return
		}
		again, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if y, err := DecodeIndex(again); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}
