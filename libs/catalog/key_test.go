package catalog

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/objstore"
)

func testID(n uint64) ID {
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	id, err := NewID(time.UnixMilli(1_764_000_000_000+int64(n)), r)
	if err != nil {
		panic(err)
	}
	return id
}

func TestID(t *testing.T) {
	now := time.UnixMilli(1_764_101_234_567).UTC()
	id, err := NewID(now, bytes.NewReader(make([]byte, 10)))
	if err != nil || ValidateID(id) != nil || !id.Time().Equal(now) {
		t.Errorf("%s, %v, made at %v", id, err, id.Time())
	}
	later, err := NewID(now.Add(time.Millisecond), bytes.NewReader(make([]byte, 10)))
	if err != nil || later <= id {
		t.Errorf("%s is not behind %s", later, id)
	}
	if _, err := NewID(now, bytes.NewReader(nil)); err == nil {
		t.Error("an id without randomness")
	}
	for _, bad := range []ID{"", "a", id + "0", id[:25] + "1", id[:25] + "z", ID(strings.ToUpper(string(id[:10]))) + id[10:25] + "/"} {
		if ValidateID(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func drawBlock(t *rapid.T) Block {
	times := []int64{rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")}
	b := Block{
		ID: testID(rapid.Uint64().Draw(t, "id")), Tenant: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,149}`).Draw(t, "tenant"),
		Level: rapid.IntRange(0, 255).Draw(t, "level"), MinTime: min(times[0], times[1]), MaxTime: max(times[0], times[1]),
		Size: rapid.Int64Range(0, math.MaxInt64).Draw(t, "size"),
	}
	if rapid.Bool().Draw(t, "day") {
		b.Partition = time.Unix(0, 0).AddDate(0, 0, rapid.IntRange(-100_000, 100_000).Draw(t, "partition")).UTC().Truncate(day)
	}
	return b
}

// TestKeyRoundTrip: a key says what it was made from, is one that a bucket takes, and lies under its
// tenant's prefix and no other's.
func TestKeyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBlock(t)
		key := Key(b)
		got, err := ParseKey(key)
		if err != nil || Key(got) != key || got.ID != b.ID || got.Tenant != b.Tenant || !got.Partition.Equal(b.Partition) ||
			got.MinTime != b.MinTime || got.MaxTime != b.MaxTime || got.Size != b.Size || got.Level != b.Level {
			t.Fatalf("%+v became %s, %+v, %v", b, key, got, err)
		}
		if err := objstore.ValidateKey(key); err != nil {
			t.Fatal(err)
		}
		other := rapid.String().Draw(t, "other")
		if other != b.Tenant && strings.HasPrefix(key, Prefix(other)) {
			t.Fatalf("%s lies under the prefix of %q", key, other)
		}
	})
}

// TestNoTenantLeavesItsPrefix: whatever a tenant is called, its prefix is one element of a key.
func TestNoTenantLeavesItsPrefix(t *testing.T) {
	for tenant, want := range map[string]string{
		"fake": "fake/", "a.b": "a.b/", "a.": "a=2e/", "..": "=2e=2e/", "../x": "=2e.=2fx/", "a/b": "a=2fb/", "=41": "=3d41/", "A": "A/",
		"_": "=5f/", "ä": "=c3=a4/", "": "/",
	} {
		if got := Prefix(tenant); got != want {
			t.Errorf("%q: %q, want %q", tenant, got, want)
		}
		if tenant == "" {
			continue
		}
		if got, rest, err := splitTenant(Prefix(tenant) + "index"); err != nil || got != tenant || rest != "index" {
			t.Errorf("%q comes back as %q, %q, %v", tenant, got, rest, err)
		}
	}
}

func TestBadKeys(t *testing.T) {
	id := string(testID(1))
	good := "fake/2026-11-25/1-5-n6-100-" + id
	for _, key := range []string{
		"", "fake", "fake/index", "fake/deletes/" + id, good, // ends before it begins
		"fake/2026-11-25/1-5-6-100-", "fake/2026-11-25/1-5-6-100-" + id + "x", "fake/2026-11-25/1-5-6-100",
		"fake/2026-11-25/01-5-6-100-" + id, "fake/2026-11-25/1-+5-6-100-" + id, "fake/2026-11-25/1-nn5-6-100-" + id,
		"fake/2026-11-25/256-5-6-100-" + id, "fake/2026-11-25/1-n0-6-100-" + id, "fake/2026-1-25/1-5-6-100-" + id,
		"fake/2026-13-25/1-5-6-100-" + id, "fake/Any/1-5-6-100-" + id, "fake/1-5-6-100-" + id, "/any/1-5-6-100-" + id,
		"fa=6be/any/1-5-6-100-" + id, "fake=2/any/1-5-6-100-" + id, "fake=zz/any/1-5-6-100-" + id, "fake=2E/any/1-5-6-100-" + id,
		"fake/any/1-5-6-n1-" + id, "fake/any/x/1-5-6-1-" + id, "fake/0001-01-01/1-5-6-1-" + id, "fake/any/1-9223372036854775808-6-1-" + id,
		"fake/any/1-5-6-1-" + strings.ToUpper(id),
	} {
		if b, err := ParseKey(key); err == nil {
			t.Errorf("%q is taken for %+v", key, b)
		}
	}
	if _, err := ParseKey("fake/2026-11-25/1-n6-5-100-" + id); err != nil {
		t.Error(err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(Key(Block{ID: testID(1), Tenant: "fake", MinTime: -5, MaxTime: 7, Size: 9}))
	f.Add(Key(Block{ID: testID(2), Tenant: "a.", Partition: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), Size: 9}))
	f.Add("fake/any/1-5-6-1-0")
	f.Fuzz(func(t *testing.T, key string) {
		b, err := ParseKey(key)
		if err != nil {
			return
		}
		if Key(b) != key || objstore.ValidateKey(key) != nil || !strings.HasPrefix(key, Prefix(b.Tenant)) || b.validate() != nil {
			t.Errorf("%q is taken for %+v", key, b)
		}
	})
}
