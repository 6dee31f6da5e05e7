package discover

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config"
)

// tokenOf gives a token that is text, or in a file.
func tokenOf(text, file string) func() (string, error) {
	return func() (string, error) {
		if text != "" || file == "" {
			return text, nil
		}
		b, err := os.ReadFile(file) // each time: it is changed now and then
		return strings.TrimSpace(string(b)), err
	}
}

func fill(tc *tls.Config, ca, caFile, cert, certFile, key, keyFile string) error {
	read := func(text, file string) ([]byte, error) {
		if text != "" || file == "" {
			return []byte(text), nil
		}
		return os.ReadFile(file)
	}
	pem, err := read(ca, caFile)
	if err != nil {
		return err
	}
	if len(pem) > 0 {
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return errors.New("no certificate of an authority")
		}
	}
	c, err := read(cert, certFile)
	if err != nil {
		return err
	}
	kp, err := read(key, keyFile)
	if err != nil || len(c)+len(kp) == 0 {
		return err
	}
	pair, err := tls.X509KeyPair(c, kp)
	tc.Certificates = []tls.Certificate{pair}
	return err
}

// kubeconfig reads the current context of a kubeconfig file.
func (k *Kubernetes) kubeconfig(name string, tc *tls.Config) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var f struct {
		Current  string `yaml:"current-context"`
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Clusters []struct {
			Name    string
			Cluster struct {
				Server   string
				CA       string `yaml:"certificate-authority"`
				CAData   string `yaml:"certificate-authority-data"`
				Insecure bool   `yaml:"insecure-skip-tls-verify"`
			}
		}
		Users []struct {
			Name string
			User struct {
				Token     string
				TokenFile string `yaml:"tokenFile"`
				Cert      string `yaml:"client-certificate"`
				CertData  string `yaml:"client-certificate-data"`
				Key       string `yaml:"client-key"`
				KeyData   string `yaml:"client-key-data"`
				Username  string
				Password  string
			}
		}
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		return err
	}
	for _, c := range f.Contexts {
		if c.Name != f.Current {
			continue
		}
		for _, cl := range f.Clusters {
			if cl.Name == c.Context.Cluster {
				k.base = strings.TrimSuffix(cl.Cluster.Server, "/")
				tc.InsecureSkipVerify = cl.Cluster.Insecure
				if err := fill(tc, base64Text(cl.Cluster.CAData), cl.Cluster.CA, "", "", "", ""); err != nil {
					return err
				}
			}
		}
		for _, u := range f.Users {
			if u.Name == c.Context.User {
				k.token = tokenOf(u.User.Token, u.User.TokenFile)
				if u.User.Username != "" {
					k.basic = &config.BasicAuth{Username: u.User.Username, Password: u.User.Password}
				}
				if err := fill(tc, "", "", base64Text(u.User.CertData), u.User.Cert, base64Text(u.User.KeyData), u.User.Key); err != nil {
					return err
				}
			}
		}
	}
	if k.base == "" {
		return errors.New("no cluster for the current context")
	}
	return nil
}

// base64Text gives what kubeconfig files have as base64; empty if it is none.
func base64Text(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(b)
}
