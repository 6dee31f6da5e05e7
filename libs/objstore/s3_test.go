package objstore_test

import (
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/objstore/objstoretest"
)

// serve returns the host and port of a server of h.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func open(t *testing.T, c objstore.Config) *objstore.Client {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	client, err := objstore.Open(t.Context(), c, t.TempDir(), time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func s3Config(t *testing.T, wrap func(http.Handler) http.Handler) objstore.Config {
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	c := objstore.DefaultConfig()
	c.Type, c.Bucket, c.AccessKey, c.SecretKey = objstore.TypeS3, "bucket", "id", conf.NewSecret("hush-hush")
	c.Insecure, c.PathStyle, c.Region, c.MaxAttempts = true, true, "us-east-1", 1
	c.Endpoint = serve(t, wrap(gofakes3.New(backend, gofakes3.WithIntegrityCheck(true)).Server()))
	return c
}

func asIs(h http.Handler) http.Handler { return h }

func TestS3(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket { return open(t, s3Config(t, asIs)) })
}

func TestS3WithPrefix(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket {
		c := s3Config(t, asIs)
		plain := open(t, c)
		if err := objstore.PutBytes(t.Context(), plain, "a/outside", []byte("x")); err != nil {
			t.Fatal(err)
		}
		c.Prefix = "logs/weir"
		return open(t, c)
	})
}

// TestS3Answers: what a store answers becomes the error that callers look for.
func TestS3Answers(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusForbidden: objstore.ErrDenied, http.StatusServiceUnavailable: objstore.ErrUnavailable,
		http.StatusInternalServerError: objstore.ErrUnavailable, http.StatusTooManyRequests: objstore.ErrUnavailable,
		http.StatusNotFound: objstore.ErrNotFound,
	} {
		c := s3Config(t, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		})
		b := open(t, c)
		_, getErr := b.Get(t.Context(), "a/b", 0, 1)
		_, statErr := b.Stat(t.Context(), "a/b")
		listErr := b.List(t.Context(), "a/", func(objstore.Object) error { return nil })
		for op, err := range map[string]error{"get": getErr, "stat": statErr, "list": listErr} {
			if !errors.Is(err, want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%d to %s: %v, want %v", status, op, err, want)
			}
		}
	}
}

// TestS3TruncatedAnswer: an answer that breaks off is no object.
func TestS3TruncatedAnswer(t *testing.T) {
	c := s3Config(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/long") {
				w = &cutter{ResponseWriter: w, left: 500}
			}
			h.ServeHTTP(w, r)
		})
	})
	b := open(t, c)
	if err := objstore.PutBytes(t.Context(), b, "a/long", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "a/long", 0, 1000); !errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// cutter breaks the connection off after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// TestS3Server runs the suite against a server that is there: WEIR_TEST_S3 is
// http(s)://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET.
func TestS3Server(t *testing.T) {
	text := os.Getenv("WEIR_TEST_S3")
	if text == "" {
		t.Skip("WEIR_TEST_S3 names no server")
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	objstoretest.Run(t, func(t *testing.T) objstore.Bucket {
		c := objstore.DefaultConfig()
		c.Type, c.Endpoint, c.Bucket = objstore.TypeS3, u.Host, strings.Trim(u.Path, "/")
		c.AccessKey, c.SecretKey = u.User.Username(), conf.NewSecret(secret)
		c.Insecure, c.PathStyle, c.MaxAttempts = u.Scheme == "http", true, 1
		c.Prefix = "test-" + strings.ToLower(rand.Text())
		return open(t, c)
	})
}
