package lokiapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// query answers an instant query.
func (a *API) query(w http.ResponseWriter, r *http.Request) error {
	at, err := timeParam(r, "time")
	if err == nil {
		_, err = limitParam(r, "limit")
	}
	if err == nil {
		_, err = directionParam(r)
	}
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.Query(r.Context(), &queryv1.QueryRequest{Query: r.Form.Get("query"), Time: at})
	if err != nil {
		return err
	}
	var b []byte
	switch res := resp.GetResult().(type) {
	case *queryv1.QueryResponse_Scalar:
		b = appendHead(nil, resp.GetWarnings(), "scalar", nil)
		b = appendSample(b, res.Scalar.GetSample())
	case *queryv1.QueryResponse_Vector:
		b = appendHead(nil, resp.GetWarnings(), "vector", nil)
		b = appendVector(b, res.Vector)
	default:
		b = appendHead(nil, resp.GetWarnings(), "vector", nil)
		b = append(b, '[', ']')
	}
	writeJSON(w, appendTail(b, resp.GetStatistics()))
	return nil
}

// queryRange answers a range query. The querier's answer comes in pieces, so that it
// may be larger than a message between services.
func (a *API) queryRange(w http.ResponseWriter, r *http.Request) error {
	q, err := a.rangeRequest(r)
	if err != nil {
		return err
	}
	stream, err := a.deps.Query.QueryStream(r.Context(), &queryv1.QueryStreamRequest{Query: q})
	if err != nil {
		return err
	}
	flags, categorize := encodingFlags(r)
	entries := newGrouping(categorize)
	var matrix *queryv1.Matrix
	var done *queryv1.Done
	for done == nil {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return rpcerr.New(rpcerr.Internal, "the answer of the querier has no end")
		}
		if err != nil {
			return err
		}
		switch e := m.GetEvent().(type) {
		case *queryv1.QueryStreamResponse_Streams:
			for _, s := range e.Streams.GetStreams() {
				entries.add(s)
			}
		case *queryv1.QueryStreamResponse_Matrix:
			if matrix == nil {
				matrix = &queryv1.Matrix{}
			}
			matrix.Series = append(matrix.Series, e.Matrix.GetSeries()...)
		case *queryv1.QueryStreamResponse_Done:
			done = e.Done
		}
	}
	// The stream's end, so that the call is over.
	if _, err := stream.Recv(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if matrix != nil {
		b := appendHead(nil, done.GetWarnings(), "matrix", nil)
		writeJSON(w, appendTail(appendMatrix(b, matrix), done.GetStatistics()))
		return nil
	}
	entries.sort(q.GetDirection() != queryv1.Direction_DIRECTION_FORWARD)
	setJSON(w)
	b := appendHead(make([]byte, 0, 4096), done.GetWarnings(), "streams", flags)
	b, err = entries.append(b, func(b []byte) ([]byte, error) {
		_, err := w.Write(b)
		return b[:0], err
	})
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone in the middle of its answer
	}
	_, _ = w.Write(append(appendTail(b, done.GetStatistics()), '\n')) // the client is gone
	return nil
}

// formatQuery prints a query.
func (a *API) formatQuery(w http.ResponseWriter, r *http.Request) error {
	resp, err := a.deps.Query.FormatQuery(r.Context(), &queryv1.FormatQueryRequest{Query: r.Form.Get("query")})
	if err == nil {
		b := appendString([]byte(`{"status":"success","data":`), resp.GetQuery())
		writeJSON(w, append(b, '}'))
		return nil
	}
	if rpcerr.HTTPStatus(err) != http.StatusBadRequest {
		return err
	}
	b := appendString([]byte(`{"status":"invalid-query","error":`), rpcerr.Table(nil).ToError(err).Error())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(append(b, '}')) // the client is gone
	return nil
}

// buildInfo says which build answers.
func (a *API) buildInfo(w http.ResponseWriter, _ *http.Request) error {
	v := a.deps.Build
	b, err := json.Marshal(struct {
		Version   string `json:"version"`
		Revision  string `json:"revision"`
		Branch    string `json:"branch"`
		BuildUser string `json:"buildUser"`
		BuildDate string `json:"buildDate"`
		GoVersion string `json:"goVersion"`
	}{v.Version, v.Revision, v.Branch, v.User, v.Date, v.GoVersion})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone
	return nil
}
