package rpcerr

import (
	"io"
	"net/http"
	"strconv"
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
// one line. Nothing of an unmapped error's text is written.
func WriteHTTP(w http.ResponseWriter, err error) {
	e := Table(nil).ToError(err)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	SetRetryAfter(h, e)
	w.WriteHeader(HTTPStatus(e))
	io.WriteString(w, e.Error()+"\n") //nolint:errcheck // the client is gone
}
