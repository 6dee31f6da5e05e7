package weir

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
)

// fakeS3 is a store over the network that can be away.
type fakeS3 struct {
	*httptest.Server
	away   atomic.Bool
	ranges atomic.Int64 // reads of blocks
}

func startS3(t *testing.T) *fakeS3 {
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	h := gofakes3.New(backend).Server()
	s := &fakeS3{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Method == http.MethodGet && r.Header.Get("Range") != "" {
			s.ranges.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *fakeS3) config(c *Config) {
	c.Storage.Type, c.Storage.Bucket, c.Storage.AccessKey, c.Storage.SecretKey = objstore.TypeS3, "bucket", "id", conf.NewSecret("hush-hush")
	c.Storage.Insecure, c.Storage.PathStyle, c.Storage.Region, c.Storage.MaxAttempts = true, true, "us-east-1", 1
	c.Storage.Endpoint = strings.TrimPrefix(s.URL, "http://")
	c.Storage.ScrubInterval = 0
	c.Ingester.KeepUploaded = 0
}

// What queries have read of a store over the network is on the disk, also after a
// restart; while the store is away, what was deleted cannot be told, and nothing is
// answered by guessing.
func TestStoreOverTheNetwork(t *testing.T) {
	s3 := startS3(t)
	dir := t.TempDir()
	p := startProcess(t, dir, s3.config)
	at := time.Now().Add(-50 * time.Hour)
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	p.push(t, "shop", at, want...)
	if _, err := adminv1.NewAdminServiceClient(p.conn).Flush(t.Context(), &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	q := &queryv1.QueryRangeRequest{Query: `{app="shop"} |= "line"`, Limit: 1000, Direction: queryv1.Direction_DIRECTION_FORWARD, Start: timestamppb.New(at.Add(-time.Hour))}
	check := func(what string) {
		t.Helper()
		if got, _ := p.lines(t, q); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("%s: got %d lines", what, len(got))
		}
	}
	check("flushed")
	files := func() (n int) {
		_ = filepath.WalkDir(filepath.Join(dir, "cache"), func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return nil
		})
		return n
	}
	p.stop()
	// Nothing but the store has the entries.
	for _, sub := range []string{"wal", "blocks"} {
		if err := os.RemoveAll(filepath.Join(dir, sub)); err != nil {
			t.Fatal(err)
		}
	}
	p = startProcess(t, dir, s3.config)
	check("from the store")
	before, kept := s3.ranges.Load(), files()
	if kept == 0 {
		t.Fatal("the cache is empty")
	}
	p.stop()
	p = startProcess(t, dir, s3.config)
	check("from the cache")
	// The listing reads footers anew; what the query reads is there.
	if n := s3.ranges.Load() - before; n > before || files() != kept {
		t.Errorf("%d reads, %d files, %d before", n, files(), kept)
	}
	p.stop()

	s3.away.Store(true)
	p = startProcess(t, dir, s3.config)
	_, err := queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), q)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("the store is away: %v", err)
	}
	q.Partial = true
	if _, err = queryv1.NewQueryServiceClient(p.conn).QueryRange(t.Context(), q); status.Code(err) != codes.Unavailable {
		t.Errorf("the store is away, in part: %v", err)
	}
	s3.away.Store(false)
	q.Partial = false
	check("it is back")
}
