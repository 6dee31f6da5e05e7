package objstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const gcsScope = "https://www.googleapis.com/auth/devstorage.read_write"

// gcs is a Bucket of Google Cloud Storage by its JSON API. Of that four requests are needed; the
// official library has twice the size of all of Weir. See docs/adr/0010.
type gcs struct {
	client    *http.Client
	transport *http.Transport
	base      string // of URLs, without a slash at the end
	bucket    string
}

var _ Bucket = (*gcs)(nil)

// openGCS returns a bucket. Credentials are a service account's, or those that Google's own programs
// find; none if an endpoint is set and no service account, as emulators have it.
func openGCS(ctx context.Context, c *Config) (*gcs, error) {
	b := &gcs{transport: newTransport(), base: "https://storage.googleapis.com", bucket: c.Bucket}
	if c.Endpoint != "" {
		b.base = strings.TrimSuffix(c.Endpoint, "/")
	}
	b.client = &http.Client{Transport: b.transport}
	// Tokens are fetched over the same transport, and outlive the call.
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, b.client)
	var source oauth2.TokenSource
	switch text := c.SecretKey.Reveal(); {
	case text != "":
		account, err := google.JWTConfigFromJSON([]byte(text), gcsScope)
		if err != nil {
			return nil, errors.New("open GCS: secret_key is no service account in JSON") // the cause might show it
		}
		source = account.TokenSource(ctx)
	case c.Endpoint == "":
		creds, err := google.FindDefaultCredentials(ctx, gcsScope)
		if err != nil {
			return nil, fmt.Errorf("open GCS: %w", err)
		}
		source = creds.TokenSource
	}
	if source != nil {
		b.client = &http.Client{Transport: &oauth2.Transport{Source: source, Base: b.transport}}
	}
	return b, nil
}

func (b *gcs) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// do sends a request and returns the answer if its status is 2xx; its body is to be closed.
func (b *gcs) do(ctx context.Context, op, key, method, path string, query url.Values, header http.Header, body io.Reader, size int64) (*http.Response, error) {
	u := b.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("%s object %s: %w", op, key, err)
	}
	if header != nil {
		req.Header = header
	}
	if body != nil {
		req.ContentLength = size
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s object %s: %w", op, key, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close() //nolint:errcheck // an error's text
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		cause := fmt.Errorf("%s: %s", resp.Status, strings.Join(strings.Fields(string(text)), " "))
		return nil, statusError(op, key, resp.StatusCode, query.Has("ifGenerationMatch"), cause)
	}
	return resp, nil
}

func (b *gcs) path(key string) string {
	return "/storage/v1/b/" + url.PathEscape(b.bucket) + "/o/" + url.PathEscape(key)
}

func (b *gcs) put(ctx context.Context, key string, body io.ReaderAt, size int64, query url.Values) error {
	if err := errors.Join(ctx.Err(), validatePut(key, size)); err != nil {
		return err
	}
	query.Set("uploadType", "media")
	query.Set("name", key)
	query.Set("fields", "size")
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	reader := io.Reader(http.NoBody)
	if size > 0 {
		reader = io.NewSectionReader(body, 0, size)
	}
	resp, err := b.do(ctx, "put", key, http.MethodPost, "/upload/storage/v1/b/"+url.PathEscape(b.bucket)+"/o", query, header, reader, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // all that is wanted is read
	o, err := decodeGCS[gcsObject](resp.Body)
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	if int64(o.Size) != size {
		return fmt.Errorf("put object %s: %d of %d bytes were stored", key, o.Size, size)
	}
	return nil
}

func (b *gcs) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return b.put(ctx, key, body, size, url.Values{})
}

func (b *gcs) PutNew(ctx context.Context, key string, body []byte) error {
	return b.put(ctx, key, bytes.NewReader(body), int64(len(body)), url.Values{"ifGenerationMatch": {"0"}})
}

func (b *gcs) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := errors.Join(ctx.Err(), validateRange(key, off, n)); err != nil {
		return nil, err
	}
	if n == 0 {
		return getNothing(ctx, b, key, off)
	}
	header := http.Header{"Range": {"bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+int64(n)-1, 10)}}
	resp, err := b.do(ctx, "get", key, http.MethodGet, b.path(key), url.Values{"alt": {"media"}}, header, nil, 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // all that is wanted is read
	if err := checkRange(key, off, n, resp.Header.Get("Content-Range"), resp.ContentLength); err != nil {
		return nil, err
	}
	return readExact(key, resp.Body, n)
}

// gcsObject is what the API says about an object. Numbers are texts there.
type gcsObject struct {
	Name    string    `json:"name"`
	Size    gcsNumber `json:"size"`
	Updated time.Time `json:"updated"`
}

type gcsNumber int64

func (n *gcsNumber) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*n = gcsNumber(v)
	return err
}

func (o gcsObject) object() Object { return Object{o.Name, int64(o.Size), o.Updated} }

// maxGCSAnswer is more than a page of a thousand objects takes.
const maxGCSAnswer = 16 << 20

func decodeGCS[T any](body io.Reader) (v T, err error) {
	err = json.NewDecoder(io.LimitReader(body, maxGCSAnswer)).Decode(&v)
	if err != nil {
		err = fmt.Errorf("answer of the store: %w", err)
	}
	return v, err
}

func (b *gcs) Stat(ctx context.Context, key string) (Object, error) {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return Object{}, err
	}
	resp, err := b.do(ctx, "stat", key, http.MethodGet, b.path(key), url.Values{"fields": {"name,size,updated"}}, nil, nil, 0)
	if err != nil {
		return Object{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // all that is wanted is read
	o, err := decodeGCS[gcsObject](resp.Body)
	if err != nil {
		return Object{}, fmt.Errorf("stat object %s: %w", key, err)
	}
	return o.object(), nil
}

type gcsPage struct {
	Items         []gcsObject `json:"items"`
	NextPageToken string      `json:"nextPageToken"`
}

func (b *gcs) page(ctx context.Context, prefix, token string) (gcsPage, error) {
	query := url.Values{"prefix": {prefix}, "maxResults": {"1000"}, "fields": {"items(name,size,updated),nextPageToken"}}
	if token != "" {
		query.Set("pageToken", token)
	}
	resp, err := b.do(ctx, "list", prefix, http.MethodGet, "/storage/v1/b/"+url.PathEscape(b.bucket)+"/o", query, nil, nil, 0)
	if err != nil {
		return gcsPage{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // all that is wanted is read
	return decodeGCS[gcsPage](resp.Body)
}

func (b *gcs) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := errors.Join(ctx.Err(), validatePrefix(prefix)); err != nil {
		return err
	}
	for token := ""; ; {
		page, err := b.page(ctx, prefix, token)
		if err != nil {
			return err
		}
		for _, o := range page.Items {
			if ValidateKey(o.Name) != nil {
				continue // another program's
			}
			if err := yield(o.object()); err != nil {
				return err
			}
		}
		if token = page.NextPageToken; token == "" {
			return nil
		}
	}
}

func (b *gcs) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return err
	}
	resp, err := b.do(ctx, "delete", key, http.MethodDelete, b.path(key), nil, nil, nil, 0)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
