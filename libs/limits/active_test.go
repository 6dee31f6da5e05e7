package limits

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The twin keeps the time of each stream's last entry: what is younger than an hour is
// active, what is older than two is not, and in between either will do.
func TestActiveStreamsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		a := NewActiveStreams(func() time.Time { return now })
		last, generations := map[string]time.Time{}, map[string]uint64{}
		bounds := func(tenant string) (least, most int) {
			for key, at := range last {
				if key[:1] == tenant && now.Sub(at) < 2*activeFor {
					most++
					if now.Sub(at) < activeFor {
						least++
					}
				}
			}
			return least, most
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			tenant := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")
			key := rapid.Uint64Range(0, 5).Draw(t, "key")
			id := fmt.Sprint(tenant, key)
			at, seen := last[id]
			age := now.Sub(at)
			check := func(what string, got bool) {
				if got && (!seen || age >= 2*activeFor) || !got && seen && age < activeFor {
					t.Fatalf("%s %s: %v after %s (seen %v)", what, id, got, age, seen)
				}
			}
			switch rapid.IntRange(0, 6).Draw(t, "do") {
			case 0:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*activeFor/2)).Draw(t, "wait")))
			case 1:
				check("add", a.Add(tenant, key))
				last[id] = now
			case 2:
				got := a.Touch(tenant, key)
				check("touch", got)
				if got {
					last[id] = now
				}
			case 3:
				check("has", a.Has(tenant, key))
			case 4:
				limit := rapid.IntRange(0, 4).Draw(t, "limit")
				before, known := a.Count(tenant), a.Has(tenant, key)
				if got := a.AddBelow(tenant, key, limit); got != (known || before < limit) {
					t.Fatalf("add below %d with %d streams, known %v: %v", limit, before, known, got)
				} else if got {
					last[id] = now
				}
			case 5:
				a.Sweep()
			case 6: // as whoever remembers in which generation it has noted a stream
				g := a.Generation(tenant)
				for other, noted := range generations {
					if g == 0 || noted == g && other[:1] != tenant {
						t.Fatalf("generation %d of %s is one of %s", g, tenant, other)
					}
				}
				if generations[id] != g {
					check("note", a.Add(tenant, key))
					generations[id] = g
				}
				last[id] = now
			}
			least, most := bounds(tenant)
			if n := a.Count(tenant); n < least || n > most {
				t.Fatalf("%d streams of %s, want %d to %d", n, tenant, least, most)
			}
		}
		sum := 0
		for _, c := range a.Counts() {
			sum += c.Streams
		}
		if sum != a.Total() {
			t.Fatalf("counts add up to %d of %d", sum, a.Total())
		}
	})
}

// Tenants without streams are forgotten, however often they are looked at meanwhile.
func TestActiveStreamsForgetTenants(t *testing.T) {
	for name, look := range map[string]func(*ActiveStreams){
		"counts": func(a *ActiveStreams) { a.Counts() },
		"sweep":  func(a *ActiveStreams) { a.Count("a"); a.Sweep() },
	} {
		now := time.Unix(1_700_000_000, 0)
		a := NewActiveStreams(func() time.Time { return now })
		a.Add("a", 1)
		for range 5 {
			now = now.Add(activeFor / 2)
			look(a)
		}
		if len(a.tenants) != 0 {
			t.Errorf("%s: %d tenants are kept", name, len(a.tenants))
		}
	}
}
