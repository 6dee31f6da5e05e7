package ports

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFree takes ports in several processes at once: each is given to one.
func TestFree(t *testing.T) {
	const n = 300
	if os.Getenv("WEIR_TEST_PORTS") != "" {
		for range n {
			os.Stdout.WriteString("port " + Free(t) + "\n") //nolint:errcheck // the parent counts
		}
		os.Stdout.WriteString("done\n") //nolint:errcheck
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	seen := map[string]bool{}
	for range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFree$")
		cmd.Env = append(os.Environ(), "WEIR_TEST_PORTS=1")
		in, err := cmd.StdinPipe() // it holds its ports until this is closed
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		var all strings.Builder
		for b := make([]byte, 4096); !strings.Contains(all.String(), "done\n"); {
			k, err := out.Read(b)
			if err != nil {
				t.Fatalf("%v: %s", err, all.String())
			}
			all.Write(b[:k])
		}
		for line := range strings.Lines(all.String()) {
			addr, ok := strings.CutPrefix(line, "port ")
			if !ok {
				continue
			}
			if seen[addr] {
				t.Errorf("%s was given twice", addr)
			}
			seen[addr] = true
		}
	}
	if len(seen) != 4*n {
		t.Errorf("%d ports", len(seen))
	}
}
