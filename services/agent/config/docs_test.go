package config

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/pipeline"
)

// The configurations of the deployments can be run.
func TestDeployments(t *testing.T) {
	data, err := os.ReadFile("../../../deploy/compose/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, ps := Load(data, Options{}); len(ps) > 0 {
		t.Error(ps)
	}
	f, err := os.Open("../../../deploy/kubernetes/agent/weir-agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := false
	for dec := yaml.NewDecoder(f); ; {
		var doc struct {
			Kind string            `yaml:"kind"`
			Data map[string]string `yaml:"data"`
		}
		if err := dec.Decode(&doc); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		if doc.Kind == "ConfigMap" {
			found = true
			if _, ps := Load([]byte(doc.Data["agent.yaml"]), Options{}); len(ps) > 0 {
				t.Error(ps)
			}
		}
	}
	if !found {
		t.Error("no configuration")
	}
}

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
