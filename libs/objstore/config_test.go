package objstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/objstore"
)

func TestConfig(t *testing.T) {
	if err := objstore.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(*objstore.Config)
		want   string
	}{
		"type":        {func(c *objstore.Config) { c.Type = "ftp" }, "unknown type"},
		"bucket":      {func(c *objstore.Config) { c.Type = objstore.TypeS3 }, "bucket is empty"},
		"key alone":   {func(c *objstore.Config) { c.Type, c.Bucket, c.AccessKey = objstore.TypeS3, "b", "k" }, "belong together"},
		"URL":         {func(c *objstore.Config) { c.Type, c.Bucket, c.Endpoint = objstore.TypeS3, "b", "http://x" }, "without a scheme"},
		"no URL":      {func(c *objstore.Config) { c.Type, c.Bucket, c.Endpoint = objstore.TypeGCS, "b", "x" }, "want a URL"},
		"account":     {func(c *objstore.Config) { c.Type, c.Bucket = objstore.TypeAzure, "b" }, "storage account"},
		"directory":   {func(c *objstore.Config) { c.Type, c.Bucket, c.Directory = objstore.TypeGCS, "b", "d" }, "directory is for"},
		"prefix":      {func(c *objstore.Config) { c.Prefix = "a/../b" }, "prefix is"},
		"attempts":    {func(c *objstore.Config) { c.MaxAttempts = 0 }, "max_attempts"},
		"timeout":     {func(c *objstore.Config) { c.RequestTimeout = 0 }, "request_timeout"},
		"requests":    {func(c *objstore.Config) { c.MaxRequests = 0 }, "max_requests"},
		"uploads":     {func(c *objstore.Config) { c.MaxUploads = 0 }, "max_uploads"},
		"other's key": {func(c *objstore.Config) { c.AccessKey = "k" }, "other types"},
	} {
		config := objstore.DefaultConfig()
		c.change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConfigKeys: every key has a flag, a variable and a help text, and no way of printing shows a secret.
func TestConfigKeys(t *testing.T) {
	config := struct{ Store objstore.Config }{objstore.DefaultConfig()}
	set, err := conf.New(&config, conf.Options{Name: "test", EnvPrefix: "TEST"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Load([]string{"--store.type", "s3", "--store.bucket", "b", "--store.access-key", "k"}, []string{"TEST_STORE_SECRET_KEY=hush"}); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := set.Print(&out); err != nil || strings.Contains(out.String(), "hush") || config.Store.SecretKey.Reveal() != "hush" {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestOpenDirectory(t *testing.T) {
	c := objstore.DefaultConfig()
	c.Prefix = "some/prefix"
	b := open(t, c)
	if err := objstore.Probe(t.Context(), b); err != nil {
		t.Error(err)
	}
	if _, err := objstore.Open(t.Context(), c, "/dev/null/x", time.Now(), nil, nil); err == nil {
		t.Error("a directory in a file is opened")
	}
}
