package weir

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the reference page instead of comparing it")

// TestReference keeps docs/config.md equal to what the configuration structs say.
func TestReference(t *testing.T) {
	const page = "../../docs/config.md"
	cfg := DefaultConfig()
	set, err := Settings(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := set.Reference(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what the configuration says; make generate writes it", page)
	}
}
