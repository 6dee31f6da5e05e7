package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// Loki's clients of other projects push as they are: winston-loki, which speaks
// protobuf and JSON, and pino-loki. Every line arrives once, with its labels.
func TestLokiClients(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip(err)
	}
	for _, module := range []string{"winston", "winston-loki", "pino-loki"} {
		if _, err := os.Stat("node/node_modules/" + module); err != nil {
			t.Skip("its packages are not installed (npm install in tests/clients/node)")
		}
	}
	grpcAddr, httpAddr := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "node", "node/loki.mjs", httpAddr).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c, err := client.Dial(grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck
	for app, want := range map[string]map[string]string{
		"winston-protobuf": {"level": "warn", "tag": "a b"},
		"winston-json":     {"level": "warn", "tag": "a b"},
		"pino":             {"level": "warning", "hostname": "h1"},
	} {
		answer, err := c.QueryRange(ctx, &queryv1.QueryRangeRequest{Query: fmt.Sprintf(`{app=%q}`, app)})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, s := range answer.GetStreams().GetStreams() {
			for k, v := range want {
				if got := s.GetLabels()[k]; got != v {
					t.Errorf("%s: %s=%q, want %q", app, k, got, v)
				}
			}
			for _, e := range s.GetEntries() {
				lines = append(lines, string(client.Line(e)))
			}
		}
		slices.Sort(lines)
		for i, line := range lines { // pino's are records of which that is the text
			if part := fmt.Sprintf("line %d of %s", i, app); len(lines) != 3 || !strings.Contains(line, part) {
				t.Errorf("%s: %q lacks %q", app, lines, part)
			}
		}
		if len(lines) == 0 {
			t.Errorf("%s: no lines", app)
		}
	}
}
