package objstore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

// pageSize is how many objects fake stores list at a time.
const pageSize = 100

// page returns the objects of prefix after a key, and whether there are more.
func page(m *objstore.Memory, r *http.Request, prefix, after string) (out []objstore.Object, more bool) {
	enough := errors.New("enough")
	_ = m.List(r.Context(), prefix, func(o objstore.Object) error {
		if o.Key <= after {
			return nil
		}
		if len(out) == pageSize {
			more = true
			return enough
		}
		out = append(out, o)
		return nil
	})
	return out, more
}

// serveRange answers a GET of a range, as all stores do.
func serveRange(w http.ResponseWriter, r *http.Request, m *objstore.Memory, key, header string, fail func(int)) {
	body, err := objstore.ReadAll(r.Context(), m, key, 1<<30)
	if err != nil {
		fail(http.StatusNotFound)
		return
	}
	var from, to int
	if n, _ := fmt.Sscanf(header, "bytes=%d-%d", &from, &to); n != 2 {
		_, _ = w.Write(body)
		return
	}
	if from >= len(body) {
		fail(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	to = min(to, len(body)-1)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(body)))
	w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(body[from : to+1])
}

// fakeGCS is a Google Cloud Storage with one bucket, as far as its documentation of the JSON API goes
// and Weir uses it.
func fakeGCS() http.Handler {
	m := objstore.NewMemory(nil)
	item := func(o objstore.Object) map[string]any {
		return map[string]any{"name": o.Key, "size": strconv.FormatInt(o.Size, 10), "updated": o.Modified.Format(time.RFC3339Nano)}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(status int) { http.Error(w, fmt.Sprintf(`{"error":{"code":%d}}`, status), status) }
		answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
		q := r.URL.Query()
		switch path := r.URL.Path; {
		case r.Method == http.MethodPost && path == "/upload/storage/v1/b/bucket/o" && q.Get("uploadType") == "media":
			body, err := io.ReadAll(r.Body)
			key := q.Get("name")
			if err != nil {
				fail(http.StatusBadRequest)
				return
			}
			if q.Get("ifGenerationMatch") == "0" {
				err = m.PutNew(r.Context(), key, body)
			} else {
				err = m.Put(r.Context(), key, bytes.NewReader(body), int64(len(body)))
			}
			if errors.Is(err, objstore.ErrExists) {
				fail(http.StatusPreconditionFailed)
				return
			}
			answer(item(objstore.Object{Key: key, Size: int64(len(body))}))
		case r.Method == http.MethodGet && path == "/storage/v1/b/bucket/o":
			objects, more := page(m, r, q.Get("prefix"), q.Get("pageToken"))
			out := map[string]any{}
			items := []any{}
			for _, o := range objects {
				items = append(items, item(o))
			}
			if out["items"] = items; more {
				out["nextPageToken"] = objects[len(objects)-1].Key
			}
			answer(out)
		case strings.HasPrefix(path, "/storage/v1/b/bucket/o/"):
			key := strings.TrimPrefix(path, "/storage/v1/b/bucket/o/")
			o, err := m.Stat(r.Context(), key)
			switch {
			case strings.Count(r.URL.EscapedPath(), "/") != 6: // slashes of the key are to be escaped
				fail(http.StatusBadRequest)
			case err != nil:
				fail(http.StatusNotFound)
			case r.Method == http.MethodDelete:
				_ = m.Delete(r.Context(), key)
				w.WriteHeader(http.StatusNoContent)
			case q.Get("alt") == "media":
				serveRange(w, r, m, key, r.Header.Get("Range"), fail)
			default:
				answer(item(o))
			}
		default:
			fail(http.StatusBadRequest)
		}
	})
}

func TestGCS(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket {
		c := objstore.DefaultConfig()
		c.Type, c.Bucket, c.Endpoint, c.MaxAttempts = objstore.TypeGCS, "bucket", "http://"+serve(t, fakeGCS())+"/", 1
		return open(t, c)
	})
}

func TestGCSSecretIsNotShown(t *testing.T) {
	c := objstore.DefaultConfig()
	c.Type, c.Bucket, c.SecretKey = objstore.TypeGCS, "bucket", conf.NewSecret(`{"type":"service_account","private_key":hush}`)
	_, err := objstore.Open(t.Context(), c, "", time.Now(), nil, nil)
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}
