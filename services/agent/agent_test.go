package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

func metric(t *testing.T, a *Agent, name string) float64 {
	t.Helper()
	all, err := a.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// What is in the files arrives byte for byte, with the labels asked for.
func TestFidelity(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "*.log")
	cfg.ExternalLabels = map[string]string{"host": "h", "app": "external"}
	cfg.Read.MaxLine = 100
	appendTo(t, filepath.Join(dir, "a.log"), "plain\n\nwin\r\n\xff\xfe raw\x00\ntab\t é 世\n"+strings.Repeat("y", 500)+"\nlast")
	a, stop := running(t, cfg)
	s.await(t, 7)
	stop()
	want := []string{"plain", "", "win", "\xff\xfe raw\x00", "tab\t é 世", strings.Repeat("y", 92) + "...[cut]", "last"}
	if got := s.lines("a.log"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := s.labels["a.log"], map[string]string{"host": "h", "app": "test", "filename": filepath.Join(dir, "a.log")}; !reflect.DeepEqual(got, want) {
		t.Errorf("labels %v", got)
	}
	for name, want := range map[string]float64{
		"weir_agent_read_lines_total": 7, "weir_agent_cut_lines_total": 1, "weir_agent_partial_lines_total": 1,
		"weir_agent_sent_entries_total": 7, "weir_agent_lag_bytes": 0,
	} {
		if got := metric(t, a, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// Stopped and started: nothing again, nothing left out.
func TestRestart(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log")
	n := 0
	for range 4 {
		for range 100 {
			appendTo(t, filepath.Join(dir, "app.log"), numbered(n)+"\n")
			n++
		}
		_, stop := running(t, cfg)
		s.await(t, n)
		stop()
	}
	s.checkNumbered(t, "app.log", n)
	if s.again != 0 {
		t.Errorf("%d entries were sent again", s.again)
	}
}

// What was read but not taken when the agent stops is sent at the next start,
// as it was, though its file is gone.
func TestUnsentAtStop(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log")
	cfg.ShutdownTimeout = 100 * time.Millisecond
	s.failing(func(int, *pushv1.PushRequest) error { return status.Error(codes.Unavailable, "down") }, nil)
	for i := range 10 {
		appendTo(t, filepath.Join(dir, "app.log"), numbered(i)+"\n")
	}
	a, stop := running(t, cfg)
	for metric(t, a, "weir_agent_retries_total") == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := os.Remove(filepath.Join(dir, "app.log")); err != nil {
		t.Fatal(err)
	}
	s.failing(nil, nil)
	_, stop = running(t, cfg)
	s.await(t, 10)
	stop()
	s.checkNumbered(t, "app.log", 10)
}

// Rotation by rename, fast and under load, at a server that fails now and then.
func TestRotationUnderLoad(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 100 * time.Millisecond} {
		t.Run(every.String(), func(t *testing.T) {
			s, dir := newServer(t), t.TempDir()
			s.flaky()
			a, stop := running(t, quickConfig(s, dir, "app.log"))
			d := 3 * time.Second
			if testing.Short() {
				d = time.Second
			}
			n, err := writer{path: filepath.Join(dir, "app.log"), rate: 10_000, rotate: every}.run(d)
			if err != nil {
				t.Fatal(err)
			}
			s.await(t, n)
			stop()
			s.checkNumbered(t, "app.log", n)
			t.Logf("%d lines, %d batches, %v files replaced, %v found beside", n, s.pushes,
				metric(t, a, "weir_agent_replaced_files_total"), metric(t, a, "weir_agent_recovered_files_total"))
		})
	}
}

// With copytruncate at most what was written between copy and truncation is
// missing; here nothing is.
func TestCopyTruncate(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	a, stop := running(t, quickConfig(s, dir, "app.log"))
	name := filepath.Join(dir, "app.log")
	n := 0
	for gen := range 5 {
		for range 500 {
			appendTo(t, name, numbered(n)+"\n")
			if n++; n == 500*gen+1 {
				s.await(t, n) // the agent has seen this content; with the rest it may be late
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(fmt.Sprintf("%s.%d", name, gen), data, 0o644), os.Truncate(name, 0)); err != nil {
			t.Fatal(err)
		}
		// The next content must not pass for a continuation; a real one would
		// have another time in each line, as these have another number.
	}
	s.await(t, n)
	stop()
	s.checkNumbered(t, "app.log", n)
	if metric(t, a, "weir_agent_truncations_total") == 0 {
		t.Error("no truncation was counted")
	}
}

// The server is away, then refuses for a while: reading stops, nothing is lost.
func TestServerTrouble(t *testing.T) {
	limited, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.ErrorInfo{Reason: "RATE_LIMITED"})
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]error{
		"429": limited.Err(), "503": status.Error(codes.Unavailable, "no"), "500": status.Error(codes.Internal, "oops"),
		"403": status.Error(codes.PermissionDenied, "not yet"), "timeout": status.Error(codes.DeadlineExceeded, "slow"),
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := newServer(t), t.TempDir()
			cfg := quickConfig(s, dir, "app.log")
			cfg.Batch.MaxBytes = 4 << 10
			s.failing(func(int, *pushv1.PushRequest) error { return fault }, nil)
			const n = 20_000
			var text strings.Builder
			for i := range n {
				text.WriteString(numbered(i) + "\n")
			}
			appendTo(t, filepath.Join(dir, "app.log"), text.String())
			full := cfg.Full()
			full.Queue.MaxBytes = 300 << 10
			a, _ := runningFull(t, full)
			// It stops reading: what the queue holds, and one read that is waiting.
			for metric(t, a, "weir_agent_queue_full_total") < 2 || metric(t, a, "weir_agent_retries_total") < 4 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			if got := metric(t, a, "weir_agent_read_bytes_total"); got > 900<<10 {
				t.Errorf("%v bytes were read although nothing goes out", got)
			}
			if a.Ready() == nil {
				t.Error("ready although nothing goes out")
			}
			s.failing(nil, nil)
			s.await(t, n)
			s.checkNumbered(t, "app.log", n)
			if err := a.Ready(); err != nil {
				t.Errorf("not ready: %v", err)
			}
		})
	}
}

// The server restarts on the same port.
func TestServerAway(t *testing.T) {
	s := &server{entries: map[string]stored{}, labels: map[string]map[string]string{}}
	dir := t.TempDir()
	stopServer := s.serve(t, "127.0.0.1:0")
	cfg := quickConfig(s, dir, "app.log")
	running(t, cfg)
	for i := range 30 {
		appendTo(t, filepath.Join(dir, "app.log"), numbered(i)+"\n")
		if i == 10 {
			s.await(t, 11)
			stopServer()
		}
		if i == 20 {
			s.serve(t, s.addr)
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.await(t, 30)
	s.checkNumbered(t, "app.log", 30)
}

// Refused lines, and a batch refused whole because of one line, hold up nothing.
func TestRefused(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	s.refuse = func(l string) bool { return strings.HasPrefix(l, "refuse") }
	s.failing(func(_ int, req *pushv1.PushRequest) error {
		for _, st := range req.GetStreams() {
			for _, e := range st.GetEntries() {
				if strings.HasPrefix(e.GetText(), "poison") {
					return status.Error(codes.InvalidArgument, "cannot be decoded")
				}
			}
		}
		return nil
	}, nil)
	name := filepath.Join(dir, "app.log")
	for i := range 50 {
		appendTo(t, name, numbered(i)+"\n")
		if i%10 == 5 {
			appendTo(t, name, "refuse\npoison\n")
		}
	}
	a, stop := running(t, quickConfig(s, dir, "app.log"))
	s.await(t, 50)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if metric(t, a, "weir_agent_sent_entries_total") >= 50 && metric(t, a, "weir_agent_refused_entries_total") >= 10 {
			break
		}
	}
	s.checkNumbered(t, "app.log", 50)
	if got := metric(t, a, "weir_agent_refused_entries_total"); got != 10 {
		t.Errorf("%v refused, want 10", got)
	}
	stop()
	// They are done with: not sent again.
	pushes := s.pushes
	appendTo(t, name, numbered(50)+"\n")
	_, stop = running(t, quickConfig(s, dir, "app.log"))
	s.await(t, 51)
	stop()
	if s.pushes != pushes+1 {
		t.Errorf("%d pushes for one line", s.pushes-pushes)
	}
}

// Positions torn: the generation before and the queue give all. Both gone:
// from the start, never a failure.
func TestPositionsTorn(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log")
	name, n := filepath.Join(dir, "app.log"), 0
	more := func() {
		for range 50 {
			appendTo(t, name, numbered(n)+"\n")
			n++
		}
		_, stop := running(t, cfg)
		s.await(t, n)
		stop()
	}
	more()
	for _, damage := range []func() error{
		func() error { return os.Truncate(cfg.Positions.File, 30) },
		func() error { return os.WriteFile(cfg.Positions.File, make([]byte, 512), 0o600) },
		func() error { return os.Remove(cfg.Positions.File) },
	} {
		more()
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		more()
	}
	s.checkNumbered(t, "app.log", n)
	for _, f := range []string{cfg.Positions.File, cfg.Positions.File + ".old"} {
		if err := os.WriteFile(f, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	more() // the queue alone knows, too
	s.checkNumbered(t, "app.log", n)
	if err := os.RemoveAll(cfg.Positions.File + ".queue"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{cfg.Positions.File, cfg.Positions.File + ".old"} {
		if err := os.WriteFile(f, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := running(t, cfg)
	s.await(t, 2*n) // with new times
	stop()
}

// The queue cannot be written: nothing goes out until it can, and then all.
func TestQueueCannotBeWritten(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may write anywhere; a file takes the folder's place instead")
	}
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log")
	a, stop := running(t, cfg)
	journal := cfg.Positions.File + ".queue"
	if err := errors.Join(os.RemoveAll(journal), os.WriteFile(journal, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		appendTo(t, filepath.Join(dir, "app.log"), numbered(i)+"\n")
	}
	for metric(t, a, "weir_agent_queue_errors_total") < 2 {
		time.Sleep(time.Millisecond)
	}
	if s.count() != 0 || a.Ready() == nil {
		t.Error("sent without a queue")
	}
	if err := errors.Join(os.Remove(journal), os.Mkdir(journal, 0o700)); err != nil {
		t.Fatal(err)
	}
	s.await(t, 10)
	stop()
	s.checkNumbered(t, "app.log", 10)
}

func TestTwoAgentsOnePositionsFile(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log")
	running(t, cfg)
	if _, err := Open(cfg.Full(), Deps{}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("err %v", err)
	}
}

func TestHTTP(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	a, stop := running(t, quickConfig(s, dir, "app.log"))
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	deadline := time.Now().Add(patience)
	for a.Ready() != nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if code, body := get("/ready"); code != 200 || body != "ready\n" {
		t.Errorf("/ready: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "weir_agent_queue_bytes") {
		t.Errorf("/metrics: %d %q", code, body)
	}
	stop()
	if code, _ := get("/ready"); code != 503 {
		t.Errorf("/ready after the end: %d", code)
	}
}
