package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/relabel"
)

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// jobConfig is a configuration with one job.
func jobConfig(s *server, dir string, j config.Job) *config.Config {
	full := quickConfig(s, dir, "none").Full()
	j.Name = "job"
	full.Jobs = []config.Job{j}
	return full
}

// all gives the lines of all streams, sorted, with their labels.
func (s *server) all() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.entries {
		labels, rest, _ := strings.Cut(id, "|")
		_, line, _ := strings.Cut(rest, "|")
		out = append(out, strings.TrimPrefix(labels, "map")+" "+line)
	}
	slices.Sort(out)
	return out
}

func (s *server) wantAll(t *testing.T, want ...string) {
	t.Helper()
	s.await(t, len(want))
	slices.Sort(want)
	if got := s.all(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// dial tries until the listener is there.
func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial(network, addr); err == nil {
			return c
		}
	}
	t.Fatal("nothing listens at", addr)
	return nil
}

func rule(source, target string) relabel.Rule {
	r := relabel.Default()
	r.SourceLabels, r.TargetLabel = []string{source}, target
	if err := r.Compile(); err != nil {
		panic(err)
	}
	return r
}

func TestSyslog(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	addr := freeAddr(t)
	_, stop := runningFull(t, jobConfig(s, dir, config.Job{
		Syslog:  &config.Syslog{Listen: addr, Labels: map[string]string{"job": "syslog"}, StructuredData: true},
		Relabel: []relabel.Rule{rule("__syslog_message_app_name", "app"), rule("__syslog_message_sd_x_1_a", "a"), rule("__syslog_message_severity", "sev")},
	}))
	c := dial(t, "tcp", addr)
	msg := `<13>1 2026-01-01T00:00:00Z h prog - - [x@1 a="b"] octet`
	fmt.Fprintf(c, "%d %s<11>1 - - other - - - newline\n<34>Oct 11 22:14:15 h su: old style\n", len(msg), msg)
	_ = c.Close()
	s.wantAll(t, "[a:b app:prog job:syslog sev:notice] octet", "[app:other job:syslog sev:error] newline", "[app:su job:syslog sev:critical] old style")
	stop()
}

func TestSyslogUDP(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	addr := freeAddr(t)
	runningFull(t, jobConfig(s, dir, config.Job{Syslog: &config.Syslog{Listen: addr, Protocol: "udp", Labels: map[string]string{"job": "u"}}}))
	c := dial(t, "udp", addr)
	for deadline := time.Now().Add(patience); s.count() == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_, _ = c.Write([]byte("<11>1 - - other - - - text\n")) // it may not listen yet
	}
	if got := s.all(); len(got) == 0 || got[0] != "[job:u] text" {
		t.Errorf("%q", got)
	}
}

func TestPushReceiver(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	addr := freeAddr(t)
	runningFull(t, jobConfig(s, dir, config.Job{Push: &config.Push{Listen: addr, Labels: map[string]string{"via": "agent"}, IncomingTime: true}}))
	_ = dial(t, "tcp", addr).Close()
	post := func(path, kind string, body []byte) int {
		resp, err := http.Post("http://"+addr+path, kind, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if code := post("/loki/api/v1/push", "application/json", []byte(`{"streams":[{"stream":{"a":"b"},"values":[["1700000000000000001","json",{"m":"n"}]]}]}`)); code != 204 {
		t.Error(code)
	}
	if s.count() != 1 {
		// The answer says that it is durable, not that it was sent.
		s.await(t, 1)
	}
	proto := []byte("\n\x1a\n\x07{c=\"d\"}\x12\x0f\n\x06\x08\xe8\x07\x10\xe8\x07\x12\x05proto")
	if code := post("/loki/api/v1/push", "application/x-protobuf", snappy.Encode(nil, proto)); code != 204 {
		t.Error(code)
	}
	if code := post("/promtail/api/v1/raw", "text/plain", []byte("one\ntwo\n")); code != 204 {
		t.Error(code)
	}
	for _, bad := range []string{"{", `{"streams":[{"stream":{},"values":[["x","y"]]}]}`} {
		if code := post("/loki/api/v1/push", "application/json", []byte(bad)); code != 400 {
			t.Error(bad, code)
		}
	}
	s.wantAll(t, "[a:b via:agent] json", "[c:d via:agent] proto", "[via:agent] one", "[via:agent] two")
}

func TestOTLPAndGELF(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	otlp, gelf := freeAddr(t), freeAddr(t)
	cfg := jobConfig(s, dir, config.Job{OTLP: &config.OTLP{Listen: otlp}})
	cfg.Jobs = append(cfg.Jobs, config.Job{Name: "gelf", GELF: &config.GELF{Listen: gelf, Labels: map[string]string{"job": "gelf"}, IncomingTime: true}})
	runningFull(t, cfg)
	_ = dial(t, "tcp", otlp).Close()
	resp, err := http.Post("http://"+otlp+"/v1/logs", "application/json", strings.NewReader(
		`{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000001","body":{"stringValue":"otlp"}}]}]}]}`))
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	c := dial(t, "tcp", gelf)
	fmt.Fprint(c, `{"version":"1.1","host":"h","short_message":"tcp","timestamp":1700000000.5}`+"\x00")
	_ = c.Close()
	u := dial(t, "udp", gelf)
	text := []byte(`{"version":"1.1","host":"h","short_message":"udp"}`)
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write(text)
	_ = zw.Close()
	half := z.Len() / 2
	for i, part := range [][]byte{z.Bytes()[:half], z.Bytes()[half:]} {
		_, _ = u.Write(append([]byte{0x1e, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, byte(i), 2}, part...))
	}
	s.wantAll(t, "[service_name:shop] otlp", `[job:gelf] {"version":"1.1","host":"h","short_message":"tcp","timestamp":1700000000.5}`, "[job:gelf] "+string(text))
}

func TestCompressedFiles(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write([]byte("g1\ng2\n"))
	_ = zw.Close()
	enc, _ := zstd.NewWriter(nil)
	for name, data := range map[string][]byte{"a.gz": z.Bytes(), "b.zst": enc.EncodeAll([]byte("z1\nz2"), nil)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Minute)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	cfg := jobConfig(s, dir, config.Job{
		Decompression: &config.Decompression{Enabled: true},
		Static:        []config.Group{{Labels: map[string]string{"job": "z", "__path__": dir + "/*.{gz,zst}"}}},
	})
	for range 2 { // each once
		_, stop := runningFull(t, cfg)
		s.wantAll(t, "[job:z] g1", "[job:z] g2", "[job:z] z1", "[job:z] z2")
		stop()
	}
}

func TestEncoding(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	utf16 := []byte{0xff, 0xfe}
	for _, r := range "eins\r\nzwei ä\u010a\nkein Ende" { // U+010A has the byte of a newline in it
		utf16 = binary.LittleEndian.AppendUint16(utf16, uint16(r))
	}
	if err := os.WriteFile(filepath.Join(dir, "a.log"), utf16, 0o600); err != nil {
		t.Fatal(err)
	}
	runningFull(t, jobConfig(s, dir, config.Job{Encoding: "utf-16", Static: []config.Group{{Labels: map[string]string{"job": "e", "__path__": dir + "/a.log"}}}}))
	s.wantAll(t, "[job:e] eins", "[job:e] zwei ä\u010a", "[job:e] kein Ende")
}

// A daemon's API, of which the log breaks off in the middle of a line's time.
func TestDocker(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	sock := filepath.Join(dir, "docker.sock")
	lis, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	stamp := func(n int) string { return time.Unix(1_700_000_000, int64(n)).UTC().Format(time.RFC3339Nano) }
	frame := func(w io.Writer, stream byte, text string) {
		h := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(h[4:], uint32(len(text)))
		_, _ = w.Write(append(h, text...))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]map[string]any{{"Id": "abc", "State": "running", "Names": []string{"/shop"}, "Labels": map[string]string{"app.kind": "web"}}})
	})
	mux.HandleFunc("/networks", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	mux.HandleFunc("/containers/abc/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"State":{"Running":true},"Config":{"Tty":false}}`)
	})
	mux.HandleFunc("/containers/abc/logs", func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		if n == 1 {
			frame(w, 1, stamp(1)+" one\n")
			frame(w, 1, stamp(2)+" two\n")
			frame(w, 1, stamp(2)+" two again\n")
			frame(w, 1, stamp(3)+" part of ")
			return // breaks off
		}
		// The other output has said nothing yet: its first line may be a little older.
		if got := r.URL.Query().Get("since"); got != "1699999990.000000002" {
			t.Errorf("since %s", got)
		}
		frame(w, 1, stamp(1)+" one\n")
		frame(w, 1, stamp(2)+" two\n")
		frame(w, 1, stamp(2)+" two again\n")
		frame(w, 1, stamp(2)+" two for the third time\n")
		frame(w, 1, stamp(3)+" part of ")
		frame(w, 2, stamp(4)+" error\n")
		frame(w, 1, stamp(3)+" a line\n")
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		<-r.Context().Done()
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(lis) }()
	defer srv.Close()
	_, stop := runningFull(t, jobConfig(s, dir, config.Job{
		Docker:  []config.DockerSD{{Host: "unix://" + sock}},
		Relabel: []relabel.Rule{rule("__meta_docker_container_name", "c"), rule("__meta_docker_container_log_stream", "s"), rule("__meta_docker_container_label_app_kind", "k")},
	}))
	s.wantAll(t, "[c:/shop k:web s:stdout] one", "[c:/shop k:web s:stdout] two", "[c:/shop k:web s:stdout] two again",
		"[c:/shop k:web s:stdout] two for the third time", "[c:/shop k:web s:stdout] part of a line", "[c:/shop k:web s:stderr] error")
	stop()
}

// A journalctl that gives the export format and ends; it is started again behind
// the last entry.
func TestJournal(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	export := "__CURSOR=c1\n__REALTIME_TIMESTAMP=1700000000000001\nPRIORITY=3\n_SYSTEMD_UNIT=a.service\nMESSAGE=one\n\n" +
		"__CURSOR=c2\n__REALTIME_TIMESTAMP=1700000000000002\n_SYSTEMD_UNIT=a.service\nMESSAGE\n\x07\x00\x00\x00\x00\x00\x00\x00two\nx=y\n\n"
	script := "#!/bin/sh\ncase \"$*\" in *after-cursor=c2*) exec sleep 60;; esac\ncat " + dir + "/export\n"
	if err := os.WriteFile(filepath.Join(dir, "export"), []byte(export), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, stop := runningFull(t, jobConfig(s, dir, config.Job{
		Journal: &config.Journal{Labels: map[string]string{"job": "j"}},
		Relabel: []relabel.Rule{rule("__journal__systemd_unit", "unit"), rule("__journal_priority_keyword", "level")},
	}))
	s.wantAll(t, "[job:j level:error unit:a.service] one", "[job:j unit:a.service] two\nx=y")
	time.Sleep(1200 * time.Millisecond) // it is started again meanwhile
	stop()
	if s.again != 0 {
		t.Errorf("%d entries were sent again", s.again)
	}
}

// Reloaded while files are written: nothing is lost or doubled, and a configuration
// that cannot be run changes nothing.
func TestReload(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	cfg := quickConfig(s, dir, "app.log").Full()
	next := make(chan *config.Config, 1)
	a, err := Open(cfg, Deps{Load: func() (*config.Config, error) { return <-next, nil }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	n := 0
	for round := range 6 {
		for range 200 {
			appendTo(t, filepath.Join(dir, "app.log"), numbered(n)+"\n")
			n++
		}
		changed := *cfg
		changed.ExternalLabels = map[string]string{"round": fmt.Sprint(round)}
		if round == 3 {
			changed.Jobs = []config.Job{{Name: "bad", Encoding: "utf-99", Static: cfg.Jobs[0].Static}}
		}
		next <- &changed
		if err := a.Reload(ctx); (err != nil) != (round == 3) {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	s.await(t, n)
	s.checkNumbered(t, "app.log", n)
}
