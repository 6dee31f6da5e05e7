package tombstone

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/catalog"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestInvalid(t *testing.T) {
	now := epoch.UnixNano()
	for name, c := range map[string]struct {
		query      string
		start, end int64
	}{
		"no query": {"", 0, now}, "no selector": {"{}", 0, now}, "metric": {`rate({app="a"}[1m])`, 0, now},
		"parser": {`{app="a"} | json`, 0, now}, "format": {`{app="a"} | line_format "x"`, 0, now},
		"subquery": {`{app="a"} | user in ({app="b"})`, 0, now}, "address": {`{app="a"} | addr=ip("nowhere")`, 0, now},
		"empty range": {`{app="a"}`, 5, 5}, "turned range": {`{app="a"}`, 6, 5},
		"future": {`{app="a"}`, 0, now + 1}, "long": {`{app="` + strings.Repeat("a", MaxQuery) + `"}`, 0, now},
	} {
		if _, err := New(epoch, rand.Reader, "t", c.query, c.start, c.end); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(epoch, rand.Reader, "", `{app="a"}`, 0, now); !errors.Is(err, ErrInvalid) {
		t.Errorf("no tenant: %v", err)
	}
	x, err := New(epoch, rand.Reader, "t", `{app="a"} |= "x" != "y" or "z" | level="debug" | user in ("b", "c")`, math.MinInt64, math.MaxInt64)
	if err != nil || x.End != now || x.Start != math.MinInt64 {
		t.Errorf("%+v, %v", x, err)
	}
}

// TestRule24EndsAtCreation: a range ends at the creation of its tombstone at the latest, in objects too.
func TestRule24EndsAtCreation(t *testing.T) {
	x, err := New(epoch, rand.Reader, "t", `{app="a"}`, 0, epoch.UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	x.End++
	b, err := x.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

func golden() *Tombstone {
	id, err := catalog.NewID(epoch, bytes.NewReader(make([]byte, 10)))
	if err != nil {
		panic(err)
	}
	x := &Tombstone{ID: string(id), Tenant: "fake", Query: `{app="checkout"} |= "card number" | level="debug"`, Start: math.MinInt64, End: epoch.UnixNano(), Created: epoch}
	if err := x.parse(); err != nil {
		panic(err)
	}
	return x
}

// TestGolden: the objects of all versions are read for ever.
func TestGolden(t *testing.T) {
	x := golden()
	decision := Decision{Rewriting, "compactor-1", epoch}
	removal := Removal{catalog.ID(x.ID), []catalog.ID{"a", "b"}, 12, epoch}
	encoded := map[string]func() ([]byte, error){"tombstone.v1": x.Encode, "decision.v1": decision.encode, "removal.v1": removal.encode}
	for name, encode := range encoded {
		name = filepath.Join("testdata", name)
		b, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name, b, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		switch filepath.Base(name) {
		case "tombstone.v1":
			y, decodeErr := Decode(file)
			if err = decodeErr; err == nil {
				y.selector, x.selector = nil, nil
			}
			got, want = y, x
		case "decision.v1":
			got, err = decodeDecision(file)
			want = decision
		case "removal.v1":
			got, err = decodeRemoval(file)
			want = removal
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestDamaged(t *testing.T) {
	b, err := golden().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if _, err := Decode(c); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if _, err := Decode(b[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	sealed := func(version int, body string) []byte {
		return fmt.Appendf(nil, "weir tombstone %d %016x\n%s", version, xxhash.Sum64String(body), body)
	}
	_, body, _ := strings.Cut(string(b), "\n")
	if _, err := Decode(sealed(1, body)); err != nil {
		t.Errorf("as it was: %v", err)
	}
	for name, c := range map[string][]byte{
		"another version": sealed(2, body),
		"unknown field":   sealed(1, strings.Replace(body, "{", `{"except":"x",`, 1)),
		"two values":      sealed(1, body+"{}"),
		"no id":           sealed(1, `{"tenant":"t"}`),
	} {
		if _, err := Decode(c); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := golden().Encode()
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := strings.Cut(string(b), "\n")
	f.Add(body)
	f.Fuzz(func(t *testing.T, body string) {
		x, err := Decode(fmt.Appendf(nil, "weir tombstone 1 %016x\n%s", xxhash.Sum64String(body), body))
		if err != nil {
			return
		}
		again, err := x.Encode()
		if err != nil {
			return // longer than it was, since JSON escapes
		}
		y, err := Decode(again)
		if err != nil || y.ID != x.ID || y.Query != x.Query || y.Start != x.Start || y.End != x.End || !y.Created.Equal(x.Created) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}

func snapshot(t *testing.T, blocks ...catalog.Block) *catalog.Snapshot {
	t.Helper()
	s, err := catalog.NewSnapshot(blocks, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRule24FooterLists: a block lists a tombstone only if it was applied to every row of it.
func TestRule24FooterLists(t *testing.T) {
	x := golden()
	all := []*Tombstone{x}
	applied := catalog.Block{ID: "a", Tenant: "fake", MaxTime: 5, Tombstones: []string{x.ID}}
	not := catalog.Block{ID: "b", Tenant: "fake", MaxTime: 5}
	later := catalog.Block{ID: "c", Tenant: "fake", MinTime: x.End, MaxTime: x.End}
	for name, c := range map[string]struct {
		applied []*Tombstone
		sources []catalog.Block
		want    []string
	}{
		"sources have it": {nil, []catalog.Block{applied, applied}, []string{x.ID}}, "one lacks it": {nil, []catalog.Block{applied, not}, nil},
		"applied now": {all, []catalog.Block{applied, not}, []string{x.ID}}, "one is not concerned": {nil, []catalog.Block{applied, later}, []string{x.ID}},
		"none is concerned": {nil, []catalog.Block{later}, nil}, "none": {nil, []catalog.Block{not, later}, nil},
	} {
		if got := Covers(c.applied, all, c.sources); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	done, pending := x.Progress(snapshot(t, applied, not, later))
	if len(done) != 1 || done[0].ID != "a" || len(pending) != 1 || pending[0].ID != "b" {
		t.Errorf("done %v, pending %v", done, pending)
	}
}

// TestRule24Retires: only when no block, hidden ones too, and no incarnation can bring an entry back.
func TestRule24Retires(t *testing.T) {
	x := golden()
	applied := catalog.Block{ID: "a", Tenant: "fake", MaxTime: 5, Tombstones: []string{x.ID}, Sources: []catalog.Source{{ID: "b", Of: 1, Merge: "a"}}}
	not := catalog.Block{ID: "b", Tenant: "fake", MaxTime: 5}
	later := catalog.Block{ID: "c", Tenant: "fake", MinTime: x.End, MaxTime: x.End}
	other := catalog.Block{ID: "d", Tenant: "other", MaxTime: 5}
	yes := Incarnation{ID: "i1", Since: epoch.Add(-time.Hour), Confirmed: []string{x.ID}}
	no := Incarnation{ID: "i2", Since: epoch.Add(-time.Hour)}
	forgotten := Incarnation{ID: "i3", Since: epoch.Add(-time.Hour), Forgotten: epoch.Add(time.Hour)}
	for _, c := range []struct {
		name         string
		blocks       []catalog.Block
		incarnations []Incarnation
		ok           bool
	}{
		{"all is done", []catalog.Block{applied, later, other}, []Incarnation{yes, forgotten}, true},
		{"a block is not rewritten", []catalog.Block{not}, []Incarnation{yes}, false},
		{"a source is still there", []catalog.Block{applied, not}, []Incarnation{yes}, false},
		{"an incarnation has not confirmed", []catalog.Block{applied}, []Incarnation{yes, no}, false},
	} {
		if err := x.Retirable(snapshot(t, c.blocks...), c.incarnations); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
