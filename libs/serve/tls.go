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
	clients           *x509.CertPool // of members' certificates; nil: they show none

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	looked  time.Time // when the files were last looked at
	changed time.Time // modification time of the newer file
}

// certificateAge is how long a certificate is used before its files are looked at again.
const certificateAge = time.Minute

func loadCertificates(cfg Config) (*certificates, error) {
	c := &certificates{certFile: cfg.TLSCertFile, keyFile: cfg.TLSKeyFile}
	var err error
	if c.authorities, err = loadAuthorities("tls_ca_file", cfg.TLSCAFile); err != nil {
		return nil, err
	}
	if c.clients, err = loadAuthorities("tls_client_ca_file", cfg.TLSClientCAFile); err != nil {
		return nil, err
	}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return c, nil
}

// loadAuthorities returns nil if file is empty.
func loadAuthorities(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM", key, file)
	}
	return pool, nil
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

// members is server for the port that members use, who may show a certificate of their own.
func (c *certificates) members(protocols ...string) *tls.Config {
	cfg := c.server(protocols...)
	if c.clients != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, c.clients
	}
	return cfg
}

func (c *certificates) client() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.authorities}
	if c.clients != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.get(nil) }
	}
	return cfg
}
