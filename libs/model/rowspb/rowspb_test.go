package rowspb

import (
	"testing"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

func TestRoundTrip(t *testing.T) {
	r := model.Rows{Times: []int64{3, 1}, Positions: []uint32{4, 7}}
	r.Lines.AppendString("a")
	r.Lines.AppendString("")
	meta := model.Column{Name: "m"}
	meta.Append(1, []byte("v"))
	r.Metadata = []model.Column{{Name: "empty", Rows: []uint32{}}, meta}
	derived := model.Column{Name: "d", Version: 2}
	derived.Append(0, []byte("x"))
	derived.Append(1, []byte("y"))
	r.Derived = []model.Column{derived}
	b, err := proto.Marshal(ToBlock(`{a="b"}`, &r))
	if err != nil {
		t.Fatal(err)
	}
	var block ingestv1.StreamBlock
	if err := proto.Unmarshal(b, &block); err != nil {
		t.Fatal(err)
	}
	got, err := FromBlock(&block)
	if err != nil {
		t.Fatal(err)
	}
	if block.GetLabels() != `{a="b"}` || got.Len() != 2 || len(got.Metadata) != 1 || got.Derived[0].Version != 2 || got.Positions[1] != 7 {
		t.Errorf("%+v", &got)
	}
	for i := range 2 {
		if !r.SameEntry(i, &got, i) {
			t.Errorf("row %d is another entry", i)
		}
	}
}

// FuzzFromBlock: whatever comes over the wire is refused or can be used.
func FuzzFromBlock(f *testing.F) {
	good, err := proto.Marshal(&ingestv1.StreamBlock{
		Labels: `{a="b"}`, Times: []int64{1, 2}, LineEnds: []uint32{1, 3}, Slab: []byte("xyz"),
		Metadata: []*ingestv1.Column{{Name: "m", Rows: []uint32{1}, Ends: []uint32{1}, Slab: []byte("v")}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var block ingestv1.StreamBlock
		if proto.Unmarshal(b, &block) != nil {
			return
		}
		r, err := FromBlock(&block)
		if err != nil {
			return
		}
		for i := range r.Times {
			r.Hash(i)
			r.AppendDerived(r.AppendMetadata(nil, i), i)
			if !r.SameEntry(i, &r, i) {
				t.Fatal("a row is not itself")
			}
		}
	})
}
