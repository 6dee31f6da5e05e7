package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-logs/weir/services/agent/pipeline"
)

// Every configuration in the documentation can be run, and every stage is in it.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile("../../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d configurations", len(blocks))
	}
	for _, b := range blocks {
		if !strings.Contains(b[1], "positions:") {
			continue // a part of one
		}
		if _, ps := Load([]byte(b[1]), Options{}); len(ps) > 0 {
			t.Errorf("%s\n%v", b[1], ps)
		}
	}
	for _, n := range pipeline.StageNames() {
		if n != "non_indexed_labels" && !strings.Contains(string(data), "**"+n+"**") {
			t.Errorf("stage %s is not in the documentation", n)
		}
	}
}
