package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// s3PartSize is the size of the parts that a larger object is sent in.
const s3PartSize = 64 << 20

// s3 is a Bucket of S3 or of a store that speaks its protocol.
type s3 struct {
	core      *minio.Core
	bucket    string
	transport *http.Transport
}

var _ Bucket = (*s3)(nil)

// openS3 returns a bucket. Without an access key, credentials come from the environment, the shared
// file or the machine's role, as AWS's own programs find them. Nothing is sent yet.
func openS3(c *Config) (*s3, error) {
	transport := newTransport()
	creds := credentials.NewStaticV4(c.AccessKey, c.SecretKey.Reveal(), "")
	if c.AccessKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	endpoint := c.Endpoint
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	core, err := minio.NewCore(endpoint, &minio.Options{
		Creds: creds, Secure: !c.Insecure, Region: c.Region, BucketLookup: lookup, Transport: transport,
		MaxRetries: 1, // the Client tries again
	})
	if err != nil {
		return nil, fmt.Errorf("open S3: %w", err)
	}
	core.SetAppInfo("weir", "1")
	return &s3{core, c.Bucket, transport}, nil
}

func (b *s3) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

func s3Error(op, key string, err error, conditional bool) error {
	if resp, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return statusError(op, key, resp.StatusCode, conditional, err)
	}
	return fmt.Errorf("%s object %s: %w", op, key, err)
}

func (b *s3) put(ctx context.Context, key string, body io.ReaderAt, size int64, o minio.PutObjectOptions, conditional bool) error {
	if err := errors.Join(ctx.Err(), validatePut(key, size)); err != nil {
		return err
	}
	o.ContentType, o.PartSize, o.NumThreads = "application/octet-stream", s3PartSize, 2
	o.DisableContentSha256 = size == 0 // the signature of a stream takes an empty one for one of unknown length
	_, err := b.core.Client.PutObject(ctx, b.bucket, key, io.NewSectionReader(body, 0, size), size, o)
	if err != nil {
		return s3Error("put", key, err, conditional)
	}
	return nil
}

func (b *s3) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	return b.put(ctx, key, body, size, minio.PutObjectOptions{}, false)
}

func (b *s3) PutNew(ctx context.Context, key string, body []byte) error {
	o := minio.PutObjectOptions{DisableMultipart: true}
	o.SetMatchETagExcept("*")
	return b.put(ctx, key, bytes.NewReader(body), int64(len(body)), o, true)
}

func (b *s3) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := errors.Join(ctx.Err(), validateRange(key, off, n)); err != nil {
		return nil, err
	}
	if n == 0 {
		return getNothing(ctx, b, key, off)
	}
	o := minio.GetObjectOptions{}
	if err := o.SetRange(off, off+int64(n)-1); err != nil {
		return nil, fmt.Errorf("get object %s: %w", key, err)
	}
	body, info, header, err := b.core.GetObject(ctx, b.bucket, key, o)
	if err != nil {
		return nil, s3Error("get", key, err, false)
	}
	defer body.Close() //nolint:errcheck // all that is wanted is read
	if err := checkRange(key, off, n, header.Get("Content-Range"), info.Size); err != nil {
		return nil, err
	}
	return readExact(key, body, n)
}

// getNothing answers a Get of no bytes, which stores over HTTP have no range for.
func getNothing(ctx context.Context, b Bucket, key string, off int64) ([]byte, error) {
	o, err := b.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if off > o.Size {
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", ErrRange, key, o.Size, off)
	}
	return []byte{}, nil
}

func (b *s3) Stat(ctx context.Context, key string) (Object, error) {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return Object{}, err
	}
	info, err := b.core.StatObject(ctx, b.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Object{}, s3Error("stat", key, err, false)
	}
	return Object{key, info.Size, info.LastModified}, nil
}

func (b *s3) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := errors.Join(ctx.Err(), validatePrefix(prefix)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing when yield does
	owner := false
	for info := range b.core.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, FetchOwner: &owner}) {
		if info.Err != nil {
			return s3Error("list", prefix, info.Err, false)
		}
		if ValidateKey(info.Key) != nil {
			continue // another program's
		}
		if err := yield(Object{info.Key, info.Size, info.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *s3) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return err
	}
	err := b.core.RemoveObject(ctx, b.bucket, key, minio.RemoveObjectOptions{})
	if err == nil {
		return nil
	}
	if err = s3Error("delete", key, err, false); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
