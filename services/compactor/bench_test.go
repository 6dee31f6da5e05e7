package compactor

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
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

// bulk stores a block of n entries of twenty streams, and returns the bytes of its
// lines.
func (e *env) bulk(first, n int) (raw int64) {
	id, err := catalog.NewID(e.now(), e.rand)
	e.must(err)
	var body bytes.Buffer
	w := block.NewWriter(&body, block.Meta{ID: id, Tenant: "t", Partition: day}, block.Options{})
	const streams = 20
	for k := range streams {
		rows := &model.Rows{}
		for i := first / streams; i < (first+n)/streams; i++ {
			rows.Times = append(rows.Times, day.Add(time.Duration(i*streams+k)*100*time.Millisecond).UnixNano())
			rows.BatchTimes = append(rows.BatchTimes, rows.Times[len(rows.Times)-1]/1e9)
			rows.Positions = append(rows.Positions, 0)
			rows.Lines.AppendString(fmt.Sprintf(`level=info ts=%d caller=http.go:%d msg="request done" method=GET path=/api/v1/items/%d status=%d duration=%dms trace=%016x`,
				i, 100+i%7, i*7919%100_000, 200+i%3, i*31%977, uint64(i*streams+k)*0x9e3779b97f4a7c15))
		}
		raw += int64(len(rows.Lines.Slab))
		e.must(w.Add(labels(fmt.Sprintf("app-%02d", k)), rows))
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
