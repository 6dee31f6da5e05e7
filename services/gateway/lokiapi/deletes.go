package lokiapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// deleteRoutes adds the handlers of deletes to a mux.
func (a *API) deleteRoutes(mux *http.ServeMux) {
	sameSite := http.NewCrossOriginProtection()
	handle := func(method string, h handler) {
		mux.Handle(method+" /loki/api/v1/delete", sameSite.Handler(deletes(h)))
	}
	handle("POST", a.createDelete)
	handle("PUT", a.createDelete)
	handle("GET", a.listDeletes)
	handle("DELETE", a.cancelDelete)
}

// deletes wraps a handler as queries does; errors have a line end.
func deletes(h handler) http.Handler {
	return queries(func(w http.ResponseWriter, r *http.Request) error {
		if err := h(w, r); err != nil {
			writeError(w, err, "\n")
		}
		return nil
	})
}

// deleteTime reads a time of a delete.
func deleteTime(r *http.Request, name string) (time.Time, error) {
	t, err := parseTime(r.Form.Get(name))
	if err != nil {
		return time.Time{}, badParam("invalid %s time: require unix seconds or RFC3339 format", name)
	}
	return t, nil
}

func (a *API) createDelete(w http.ResponseWriter, r *http.Request) error {
	req := &storagev1.CreateDeleteRequest{Query: r.Form.Get("query")}
	if req.Query == "" {
		return badParam("query not set")
	}
	if r.Form.Get("start") == "" {
		return badParam("start time not set")
	}
	start, err := deleteTime(r, "start")
	if err != nil {
		return err
	}
	now := a.deps.Now()
	end := now
	if r.Form.Get("end") != "" {
		if end, err = deleteTime(r, "end"); err != nil {
			return err
		}
		// Loki's API has no finer times than milliseconds here, so that now may be
		// a little ahead.
		if end.After(now.Add(time.Second)) {
			return badParam("deletes in the future are not allowed")
		}
		if end.After(now) {
			end = now
		}
		req.End = timestamppb.New(end)
	}
	if start.After(end) {
		return badParam("start time can't be greater than end time")
	}
	if s := r.Form.Get("max_interval"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d < time.Second {
			return badParam("invalid max_interval: valid time units are 's', 'm', 'h'")
		}
		// How a delete is cut into pieces is nobody's concern here: it is one.
	}
	req.Start = timestamppb.New(start)
	resp, err := a.deps.Storage.CreateDelete(r.Context(), req)
	if err != nil {
		return err
	}
	w.Header().Set("X-Delete-Request-ID", resp.GetDelete().GetId())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteRequest is a delete as Loki's API shows it.
type deleteRequest struct {
	RequestID string  `json:"request_id"`
	StartTime seconds `json:"start_time"`
	EndTime   seconds `json:"end_time"`
	Query     string  `json:"query"`
	Status    string  `json:"status"`
	CreatedAt seconds `json:"created_at"`
	UserID    string  `json:"user_id"`
}

// seconds is a time in seconds since the Unix epoch, exact to the millisecond.
type seconds time.Time

// MarshalJSON implements json.Marshaler.
func (s seconds) MarshalJSON() ([]byte, error) {
	ms := time.Time(s).UnixMilli()
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', -1, 64), nil
}

func (a *API) listDeletes(w http.ResponseWriter, r *http.Request) error {
	resp, err := a.deps.Storage.ListDeletes(r.Context(), &storagev1.ListDeletesRequest{})
	if err != nil {
		return err
	}
	out := make([]deleteRequest, 0, len(resp.GetDeletes()))
	for _, d := range resp.GetDeletes() {
		out = append(out, deleteRequest{
			RequestID: d.GetId(), StartTime: seconds(d.GetStart().AsTime()), EndTime: seconds(d.GetEnd().AsTime()),
			Query: d.GetQuery(), Status: deleteStatus(d), CreatedAt: seconds(d.GetCreated().AsTime()),
		})
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	writeJSON(w, body)
	return nil
}

func deleteStatus(d *storagev1.Delete) string {
	switch d.GetState() {
	case storagev1.DeleteState_DELETE_STATE_DONE:
		return "processed"
	case storagev1.DeleteState_DELETE_STATE_CANCELLED: // of Weir: Loki forgets it
		return "cancelled"
	case storagev1.DeleteState_DELETE_STATE_REWRITING:
		done, all := float64(d.GetBytesDone()), float64(d.GetBytesDone()+d.GetBytesPending())
		if all == 0 {
			return "0% Complete"
		}
		return strconv.Itoa(int(math.Floor(100*done/all))) + "% Complete"
	}
	return "received"
}

func (a *API) cancelDelete(w http.ResponseWriter, r *http.Request) error {
	id := r.Form.Get("request_id")
	if id == "" {
		return badParam("request_id not set")
	}
	_, err := a.deps.Storage.CancelDelete(r.Context(), &storagev1.CancelDeleteRequest{Id: id})
	switch {
	case rpcerr.Is(err, rpcerr.NotFound):
		return rpcerr.New(rpcerr.NotFound, "could not find delete request with given id")
	case rpcerr.Is(err, rpcerr.Conflict):
		// Not even with force: entries may be gone.
		return badParam("deletion of request which is in process or already processed is not allowed")
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
