package objstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// azurePartSize is the size of the parts that a larger object is sent in.
const azurePartSize = 64 << 20

// azure is a Bucket in a container of Azure Blob Storage.
type azure struct {
	container *container.Client
	transport *http.Transport
}

var _ Bucket = (*azure)(nil)

// openAzure returns a bucket. Nothing is sent yet.
func openAzure(c *Config) (*azure, error) {
	cred, err := container.NewSharedKeyCredential(c.AccessKey, c.SecretKey.Reveal())
	if err != nil {
		return nil, errors.New("open Azure: secret_key is no key of a storage account") // the cause might show it
	}
	scheme, host := "https", c.Endpoint
	if c.Insecure {
		scheme = "http"
	}
	if host == "" {
		host = "blob.core.windows.net"
	}
	u := fmt.Sprintf("%s://%s.%s/%s", scheme, c.AccessKey, host, c.Bucket)
	if c.PathStyle {
		u = fmt.Sprintf("%s://%s/%s/%s", scheme, host, c.AccessKey, c.Bucket)
	}
	transport := newTransport()
	o := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{MaxRetries: -1}, // the Client tries again
		Telemetry: policy.TelemetryOptions{ApplicationID: "weir"},
	}}
	client, err := container.NewClientWithSharedKeyCredential(u, cred, o)
	if err != nil {
		return nil, fmt.Errorf("open Azure: %w", err)
	}
	return &azure{client, transport}, nil
}

func (b *azure) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

func azureError(op, key string, err error, conditional bool) error {
	resp, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return fmt.Errorf("%s object %s: %w", op, key, err)
	}
	// Its own text is a page of headers.
	cause := fmt.Errorf("status %d, %s", resp.StatusCode, resp.ErrorCode)
	status := resp.StatusCode
	if conditional && status == http.StatusConflict && resp.ErrorCode == "BlobAlreadyExists" {
		status = http.StatusPreconditionFailed
	}
	return statusError(op, key, status, conditional, cause)
}

func section(body io.ReaderAt, off, n int64) io.ReadSeekCloser {
	return streaming.NopCloser(io.NewSectionReader(body, off, n))
}

func (b *azure) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	if err := errors.Join(ctx.Err(), validatePut(key, size)); err != nil {
		return err
	}
	client := b.container.NewBlockBlobClient(key)
	if size <= azurePartSize {
		if _, err := client.Upload(ctx, section(body, 0, size), nil); err != nil {
			return azureError("put", key, err, false)
		}
		return nil
	}
	var parts []string
	for off := int64(0); off < size; off += azurePartSize {
		id := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(len(parts))))
		if _, err := client.StageBlock(ctx, id, section(body, off, min(azurePartSize, size-off)), nil); err != nil {
			return azureError("put", key, err, false)
		}
		parts = append(parts, id)
	}
	if _, err := client.CommitBlockList(ctx, parts, nil); err != nil {
		return azureError("put", key, err, false)
	}
	return nil
}

func (b *azure) PutNew(ctx context.Context, key string, body []byte) error {
	if err := errors.Join(ctx.Err(), validatePut(key, int64(len(body)))); err != nil {
		return err
	}
	any := azcore.ETagAny
	o := &blockblob.UploadOptions{AccessConditions: &blob.AccessConditions{
		ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &any},
	}}
	_, err := b.container.NewBlockBlobClient(key).Upload(ctx, section(bytes.NewReader(body), 0, int64(len(body))), o)
	if err != nil {
		return azureError("put", key, err, true)
	}
	return nil
}

func (b *azure) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	if err := errors.Join(ctx.Err(), validateRange(key, off, n)); err != nil {
		return nil, err
	}
	if n == 0 {
		return getNothing(ctx, b, key, off)
	}
	resp, err := b.container.NewBlobClient(key).DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: off, Count: int64(n)},
	})
	if err != nil {
		return nil, azureError("get", key, err, false)
	}
	defer resp.Body.Close() //nolint:errcheck // all that is wanted is read
	var contentRange string
	if resp.ContentRange != nil {
		contentRange = *resp.ContentRange
	}
	var length int64
	if resp.ContentLength != nil {
		length = *resp.ContentLength
	}
	if err := checkRange(key, off, n, contentRange, length); err != nil {
		return nil, err
	}
	return readExact(key, resp.Body, n)
}

func (b *azure) Stat(ctx context.Context, key string) (Object, error) {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return Object{}, err
	}
	p, err := b.container.NewBlobClient(key).GetProperties(ctx, nil)
	if err != nil {
		return Object{}, azureError("stat", key, err, false)
	}
	if p.ContentLength == nil || p.LastModified == nil {
		return Object{}, fmt.Errorf("stat object %s: the answer has no size or no date", key)
	}
	return Object{key, *p.ContentLength, *p.LastModified}, nil
}

func (b *azure) List(ctx context.Context, prefix string, yield func(Object) error) error {
	if err := errors.Join(ctx.Err(), validatePrefix(prefix)); err != nil {
		return err
	}
	for pages := b.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix}); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return azureError("list", prefix, err, false)
		}
		if page.Segment == nil {
			continue
		}
		for _, item := range page.Segment.BlobItems {
			if item.Name == nil || ValidateKey(*item.Name) != nil {
				continue // another program's
			}
			if item.Properties == nil || item.Properties.ContentLength == nil || item.Properties.LastModified == nil {
				return fmt.Errorf("list objects: the answer has no size or no date of %s", *item.Name)
			}
			if err := yield(Object{*item.Name, *item.Properties.ContentLength, *item.Properties.LastModified}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *azure) Delete(ctx context.Context, key string) error {
	if err := errors.Join(ctx.Err(), ValidateKey(key)); err != nil {
		return err
	}
	_, err := b.container.NewBlobClient(key).Delete(ctx, nil)
	if err == nil {
		return nil
	}
	if err = azureError("delete", key, err, false); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
