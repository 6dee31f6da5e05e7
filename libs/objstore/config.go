package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/conf"
)

// The types of stores.
const (
	TypeFilesystem = "filesystem"
	TypeS3         = "s3"
	TypeGCS        = "gcs"
	TypeAzure      = "azure"
)

// Config says where objects are.
type Config struct {
	Type      string      `yaml:"type" enum:"filesystem,s3,gcs,azure" help:"Kind of store: filesystem (a directory), s3 (and what speaks its protocol), gcs or azure."`
	Directory string      `yaml:"directory" help:"filesystem: directory of the objects. Empty: objects in the data directory."`
	Shared    bool        `yaml:"shared" help:"filesystem: the directory is one and the same for all members of the cluster. Needed with --join."`
	Bucket    string      `yaml:"bucket" help:"s3, gcs: name of the bucket. azure: name of the container."`
	Prefix    string      `yaml:"prefix" help:"What the keys of all objects begin with, without a slash at the end. Empty: nothing."`
	Endpoint  string      `yaml:"endpoint" help:"s3: host and port. azure: domain of the service. gcs: base URL. Empty: the provider's own."`
	Region    string      `yaml:"region" help:"s3: region of the bucket. Empty: the store is asked."`
	AccessKey string      `yaml:"access_key" help:"s3: id of the access key; empty: from AWS's environment variables, shared file or role. azure: name of the storage account."`
	SecretKey conf.Secret `yaml:"secret_key" help:"s3: secret of the access key. azure: key of the storage account. gcs: service account, JSON; empty: the application default credentials."`
	Insecure  bool        `yaml:"insecure" help:"s3, azure: HTTP without TLS."`
	PathStyle bool        `yaml:"path_style" help:"s3: the bucket is in the path of URLs, not in the host name. azure: the same for the account."`

	MaxAttempts    int           `yaml:"max_attempts" help:"Most attempts at an operation that fails for a reason that may pass."`
	RequestTimeout time.Duration `yaml:"request_timeout" help:"Timeout of an attempt, to which a second is added for each MiB."`
	MaxRequests    int           `yaml:"max_requests" help:"Most reading operations at a time; further ones wait."`
	MaxUploads     int           `yaml:"max_uploads" help:"Most uploads at a time; further ones wait."`

	CacheSize     conf.ByteSize `yaml:"cache_size" help:"s3, gcs, azure: bytes of the data directory's disk that keep what queriers have read of blocks, at most half of what is free. 0: none."`
	ScrubInterval time.Duration `yaml:"scrub_interval" help:"How long compactors may take to read and check all blocks of the store once, in the background. Damaged ones are reported, and nothing is changed. 0: never."`
}

// DefaultConfig returns the defaults: the file system.
func DefaultConfig() Config {
	return Config{Type: TypeFilesystem, MaxAttempts: 4, RequestTimeout: 30 * time.Second, MaxRequests: 64, MaxUploads: 4,
		CacheSize: 10 * conf.GiB, ScrubInterval: 7 * 24 * time.Hour}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch c.Type {
	case TypeFilesystem:
		if c.Bucket != "" || c.Endpoint != "" || c.AccessKey != "" {
			fail("bucket, endpoint and access_key are for other types than filesystem")
		}
	case TypeS3, TypeGCS, TypeAzure:
		if c.Bucket == "" {
			fail("bucket is empty, type %s needs one", c.Type)
		}
		if c.Directory != "" {
			fail("directory is for type filesystem")
		}
	default:
		fail("unknown type %q: want filesystem, s3, gcs or azure", c.Type)
	}
	if c.Type == TypeS3 && (c.AccessKey == "") != (c.SecretKey.Reveal() == "") {
		fail("access_key and secret_key belong together")
	}
	if c.Type == TypeS3 && strings.Contains(c.Endpoint, "/") {
		fail("endpoint is %q, want host and port without a scheme", c.Endpoint)
	}
	if c.Type == TypeGCS && c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "http") {
		fail("endpoint is %q, want a URL", c.Endpoint)
	}
	if c.Type == TypeAzure && c.AccessKey == "" {
		fail("access_key is empty, type azure needs the storage account's name")
	}
	if c.Type == TypeAzure && c.SecretKey.Reveal() == "" {
		fail("secret_key is empty, type azure needs the storage account's key")
	}
	if c.Prefix != "" && (ValidateKey(c.Prefix) != nil || len(c.Prefix) > maxPrefix) {
		fail("prefix is %q, want at most %d letters, digits, slashes between and -_.!*'()=+", c.Prefix, maxPrefix)
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		fail("max_attempts is %d, want 1 to 100", c.MaxAttempts)
	}
	if c.RequestTimeout < time.Second {
		fail("request_timeout is %s, must be at least 1s", c.RequestTimeout)
	}
	if c.MaxRequests < 1 {
		fail("max_requests is %d, must be at least 1", c.MaxRequests)
	}
	if c.MaxUploads < 1 {
		fail("max_uploads is %d, must be at least 1", c.MaxUploads)
	}
	if c.CacheSize < 0 {
		fail("cache_size is %s, must not be negative", c.CacheSize)
	}
	if c.ScrubInterval < 0 {
		fail("scrub_interval is %s, must not be negative", c.ScrubInterval)
	}
	return errors.Join(errs...)
}

// Open returns a client of the store that a valid c describes. Only a file system's directory is
// touched; whether a store over the network answers, Probe tells. dir is the directory of the objects
// if c names none. The client is to be closed.
func Open(ctx context.Context, c Config, dir string, now time.Time, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	var b Bucket
	var err error
	switch c.Type {
	case TypeFilesystem:
		if c.Directory != "" {
			dir = c.Directory
		}
		b, err = OpenFilesystem(dir, now)
	case TypeS3:
		b, err = openS3(&c)
	case TypeGCS:
		b, err = openGCS(ctx, &c)
	case TypeAzure:
		b, err = openAzure(&c)
	default:
		err = fmt.Errorf("unknown type of object store %q", c.Type)
	}
	if err != nil {
		return nil, err
	}
	if c.Prefix != "" {
		b = withPrefix(b, c.Prefix)
	}
	return NewClient(b, ClientOptions{
		Attempts: c.MaxAttempts, Timeout: c.RequestTimeout, Requests: c.MaxRequests, Uploads: c.MaxUploads, Log: log, Reg: reg,
	}), nil
}

// Probe finds out whether b is there, may be written, read and listed, and lets nobody put a new
// object twice, which some stores that speak S3's protocol do: then two processes could both start
// what only one may. It leaves nothing behind.
func Probe(ctx context.Context, b Bucket) error {
	key := "probe-" + strings.ToLower(rand.Text())
	if err := b.PutNew(ctx, key, []byte("1")); err != nil {
		return fmt.Errorf("probe the object store: %w", err)
	}
	err := b.PutNew(ctx, key, []byte("2"))
	switch {
	case errors.Is(err, ErrExists):
		err = nil
	case err == nil:
		err = errors.New("it ignores If-None-Match, which Weir needs")
	}
	if err == nil {
		var got []byte
		if got, err = b.Get(ctx, key, 0, 1); err == nil && string(got) != "1" {
			err = fmt.Errorf("%w: %q was read for what was written", ErrDamaged, got)
		}
	}
	if err == nil {
		listed := false
		err = b.List(ctx, key, func(o Object) error { listed = listed || o.Key == key; return nil })
		if err == nil && !listed {
			err = errors.New("it does not list what was written a moment ago")
		}
	}
	if err := errors.Join(err, b.Delete(ctx, key)); err != nil {
		return fmt.Errorf("probe the object store: %w", err)
	}
	return nil
}
