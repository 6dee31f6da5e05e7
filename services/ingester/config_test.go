package ingester

import (
	"strings"
	"testing"
	"time"
)

// TestKeepUploadedIsBounded: copies are not kept for longer than removals are remembered.
func TestKeepUploadedIsBounded(t *testing.T) {
	for keep, ok := range map[time.Duration]bool{-1: false, 0: true, maxKeepUploaded: true, maxKeepUploaded + 1: false} {
		c := DefaultConfig()
		c.KeepUploaded = keep
		err := c.Validate()
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "keep_uploaded") {
			t.Errorf("%s: %v", keep, err)
		}
	}
}
