package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// sign returns the files of a certificate for loopback and its key.
func (a *authority) sign(name string) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", private)
}

// What members call each other is theirs alone, where they have certificates; what all may
// call needs none.
func TestInternalServicesAreForMembers(t *testing.T) {
	ca, strangers := newAuthority(t), newAuthority(t)
	withTLS := func(name string) func(*Config, *Options) {
		return func(c *Config, _ *Options) {
			c.TLSCertFile, c.TLSKeyFile = ca.sign(name)
			c.TLSCAFile, c.TLSClientCAFile = ca.file, ca.file
		}
	}
	f, other := open(t, withTLS("one")), build(t, withTLS("two"))
	t.Cleanup(func() { _ = other.Close() }) // it was never started
	ctx := tenant.NewContext(t.Context(), "t")

	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	certificate := func(a *authority, name string) []tls.Certificate {
		pair, err := tls.LoadX509KeyPair(a.sign(name))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	for _, c := range []struct {
		name             string
		dial             []grpc.DialOption
		public, internal bool
	}{
		{"a member", other.DialOptions(), true, true},
		{"without a certificate", append(other.clientOptions(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots}))), true, false},
		{"a stranger's certificate", append(other.clientOptions(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &certificate(strangers, "stranger")[0], nil
			}}))), false, false},
	} {
		conn, err := grpc.NewClient("passthrough:///"+f.Addr(DoorGRPC).String(), c.dial...)
		if err != nil {
			t.Fatal(err)
		}
		for _, service := range []struct {
			name string
			want bool
		}{{"test.Public", c.public}, {"test.Internal", c.internal}} {
			bound, cancel := context.WithTimeout(ctx, 30*time.Second)
			id, err := invoke(bound, conn, "/"+service.name+"/Who")
			cancel()
			if (err == nil) != service.want || err == nil && !strings.HasPrefix(id, "t ") {
				t.Errorf("%s calls %s: %q, %v", c.name, service.name, id, err)
			}
			if c.public && !service.want && !rpcerr.Is(err, rpcerr.PermissionDenied) {
				t.Errorf("%s calls %s: %v", c.name, service.name, err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	// The process' own services go by the memory door.
	if _, err := invoke(ctx, f.Conn(), "/test.Internal/Who"); err != nil {
		t.Error(err)
	}
}

// Where there are no other members, nobody outside may call what is for them.
func TestAlone(t *testing.T) {
	f := open(t, func(_ *Config, o *Options) { o.Alone = true })
	ctx := tenant.NewContext(t.Context(), "t")
	conn := dial(t, f, DoorGRPC)
	if _, err := invoke(ctx, conn, "/test.Public/Who"); err != nil {
		t.Error(err)
	}
	if _, err := invoke(ctx, conn, "/test.Internal/Who"); err == nil {
		t.Error("an internal service is on the gRPC port of a process that is alone")
	}
	if _, err := invoke(ctx, f.Conn(), "/test.Internal/Who"); err != nil {
		t.Error(err)
	}
}

func TestMembersKnown(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   bool
	}{
		{func(*Config) {}, true},
		{func(c *Config) { c.GRPCListen = "10.0.0.1:9095" }, false},
		{func(c *Config) { c.GRPCListen, c.TLSCertFile = "10.0.0.1:9095", "x" }, false},
		{func(c *Config) { c.GRPCListen, c.TLSClientCAFile = ":9095", "x" }, true},
		{func(c *Config) { c.GRPCListen, c.InsecureNetwork = ":9095", true }, true},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		if got := cfg.MembersKnown(); got != c.want {
			t.Errorf("%+v: %v", cfg, got)
		}
	}
	cfg := DefaultConfig()
	cfg.TLSClientCAFile = "x"
	if cfg.Validate() == nil {
		t.Error("members' certificates without TLS")
	}
}
