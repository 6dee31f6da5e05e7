package tombstone

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

// Objects that cannot be decoded are told of, all of them, until they are mended.
func TestDamageIsToldUntilItIsMended(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	x, y, z := w.create(s, `{app="x"}`), w.create(s, `{app="y"}`), w.create(s, `{app="z"}`)
	removal := Removal{Block: catalog.ID(w.tombstone(`{app="a"}`).ID), Sources: []catalog.ID{"s"}, Entries: 3, Time: epoch}
	for _, err := range []error{s.Start(t.Context(), "t", y.ID, "c"), s.Record(t.Context(), "t", y.ID, removal)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := map[string][]byte{}
	put := func(key string, body []byte) {
		t.Helper()
		if _, ok := kept[key]; !ok {
			b, err := objstore.ReadAll(t.Context(), w.bucket, key, maxObject)
			if err != nil {
				t.Fatal(err)
			}
			kept[key] = b
		}
		if err := objstore.PutBytes(t.Context(), w.bucket, key, body); err != nil {
			t.Fatal(err)
		}
	}
	told := func(s *Store, keys ...string) {
		t.Helper()
		slices.Sort(keys)
		if got := s.Damaged(); !slices.Equal(got, keys) {
			t.Errorf("told are %v, want %v", got, keys)
		}
	}
	verified := func(want ...string) {
		t.Helper()
		n, damaged, err := w.store().Verify(t.Context(), "t")
		if err != nil || n != 5 || len(damaged) != len(want) {
			t.Fatalf("%d objects, damaged are %v, want %v; %v", n, damaged, want, err)
		}
		for _, err := range damaged {
			w.check("verify", err, ErrDamaged)
			if !slices.ContainsFunc(want, func(key string) bool { return strings.Contains(err.Error(), "object "+key+":") }) {
				t.Errorf("%v, but %v are damaged", err, want)
			}
		}
	}
	verified()
	told(s)

	proof := key("t", y.ID) + removalInfix + string(removal.Block)
	put(proof, []byte("?"))
	verified(proof)
	decision := key("t", y.ID) + decisionSuffix
	put(key("t", x.ID), nil)
	put(decision, kept[proof])
	put(key("t", z.ID), make([]byte, maxObject+1))
	all := []string{key("t", x.ID), decision, key("t", z.ID)}
	verified(append(all, proof)...)

	s = w.store() // that knows none of them yet
	told(s)
	for range 2 {
		_, err := s.Current(t.Context(), "t")
		w.check("damaged", err, ErrDamaged)
		for _, k := range all {
			if !strings.Contains(err.Error(), k) {
				t.Errorf("%s is not named: %v", k, err)
			}
		}
		told(s, all...)
	}
	if _, err := s.Current(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	told(s, all...)

	// What cannot be read now stays as it is known.
	w.bucket.Before = func(context.Context, string, string) error { return objstore.ErrUnavailable }
	s.Recheck(t.Context())
	told(s, all...)
	w.bucket.Before = nil
	put(key("t", x.ID), kept[key("t", x.ID)])
	s.Recheck(t.Context())
	told(s, all[1:]...)
	put(decision, kept[decision])
	if err := w.bucket.Delete(t.Context(), key("t", z.ID)); err != nil {
		t.Fatal(err)
	}
	s.Recheck(t.Context())
	told(s)
	w.inForce(s, x, y)
}

// As long as something is damaged each question lists the deletes anew; those that are whole are
// not read anew for that, of which there may be thousands.
func TestDamageDoesNotHaveAllReadAnew(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	x := w.create(s, `{app="x"}`)
	for range 20 {
		if err := s.Start(t.Context(), "t", w.create(s, `{app="y"}`).ID, "c"); err != nil {
			t.Fatal(err)
		}
	}
	if err := objstore.PutBytes(t.Context(), w.bucket, key("t", x.ID), []byte("?")); err != nil {
		t.Fatal(err)
	}
	s = w.store()
	read := map[string]bool{}
	w.bucket.Before = func(_ context.Context, op, key string) error {
		if op != "list" {
			read[key] = true
		}
		return nil
	}
	for i, want := range []int{41, 1, 1} {
		clear(read)
		_, err := s.Current(t.Context(), "t")
		w.check("damaged", err, ErrDamaged)
		if len(read) != want {
			t.Errorf("time %d: %d objects were read, want %d", i, len(read), want)
		}
	}
}

func TestNames(t *testing.T) {
	for n, want := range map[int]string{1: "k", 2: "k, k", 10: strings.Repeat("k, ", 9) + "k", 13: strings.Repeat("k, ", 9) + "k and 3 more"} {
		if got := Names(slices.Repeat([]string{"k"}, n)); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
