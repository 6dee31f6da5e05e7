package positions

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestImportPromtail(t *testing.T) {
	dir := t.TempDir()
	log, short, file := filepath.Join(dir, "a.log"), filepath.Join(dir, "short.log"), filepath.Join(dir, "positions.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(log, "one\ntwo\nthree\n")
	write(short, "x\n")
	write(file, "positions:\n  "+log+": \"8\"\n  "+short+": \"100\"\n  "+dir+"/gone.log: \"4\"\n  cursor-journal: s=abc\n")
	s, skipped, err := ImportPromtail(file)
	if err != nil || len(s.Files) != 1 || len(skipped) != 1 || skipped[0] != short || s.Cursors["cursor-journal"] != "s=abc" {
		t.Fatalf("%+v, %q, %v", s, skipped, err)
	}
	p := s.Files[0]
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, ok := p.Matches(f, 14); !ok || p.Offset != 8 || p.Path != log {
		t.Errorf("%+v", p)
	}
	for _, text := range []string{"", "nonsense", "other: 1\n", "positions: {}\nmore: 1\n", string(Encode(Snapshot{}))} {
		write(file, text)
		if _, _, err := ImportPromtail(file); !errors.Is(err, ErrNotPromtail) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
