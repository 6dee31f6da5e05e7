package rowspb

import (
	"fmt"
	"testing"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

// BenchmarkRequest measures and encodes a request of very many streams, as a distributor and
// an ingester do together.
func BenchmarkRequest(b *testing.B) {
	r := &ingestv1.IngestRequest{Tenant: "t", BatchTimeUnixNano: 1}
	for i := range 6000 {
		rows := model.Rows{Times: []int64{int64(i)}}
		rows.Lines.AppendString(fmt.Sprintf("2026-11-20 10:08:30.123 dfs.DataNode$PacketResponder: Received block blk_-16089996879178%05d of size 91178 from /10.250.10.6", i))
		level := model.Column{Name: "detected_level", Version: 1}
		level.AppendString(0, "info")
		rows.Derived = []model.Column{level}
		block := ToBlock(fmt.Sprintf(`{app="svc-%03d", env="prod", instance="i-%05d", service_name="svc-%03d"}`, i%500, i, i%500), &rows)
		block.Token, block.Position = uint64(i)<<40, uint32(i)
		r.Streams = append(r.Streams, block)
	}
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		size := 0
		for _, block := range r.Streams {
			size += StreamSize(block)
		}
		var err error
		if dst, err = AppendRequest(dst[:0], r); err != nil || RequestSize(r) != len(dst) || size < len(dst)/2 {
			b.Fatal(err, size, len(dst))
		}
	}
}
