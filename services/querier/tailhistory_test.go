package querier

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/engine/enginetest"
	"github.com/weir-logs/weir/libs/model"
)

// A tail that breaks off within history goes on at each replica where that was as the tail
// began: what it took before does not come again, and what it took since does.
func TestHistoryGoesOnAtThePositionsOfAll(t *testing.T) {
	all := []string{"a", "b", "c"}
	for _, rf := range []int{1, 3} {
		for cut := 1; cut <= 3; cut++ { // responses, the third is the last of history
			synctest.Test(t, func(t *testing.T) {
				tr := newTroupe(t, rf, all...)
				now := uint64(time.Now().UnixNano())
				tr.stored = map[string][]enginetest.Entry{}
				var want []int64
				for i := range 3 * streamPage {
					at := now - uint64(time.Minute) + uint64(i)
					want = append(want, int64(at))
					for _, name := range all[:rf] {
						tr.append(at, name)
						tr.stored[name] = append(tr.stored[name], enginetest.Entry{
							Labels: model.NewLabels([]model.Label{{Name: "a", Value: "b"}}), Time: int64(at), Line: "x", BatchTime: 1, Position: uint32(i),
						})
					}
				}
				// Before and while the tail begins entries come that are older than history.
				old := now - uint64(2*time.Hour)
				pairs := [][]string{{"a"}, {"b"}, {"c"}}
				if rf == 3 {
					pairs = [][]string{{"a", "b"}, {"b", "c"}, {"c", "a"}}
				}
				come := func(at uint64) {
					for i, names := range pairs {
						tr.append(at+uint64(i), names...)
					}
				}
				come(old)
				positions := map[string]uint64{}
				for _, name := range all {
					positions[name] = uint64(len(tr.all[name].appended)) + 1
				}
				responses, stop := tr.tail(t, &tailv1.TailRequest{
					Query: `{a="b"}`, Start: timestamppb.New(time.Unix(0, int64(now)).Add(-time.Hour)), Limit: 3 * streamPage,
				})
				for range cut {
					m := <-responses
					tr.got, tr.cursor = append(tr.got, timesOf(m)...), m.GetCursor()
				}
				stop()
				come(old + 10)
				responses, stop = tr.tail(t, &tailv1.TailRequest{Query: `{a="b"}`, Cursor: tr.cursor})
				tr.tailFor(responses, time.Minute)
				for i := range pairs {
					want = append(want, int64(old)+10+int64(i))
				}
				for _, name := range all {
					if r := tr.from[name]; r.GetPosition() != positions[name] || r.GetIncarnation() != name || r.GetSince() != nil {
						t.Errorf("%s was followed from %v, not from position %d", name, r, positions[name])
					}
				}
				slices.Sort(want)
				tr.expect(fmt.Sprintf("factor %d, cut behind %d", rf, cut), want)
				stop()
				time.Sleep(time.Second)
			})
		}
	}
}

// While a tail waits for an ingester that does not answer, and while it reads history, what
// the others have waits with them, and comes then.
func TestWhatComesEarlyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 1000
		var sent atomic.Int64
		c := &ingesters{rf: 3, follow: map[string]func(context.Context, *ingestv1.FollowRequest, func(*ingestv1.FollowResponse)) error{
			"quick": func(ctx context.Context, _ *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
				send(message(1, 1))
				for i := range uint64(messages) {
					send(message(i+2, 1, 100+i))
					sent.Add(1)
				}
				<-ctx.Done()
				return ctx.Err()
			},
			"quiet": func(ctx context.Context, _ *ingestv1.FollowRequest, send func(*ingestv1.FollowResponse)) error {
				send(message(1, 1))
				<-ctx.Done()
				return ctx.Err()
			},
			"hangs": func(ctx context.Context, _ *ingestv1.FollowRequest, _ func(*ingestv1.FollowResponse)) error {
				<-ctx.Done()
				return ctx.Err()
			},
		}}
		c.members(t, map[string]string{"one": "quick", "two": "quiet", "three": "hangs"})
		responses, stop := c.tail(t, &tailv1.TailRequest{Query: `{a="b"}`})
		time.Sleep(4 * time.Second)
		if n := sent.Load(); n != 0 {
			t.Errorf("%d messages were taken before the tail had begun", n)
		}
		var got []int64
		for len(got) < messages {
			m, ok := <-responses
			if !ok {
				t.Fatalf("the tail has ended after %d entries", len(got))
			}
			got = append(got, timesOf(m)...)
		}
		for i, at := range got {
			if at != 100+int64(i) {
				t.Fatalf("entry %d is %d", i, at)
			}
		}
		stop()
		time.Sleep(time.Second)
	})
}
