package compactor

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/shopgen"
)

// BenchmarkFullMerge measures the full merge of a day: eight blocks, of which every
// second one is a replica of the one before or overlaps it. Bytes are those of the
// lines that come in.
func BenchmarkFullMerge(b *testing.B) {
	for _, kind := range []string{"distinct", "replicas", "overlapping"} {
		b.Run(kind, func(b *testing.B) {
			e := start(b)
			raw := int64(0)
			for i := range 8 {
				first := i * 50_000
				switch {
				case kind == "replicas":
					first = i / 2 * 50_000
				case kind == "overlapping":
					first = i * 25_000
				}
				raw += e.bulk(first, 50_000)
			}
			e.mu.Lock()
			e.time, e.store = e.time.Add(48*time.Hour), e.store.Add(48*time.Hour)
			e.mu.Unlock()
			before := e.objects()
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				s, _, _ := e.compactor()
				if err := s.Cycle(b.Context()); err != nil {
					b.Fatal(err)
				}
				if s.made != 1 {
					b.Fatalf("%d merges", s.made)
				}
				b.StopTimer()
				keep := map[string]bool{}
				for _, k := range before {
					keep[k] = true
				}
				for _, k := range e.objects() {
					if !keep[k] {
						_ = e.bucket.Bucket.Delete(b.Context(), k)
					}
				}
				_ = e.bucket.Bucket.Delete(b.Context(), catalog.IndexKey("t"))
				b.StartTimer()
			}
		})
	}
}

// bulk stores a block of entries of a shop, from a record on, and returns the bytes of
// its lines.
func (e *env) bulk(first, n int) (raw int64) {
	id, err := catalog.NewID(e.now(), e.rand)
	e.must(err)
	gen, err := shopgen.New(shopgen.Config{Seed: 1, Start: day, Rate: 10})
	e.must(err)
	streams := make([]*model.Rows, len(gen.Streams()))
	for i := range first + n {
		r := gen.Next()
		if i < first {
			continue
		}
		if streams[r.Stream] == nil {
			streams[r.Stream] = &model.Rows{}
		}
		rows := streams[r.Stream]
		// Records of one time come in one batch.
		rows.Times = append(rows.Times, r.Time)
		rows.BatchTimes = append(rows.BatchTimes, r.Time/1e9)
		rows.Positions = append(rows.Positions, uint32(i))
		rows.Lines.Append(r.Line)
		raw += int64(len(r.Line))
	}
	order := make([]int, len(streams))
	labels := make([]model.Labels, len(streams))
	for i := range order {
		order[i], labels[i] = i, model.LabelsFromMap(gen.Streams()[i].Labels())
	}
	slices.SortFunc(order, func(a, b int) int { return block.Compare(labels[a], labels[b]) })
	var body bytes.Buffer
	w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "t", Partition: day}, block.Options{})
	for _, i := range order {
		if streams[i] != nil {
			e.must(w.Add(labels[i], streams[i]))
		}
	}
	info, err := w.Close()
	e.must(err)
	e.must(objstore.PutBytes(e.Context(), e.bucket, catalog.Key(info.Catalog()), body.Bytes()))
	return raw
}

// BenchmarkFullMergeManyStreams is the full merge of four blocks that each have ten
// lines of each of 50,000 streams.
func BenchmarkFullMergeManyStreams(b *testing.B) {
	e := start(b)
	raw := int64(0)
	const streams = 50_000
	for k := range 4 {
		id, err := catalog.NewID(e.now(), e.rand)
		e.must(err)
		var body bytes.Buffer
		w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "t", Partition: day}, block.Options{})
		for i := range streams {
			rows := &model.Rows{}
			for n := range 10 {
				rows.Times = append(rows.Times, day.Add(time.Duration(k*10+n)*time.Minute+time.Duration(i)).UnixNano())
				rows.BatchTimes = append(rows.BatchTimes, rows.Times[n])
				rows.Positions = append(rows.Positions, 0)
				rows.Lines.AppendString(fmt.Sprintf("pod %d: request %d done in %dms", i, i*31+n, n*i%977))
			}
			raw += int64(len(rows.Lines.Slab))
			ls := model.NewLabels([]model.Label{{Name: "app", Value: "many"}, {Name: "pod", Value: fmt.Sprintf("pod-%06d", i)}})
			e.must(w.Add(ls, rows))
		}
		info, err := w.Close()
		e.must(err)
		e.must(objstore.PutBytes(e.Context(), e.bucket, catalog.Key(info.Catalog()), body.Bytes()))
	}
	e.mu.Lock()
	e.time, e.store = e.time.Add(48*time.Hour), e.store.Add(48*time.Hour)
	e.mu.Unlock()
	b.SetBytes(raw)
	b.ReportAllocs()
	for b.Loop() {
		s, _, _ := e.compactor()
		if err := s.Cycle(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for _, k := range e.objects() {
			if o, _ := catalog.ParseKey(k); o.Level > 0 {
				_ = e.bucket.Bucket.Delete(b.Context(), k)
			}
		}
		_ = e.bucket.Bucket.Delete(b.Context(), catalog.IndexKey("t"))
		b.StartTimer()
	}
}
