package gateway

import (
	"errors"
	"fmt"

	"github.com/weir-logs/weir/libs/conf"
)

// Config is the configuration of a gateway. What a tenant may send is in its limits.
type Config struct {
	DecodeMemory conf.ByteSize `help:"Most memory for push requests that are being decoded, over all tenants; those beyond are answered 503. 0: a fifth of the process' memory, at least 128MiB."`
	MaxTails     int           `help:"Most live tails over WebSocket at once, over all tenants."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{MaxTails: 500}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.DecodeMemory != 0 && c.DecodeMemory < 16*conf.MiB {
		errs = append(errs, fmt.Errorf("decode_memory is %s, at least 16MiB is needed", c.DecodeMemory))
	}
	if c.MaxTails < 1 {
		errs = append(errs, fmt.Errorf("max_tails is %d, must be at least 1", c.MaxTails))
	}
	return errors.Join(errs...)
}
