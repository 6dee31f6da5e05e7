package objstore

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// newTransport returns the HTTP transport of a store over the network. Objects come as they are
// stored.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	t.MaxIdleConnsPerHost = 64
	t.MaxIdleConns = 64
	t.ResponseHeaderTimeout = time.Minute
	return t
}

// statusError turns the status of a store's answer into an error. conditional: the request was to
// succeed only if the object is not there.
func statusError(op, key string, status int, conditional bool, cause error) error {
	kind := error(nil)
	switch status {
	case http.StatusNotFound:
		kind = ErrNotFound
	case http.StatusRequestedRangeNotSatisfiable:
		kind = ErrRange
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrDenied
	case http.StatusPreconditionFailed:
		if conditional {
			kind = ErrExists
		}
	}
	if kind == nil {
		return fmt.Errorf("%s object %s: %w", op, key, cause)
	}
	return fmt.Errorf("%w: %s object %s: %w", kind, op, key, cause)
}

// checkRange returns ErrRange if the answer to a Get of n bytes, n > 0, from off says that the object
// ends before, and another error if the answer is about another range. contentRange is the header of
// that name, empty if the store sends the whole object of length bytes.
func checkRange(key string, off int64, n int, contentRange string, length int64) error {
	first, total := int64(0), length
	if contentRange != "" {
		span, size, ok1 := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
		from, to, ok2 := strings.Cut(span, "-")
		a, err1 := strconv.ParseInt(from, 10, 64)
		b, err2 := strconv.ParseInt(to, 10, 64)
		t, err3 := strconv.ParseInt(size, 10, 64)
		if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil || b < a {
			return fmt.Errorf("get object %s: the store answers the range %q", key, contentRange)
		}
		first, total = a, t
	}
	if total < off+int64(n) {
		return fmt.Errorf("%w: %s has %d bytes, not %d from %d", ErrRange, key, total, n, off)
	}
	if first != off {
		return fmt.Errorf("get object %s: the store answers from byte %d on, not from %d", key, first, off)
	}
	return nil
}
