package weirctl

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestGenerateFiles runs in virtual time: an hour of history and a minute live.
func TestGenerateFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		in := invocation{args: []string{"generate", "--to-files", dir, "--since", "1h", "--for", "1m", "--rate", "10", "--services", "payments,inventory"}, now: time.Now}
		got := in.run(t.Context())
		if got.code != ExitOK {
			t.Fatalf("%+v", got)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v", took)
		}
		if !regexp.MustCompile(`^3[67],\d{3} entries \(.* MB\) written to .*/shop in 1m0s, 6\d\d a second\n$`).MatchString(got.stderr) {
			t.Errorf("summary %q", got.stderr)
		}
	})
	if got, want := names(t, dir), []string{"inventory-app-1.log", "inventory-app-3.log", "payments-app-2.log", "payments-app-3.log"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "inventory-app-1.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n\tat com.shop.inventory.WarehouseClient.call(WarehouseClient.java:118)\n") || !strings.HasSuffix(string(text), "\n") {
		t.Error("no stack trace in lines")
	}
}

func TestGenerateIsInterruptedCleanly(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		in := invocation{args: []string{"generate", "--to-files", dir, "--rate", "100", "--services", "gateway"}, now: time.Now}
		if got := in.run(ctx); got.code != ExitOK || !strings.Contains(got.stderr, "entries") {
			t.Fatalf("%+v", got)
		}
	})
	for _, name := range names(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n < 1000 || !strings.HasSuffix(string(text), "\n") {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

// TestGenerateRotates: with room for all renamed files, together they are what
// would have been written to one.
func TestGenerateRotates(t *testing.T) {
	write := func(t *testing.T, extra ...string) string {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			in := invocation{args: append([]string{"generate", "--to-files", dir, "--rate", "50", "--for", "1m", "--services", "syslog"}, extra...), now: time.Now}
			if got := in.run(t.Context()); got.code != ExitOK {
				t.Fatalf("%+v", got)
			}
		})
		return dir
	}
	read := func(t *testing.T, path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := read(t, filepath.Join(write(t), "syslog-db-1.log"))
	dir := write(t, "--rotate-size", "20kB", "--rotate-keep", "100")
	files, err := filepath.Glob(filepath.Join(dir, "syslog-db-1.log*"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v, %v", files, err)
	}
	slices.SortFunc(files, func(a, b string) int { return len(b) - len(a) + 2*strings.Compare(b, a) })
	parts := ""
	for _, f := range files {
		part := read(t, f)
		if len(part) > 20_000 {
			t.Errorf("%s has %d bytes", f, len(part))
		}
		parts += part
	}
	if parts != whole {
		t.Error("the rotated files differ from the whole")
	}
	if got := names(t, write(t, "--rotate-size", "20kB", "--rotate-keep", "1")); !slices.Equal(got, []string{"syslog-db-1.log", "syslog-db-1.log.1", "syslog-web-1.log", "syslog-web-1.log.1"}) {
		t.Errorf("kept %v", got)
	}
}

func TestGeneratePush(t *testing.T) {
	f := startFake(t)
	f.failing = 2
	now := time.Now
	got := invocation{args: []string{"generate", "--push", "--since", "10m", "--for", "10ms", "--rate", "20", "--services", "inventory,gateway", "--tenant", "shop"}, env: map[string]string{"WEIR_ADDR": f.addr}, now: now}.run(t.Context())
	if got.code != ExitOK || !strings.Contains(got.stderr, " stored at "+f.addr) {
		t.Fatalf("%+v", got)
	}
	if len(f.pushed) < 10_000 {
		t.Errorf("%d entries", len(f.pushed))
	}
	traces := 0
	for _, p := range f.pushed {
		if p.labels["env"] != "prod" || p.labels["host"] == "" {
			t.Fatalf("labels %v", p.labels)
		}
		if strings.Contains(p.entry.GetText(), "\n\tat ") && p.labels["app"] == "inventory" {
			traces++
		}
	}
	if traces == 0 {
		t.Error("no stack trace as one entry")
	}
	if slices.Contains(f.tenants, "") {
		t.Error("a push without the tenant")
	}
}

func TestGeneratePushTellsAFailure(t *testing.T) {
	f := startFake(t)
	f.failing = 1 << 30
	got, _ := invocation{args: []string{"generate", "--push", "--for", "1h", "--since", "1s"}, env: map[string]string{"WEIR_ADDR": f.addr}, now: time.Now}.failing(t.Context())
	if got.code != ExitError || !strings.Contains(got.stderr, "trying again in") {
		t.Errorf("%+v", got)
	}
}
