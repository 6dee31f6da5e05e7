package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// TestSampleConfigurations: the server takes them, with the secrets that they leave to
// the environment.
func TestSampleConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(harness.Root(), "deploy/config/*.yaml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	for _, file := range files {
		cmd := exec.Command(harness.Binary(t), "--config="+file, "--print-config")
		cmd.Env = []string{
			"WEIR_CLUSTER_NAME=ingester-1", "WEIR_CLUSTER_ZONE=a", "WEIR_CLUSTER_SECRET_KEY=" + secretKeys["gossip_key"],
			"WEIR_STORAGE_ACCESS_KEY=id", "WEIR_STORAGE_SECRET_KEY=hush",
		}
		if strings.HasSuffix(file, "small.yaml") {
			cmd.Env = []string{}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// TestUnits: systemd finds nothing wrong with the units, where it is installed.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	programs := regexp.MustCompile(`/usr/local/bin/weir(-agent)?`)
	for _, name := range []string{"weir.service", "weir-agent.service"} {
		text, err := os.ReadFile(filepath.Join(harness.Root(), "deploy/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		// It looks for the programs.
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, programs.ReplaceAll(text, []byte("/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
