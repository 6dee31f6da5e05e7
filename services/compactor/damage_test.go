package compactor

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
)

// logged returns n entries of an app, from a second of the day on, of which each has words that
// no other one has.
func logged(app string, from, n int) (list []entry) {
	for i := range n {
		k := from + i + 7*24*3600
		list = append(list, entry{app: app, at: time.Duration(from+i) * time.Second, batch: int64(k % 7), level: []string{"", "info", "warn"}[k%3],
			line: fmt.Sprintf("user u%x asked %s for %d items, id=%08x", k*k, app, k%13, uint32(k)*2654435761)})
	}
	return list
}

// Whatever byte of a source is another one, behind what is read to open it: either nothing of
// the result is wrong, or that block, and none of the others, is named and counted once, and
// nothing is stored.
func TestDamageMetByAMerge(t *testing.T) {
	const before, behind = -24 * 3600, 0
	yesterday := day.Add(-24 * time.Hour)
	for _, c := range []struct {
		name      string
		bad, good []entry
		partition time.Time
		size      conf.ByteSize
	}{
		{"rows are taken over", logged("x", before, 300), logged("x", before+300, 300), yesterday, conf.GiB},
		{"rows are united", logged("x", before, 300), logged("x", before+100, 300), yesterday, conf.GiB},
		{"parts", logged("x", before, 600), logged("y", before, 600), yesterday, 3000},
		{"parts by days", join(logged("x", before, 200), logged("x", behind, 200)), logged("y", before, 100), time.Time{}, conf.GiB},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := 0
			for at := 8; ; at += 43 {
				e := start(t, func(cfg *Config, _ *Deps) { cfg.MaxBlockSize = c.size })
				bad := e.put(c.partition, slices.Clone(c.bad)...)
				good := e.put(c.partition, slices.Clone(c.good)...)
				r, err := OpenBlock(t.Context(), e.bucket, bad)
				e.must(err)
				if z := r.Sizes(); int64(at) >= z.Lines+z.Templates+z.Grams+z.Order+z.Metadata {
					break
				}
				e.damage(bad, func(body []byte) { body[at] ^= 0x10 })
				e.pass(25 * time.Hour)
				err = e.service.Cycle(t.Context())
				n := testutil.ToFloat64(e.service.metrics.damaged)
				if err == nil {
					if n != 0 {
						t.Fatalf("byte %d: %v blocks are counted, and none is said to be damaged", at, n)
					}
					e.wantEntries(join(c.bad, c.good)...)
					continue
				}
				found++
				if !damaged(err) || !strings.Contains(err.Error(), string(bad.ID)) || strings.Contains(err.Error(), string(good.ID)) || n != 1 {
					t.Fatalf("byte %d: %v damaged blocks are counted; %s is damaged, not %s: %v", at, n, bad.ID, good.ID, err)
				}
				if keys := e.objects(); len(keys) != 2 {
					t.Fatalf("byte %d: objects %v", at, keys)
				}
			}
			if found == 0 {
				t.Error("no damage was found")
			}
		})
	}
}

// damage changes what is stored of a block.
func (e *env) damage(b catalog.Block, change func(body []byte)) {
	e.Helper()
	body, err := objstore.ReadAll(e.Context(), e.bucket.Bucket, catalog.Key(b), 1<<30)
	e.must(err)
	body = slices.Clone(body)
	change(body)
	e.must(objstore.PutBytes(e.Context(), e.bucket.Bucket, catalog.Key(b), body))
}

// A read of a source while a merge writes that gives other bytes than the next one ends that
// merge, and is counted once; the next cycle makes it.
func TestDamageThatIsGone(t *testing.T) {
	invert := func(body []byte) {
		for i := range body {
			body[i] ^= 0xff
		}
	}
	list := logged("x", -24*3600, 900)
	for which := 1; ; which++ {
		var mu sync.Mutex // guards what follows
		armed := false
		e := start(t, func(_ *Config, d *Deps) {
			d.Step = func(name string) error {
				mu.Lock()
				defer mu.Unlock()
				armed = armed || name == "write"
				return nil
			}
		})
		sources := map[string]catalog.Block{}
		for _, part := range [][]entry{list[:400], list[300:600], list[600:]} {
			b := e.put(day.Add(-24*time.Hour), slices.Clone(part)...)
			sources[catalog.Key(b)] = b
		}
		e.pass(25 * time.Hour)
		reads := 0
		var inverted *catalog.Block
		e.bucket.set(func() {
			e.bucket.before = func(op, key string) error {
				mu.Lock()
				defer mu.Unlock()
				b, ok := sources[key]
				if op != "get" || !ok || !armed {
					return nil
				}
				if inverted != nil {
					e.damage(*inverted, invert)
					inverted = nil
				}
				if reads++; reads == which {
					e.damage(b, invert)
					inverted = &b
				}
				return nil
			}
		})
		err := e.service.Cycle(t.Context())
		n := testutil.ToFloat64(e.service.metrics.damaged)
		if reads < which {
			if err != nil || n != 0 || which < 6 {
				t.Errorf("after %d reads, none of which was damaged: %v, %v are counted", reads, err, n)
			}
			return
		}
		if !damaged(err) || n != 1 {
			t.Fatalf("read %d: %v damaged blocks are counted: %v", which, n, err)
		}
		e.bucket.set(func() { e.bucket.before = nil })
		if inverted != nil {
			e.damage(*inverted, invert)
		}
		e.cycle()
		e.wantEntries(list...)
		if live := e.live(); len(live) != 1 {
			t.Fatalf("read %d: %d live blocks in the end", which, len(live))
		}
	}
}
