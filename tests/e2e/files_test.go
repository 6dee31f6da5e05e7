package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-logs/weir/tests/harness"
)

// writer appends the contents of files in pieces that end anywhere.
type writer struct {
	t        *testing.T
	dir      string
	rng      *rand.Rand
	contents map[string][]byte
	names    []string       // in a fixed order
	sizes    map[string]int // of a piece, about
	done     map[string]int // bytes written
}

// newWriter returns a writer that needs about the given number of rounds.
func newWriter(t *testing.T, dir string, contents map[string][]byte, rounds int) *writer {
	w := &writer{
		t: t, dir: dir, rng: rand.New(rand.NewPCG(1, 2)), contents: contents,
		names: slices.Sorted(maps.Keys(contents)), sizes: map[string]int{}, done: map[string]int{},
	}
	for name, data := range contents {
		w.sizes[name] = len(data)/rounds + 1
	}
	return w
}

// round appends a piece to every file that is not whole. It returns false if there
// was none.
func (w *writer) round() (more bool) {
	w.t.Helper()
	for _, name := range w.names {
		rest := w.contents[name][w.done[name]:]
		if len(rest) == 0 {
			continue
		}
		more = true
		w.append(name, rest[:min(len(rest), 1+w.rng.IntN(2*w.sizes[name]))])
	}
	return more
}

// rotate completes the last line of a file and renames it, as NAME.1 and so on.
func (w *writer) rotate(name string) {
	w.t.Helper()
	if rest := w.contents[name][w.done[name]:]; w.done[name] > 0 && w.contents[name][w.done[name]-1] != '\n' {
		w.append(name, rest[:bytes.IndexByte(rest, '\n')+1])
	}
	path := filepath.Join(w.dir, name)
	last := 1
	for ; ; last++ {
		if _, err := os.Lstat(fmt.Sprintf("%s.%d", path, last)); err != nil {
			break
		}
	}
	for n := last; n > 1; n-- {
		w.rename(fmt.Sprintf("%s.%d", path, n-1), fmt.Sprintf("%s.%d", path, n))
	}
	w.rename(path, path+".1")
}

func (w *writer) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(from, to); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) append(name string, piece []byte) {
	w.t.Helper()
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.Write(piece)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.done[name] += len(piece)
}

// lines returns how many lines are whole.
func (w *writer) lines() (n int) {
	for name, done := range w.done {
		n += bytes.Count(w.contents[name][:done], []byte("\n"))
	}
	return n
}

// awkward are lines of every kind that a file may have, the last one ended.
func awkward() []byte {
	var b bytes.Buffer
	for i := range 300 {
		fmt.Fprintf(&b, "line %d\n", i)
		b.WriteString("\n\n")                                // empty
		b.WriteString("the same\nthe same\nthe same\r\n")    // equal
		b.WriteString("\xff\xfe not UTF-8 \xc3\n\x80\n")     // raw
		b.WriteString("\x00\x01\x1b[31m\t red \r within \n") // controls
		b.WriteString(" \t \n\r\n\r\r\n")                    // blank, and a \r that stays
		b.WriteString("日本語 🦫 e\u0301 \ufeff \ufffd \u2028\n")
		b.WriteString(strings.Repeat("long ", i*40) + "\n")
	}
	b.WriteString(strings.Repeat("x", 256<<10) + "\n") // as long as a line may be
	return b.Bytes()
}

// samples are real log files, by name, each made to end with a whole line, and one
// with awkward lines.
func samples(t *testing.T) map[string][]byte {
	t.Helper()
	var paths []string
	for dir := harness.Root(); ; dir = filepath.Dir(dir) {
		var err error
		if paths, err = filepath.Glob(filepath.Join(dir, "shared/corpus/samples/*.log")); err != nil {
			t.Fatal(err)
		}
		if len(paths) > 0 {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("there is no shared/corpus/samples with *.log files beside or above the repository")
		}
	}
	contents := map[string][]byte{"awkward.log": awkward()}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(data, []byte("\n")) {
			data = append(data, '\n')
		}
		contents[filepath.Base(path)] = data
	}
	return contents
}

// TestSamples: files of many systems, which grow and of which some are rotated while
// they are followed.
func TestSamples(t *testing.T) {
	contents := samples(t)
	p := start(t)
	w := newWriter(t, p.dir, contents, 20)
	for i := 0; w.round(); i++ {
		switch {
		case i%5 == 2:
			p.await(w.lines()) // it follows: all whole lines come, before there are more
		case i == 9:
			for n, name := range w.names {
				if n%3 == 0 || name == "awkward.log" {
					w.rotate(name)
				}
			}
		}
	}
	p.check(contents)
	p.agent.Terminate()
	p.server.Terminate()
}

// TestKilled: the agent is killed five times while files grow and are rotated, and
// the server once; both are started again.
func TestKilled(t *testing.T) {
	// Without samples, what the agent finds hard remains.
	contents := map[string][]byte{"awkward.log": awkward()}
	for i := range 5 {
		var b bytes.Buffer
		for n := range 20_000 {
			fmt.Fprintf(&b, "file %d line %d%s\n", i, n, strings.Repeat(" and more", n%7))
		}
		contents[fmt.Sprintf("numbered-%d.log", i)] = b.Bytes()
	}
	p := start(t)
	w := newWriter(t, p.dir, contents, 36)
	w.round()
	p.await(w.lines()) // files that it has never seen have no place to go on from
	for i := 1; w.round(); i++ {
		switch i % 6 {
		case 0: // at work, on what was just written
			if i <= 30 {
				p.agent.Kill()
			}
		case 1: // while it is gone
			for n, name := range w.names {
				if (n+i/6)%2 == 0 && w.done[name] < len(contents[name]) {
					w.rotate(name)
				}
			}
		case 2:
			if i > 6 && i <= 32 {
				p.startAgent()
			}
		case 3:
			if i == 15 {
				p.server.Kill()
			}
		case 4:
			if i == 16 {
				p.server.Start()
			}
		case 5:
			p.await(w.lines() * 9 / 10)
		}
	}
	p.check(contents)
	p.agent.Terminate()
	p.server.Terminate()
}

// TestGenerated: the shop's logs, which rotate as fast as they can be written.
func TestGenerated(t *testing.T) {
	p := start(t)
	weirctl := harness.Program(t, "services/cmd/weirctl")
	generate := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(harness.Context(t), weirctl, append([]string{
			"generate", "--to-files", p.dir, "--rate", "50", "--for", "100ms", "--rotate-keep", "30"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	generate("--seed", "1", "--since", "20s")
	p.check(p.written())
	generate("--seed", "2", "--since", "10m", "--rotate-size", "200kB")
	written := p.written()
	rotated, err := filepath.Glob(filepath.Join(p.dir, "*.log.[0-9]*"))
	if err != nil || len(rotated) == 0 {
		t.Errorf("no file was rotated: %v", err)
	}
	t.Logf("%d rotations", len(rotated))
	p.check(written)
}

// written returns what was written to each file, what was rotated away included.
func (p *pipeline) written() map[string][]byte {
	p.t.Helper()
	paths, err := filepath.Glob(filepath.Join(p.dir, "*.log"))
	if err != nil || len(paths) == 0 {
		p.t.Fatalf("files %q, %v", paths, err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		var data []byte
		for n := 0; ; n++ {
			name := path
			if n > 0 {
				name = fmt.Sprintf("%s.%d", path, n)
			}
			part, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				break
			} else if err != nil {
				p.t.Fatal(err)
			}
			data = append(part, data...)
		}
		all[filepath.Base(path)] = data
	}
	return all
}
