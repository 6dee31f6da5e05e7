package compactor

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/conf"
)

// Config is the configuration of a compactor.
type Config struct {
	Interval          time.Duration `help:"How often the compactor looks for blocks to merge and to delete."`
	RetentionInterval time.Duration `help:"How often retention is applied. Each time at most retention_share of a tenant goes."`
	RetentionShare    float64       `help:"Share of a tenant's bytes that retention removes each time, so that a mistake is seen before all is gone. A tenant's retention_force lifts it."`
	MergeSize         conf.ByteSize `help:"Size of new blocks of a day that are worth a merge."`
	MergeShare        float64       `help:"Share of a day's blocks that late ones are worth another full merge of the day."`
	MaxWait           time.Duration `help:"New blocks are merged when the oldest has waited for this long, however small they are."`
	CloseAfter        time.Duration `help:"How long after a day's end its blocks are merged for good. Blocks that come later are merged as late ones."`
	MaxSources        int           `help:"Most blocks merged at once. Each takes some MiB of memory meanwhile."`
	MaxBlockSize      conf.ByteSize `help:"Size above which the result of a merge is cut into several blocks."`
	DeleteDelay       time.Duration `help:"How long a block stays in the store after the block that replaces it was stored and read back. A store that is this process's alone needs no delay."`
	DeleteBudget      conf.ByteSize `help:"Most bytes of blocks that are deleted from the store in one cycle."`
	RewriteDelay      time.Duration `help:"How long a delete can be cancelled before its entries are removed from blocks."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Interval:          5 * time.Minute,
		RetentionInterval: time.Hour,
		RetentionShare:    0.2,
		MergeSize:         64 * conf.MiB,
		MergeShare:        0.1,
		MaxWait:           24 * time.Hour,
		CloseAfter:        2 * time.Hour,
		MaxSources:        32,
		MaxBlockSize:      1 * conf.GiB,
		DeleteDelay:       24 * time.Hour,
		DeleteBudget:      64 * conf.GiB,
		RewriteDelay:      24 * time.Hour,
	}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	least := func(key string, d, min time.Duration) {
		if d < min {
			errs = append(errs, fmt.Errorf("%s is %s, must be at least %s", key, d, min))
		}
	}
	least("interval", c.Interval, time.Second)
	least("retention_interval", c.RetentionInterval, time.Second)
	least("max_wait", c.MaxWait, 0)
	least("close_after", c.CloseAfter, 0)
	least("delete_delay", c.DeleteDelay, 0)
	least("rewrite_delay", c.RewriteDelay, 0)
	share := func(key string, v float64) {
		if !(v > 0 && v <= 1) {
			errs = append(errs, fmt.Errorf("%s is %g, must be above 0 and at most 1", key, v))
		}
	}
	share("retention_share", c.RetentionShare)
	share("merge_share", c.MergeShare)
	if c.MaxSources < 2 || c.MaxSources > 256 {
		errs = append(errs, fmt.Errorf("max_sources is %d, must be from 2 to 256", c.MaxSources))
	}
	for _, s := range []struct {
		key  string
		size conf.ByteSize
	}{{"merge_size", c.MergeSize}, {"max_block_size", c.MaxBlockSize}, {"delete_budget", c.DeleteBudget}} {
		if s.size < 1 {
			errs = append(errs, fmt.Errorf("%s is %s, must be above 0", s.key, s.size))
		}
	}
	return errors.Join(errs...)
}

func (c Config) policy() compact.Policy {
	return compact.Policy{
		MergeSize: int64(c.MergeSize), MergeShare: c.MergeShare, MaxWait: c.MaxWait,
		CloseAfter: c.CloseAfter, MaxSources: c.MaxSources,
	}
}
