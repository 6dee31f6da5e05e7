package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificates keeps the certificate of both ports up to date: whoever renews it replaces the
// files, and new connections get the new one within a minute.
type certificates struct {
	certFile, keyFile string
	authorities       *x509.CertPool // nil: those of the system

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	looked  time.Time // when the files were last looked at
	changed time.Time // modification time of the newer file
}

// certificateAge is how long a certificate is used before its files are looked at again.
const certificateAge = time.Minute

func loadCertificates(cfg Config) (*certificates, error) {
	c := &certificates{certFile: cfg.TLSCertFile, keyFile: cfg.TLSKeyFile}
	if cfg.TLSCAFile != "" {
		pem, err := os.ReadFile(cfg.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("tls_ca_file: %w", err)
		}
		c.authorities = x509.NewCertPool()
		if !c.authorities.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca_file: %s has no certificate in PEM", cfg.TLSCAFile)
		}
	}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return c, nil
}

// get returns the certificate. If the files cannot be read (they may be in the middle of being
// replaced) the last one that could goes on being used.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.current != nil && now.Sub(c.looked) < certificateAge {
		return c.current, nil
	}
	changed, err := newest(c.certFile, c.keyFile)
	if err == nil && c.current != nil && changed.Equal(c.changed) {
		c.looked = now
		return c.current, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	if err != nil {
		if c.current != nil {
			return c.current, nil
		}
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.current, c.looked, c.changed = &pair, now, changed
	return c.current, nil
}

func newest(files ...string) (time.Time, error) {
	var t time.Time
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return t, err
		}
		if info.ModTime().After(t) {
			t = info.ModTime()
		}
	}
	return t, nil
}

func (c *certificates) server(protocols ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: protocols}
}

func (c *certificates) client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.authorities}
}
