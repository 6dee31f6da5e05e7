package ingester

import (
	"fmt"
	"testing"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// A cut of many streams and tenants is one file of about what is in it, opened at once.
func TestCutOfManyStreamsAndTenants(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir, 1<<30)
	const tenants, streams = 200, 20
	for k := range tenants {
		req := &ingestv1.IngestRequest{Tenant: fmt.Sprint("tenant", k), BatchTimeUnixNano: 1}
		for i := range streams {
			line := fmt.Sprintf("level=info msg=\"request done\" id=%d took=%dms", k*1000+i, i)
			req.Streams = append(req.Streams, &ingestv1.StreamBlock{
				Labels: fmt.Sprintf(`{pod="p-%d", s="a"}`, i), Times: []int64{int64(i)}, LineEnds: []uint32{uint32(len(line))}, Slab: []byte(line),
			})
		}
		if _, err := n.client.Ingest(ctx(t), req); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.flush(); err != nil {
		t.Fatal(err)
	}
	containers, blocks, bytes := n.svc.blocks.count()
	if containers != 1 || blocks != tenants {
		t.Errorf("%d containers, %d blocks", containers, blocks)
	}
	t.Logf("%d bytes a tenant", bytes/tenants)
	n.close()
	n = start(t, dir, 1<<30)
	if st := n.svc.gens.stats(); st.Rows != 0 {
		t.Errorf("%d rows in memory after a restart", st.Rows)
	}
}
