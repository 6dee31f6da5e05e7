package weir

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
)

// Rule 22: whatever is pushed, of any age, flushed, merged, deleted and retracted in
// between, an answer that is partly remembered is the one that is computed anew.
func TestRule22CachedAnswers(t *testing.T) {
	p := startProcess(t, t.TempDir(), func(c *Config) { c.Compactor.RewriteDelay = 0 })
	queries, store, admin := queryv1.NewQueryServiceClient(p.conn), storagev1.NewStorageServiceClient(p.conn), adminv1.NewAdminServiceClient(p.conn)
	// Of two days ago, so that it is merged, and with a fixed seed.
	day := time.Now().Add(-48 * time.Hour).Truncate(24 * time.Hour)
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{
		`sum by (app) (count_over_time({app=~".+"}[5m]))`,
		`sum(rate({app=~".+"} |= "7" [10m])) / sum(rate({app=~".+"}[10m]))`,
		`max by (app) (max_over_time({app=~"a|b"} | logfmt | unwrap n [3m] offset 2m))`,
	}
	var found, requested uint64
	compare := func(what string) {
		t.Helper()
		q := &queryv1.QueryRangeRequest{
			Query: texts[r.IntN(len(texts))], Start: timestamppb.New(day.Add(time.Duration(r.IntN(40)) * time.Minute)),
			End: timestamppb.New(day.Add(4*time.Hour + time.Duration(r.IntN(40))*time.Minute)), Step: durationpb.New(time.Minute),
		}
		for range 2 {
			got, err := queries.QueryRange(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			q.NoCache = true
			want, err := queries.QueryRange(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			q.NoCache = false
			if !proto.Equal(got.GetMatrix(), want.GetMatrix()) {
				t.Fatalf("%s, %s:\n got %v\nwant %v", what, q.GetQuery(), got.GetMatrix(), want.GetMatrix())
			}
			if n := want.GetStatistics().GetResultCache().GetRequested(); n != 0 {
				t.Errorf("%d parts were looked for though nothing remembered was wanted", n)
			}
			found += got.GetStatistics().GetResultCache().GetFound()
			requested += got.GetStatistics().GetResultCache().GetRequested()
		}
	}
	for i := range 40 {
		what := "push"
		switch r.IntN(8) {
		case 0:
			what = "flush"
			if _, err := admin.Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
				t.Fatal(err)
			}
		case 1:
			what = "compact"
			if _, err := admin.Compact(t.Context(), &adminv1.CompactRequest{}); err != nil {
				t.Fatal(err)
			}
		case 2:
			what = "delete"
			from := day.Add(time.Duration(r.IntN(240)) * time.Minute)
			if _, err := store.CreateDelete(t.Context(), &storagev1.CreateDeleteRequest{
				Query: fmt.Sprintf(`{app="%c"} |= "n=%d"`, 'a'+r.IntN(3), r.IntN(10)), Start: timestamppb.New(from), End: timestamppb.New(from.Add(time.Hour)),
			}); err != nil {
				t.Fatal(err)
			}
		case 3:
			what = "nothing"
		default:
			for range 1 + r.IntN(4) {
				p.tryPush(t, string(rune('a'+r.IntN(3))), day.Add(time.Duration(r.IntN(5*3600))*time.Second), fmt.Sprintf("n=%d i=%d", r.IntN(10), i))
			}
		}
		compare(what)
	}
	if found == 0 || found == requested {
		t.Errorf("%d of %d parts were remembered: this proves nothing", found, requested)
	}
	t.Logf("%d of %d parts were remembered", found, requested)
}

// Loki's API says what was remembered, and heeds Cache-Control.
func TestCachedAnswersOverHTTP(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	at := time.Now().Add(-2 * time.Hour).Truncate(time.Hour)
	p.push(t, "shop", at, "one", "two")
	ask := func(control string) (found, requested, stored, length uint64) {
		t.Helper()
		v := url.Values{"query": {`sum(count_over_time({app="shop"}[1m]))`}, "start": {fmt.Sprint(at.Unix())}, "end": {fmt.Sprint(at.Add(time.Hour).Unix())}, "step": {"15"}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+"/loki/api/v1/query_range?"+v.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if control != "" {
			req.Header.Set("Cache-Control", control)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Data struct {
				Stats struct {
					Cache struct {
						Result struct{ EntriesFound, EntriesRequested, EntriesStored, QueryLengthServed uint64 }
					}
				}
			}
		}
		if err := json.Unmarshal(body, &out); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		s := out.Data.Stats.Cache.Result
		return s.EntriesFound, s.EntriesRequested, s.EntriesStored, s.QueryLengthServed
	}
	found, requested, stored, _ := ask("")
	if found != 0 || requested == 0 || stored != requested {
		t.Errorf("first: %d of %d found, %d stored", found, requested, stored)
	}
	if again, of, more, length := ask(""); again != requested || of != requested || more != 0 || length == 0 {
		t.Errorf("again: %d of %d found, %d stored, %d ns", again, of, more, length)
	}
	if found, requested, stored, _ := ask("max-age=0, no-cache"); found+requested+stored != 0 {
		t.Errorf("bypassed: %d of %d found, %d stored", found, requested, stored)
	}
}

// tryPush pushes a line that may lie where deletes refuse it.
func (p *process) tryPush(t *testing.T, app string, at time.Time, line string) {
	_, _ = pushv1.NewPushServiceClient(p.conn).Push(t.Context(), &pushv1.PushRequest{Streams: []*pushv1.Stream{{
		Labels:  map[string]string{"app": app},
		Entries: []*pushv1.Entry{{TimestampUnixNano: at.UnixNano(), Line: &pushv1.Entry_Text{Text: line}}},
	}}})
}
