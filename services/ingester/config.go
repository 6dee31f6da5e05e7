package ingester

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/wal"
)

// Config is the configuration of an ingester.
type Config struct {
	WALSegmentSize  conf.ByteSize `yaml:"wal_segment_size" help:"Size at which a write-ahead log segment is closed."`
	WALSyncInterval time.Duration `yaml:"wal_sync_interval" help:"0 syncs the write-ahead log to disk before each acknowledgement. Above 0 trades safety for speed: a power cut loses up to this much of what was acknowledged."`
	TailLog         conf.ByteSize `yaml:"tail_log" help:"Write-ahead log that is kept for live tails that come back, for 15 minutes at most, when what it holds is in blocks. 0: none."`
	DiskReserve     conf.ByteSize `yaml:"disk_reserve" help:"Size of a file that is given up when the disk is full, so that the ingester can start and free space. 0: none."`
	DiskMaxUsed     float64       `yaml:"disk_max_used_percent" help:"Stop taking writes while more than this percentage of the disk is used and less than 10 GiB is free."`
	DiskMinFree     conf.ByteSize `yaml:"disk_min_free" help:"Stop taking writes while less than this is free on the disk."`
	CutSize         conf.ByteSize `yaml:"cut_size" help:"Memory that recent entries take before they are written to blocks on the local disk. 0: a quarter of the memory for recent entries, not counting what their streams take. Never more than half of it."`
	CutInterval     time.Duration `yaml:"cut_interval" help:"Recent entries are written to blocks when the oldest of them has been in memory for this long."`
	FullWait        time.Duration `yaml:"full_wait" help:"How long a push waits at most for memory for recent entries while that is full, before it is refused: 0.2 ms for each of its streams, if that is less. 0: not at all. From 1s on distributors hold an ingester for one that does not answer."`
	WholeBelow      int           `yaml:"whole_below" help:"A tenant's recent entries are written with lines kept whole, which costs little, if they are of many services with fewer entries than this each. Templates of their lines are found when the blocks are merged. 0: always at once."`
	UploadSize      conf.ByteSize `yaml:"upload_size" help:"A tenant's blocks are uploaded when their lines have this size."`
	UploadInterval  time.Duration `yaml:"upload_interval" help:"A tenant's blocks are uploaded when the oldest is this old, whatever their size."`
	KeepUploaded    time.Duration `yaml:"keep_uploaded" help:"How long blocks stay on the local disk after they were uploaded, at most 168h."`
	MaxFollowers    int           `yaml:"max_followers" help:"Most live tails served at a time."`
}

// maxKeepUploaded is half of how long an index remembers which blocks were removed.
const maxKeepUploaded = 7 * 24 * time.Hour

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		WALSegmentSize: 64 << 20,
		TailLog:        128 << 20,
		DiskReserve:    64 << 20,
		DiskMaxUsed:    95,
		DiskMinFree:    64 << 20,
		CutInterval:    30 * time.Minute,
		FullWait:       750 * time.Millisecond,
		WholeBelow:     1000,
		UploadSize:     64 << 20,
		UploadInterval: 2 * time.Hour,
		KeepUploaded:   24 * time.Hour,
		MaxFollowers:   1000,
	}
}

// MustStayFree returns how many bytes of a disk of that size writes leave free.
func (c Config) MustStayFree(total uint64) uint64 {
	return wal.Options{MaxUsedPercent: c.DiskMaxUsed, MinFreeBytes: off(c.DiskMinFree)}.MustStayFree(total)
}

// off translates 0 for none to what it is in the options of the log: -1.
func off(n conf.ByteSize) int64 {
	if n == 0 {
		return -1
	}
	return int64(n)
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
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"cut_interval", c.CutInterval}, {"upload_interval", c.UploadInterval}} {
		if d.value < time.Second {
			errs = append(errs, fmt.Errorf("%s is %s, must be at least 1s", d.key, d.value))
		}
	}
	if c.FullWait < 0 || c.FullWait > time.Minute {
		errs = append(errs, fmt.Errorf("full_wait is %s, must be between 0 and 1m", c.FullWait))
	}
	if c.WholeBelow < 0 || c.WholeBelow > 1<<20 {
		errs = append(errs, fmt.Errorf("whole_below is %d, must be between 0 and %d", c.WholeBelow, 1<<20))
	}
	if c.TailLog < 0 {
		errs = append(errs, fmt.Errorf("tail_log is %s, must not be negative", c.TailLog))
	}
	// A copy of what nothing remembers the removal of could be taken for lost, and come back.
	if c.KeepUploaded < 0 || c.KeepUploaded > maxKeepUploaded {
		errs = append(errs, fmt.Errorf("keep_uploaded is %s, must be between 0 and %s", c.KeepUploaded, maxKeepUploaded))
	}
	if c.UploadSize < 1<<20 {
		errs = append(errs, fmt.Errorf("upload_size is %s, at least 1MiB is needed", c.UploadSize))
	}
	if c.MaxFollowers < 1 {
		errs = append(errs, fmt.Errorf("max_followers is %d, must be at least 1", c.MaxFollowers))
	}
	return errors.Join(errs...)
}
