package ingester

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-logs/weir/libs/conf"
)

// Config is the configuration of an ingester.
type Config struct {
	WALSegmentSize  conf.ByteSize `yaml:"wal_segment_size" help:"Size at which a write-ahead log segment is closed."`
	WALSyncInterval time.Duration `yaml:"wal_sync_interval" help:"0 syncs the write-ahead log to disk before each acknowledgement. Above 0 trades safety for speed: a power cut loses up to this much of what was acknowledged."`
	DiskReserve     conf.ByteSize `yaml:"disk_reserve" help:"Size of a file that is given up when the disk is full, so that the ingester can start and free space. 0: none."`
	DiskMaxUsed     float64       `yaml:"disk_max_used_percent" help:"Stop taking writes while more than this percentage of the disk is used."`
	DiskMinFree     conf.ByteSize `yaml:"disk_min_free" help:"Stop taking writes while less than this is free on the disk."`
	MaxFollowers    int           `yaml:"max_followers" help:"Most live tails served at a time."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		WALSegmentSize: 64 << 20,
		DiskReserve:    64 << 20,
		DiskMaxUsed:    95,
		DiskMinFree:    64 << 20,
		MaxFollowers:   1000,
	}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.WALSegmentSize < 1<<20 {
		errs = append(errs, fmt.Errorf("wal_segment_size is %s, at least 1MiB is needed", c.WALSegmentSize))
	}
	if c.WALSyncInterval < 0 {
		errs = append(errs, fmt.Errorf("wal_sync_interval is %s, must not be negative", c.WALSyncInterval))
	}
	if c.DiskMaxUsed <= 0 || c.DiskMaxUsed > 100 {
		errs = append(errs, fmt.Errorf("disk_max_used_percent is %g, must be above 0 and at most 100", c.DiskMaxUsed))
	}
	if c.MaxFollowers < 1 {
		errs = append(errs, fmt.Errorf("max_followers is %d, must be at least 1", c.MaxFollowers))
	}
	return errors.Join(errs...)
}
