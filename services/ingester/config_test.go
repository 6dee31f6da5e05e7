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

// TestFullWaitIsNoSilence: a push that waits in vain is answered before distributors, which wait
// for a second, hold the ingester for one that does not answer.
func TestFullWaitIsNoSilence(t *testing.T) {
	for wait, ok := range map[time.Duration]bool{-1: false, 0: true, DefaultConfig().FullWait: true, time.Minute: true, time.Minute + 1: false} {
		c := DefaultConfig()
		c.FullWait = wait
		if err := c.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "full_wait") {
			t.Errorf("%s: %v", wait, err)
		}
	}
	if wait := DefaultConfig().FullWait; wait >= time.Second {
		t.Errorf("%s by default", wait)
	}
}
