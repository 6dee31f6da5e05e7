package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// number is the environment's number, or n.
func number(t testing.TB, name string, n int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return n
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// shape is a load: lines over tenants and streams, each as many as the others.
type shape struct {
	tenants, streams int // streams of each tenant
	lines            int // of all
	batch            int // lines of a request
	runs             int // lines of a stream one behind the other; 0: one
	begin            time.Time
}

// step is the time between two lines.
const step = 50 * time.Microsecond

// push pushes a load with some senders, and returns how many bytes its lines have.
func (s shape) push(t *testing.T, c *client.Client) int64 {
	t.Helper()
	const senders = 3
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		bytes int64
		errs  []error
	)
	next := make(chan int)
	for range senders {
		wg.Go(func() {
			p := c.NewPusher(client.PusherOptions{})
			for from := range next {
				tenant, req, n := s.request(from)
				_, err := p.Push(client.ContextWithTenant(context.Background(), tenant), req)
				mu.Lock()
				bytes += n
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	for from := 0; from < s.lines; from += s.batch {
		next <- from
	}
	close(next)
	wg.Wait()
	if len(errs) > 0 {
		t.Fatalf("%d pushes failed, the first: %v", len(errs), errs[0])
	}
	return bytes
}

// request returns the lines from the given one on: a tenant's, a batch.
func (s shape) request(from int) (tenant string, req *pushv1.PushRequest, bytes int64) {
	batch := from / s.batch
	tenant = fmt.Sprintf("tenant-%04d", batch%s.tenants)
	r := rand.New(rand.NewPCG(uint64(from), 1))
	place := map[int]int{}
	req = &pushv1.PushRequest{BatchTimeUnixNano: s.begin.UnixNano() + int64(batch)}
	for i := range min(s.batch, s.lines-from) {
		// The batch-th request of its tenant.
		stream := ((batch/s.tenants)*s.batch + i) / max(1, s.runs) % s.streams
		at, ok := place[stream]
		if !ok {
			at = len(req.Streams)
			place[stream] = at
			req.Streams = append(req.Streams, &pushv1.Stream{Labels: map[string]string{
				"service_name": fmt.Sprint("shop-", stream%20), "pod": fmt.Sprintf("pod-%06d", stream)}})
		}
		time := s.begin.Add(time.Duration(from+i) * step)
		line := fmt.Sprintf(`%s level=%s msg="request done" method=GET path=/api/v1/items/%d status=%d took=%dms trace=%016x user=user%d`,
			time.UTC().Format("2006-01-02T15:04:05.000Z"), []string{"info", "info", "info", "warn", "error"}[r.IntN(5)], r.IntN(5000),
			200+r.IntN(4)*100, r.IntN(900), r.Uint64(), r.IntN(20000))
		bytes += int64(len(line))
		req.Streams[at].Entries = append(req.Streams[at].Entries, &pushv1.Entry{TimestampUnixNano: time.UnixNano(), Line: &pushv1.Entry_Text{Text: line}})
	}
	return tenant, req, bytes
}

// count returns how many entries of a tenant an aggregation finds.
func (s shape) count(t *testing.T, c *client.Client, tenant string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(client.ContextWithTenant(context.Background(), tenant), harness.Patience)
	defer cancel()
	end := s.begin.Add(time.Duration(s.lines)*step + time.Second)
	resp, err := c.Query(ctx, &queryv1.QueryRequest{
		Query: fmt.Sprintf(`sum(count_over_time({service_name=~".+"}[%ds]))`, int(end.Sub(s.begin).Seconds())+1), Time: timestamppb.New(end)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0.0
	for _, v := range resp.GetVector().GetSamples() {
		n += v.GetSample().GetValue()
	}
	return int(n)
}

// post sends a POST request that must succeed, however long it takes.
func post(t testing.TB, node *harness.Node, path string) {
	t.Helper()
	if err := tryPost(node, path); err != nil {
		t.Fatal(err)
	}
}

func tryPost(node *harness.Node, path string) error {
	c := http.Client{Timeout: 5 * time.Minute}
	resp, err := c.Post("http://"+node.HTTP+path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return nil
}

// tenant returns a context for calls of a tenant.
func tenant(t testing.TB, id string) context.Context {
	return client.ContextWithTenant(harness.Context(t), id)
}
