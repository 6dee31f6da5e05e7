package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-logs/weir/libs/tenant"
)

// running starts a process and returns how it ended.
func running(t *testing.T, ctx context.Context, f *fixture, m *Modules) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, f.Server, m) }()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return ended
}

// eventually waits until the process answers path with want.
func eventually(t *testing.T, f *fixture, path string, want int) string {
	t.Helper()
	for {
		if f.Addr(DoorHTTP) == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if code, body, _ := get(t, f, path); code == want {
			return body
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRun(t *testing.T) {
	f := build(t, nil)
	replayed := make(chan struct{})
	var j journal
	m := NewModules(quiet)
	m.Add(j.module("store"), Module{Name: "ingester", DependsOn: []string{"store"}, Init: func() (Service, error) {
		return NewService(
			func(ctx context.Context) error { <-replayed; return nil },
			func(ctx context.Context) error { <-ctx.Done(); return nil },
			// A module that stops may still need others of the process.
			func(error) error {
				_, err := invoke(tenant.NewContext(context.Background(), "a"), f.Conn(), "/test.Internal/Who")
				return err
			},
		), nil
	}})
	if err := m.Init("ingester"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := running(t, ctx, f, m)
	if body := eventually(t, f, "/ready", 503); body != "the server is starting\n" {
		t.Error(body)
	}
	for eventually(t, f, "/services", 200) != "ingester => Starting\nstore => Running\n" {
	}
	close(replayed)
	eventually(t, f, "/ready", 200)
	if _, body, _ := get(t, f, "/services", "Accept", "application/json"); body != `{"services":[{"name":"ingester","state":"Running"},{"name":"store","state":"Running"}]}`+"\n" {
		t.Error(body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if j.index("stop store") < 0 {
		t.Error("not stopped")
	}
}

func TestRunEnds(t *testing.T) {
	for name, c := range map[string]struct {
		start, run error
		want       string
	}{
		"start": {start: errBroken, want: "module a: broken"},
		"run":   {run: errBroken, want: "module a: broken"},
		"asked": {run: ErrStop},
	} {
		f := build(t, nil)
		m := NewModules(quiet)
		m.Add(failing("a", c.start, c.run, nil), failing("b", nil, nil, nil, "a"))
		if err := m.Init("b"); err != nil {
			t.Fatal(err)
		}
		err := <-running(t, t.Context(), f, m)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, errBroken) || err.Error() != c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if text := f.logs.String(); strings.Contains(text, "module=b err") || strings.Contains(text, ".go:") {
			t.Errorf("%s: the log has more than the cause:\n%s", name, text)
		}
	}
}

// late is seen to run only once it has ended, as a service that fails at once may be.
type late struct{ Service }

func (l late) AwaitRunning(ctx context.Context) error {
	_ = l.AwaitTerminated(ctx)
	return errors.New("it does not run")
}

// What a module failed with as soon as it ran is told, also where all that was seen is that
// it does not run.
func TestRunEndsAtOnce(t *testing.T) {
	for _, c := range []struct{ run, want error }{{errBroken, errBroken}, {ErrStop, nil}} {
		f := build(t, nil)
		m := NewModules(quiet)
		m.Add(Module{Name: "a", Init: func() (Service, error) {
			s, err := failing("a", nil, c.run, nil).Init()
			return late{s}, err
		}})
		if err := m.Init("a"); err != nil {
			t.Fatal(err)
		}
		err := <-running(t, t.Context(), f, m)
		if !errors.Is(err, c.want) || err != nil && err.Error() != "module a: broken" {
			t.Errorf("%v: %v", c.run, err)
		}
		if s := m.States(); len(s) != 1 || s[0].State != StateFailed || !errors.Is(s[0].Err, c.run) {
			t.Errorf("%v: %v", c.run, s)
		}
	}
}

func TestRunWithoutPort(t *testing.T) {
	f := open(t, nil)
	g := build(t, func(c *Config, _ *Options) { c.Listen = f.Addr(DoorHTTP).String() })
	m := NewModules(quiet)
	var j journal
	m.Add(j.module("a"))
	if err := m.Init("a"); err != nil {
		t.Fatal(err)
	}
	if err := <-running(t, t.Context(), g, m); err == nil || !strings.Contains(err.Error(), "HTTP port") {
		t.Error(err)
	}
	if j.index("start a") >= 0 {
		t.Error("a module was started")
	}
}

func TestRunStoppedWhileStarting(t *testing.T) {
	f := build(t, nil)
	m := NewModules(quiet)
	m.Add(Module{Name: "slow", Init: func() (Service, error) {
		return NewService(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil, nil), nil
	}})
	if err := m.Init("slow"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := running(t, ctx, f, m)
	eventually(t, f, "/ready", 503)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// certificate writes a self-signed one for 127.0.0.1 and returns the names of its files.
func certificate(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t, t.TempDir(), "one")
	f := open(t, func(c *Config, _ *Options) { c.TLSCertFile, c.TLSKeyFile, c.TLSCAFile = cert, key, cert })
	for _, d := range []Door{DoorHTTP, DoorGRPC, DoorMemory} {
		if got, err := invoke(tenant.NewContext(t.Context(), "a"), dial(t, f, d), "/test.Public/Who"); err != nil || !strings.HasPrefix(got, "a ") {
			t.Errorf("door %d: %q, %v", d, got, err)
		}
	}
	tr := &http.Transport{TLSClientConfig: f.certs.client(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + f.Addr(DoorHTTP).String() + "/who")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if body, _ := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || string(body) != "fake" {
		t.Error(resp.Proto, string(body))
	}
	plain, err := http.Get("http://" + f.Addr(DoorHTTP).String() + "/who")
	if err == nil {
		defer plain.Body.Close() //nolint:errcheck // read
		if plain.StatusCode != 400 {
			t.Error("plain HTTP on a TLS port:", plain.StatusCode)
		}
	}
}

func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "one")
	c, err := loadCertificates(Config{TLSCertFile: cert, TLSKeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.DNSNames[0]
	}
	certificate(t, dir, "two")
	if err := os.Chtimes(cert, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if name() != "one" {
		t.Error("the files are looked at for every connection")
	}
	c.looked = time.Time{}
	if name() != "two" {
		t.Error("not renewed")
	}
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.looked = time.Time{}
	if name() != "two" {
		t.Error("a broken file took the certificate away")
	}
	for _, cfg := range []Config{{TLSCertFile: cert, TLSKeyFile: key}, {TLSCertFile: "none", TLSKeyFile: key}, {TLSCertFile: cert, TLSKeyFile: key, TLSCAFile: key}} {
		if _, err := loadCertificates(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

// deadlines is a ResponseWriter that notes deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		body := strings.NewReader(strings.Repeat("x", 5*bodyRate))
		start := time.Now()
		patience(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := io.ReadFull(r.Body, make([]byte, bodyRate)); err != nil {
					break
				}
			}
			_, _ = io.WriteString(w, "answer")
			w.(http.Flusher).Flush()
		})).ServeHTTP(w, httptest.NewRequest("POST", "/", body))
		if len(w.read) != 12 || len(w.write) != 4 {
			t.Fatal(len(w.read), len(w.write))
		}
		for i := 0; i < len(w.read); i += 2 {
			// A second more for every KiB that came.
			if got := w.read[i].Sub(start) - bodyGrace - time.Duration(i/2)*time.Second; got != 0 {
				t.Errorf("read %d may last %v longer than it should", i/2, got)
			}
		}
		for i := 1; i < len(w.read); i += 2 {
			if !w.read[i].IsZero() {
				t.Error("a deadline is left behind")
			}
		}
		if w.write[0].IsZero() || !w.write[1].IsZero() || w.write[2].IsZero() || !w.write[3].IsZero() {
			t.Error(w.write)
		}
	})
}

func TestSlowBodyIsCut(t *testing.T) {
	f := open(t, nil)
	conn, err := net.Dial("tcp", f.Addr(DoorHTTP).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // done
	// The body never comes whole; with a deadline in the past it fails at once and not in ten seconds.
	f.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &slowBody{body: r.Body, rc: http.NewResponseController(w), start: time.Now().Add(-2 * bodyGrace)}
		if _, err := io.ReadAll(b); err == nil {
			t.Error("no error")
		}
		w.WriteHeader(http.StatusRequestTimeout)
	})
	if _, err := io.WriteString(conn, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfirst"); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 408") {
		t.Errorf("%q", answer)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	f := open(t, func(c *Config, _ *Options) { c.MaxConnections = 1 })
	first, err := net.Dial("tcp", f.Addr(DoorHTTP).String())
	if err != nil {
		t.Fatal(err)
	}
	request := "GET /who HTTP/1.1\r\nHost: x\r\n\r\n"
	read := func(c net.Conn) string {
		b := make([]byte, 12)
		n, _ := io.ReadFull(c, b)
		return string(b[:n])
	}
	if _, err := io.WriteString(first, request); err != nil || read(first) != "HTTP/1.1 200" {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", f.Addr(DoorHTTP).String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close() //nolint:errcheck // done
	if _, err := io.WriteString(second, request); err != nil {
		t.Fatal(err)
	}
	_ = second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got := read(second); got != "" {
		t.Error("a second connection was served:", got)
	}
	_ = second.SetReadDeadline(time.Time{})
	_ = first.Close()
	if got := read(second); got != "HTTP/1.1 200" {
		t.Error("the second connection is not served after the first:", got)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	f := open(t, nil)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+f.Addr(DoorHTTP).String()+"/who", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Big", strings.Repeat("x", 2*maxHeaderBytes))
	resp, err := http.DefaultClient.Do(req)
	if err != nil { // cut while it was still sending
		return
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.StatusCode)
	}
}

// The layers around a handler hide nothing that handlers and this package's own bounds need.
func TestHandlersKeepTheirPowers(t *testing.T) {
	f := build(t, nil)
	f.Mux().HandleFunc("POST /powers", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}), rc.EnableFullDuplex(), rc.Flush()); err != nil {
			t.Error(err)
		}
		if _, ok := w.(http.Flusher); !ok {
			t.Error("no Flusher")
		}
		_, _ = io.Copy(w, io.LimitReader(r.Body, 1<<20)) // by ReadFrom where there is one
	})
	f.Mux().HandleFunc("GET /hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntaken")
		_ = conn.Close()
	})
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { http.DefaultClient.CloseIdleConnections(); _ = f.Close() })
	f.SetReady()
	long := strings.Repeat("0123456789", 20_000)
	if code, body, _ := do(t, f, "POST", "/powers", strings.NewReader(long)); code != 200 || body != long {
		t.Error(code, len(body))
	}
	if code, body, _ := get(t, f, "/hijack"); code != 200 || body != "taken" {
		t.Error(code, body)
	}
	if _, body, _ := get(t, f, "/metrics"); !strings.Contains(body, `route="/powers",status="200"`) || !strings.Contains(body, "weir_panics_total 0") {
		t.Error(body)
	}
}
