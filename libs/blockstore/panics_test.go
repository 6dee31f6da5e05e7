package blockstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/blockstore"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// trapped is an object whose reads panic while it is armed.
type trapped struct {
	*object
	armed bool
}

func (o *trapped) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	if o.armed {
		panic("in a read")
	}
	return o.object.ReadRange(ctx, off, n)
}

// A panic while sections are made ready comes to who asked, and what was being read is read
// again by the next query.
func TestPanicsComeToWhoAsked(t *testing.T) {
	o := &trapped{object: manySections(t)}
	r, err := block.Open(t.Context(), o, int64(len(o.b)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Sections() < 3 {
		t.Fatalf("%d sections", r.Sections())
	}
	for _, q := range []string{`{app=~".+"} |= "user 77 is"`, `count_over_time({app=~".+"} |= "user 777 is" [1h])`, `{app=~".+"} | trace="t7"`} {
		store := blockstore.NewStore(r, blockstore.NewCache(1<<20, nil))
		o.armed = true
		func() {
			defer func() {
				if p := engine.Recovered(recover()); p.Value != "in a read" || !strings.Contains(string(p.Stack), "panics_test.go") {
					t.Errorf("%s: %v", q, p)
				}
			}()
			lines, err := answer(t, store, q)
			t.Errorf("%s: %q, %v", q, lines, err)
		}()
		o.armed = false
		if lines, err := answer(t, store, q); err != nil || len(lines) == 0 {
			t.Errorf("%s, then: %q, %v", q, lines, err)
		}
	}
}
