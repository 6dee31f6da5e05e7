package objstore_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

// fakeAzure is an Azure Blob Storage with one container, as far as its documentation goes and Weir uses
// it. It checks no signatures.
func fakeAzure() http.Handler {
	m := objstore.NewMemory(nil)
	var mu sync.Mutex // guards parts
	parts := map[string][]byte{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		failCode := func(status int, code string) {
			w.Header().Set("x-ms-error-code", code)
			w.WriteHeader(status)
			if r.Method != http.MethodHead {
				fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>no</Message></Error>", code)
			}
		}
		fail := func(status int) { failCode(status, map[int]string{404: "BlobNotFound", 416: "InvalidRange"}[status]) }
		if !strings.HasPrefix(r.Header.Get("Authorization"), "SharedKey account:") {
			failCode(http.StatusForbidden, "AuthenticationFailed")
			return
		}
		q := r.URL.Query()
		key, ok := strings.CutPrefix(r.URL.Path, "/account/bucket/")
		switch {
		case q.Get("comp") == "list":
			listAzure(w, r, m)
		case !ok:
			failCode(http.StatusBadRequest, "InvalidUri")
		case r.Method == http.MethodPut:
			body, err := io.ReadAll(r.Body)
			if err != nil {
				failCode(http.StatusBadRequest, "InvalidInput")
				return
			}
			switch q.Get("comp") {
			case "block":
				mu.Lock()
				parts[key+q.Get("blockid")] = body
				mu.Unlock()
				w.WriteHeader(http.StatusCreated)
				return
			case "blocklist":
				var list struct {
					Latest []string `xml:"Latest"`
				}
				if err := xml.Unmarshal(body, &list); err != nil {
					failCode(http.StatusBadRequest, "InvalidXmlDocument")
					return
				}
				body = nil
				mu.Lock()
				for _, id := range list.Latest {
					body = append(body, parts[key+id]...)
				}
				mu.Unlock()
			}
			if r.Header.Get("If-None-Match") == "*" {
				err = m.PutNew(r.Context(), key, body)
			} else {
				err = m.Put(r.Context(), key, bytes.NewReader(body), int64(len(body)))
			}
			if errors.Is(err, objstore.ErrExists) {
				failCode(http.StatusConflict, "BlobAlreadyExists")
				return
			}
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodHead:
			o, err := m.Stat(r.Context(), key)
			if err != nil {
				fail(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(o.Size))
			w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
		case r.Method == http.MethodDelete:
			if _, err := m.Stat(r.Context(), key); err != nil {
				fail(http.StatusNotFound)
				return
			}
			_ = m.Delete(r.Context(), key)
			w.WriteHeader(http.StatusAccepted)
		default:
			serveRange(w, r, m, key, r.Header.Get("x-ms-range"), fail)
		}
	})
}

func listAzure(w http.ResponseWriter, r *http.Request, m *objstore.Memory) {
	objects, more := page(m, r, r.URL.Query().Get("prefix"), r.URL.Query().Get("marker"))
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprint(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="bucket"><Blobs>`)
	for _, o := range objects {
		var name bytes.Buffer
		_ = xml.EscapeText(&name, []byte(o.Key))
		fmt.Fprintf(w, `<Blob><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified><Content-Length>%d</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>`,
			name.Bytes(), o.Modified.UTC().Format(http.TimeFormat), o.Size)
	}
	fmt.Fprint(w, `</Blobs><NextMarker>`)
	if more {
		fmt.Fprint(w, objects[len(objects)-1].Key)
	}
	fmt.Fprint(w, `</NextMarker></EnumerationResults>`)
}

func azureConfig(t *testing.T) objstore.Config {
	c := objstore.DefaultConfig()
	c.Type, c.Bucket, c.AccessKey, c.SecretKey = objstore.TypeAzure, "bucket", "account", conf.NewSecret("aHVzaC1odXNo")
	c.Insecure, c.PathStyle, c.MaxAttempts, c.Endpoint = true, true, 1, serve(t, fakeAzure())
	return c
}

func TestAzure(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket { return open(t, azureConfig(t)) })
}

// TestAzureParts: a larger object is sent in parts.
func TestAzureParts(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 70 MB")
	}
	b := open(t, azureConfig(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 70<<16)
	sum, err := objstore.Sum(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := objstore.PutBytes(t.Context(), b, "a/large", body); err != nil {
		t.Fatal(err)
	}
	if err := objstore.Verify(t.Context(), b, "a/large", int64(len(body)), sum); err != nil {
		t.Error(err)
	}
}
