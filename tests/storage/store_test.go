package storage

import (
	"bytes"
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

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

const bucket = "logs"

// store is an S3 server that fails as told.
type store struct {
	endpoint string
	backend  gofakes3.Backend

	away   atomic.Bool                                                       // nothing is answered but 503
	fault  atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool] // true: it has answered
	puts   atomic.Int64                                                      // in flight
	most   atomic.Int64                                                      // of puts
	failed atomic.Int64                                                      // requests that were answered wrongly
	server http.Handler
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{backend: s3mem.New()}
	if err := s.backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	s.server = gofakes3.New(s.backend).Server()
	h := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Start()
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	s.endpoint = strings.TrimPrefix(h.URL, "http://")
	return s
}

func (s *store) serve(w http.ResponseWriter, r *http.Request) {
	if s.away.Load() {
		s.refuse(w)
		return
	}
	if r.Method == http.MethodPut {
		n := s.puts.Add(1)
		defer s.puts.Add(-1)
		for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
		}
	}
	if f := s.fault.Load(); f != nil && (*f)(w, r) {
		s.failed.Add(1)
		return
	}
	s.server.ServeHTTP(w, r)
}

func (s *store) refuse(w http.ResponseWriter) {
	s.failed.Add(1)
	w.WriteHeader(http.StatusServiceUnavailable)
}

// halve cuts an object in two and keeps the first half.
func (s *store) halve(object string) error {
	o, err := s.backend.GetObject(bucket, object, nil)
	if err != nil {
		return err
	}
	defer o.Contents.Close()
	body, err := io.ReadAll(o.Contents)
	if err != nil {
		return err
	}
	return s.put(object, body[:len(body)/2])
}

func (s *store) put(object string, body []byte) error {
	meta := map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}
	_, err := s.backend.PutObject(bucket, object, meta, bytes.NewReader(body), int64(len(body)), nil)
	return err
}

// set sets what goes wrong; nil: nothing.
func (s *store) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	if f == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&f)
}

// config writes a configuration file that names the store, and returns its flag.
func (s *store) config(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf("storage:\n  type: s3\n  bucket: %s\n  endpoint: %s\n  region: us-east-1\n  access_key: id\n  secret_key: secret\n"+
		"  insecure: true\n  path_style: true\n  max_attempts: 2\n  request_timeout: 2s\n", bucket, s.endpoint)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--config=" + path
}

// quick makes blocks move soon.
var quick = []string{"--ingester.wal-segment-size=1MiB", "--ingester.cut-interval=1s", "--ingester.cut-size=256KiB",
	"--ingester.upload-interval=1s", "--ingester.keep-uploaded=1s", "--compactor.interval=1s", "--compactor.merge-size=1", "--compactor.max-sources=4",
	"--compactor.delete-delay=0s"}

// start starts a node over the store.
func (s *store) start(t *testing.T, more ...string) *harness.Node {
	t.Helper()
	return harness.Start(t, append(append([]string{s.config(t)}, quick...), more...)...)
}

// load begins to push to a node.
func load(t *testing.T, node *harness.Node) (*checker.Load, func()) {
	t.Helper()
	l := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: 7, Resend: true}
	stop := l.Start()
	t.Cleanup(stop)
	return l, stop
}

// check judges all that a node holds.
func check(t *testing.T, node *harness.Node, l *checker.Load) checker.Verdict {
	t.Helper()
	v, err := harness.Check(harness.Context(t), node.Client(), l.History, nil)
	if err == nil {
		err = v.Err()
	}
	if err == nil {
		err = l.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// atLeast waits until a metric has grown to n.
func atLeast(t *testing.T, node *harness.Node, metric string, n float64, parts ...string) {
	t.Helper()
	harness.Until(t, func() error {
		if got := node.Metric(metric, parts...); got < n {
			return fmt.Errorf("%s is %v, not yet %v", metric, got, n)
		}
		return nil
	})
}

// drained waits until all that is on the node's disk is in the store, and nowhere else.
func drained(t *testing.T, node *harness.Node) {
	t.Helper()
	harness.Until(t, func() error { return tryPost(node, "/flush") })
	harness.Until(t, func() error {
		if n := node.Metric("weir_ingester_local_blocks"); n > 0 {
			return fmt.Errorf("%v local blocks are left", n)
		}
		return nil
	})
}

// TestRow33StoreAway: while the store is away pushes succeed and memory does not grow
// beyond its budget; a query that needs the store says so, and so does /ready; then all is
// uploaded.
func TestRow33StoreAway(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	node := s.start(t, "--memory.limit=512MiB")
	l, stop := load(t, node)
	atLeast(t, node, "weir_ingester_uploads_total", 2)
	s.away.Store(true)
	before, failures := l.Pushes(), node.Metric("weir_ingester_upload_failures_total")
	atLeast(t, node, "weir_ingester_upload_failures_total", failures+2)
	atLeast(t, node, "weir_ingester_cuts_total", node.Metric("weir_ingester_cuts_total")+3)
	if after := l.Pushes(); after.Failed > before.Failed || after.Stored == before.Stored {
		t.Errorf("pushes while the store is away: before %+v, after %+v", before, after)
	}
	backlog := node.Metric("weir_ingester_upload_backlog_bytes")
	tells := func(want string) {
		t.Helper()
		harness.Until(t, func() error {
			if code, body, err := node.Get("/ready"); err != nil || code != http.StatusOK || !strings.Contains(body, want) {
				return fmt.Errorf("/ready: %d %q, %w", code, body, err)
			}
			return nil
		})
	}
	tells("degraded\nstore: the object store does not answer: ")
	// A restart meanwhile: it starts, and takes pushes.
	node.Kill()
	node.Start()
	node.AwaitReady()
	stored := l.Pushes().Stored
	harness.Until(t, func() error {
		if l.Pushes().Stored < stored+5 {
			return fmt.Errorf("no pushes are stored")
		}
		return nil
	})
	if _, err := harness.Read(harness.Context(t), node.Client(), false, 5000); err == nil {
		t.Error("a query is answered as if the store were there")
	}
	s.away.Store(false)
	stop()
	drained(t, node)
	tells("ready\n")
	v := check(t, node, l)
	if peak := node.Peak(); peak > 512<<20 || backlog == 0 {
		t.Errorf("peak %d MiB, backlog %v", peak>>20, backlog)
	}
	t.Logf("backlog %v bytes; peak %d MiB; %s", backlog, node.Peak()>>20, v)
}

// TestRow34StoreSlow: a store that is slow, hangs, or answers 503 now and then makes no
// push fail and none wait, and is not asked for more than four puts at once.
func TestRow34StoreSlow(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var n atomic.Int64
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		switch k := n.Add(1); {
		case k%5 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case k%17 == 0: // until its client gives up
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
		return false
	})
	node := s.start(t)
	l, stop := load(t, node)
	harness.Until(t, func() error {
		if n := s.failed.Load(); n < 10 {
			return fmt.Errorf("%d requests were answered wrongly", n)
		}
		return nil
	})
	stop()
	p := l.Pushes()
	s.set(nil)
	drained(t, node)
	v := check(t, node, l)
	if p.Failed > 0 || p.Stored == 0 {
		t.Errorf("pushes: %+v", p)
	}
	if m := s.most.Load(); m > 4 {
		t.Errorf("%d puts at once", m)
	}
	t.Logf("%d of %d requests to the store went wrong, %d puts at once; %d pushes, longest gap %s; %s",
		s.failed.Load(), n.Load(), s.most.Load(), p.Stored, p.LongestGap.Round(time.Millisecond), v)
}

// TestRow35HalfStored: puts that fail and have stored, and puts that succeed and have
// stored half: nothing is given up in favour of what is not there.
func TestRow35HalfStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var n, half, lied atomic.Int64
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		switch n.Add(1) % 4 {
		case 1: // stored, and said to have failed
			s.server.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusInternalServerError)
			lied.Add(1)
			return true
		case 3: // half stored
			object := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
			s.server.ServeHTTP(w, r)
			if err := s.halve(object); err != nil {
				t.Error(err)
			}
			half.Add(1)
			return true
		}
		return false
	})
	node := s.start(t)
	l, stop := load(t, node)
	harness.Until(t, func() error {
		if half.Load() < 2 || lied.Load() < 2 {
			return fmt.Errorf("%d puts were halved, %d lied about", half.Load(), lied.Load())
		}
		return nil
	})
	stop()
	s.set(nil)
	drained(t, node)
	v := check(t, node, l)
	// From the store alone, as another process finds it.
	node.Terminate()
	node.Start()
	node.AwaitReady()
	check(t, node, l)
	t.Logf("%d puts halved, %d stored and said to have failed; %s", half.Load(), lied.Load(), v)
}
