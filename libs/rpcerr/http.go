package rpcerr

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SetRetryAfter writes the Retry-After header that err asks for, if it does, in whole seconds
// rounded up.
func SetRetryAfter(h http.Header, err error) {
	if after := RetryAfter(err); after > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
}

// WriteHTTP answers a request with err: its status, Retry-After, and its message as plain text on
// one line, or, for a request of REST (below /api/v1/), as [JSON]. Nothing of an unmapped error's
// text is written.
func WriteHTTP(w http.ResponseWriter, r *http.Request, err error) {
	e := Table(nil).ToError(err)
	if strings.HasPrefix(r.URL.Path, "/api/v1/") {
		WriteJSON(w, HTTPStatus(e), e)
		return
	}
	writeHTTP(w, HTTPStatus(e), e, "text/plain; charset=utf-8", e.Error())
}

// JSON is the body of an error over REST.
type JSON struct {
	Code         int               `json:"code"` // of gRPC
	Reason       string            `json:"reason"`
	Message      string            `json:"message"`
	RetryAfterMs int64             `json:"retry_after_ms"`
	Details      map[string]string `json:"details"`
}

// ToJSON returns what REST says of err.
func ToJSON(err error) JSON {
	e := Table(nil).ToError(err)
	// The protobuf runtime puts spaces that are none into its messages.
	out := JSON{
		Code: int(e.GRPCStatus().Code()), Reason: string(ReasonOf(e)), Message: strings.ReplaceAll(e.Error(), "\u00a0", " "),
		RetryAfterMs: e.RetryAfter.Milliseconds(), Details: e.Metadata,
	}
	if out.Details == nil {
		out.Details = map[string]string{}
	}
	return out
}

// WriteJSON answers a request of REST with err, with a status that need not be [HTTPStatus] of it.
func WriteJSON(w http.ResponseWriter, code int, err error) {
	body, _ := json.Marshal(ToJSON(err)) // strings and numbers always can be
	writeHTTP(w, code, err, "application/json", string(body))
}

func writeHTTP(w http.ResponseWriter, code int, err error, contentType, body string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Trailer"} {
		h.Del(name)
	}
	SetRetryAfter(h, err)
	w.WriteHeader(code)
	io.WriteString(w, body+"\n") //nolint:errcheck // the client is gone
}
