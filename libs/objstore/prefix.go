package objstore

import (
	"context"
	"io"
	"strings"
)

// maxPrefix is the longest prefix in bytes. Of MaxKey it leaves what Weir's keys need.
const maxPrefix = 300

// prefixed is the objects of a bucket whose keys begin with prefix, under the rest of their keys.
type prefixed struct {
	Bucket
	prefix string // with a slash at the end
}

func withPrefix(b Bucket, prefix string) *prefixed { return &prefixed{b, prefix + "/"} }

func (p *prefixed) Close() error {
	if c, ok := p.Bucket.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// key joins after validating, so that no key leaves the prefix.
func (p *prefixed) key(key string) (string, error) { return p.prefix + key, ValidateKey(key) }

func (p *prefixed) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	key, err := p.key(key)
	if err != nil {
		return err
	}
	return p.Bucket.Put(ctx, key, body, size)
}

func (p *prefixed) PutNew(ctx context.Context, key string, body []byte) error {
	key, err := p.key(key)
	if err != nil {
		return err
	}
	return p.Bucket.PutNew(ctx, key, body)
}

func (p *prefixed) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	key, err := p.key(key)
	if err != nil {
		return nil, err
	}
	return p.Bucket.Get(ctx, key, off, n)
}

func (p *prefixed) Stat(ctx context.Context, key string) (Object, error) {
	key, err := p.key(key)
	if err != nil {
		return Object{}, err
	}
	o, err := p.Bucket.Stat(ctx, key)
	o.Key = strings.TrimPrefix(o.Key, p.prefix)
	return o, err
}

func (p *prefixed) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := validatePrefix(prefix); err != nil {
		return err
	}
	return p.Bucket.List(ctx, p.prefix+prefix, func(o Object) error {
		o.Key = strings.TrimPrefix(o.Key, p.prefix)
		return yield(o)
	})
}

func (p *prefixed) Delete(ctx context.Context, key string) error {
	key, err := p.key(key)
	if err != nil {
		return err
	}
	return p.Bucket.Delete(ctx, key)
}
