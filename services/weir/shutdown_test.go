package weir

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// What is acknowledged while the process stops is there when it is back.
func TestAckedWhileStopping(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, nil)
	conn, err := grpc.NewClient("passthrough:///"+p.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	at := time.Now().Add(-time.Minute)
	var mu sync.Mutex
	acked := map[string]bool{}
	started := make(chan struct{}, 1000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				line := fmt.Sprint(w, " ", i)
				_, err := pushv1.NewPushServiceClient(conn).Push(context.Background(), &pushv1.PushRequest{Streams: []*pushv1.Stream{{
					Labels:  map[string]string{"app": "x"},
					Entries: []*pushv1.Entry{{TimestampUnixNano: at.Add(time.Duration(i) * time.Millisecond).UnixNano(), Line: &pushv1.Entry_Text{Text: line}}},
				}}})
				if err != nil {
					return
				}
				mu.Lock()
				acked[line] = true
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 100 {
		<-started
	}
	p.stop()
	wg.Wait()
	p = startProcess(t, dir, nil)
	got := map[string]int{}
	cursor := ""
	for {
		lines, next := p.lines(t, &queryv1.QueryRangeRequest{
			Query: `{app="x"}`, Start: timestamppb.New(at.Add(-time.Hour)), Limit: 1000, Direction: queryv1.Direction_DIRECTION_FORWARD, Cursor: cursor,
		})
		for _, l := range lines {
			got[l]++
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for l := range acked {
		if got[l] != 1 {
			t.Errorf("%q was acknowledged and is there %d times", l, got[l])
		}
	}
	t.Logf("%d acknowledged, %d stored", len(acked), len(got))
}
