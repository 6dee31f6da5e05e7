package weirctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/tenant"
)

// defaultTenant is the one that servers take where none is named.
const defaultTenant = "fake"

// store is the flags that say which object store to look into.
type store struct {
	env      *Env
	location string
	server   *server // whose tenant it is
}

func (s *store) register(fs *pflag.FlagSet, env *Env, srv *server, note string) {
	s.env, s.server = env, srv
	fs.StringVar(&s.location, "store", env.Getenv("WEIR_STORE"), "the object store"+note+": a directory (DATA_DIR/objects), s3://BUCKET/PREFIX, gcs:// or azure:// (or WEIR_STORE)")
}

func (s *store) tenant() string {
	if s.server.tenant == "" {
		return defaultTenant
	}
	return s.server.tenant
}

// config reads a location. Credentials come from the environment, by the names that
// the server knows.
func (s *store) config() (objstore.Config, error) {
	c := objstore.DefaultConfig()
	kind, rest, ok := strings.Cut(s.location, "://")
	if !ok || kind == "file" {
		c.Directory = strings.TrimPrefix(s.location, "file://")
		info, err := os.Stat(c.Directory)
		switch {
		case err != nil:
			return c, fmt.Errorf("--store: %w", err)
		case !info.IsDir():
			return c, usagef("--store: %s is no directory", c.Directory)
		}
		return c, nil
	}
	u, err := url.Parse("x://" + rest)
	if err != nil {
		return c, usagef("--store: %v", err)
	}
	c.Type, c.Bucket, c.Prefix = kind, u.Host, strings.Trim(u.Path, "/")
	c.AccessKey = s.env.Getenv("WEIR_STORAGE_ACCESS_KEY")
	if v := s.env.Getenv("WEIR_STORAGE_SECRET_KEY"); v != "" {
		c.SecretKey = conf.NewSecret(v)
	}
	for key, values := range u.Query() {
		v := values[len(values)-1]
		switch key {
		case "endpoint":
			c.Endpoint = v
		case "region":
			c.Region = v
		case "insecure":
			c.Insecure = v == "true"
		case "path_style":
			c.PathStyle = v == "true"
		default:
			return c, usagef("--store: unknown parameter %q: there are endpoint, region, insecure and path_style", key)
		}
	}
	if err := c.Validate(); err != nil {
		return c, usagef("--store: %v", err)
	}
	return c, nil
}

// open calls fn with the store.
func (s *store) open(ctx context.Context, fn func(objstore.Bucket) error) (err error) {
	if s.location == "" {
		return usagef("--store says which object store; it is needed here")
	}
	if err := tenant.Validate(s.tenant()); err != nil {
		return usagef("--tenant: %v", err)
	}
	c, err := s.config()
	if err != nil {
		return err
	}
	b, err := objstore.Open(ctx, c, c.Directory, s.env.Now(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return fn(b)
}

// object reads an object of a bucket.
type object struct {
	bucket objstore.Bucket
	key    string
}

// ReadRange implements block.RangeReader.
func (o object) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	return o.bucket.Get(ctx, o.key, off, n)
}

func openBlock(ctx context.Context, bucket objstore.Bucket, b catalog.Block) (*block.Reader, error) {
	key := catalog.Key(b)
	r, err := block.Open(ctx, object{bucket, key}, b.Size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return r, nil
}

// load lists the tenant's blocks, and warns where there are none.
func (s *store) load(ctx context.Context, bucket objstore.Bucket) (*catalog.Loader, *catalog.Snapshot, error) {
	loader, snap, err := s.list(ctx, bucket)
	if err == nil && len(snap.Listed()) == 0 && len(snap.Problems(s.tenant(), math.MinInt64, math.MaxInt64)) == 0 {
		warn(s.env.Stderr, []string{fmt.Sprintf("there are no blocks of tenant %s in %s", s.tenant(), s.location)})
	}
	return loader, snap, err
}

func (s *store) list(ctx context.Context, bucket objstore.Bucket) (*catalog.Loader, *catalog.Snapshot, error) {
	loader := catalog.NewLoader(catalog.LoaderOptions{Bucket: bucket, Now: s.env.Now, Footer: func(ctx context.Context, key string, size int64) (catalog.Block, error) {
		r, err := block.Open(ctx, object{bucket, key}, size)
		if err != nil {
			return catalog.Block{}, err
		}
		info := r.Info()
		return info.Catalog(), nil
	}})
	if err := loader.RefreshTenant(ctx, s.tenant()); err != nil {
		return nil, nil, err
	}
	snap, err := loader.Snapshot(s.tenant())
	return loader, snap, err
}

// tellProblems says on standard error which blocks cannot be read, and returns how many.
func (s *store) tellProblems(snap *catalog.Snapshot, start, end int64) (n int) {
	for _, p := range snap.Problems(s.tenant(), start, end) {
		warn(s.env.Stderr, []string{problemText(p)})
		n++
	}
	return n
}

func problemText(p catalog.Problem) string {
	text := fmt.Sprintf("block %s is %s", p.Key(), p.Kind)
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	return text
}
