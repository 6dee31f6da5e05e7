package gateway_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

func (b *backend) CreateDelete(ctx context.Context, r *storagev1.CreateDeleteRequest) (*storagev1.CreateDeleteResponse, error) {
	b.note(ctx, r)
	if r.GetQuery() == "{" {
		return nil, rpcerr.New(rpcerr.ParseError, "parse error at line 1, col 2: no")
	}
	return &storagev1.CreateDeleteResponse{Delete: &storagev1.Delete{Id: "id1", Query: r.GetQuery()}}, nil
}

func (b *backend) ListDeletes(ctx context.Context, r *storagev1.ListDeletesRequest) (*storagev1.ListDeletesResponse, error) {
	b.note(ctx, r)
	at := func(s, ns int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(s, ns)) }
	one := func(id string, state storagev1.DeleteState, done, pending uint64) *storagev1.Delete {
		return &storagev1.Delete{Id: id, Query: `{app="x"}`, Start: at(1700000000, 0), End: at(1700000100, 5e8), Created: at(1700000200, 123456789), State: state, BytesDone: done, BytesPending: pending}
	}
	return &storagev1.ListDeletesResponse{Deletes: []*storagev1.Delete{
		one("a", storagev1.DeleteState_DELETE_STATE_RECEIVED, 0, 9),
		one("b", storagev1.DeleteState_DELETE_STATE_REWRITING, 1, 2),
		one("c", storagev1.DeleteState_DELETE_STATE_DONE, 3, 0),
		one("d", storagev1.DeleteState_DELETE_STATE_CANCELLED, 0, 0),
	}}, nil
}

func (b *backend) CancelDelete(ctx context.Context, r *storagev1.CancelDeleteRequest) (*storagev1.CancelDeleteResponse, error) {
	b.note(ctx, r)
	switch r.GetId() {
	case "none":
		return nil, rpcerr.New(rpcerr.NotFound, "no delete none")
	case "started":
		return nil, rpcerr.New(rpcerr.Conflict, "rewriting has started")
	}
	return &storagev1.CancelDeleteResponse{}, nil
}

func (b *backend) ListBlocks(ctx context.Context, r *storagev1.ListBlocksRequest) (*storagev1.ListBlocksResponse, error) {
	b.note(ctx, r)
	return &storagev1.ListBlocksResponse{Blocks: []*storagev1.Block{{Id: "blk", Bytes: 7}}}, nil
}

func TestLokiDeletes(t *testing.T) {
	e := start(t)
	const path = "/loki/api/v1/delete"
	for _, method := range []string{"POST", "PUT"} {
		resp, text := e.call(method, path+"?query=%7Bapp%3D%22x%22%7D&start=1700000000&end=1700000100.5&max_interval=1h", nil, "X-Scope-OrgID", "t1")
		if resp.StatusCode != http.StatusNoContent || resp.Header.Get("X-Delete-Request-ID") != "id1" || text != "" {
			t.Errorf("%s: %d %v %q", method, resp.StatusCode, resp.Header, text)
		}
		got := last[*storagev1.CreateDeleteRequest](t, e.backend)
		if got.GetQuery() != `{app="x"}` || got.GetStart().GetSeconds() != 1700000000 || got.GetEnd().AsTime().UnixMilli() != 1700000100500 || e.backend.tenants[len(e.backend.tenants)-1] != "t1" {
			t.Errorf("asked for %v", got)
		}
	}
	// Parameters may come in a form, and the end is now unless it is given.
	e.want(204, "", "POST", path, "query=%7B%7D&start=1700000000", "Content-Type", "application/x-www-form-urlencoded")
	if got := last[*storagev1.CreateDeleteRequest](t, e.backend); got.GetEnd() != nil {
		t.Errorf("asked for %v", got)
	}
	for query, want := range map[string]string{
		"":                               "query not set\n",
		"query=x":                        "start time not set\n",
		"query=x&start=abc":              "invalid start time: require unix seconds or RFC3339 format\n",
		"query=x&start=1&end=q":          "invalid end time: require unix seconds or RFC3339 format\n",
		"query=x&start=1&end=9999999999": "deletes in the future are not allowed\n",
		"query=x&start=1700000000&end=1600000000": "start time can't be greater than end time\n",
		"query=x&start=1&max_interval=q":          "invalid max_interval: valid time units are 's', 'm', 'h'\n",
		"query=%7B&start=1700000000":              "parse error at line 1, col 2: no\n",
	} {
		if _, text := e.want(400, "", "POST", path+"?"+query, ""); text != want {
			t.Errorf("%s: %q, want %q", query, text, want)
		}
	}

	resp, text := e.want(200, "", "GET", path, "")
	want := `[{"request_id":"a","start_time":1700000000,"end_time":1700000100.5,"query":"{app=\"x\"}","status":"received","created_at":1700000200.123,"user_id":""},` +
		`{"request_id":"b","start_time":1700000000,"end_time":1700000100.5,"query":"{app=\"x\"}","status":"33% Complete","created_at":1700000200.123,"user_id":""},` +
		`{"request_id":"c","start_time":1700000000,"end_time":1700000100.5,"query":"{app=\"x\"}","status":"processed","created_at":1700000200.123,"user_id":""},` +
		`{"request_id":"d","start_time":1700000000,"end_time":1700000100.5,"query":"{app=\"x\"}","status":"cancelled","created_at":1700000200.123,"user_id":""}]` + "\n"
	if text != want || resp.Header.Get("Content-Type") != "application/json; charset=UTF-8" {
		t.Errorf("%v %s", resp.Header, text)
	}

	e.want(204, "", "DELETE", path+"?request_id=a&force=true", "")
	e.want(400, "request_id not set\n", "DELETE", path, "")
	e.want(404, "could not find delete request with given id\n", "DELETE", path+"?request_id=none", "")
	e.want(400, "deletion of request which is in process or already processed is not allowed\n", "DELETE", path+"?request_id=started&force=true", "")
	// A page of another site must not delete with what the browser has.
	e.want(403, "", "POST", path+"?query=%7B%7D&start=1", "", "Sec-Fetch-Site", "cross-site")
}

func TestRESTDeletes(t *testing.T) {
	e := start(t)
	e.want(200, `"id":"id1"`, "POST", "/api/v1/deletes", `{"query":"{app=\"x\"}","start":"2026-03-01T00:00:00Z"}`)
	e.want(200, `"state":"DELETE_STATE_REWRITING"`, "GET", "/api/v1/deletes", "")
	e.want(200, `"state":"DELETE_STATE_CANCELLED"`, "GET", "/api/v1/deletes", "")
	e.want(200, `{}`, "DELETE", "/api/v1/deletes/a", "")
	e.want(404, "NOT_FOUND", "DELETE", "/api/v1/deletes/none", "")
	e.want(409, "CONFLICT", "DELETE", "/api/v1/deletes/started", "")
	e.want(200, `"id":"blk"`, "GET", "/api/v1/blocks?start=1700000000", "")
	if got := last[*storagev1.ListBlocksRequest](t, e.backend); got.GetStart().GetSeconds() != 1700000000 {
		t.Errorf("asked for %v", got)
	}
	// What the process has nobody for is passed on as it is.
	e.want(501, "", "GET", "/api/v1/retention/dry_run", "")
}
