package deliver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// AuthConfig is how a client shows who it is. At most one kind is set; what is
// named a file is read for each request, so that it may change.
type AuthConfig struct {
	Username, Password, PasswordFile string
	// Type is the scheme of Credentials. Default: Bearer.
	Type, Credentials, CredentialsFile string
	OAuth2                             *OAuth2Config
}

// OAuth2Config gets a token by client credentials (RFC 6749, 4.4).
type OAuth2Config struct {
	ClientID, ClientSecret, ClientSecretFile string
	TokenURL                                 string
	Scopes                                   []string
	EndpointParams                           map[string]string
	TLS                                      TLSConfig
}

// credentials makes the Authorization header.
type credentials struct {
	auth    AuthConfig
	headers map[string]string
	plain   bool // may go over connections without TLS
	http    *http.Client

	mu      sync.Mutex
	token   string
	expires time.Time
}

// newCredentials gives nil where nothing is to be shown.
func newCredentials(cfg ClientConfig) (*credentials, error) {
	a := cfg.Auth
	kinds := 0
	for _, set := range []bool{a.Username != "", a.Credentials+a.CredentialsFile != "", a.OAuth2 != nil} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		return nil, errors.New("more than one way to authenticate")
	}
	if kinds == 0 && len(cfg.Headers) == 0 {
		return nil, nil
	}
	c := &credentials{auth: a, headers: cfg.Headers, plain: true}
	if o := a.OAuth2; o != nil {
		if o.ClientID == "" || o.TokenURL == "" {
			return nil, errors.New("oauth2 needs client_id and token_url")
		}
		tc, err := o.TLS.Config()
		if err != nil {
			return nil, fmt.Errorf("oauth2: %w", err)
		}
		t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
		t.TLSClientConfig = tc
		c.http = &http.Client{Transport: t, Timeout: 30 * time.Second}
	}
	return c, nil
}

func secret(text, file string) (string, error) {
	if text != "" || file == "" {
		return text, nil
	}
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}

// authorization gives the header's value, "" for none.
func (c *credentials) authorization(ctx context.Context) (string, error) {
	a := c.auth
	switch {
	case a.Username != "":
		p, err := secret(a.Password, a.PasswordFile)
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Username+":"+p)), err
	case a.Credentials+a.CredentialsFile != "":
		s, err := secret(a.Credentials, a.CredentialsFile)
		kind := a.Type
		if kind == "" {
			kind = "Bearer"
		}
		return kind + " " + s, err
	case a.OAuth2 != nil:
		return c.oauth2(ctx)
	}
	return "", nil
}

func (c *credentials) oauth2(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" && time.Now().Before(c.expires) {
		return "Bearer " + c.token, nil
	}
	o := c.auth.OAuth2
	sec, err := secret(o.ClientSecret, o.ClientSecretFile)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	for k, v := range o.EndpointParams {
		form.Set(k, v)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(o.ClientID), url.QueryEscape(sec))
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("oauth2: %s answers %s", o.TokenURL, resp.Status)
	}
	var t struct {
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &t); err != nil || t.AccessToken == "" {
		return "", fmt.Errorf("oauth2: %s gives no token", o.TokenURL)
	}
	life := time.Duration(t.ExpiresIn * float64(time.Second))
	if life <= 0 {
		life = time.Hour
	}
	c.token, c.expires = t.AccessToken, time.Now().Add(life-min(life/4, time.Minute))
	return "Bearer " + c.token, nil
}

// forget drops a token that the server does not accept.
func (c *credentials) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = ""
}

// GetRequestMetadata is for gRPC.
func (c *credentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range c.headers {
		out[strings.ToLower(k)] = v
	}
	a, err := c.authorization(ctx)
	if a != "" {
		out["authorization"] = a
	}
	return out, err
}

// RequireTransportSecurity is for gRPC.
func (c *credentials) RequireTransportSecurity() bool { return !c.plain }
