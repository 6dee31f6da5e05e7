package distributor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
)

// columns makes rows whose metadata is given row by row.
func columns(meta []map[string]string) model.Rows {
	r := model.Rows{}
	cols := map[string]*model.Column{}
	for i, m := range meta {
		r.Times = append(r.Times, now.UnixNano()+int64(i))
		r.Lines.AppendString(fmt.Sprint("line ", i))
		for name, v := range m {
			if cols[name] == nil {
				cols[name] = &model.Column{Name: name}
			}
			cols[name].Append(i, []byte(v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cols)) {
		cols[name].Finish(len(meta))
		r.Metadata = append(r.Metadata, *cols[name])
	}
	return r
}

func TestNarrowKeepsRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		meta := rapid.SliceOfN(rapid.MapOf(names, rapid.StringN(0, 3, -1)), 1, 20).Draw(t, "metadata")
		most := rapid.IntRange(1, 8).Draw(t, "most")
		r := columns(meta)
		next := 0
		for _, p := range narrow(&r, most) {
			if err := p.rows.Check(); err != nil {
				t.Fatal(err)
			}
			if p.from != next || p.rows.Len() == 0 {
				t.Fatalf("a part of %d rows begins at %d, want %d", p.rows.Len(), p.from, next)
			}
			if p.rows.Len() > 1 && len(p.rows.Metadata) > most {
				t.Fatalf("%d columns", len(p.rows.Metadata))
			}
			for i := range p.rows.Times {
				if !p.rows.SameEntry(i, &r, next) || p.rows.Hash(i) != r.Hash(next) {
					t.Fatalf("row %d is another one", next)
				}
				next++
			}
		}
		if next != r.Len() {
			t.Fatalf("%d rows of %d", next, r.Len())
		}
	})
}

// A request whose rows all have metadata names of their own is stored whole and in
// order; without narrow this test does not end.
func TestRowsWithNamesOfTheirOwn(t *testing.T) {
	c := newCluster(t, 1, 1)
	s := c.distributor(limits.Default())
	var meta []map[string]string
	for i := range 2000 {
		m := map[string]string{}
		for k := range 100 {
			m[fmt.Sprintf("n_%06d_%03d", i, k)] = "v"
		}
		if i == 700 { // one that is refused, in the middle of a part
			m["big"] = strings.Repeat("x", 70_000)
		}
		meta = append(meta, m)
	}
	resp, err := s.Write(ctx(), request(`{app="x"}`, columns(meta)))
	if err != nil || resp.GetAcceptedEntries() != 1999 || len(resp.GetRejections()) != 1 || resp.GetRejections()[0].GetRow() != 700 {
		t.Fatalf("%v, %v", resp, err)
	}
	at := uint32(0)
	got := c.replicas["ingester-0"].got // a large request is sent in pieces
	slices.SortFunc(got, func(a, b *ingestv1.IngestRequest) int {
		return int(a.GetStreams()[0].GetPosition()) - int(b.GetStreams()[0].GetPosition())
	})
	for _, req := range got {
		for _, b := range req.GetStreams() {
			if len(b.GetMetadata()) > maxColumns {
				t.Fatalf("a block has %d names", len(b.GetMetadata()))
			}
			for i := range b.GetTimes() {
				pos := b.GetPosition() + uint32(i)
				if len(b.GetPositions()) > 0 {
					pos = b.GetPositions()[i]
				}
				if at == 700 {
					at++
				}
				if pos != at || b.GetTimes()[i] != now.UnixNano()+int64(at) {
					t.Fatalf("row at position %d, want %d", pos, at)
				}
				at++
			}
		}
	}
	if at != 2000 {
		t.Errorf("%d rows are stored", at)
	}
}

// Entries without a time are new each time, within a request and between requests.
func TestStampedRowsAreNewEachTime(t *testing.T) {
	c := newCluster(t, 1, 1)
	s := c.distributor(limits.Default())
	for range 3 {
		rows := func() model.Rows {
			r := model.Rows{Times: []int64{0, 0}}
			r.Lines.AppendString("x")
			r.Lines.AppendString("x")
			return r
		}
		req := request(`{app="x"}`, rows())
		req.Streams = append(req.Streams, request(`{app="x"}`, rows()).Streams...) // the same stream once more
		req.Stamp = true
		resp, err := s.Write(ctx(), req)
		if err != nil || resp.GetStampedEntries() != 4 {
			t.Fatalf("%v, %v", resp, err)
		}
		for _, in := range req.GetStreams() { // which is the sender's
			if in.GetTimes()[0] != 0 || in.GetTimes()[1] != 0 {
				t.Fatalf("the request was changed: %v", in)
			}
		}
	}
	for e, n := range c.replicas["ingester-0"].entries() {
		if n != 1 {
			t.Errorf("%d times: %s", n, e)
		}
	}
	if n := len(c.replicas["ingester-0"].entries()); n != 12 {
		t.Errorf("%d entries, want 12", n)
	}
}

// What is refused is not among the entries that got a time.
func TestStampedRowsAreAccepted(t *testing.T) {
	c := newCluster(t, 1, 1)
	lim := limits.Default()
	lim.MaxLineSize = 3
	r := model.Rows{Times: []int64{0, 0, 0}}
	for _, line := range []string{"x", "too long", "y"} {
		r.Lines.AppendString(line)
	}
	req := request(`{app="x"}`, r)
	req.Stamp = true
	resp, err := c.distributor(lim).Write(ctx(), req)
	if err != nil || resp.GetAcceptedEntries() != 2 || resp.GetRejectedEntries() != 1 || resp.GetStampedEntries() != 2 {
		t.Errorf("%v, %v", resp, err)
	}
}

// The text of a set is that of its labels, whatever it was written like, also where a label
// was found for it: it is what streams are told apart by.
func TestTextIsThatOfTheLabels(t *testing.T) {
	for given, want := range map[string]string{
		`{service_name="s"}`:              `{service_name="s"}`,
		`{a="b", service_name="s"}`:       `{a="b", service_name="s"}`,
		`{service_name="s", a="b"}`:       `{a="b", service_name="s"}`,
		`{a="b"}`:                         `{a="b", service_name="unknown_service"}`,
		`{app="x"}`:                       `{app="x", service_name="x"}`,
		`{ app = "x" , a=` + "`b`" + ` }`: `{a="b", app="x", service_name="x"}`,
		`{z="1",service_name="",app="x"}`: `{app="x", service_name="x", z="1"}`,
	} {
		c := canonicalise(given)
		if c.refusal != nil || c.text != want || c.text != c.labels.String() || c.fingerprint != c.labels.Fingerprint() {
			t.Errorf("%s: %q, labels %s, want %s", given, c.text, c.labels, want)
		}
	}
}

// The label cache is bounded in bytes too.
func TestLabelCacheIsBounded(t *testing.T) {
	c := newLabelCache(1 << 20)
	long := strings.Repeat("x", 2000)
	for i := range 50_000 {
		c.get(fmt.Sprintf(`{a="%s%d"}`, long, i))
	}
	held := 0
	for _, m := range []map[string]*canonical{c.new, c.old} {
		for text, v := range m {
			held += v.cost(text)
		}
	}
	if held > 2*labelCacheBytes+10_000 {
		t.Errorf("%d bytes are held", held)
	}
}

// The label cache holds on to no text of a request, which shares the memory of others: neither
// one that is new, nor one that was half forgotten.
func TestLabelCacheHoldsNoRequest(t *testing.T) {
	c := newLabelCache(1)
	for _, label := range []string{"a", "b", "a"} {
		text := fmt.Sprintf(`{x="%s"}`, label)
		c.get(text)
		for key, v := range c.new {
			for _, held := range []string{key, v.text, v.labels[0].Name} {
				if at := uintptr(unsafe.Pointer(unsafe.StringData(held))) - uintptr(unsafe.Pointer(unsafe.StringData(text))); at < uintptr(len(text)) {
					t.Errorf("%q is part of a request", held)
				}
			}
		}
	}
}
