package weir

import (
	"strings"
	"testing"
)

func TestHealthCheckRefuses(t *testing.T) {
	for args, want := range map[string]string{"--timeout 0": "--timeout", "--timeout -1s": "--timeout", "x": `unexpected argument "x"`} {
		if err := HealthCheck(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
