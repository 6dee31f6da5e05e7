package follow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
	"github.com/weir-logs/weir/services/agent/positions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long tests wait for what is to come: long on a machine that has other work.
const patience = time.Minute

// recorder is a sink that keeps everything, and positions as a real one would.
type recorder struct {
	mu     sync.Mutex
	got    map[string][]string // by path
	files  map[positions.ID]*File
	limit  int // lines before it is full; 0: never
	space  chan struct{}
	forgot []positions.ID
	starts []positions.Position
}

func newRecorder() *recorder {
	return &recorder{got: map[string][]string{}, files: map[positions.ID]*File{}, space: make(chan struct{}, 1)}
}

func (r *recorder) Full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limit < 0
}

func (r *recorder) Lines(_ context.Context, f *File, lines []entry.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit > 0 {
		if r.limit -= len(lines); r.limit <= 0 {
			r.limit = -1
		}
	}
	for _, e := range lines {
		r.got[f.Path()] = append(r.got[f.Path()], string(e.Line))
	}
	r.files[f.ID()] = f
	return nil
}

func (r *recorder) Close(*File)      {}
func (r *recorder) Anew(*File, bool) {}

func (r *recorder) Space() <-chan struct{}     { return r.space }
func (r *recorder) Tick(time.Time) time.Time   { return time.Time{} }
func (r *recorder) Start(p positions.Position) { r.starts = append(r.starts, p) }
func (r *recorder) Saved()                     {}
func (r *recorder) Forget(k positions.Key)     { r.forgot = append(r.forgot, k.ID) }
func (r *recorder) lines(path string) (l []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(l, r.got[path]...)
}

// positions gives them after Run has ended.
func (r *recorder) positions() (out []positions.Position) {
	by := map[positions.ID]positions.Position{}
	for _, p := range r.starts {
		by[p.ID] = p
	}
	for id, f := range r.files {
		by[id] = f.Position()
	}
	for _, p := range by {
		out = append(out, p)
	}
	return out
}

// harness is a folder with a follower on it.
type harness struct {
	t    *testing.T
	dir  string
	rec  *recorder
	cfg  Config
	stop func()
}

func quick(patterns ...string) Config {
	return Config{
		Groups: []Group{{Paths: patterns}}, Poll: 2 * time.Millisecond, Scan: 20 * time.Millisecond,
		Grace: 100 * time.Millisecond, Partial: 60 * time.Millisecond,
	}
}

func newHarness(t *testing.T, cfg Config) *harness {
	t.Helper()
	h := &harness{t: t, dir: t.TempDir(), rec: newRecorder(), cfg: cfg}
	for i := range h.cfg.Groups {
		for _, l := range [][]string{h.cfg.Groups[i].Paths, h.cfg.Groups[i].Exclude} {
			for j := range l {
				l[j] = filepath.Join(h.dir, l[j])
			}
		}
	}
	t.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
	})
	return h
}

func (h *harness) start(known ...positions.Position) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	fw := New(h.cfg, h.rec, known, nil, nil)
	go func() { defer close(done); fw.Run(ctx) }()
	h.stop = func() { cancel(); <-done; h.stop = nil }
}

// restart stops and goes on at the positions, with a new recorder.
func (h *harness) halt() []positions.Position {
	h.stop()
	p := h.rec.positions()
	h.rec = newRecorder()
	return p
}

func (h *harness) path(name string) string { return filepath.Join(h.dir, name) }

func (h *harness) write(name, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o755); err != nil {
		h.t.Fatal(err)
	}
	f, err := os.OpenFile(h.path(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) rename(from, to string) {
	h.t.Helper()
	if err := os.Rename(h.path(from), h.path(to)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) remove(name string) {
	h.t.Helper()
	if err := os.Remove(h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

// want waits for the lines of a file, separated by blanks.
func (h *harness) want(name, text string) {
	h.t.Helper()
	want := strings.Fields(text)
	deadline := time.Now().Add(patience)
	for {
		got := h.rec.lines(h.path(name))
		if reflect.DeepEqual(got, want) || len(got)+len(want) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: got %q, want %q", name, got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGlobs(t *testing.T) {
	cfg := quick("**/*.log", "one.txt")
	cfg.Groups[0].Exclude = []string{"skip/**", "**/x*.log"}
	for _, events := range []bool{true, false} {
		t.Run(fmt.Sprint("events ", events), func(t *testing.T) {
			cfg := cfg
			cfg.Groups = []Group{{Paths: append([]string{}, cfg.Groups[0].Paths...), Exclude: append([]string{}, cfg.Groups[0].Exclude...)}}
			cfg.NoEvents = !events
			h := newHarness(t, cfg)
			h.write("a.log", "1\n2\r\n\n")
			h.write("skip/a.log", "no\n")
			h.start()
			h.write("deep/er/b.log", "3\n")
			h.write("xyz.log", "no\n")
			h.want("deep/er/b.log", "3")
			h.write("one.txt", "4\n")
			h.write("a.log", "5\n")
			h.want("one.txt", "4")
			deadline := time.Now().Add(patience)
			for len(h.rec.lines(h.path("a.log"))) < 4 && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
			if got := h.rec.lines(h.path("a.log")); !reflect.DeepEqual(got, []string{"1", "2", "", "5"}) {
				t.Errorf("a.log: %q", got)
			}
			if got := append(h.rec.lines(h.path("skip/a.log")), h.rec.lines(h.path("xyz.log"))...); len(got) > 0 {
				t.Errorf("excluded files were read: %q", got)
			}
		})
	}
}

func TestRename(t *testing.T) {
	h := newHarness(t, quick("app.log"))
	h.write("app.log", "1\n")
	h.start()
	h.want("app.log", "1")
	h.rename("app.log", "app.log.1")
	h.write("app.log.1", "2\n") // the writer has not noticed
	h.write("app.log", "3\n")
	h.write("app.log.1", "late\n") // within the grace
	deadline := time.Now().Add(patience)
	for len(h.rec.lines(h.path("app.log"))) < 4 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	got := h.rec.lines(h.path("app.log"))
	if strings.Join(got, " ") != "1 2 3 late" && strings.Join(got, " ") != "1 2 late 3" {
		t.Errorf("got %q", got)
	}
}

// The rotated name is matched as well: nothing is read twice.
func TestRenameToAMatch(t *testing.T) {
	h := newHarness(t, quick("app.log*"))
	h.write("app.log", "1\n")
	h.start()
	h.want("app.log", "1")
	for i := 2; i < 6; i++ {
		h.rename("app.log", fmt.Sprintf("app.log.%d", i))
		h.write("app.log", fmt.Sprintf("%d\n", i))
		h.want("app.log", strings.Join([]string{"1", "2", "3", "4", "5"}[:i], " "))
	}
	time.Sleep(3 * h.cfg.Grace) // the old ones are closed, and met again by each scan
	h.want("app.log", "1 2 3 4 5")
	if p := h.halt(); len(p) != 5 {
		t.Errorf("%d positions", len(p))
	} else {
		h.start(p...)
	}
	h.write("app.log", "6\n")
	h.want("app.log", "6")
	for p, l := range h.rec.got {
		if p != h.path("app.log") {
			t.Errorf("%s: %q", p, l)
		}
	}
}

// Replaced twice between two looks, and while nothing was running: the ones in
// between are found.
func TestReplacedTwice(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			cfg := quick("app.log")
			cfg.NoEvents, cfg.Scan = true, 300*time.Millisecond
			h := newHarness(t, cfg)
			h.write("app.log.9", "older\n")
			h.write("app.log.8.gz", "older\n")
			time.Sleep(20 * time.Millisecond) // as far as times of files are told apart
			h.write("app.log", "1\n")
			h.start()
			h.want("app.log", "1")
			var known []positions.Position
			seen := "1 "
			if !running {
				known, seen = h.halt(), ""
			}
			h.write("app.log", "2\n")
			for i := 3; i < 6; i++ {
				time.Sleep(10 * time.Millisecond)
				h.rename("app.log", fmt.Sprintf("app.log.%d", i))
				h.write("app.log", fmt.Sprintf("%d\n", i))
			}
			h.write("app.log.bak", "no\n")
			if !running {
				h.start(known...)
			}
			h.want("app.log", seen+"2 3 4 5")
		})
	}
}

func TestDeletedIsReadToItsEnd(t *testing.T) {
	cfg := quick("app.log")
	cfg.Grace = patience // its writer takes its time
	h := newHarness(t, cfg)
	w, err := os.Create(h.path("app.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprintln(w, "1")
	h.start()
	h.want("app.log", "1")
	h.remove("app.log")
	fmt.Fprintln(w, "2")
	fmt.Fprint(w, "end")
	h.want("app.log", "1 2 end")
	h.write("app.log", "3\n")
	h.want("app.log", "1 2 end 3")
}

func TestTruncated(t *testing.T) {
	h := newHarness(t, quick("app.log"))
	h.write("app.log", "1\n2\n3\n")
	h.start()
	h.want("app.log", "1 2 3")
	if err := os.Truncate(h.path("app.log"), 0); err != nil {
		t.Fatal(err)
	}
	h.write("app.log", "4\n")
	h.want("app.log", "1 2 3 4")
	// Grown past the old offset when it is looked at again, with the same head.
	known := h.halt()
	head := strings.Repeat("#", 2000)
	for i, c := range []string{head + "\na\n", head + "\nb\nc\n", head + "\nb\nc\nd\n"} {
		if err := os.WriteFile(h.path("app.log"), []byte(c), 0o644); err != nil {
			t.Fatal(err)
		}
		h.start(known...)
		h.want("app.log", []string{head + " a", head + " b c", "d"}[i])
		known = h.halt()
	}
}

// The copy has what was not read before the truncation.
func TestCopyTruncate(t *testing.T) {
	h := newHarness(t, quick("app.log"))
	h.write("app.log", "1\n")
	h.start()
	h.want("app.log", "1")
	known := h.halt()
	h.write("app.log", "2\n3\n")
	data, err := os.ReadFile(h.path("app.log"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("app.log.1", string(data))
	if err := os.Truncate(h.path("app.log"), 0); err != nil {
		t.Fatal(err)
	}
	h.write("app.log", "4\n5\n6\n7\n")
	h.start(known...)
	h.want("app.log", "2 3 4 5 6 7")
}

func TestInodeReused(t *testing.T) {
	h := newHarness(t, quick("app.log"))
	h.write("app.log", "old1\nold2\n")
	h.start()
	h.want("app.log", "old1 old2")
	known := h.halt()
	h.remove("app.log")
	h.write("app.log", "new1\nnew2\nnew3\n")
	// Many file systems give the inode again at once; where not, it is said so.
	st, err := os.Stat(h.path("app.log"))
	if err != nil {
		t.Fatal(err)
	}
	known[0].ID = idOf(st)
	h.start(known...)
	h.want("app.log", "new1 new2 new3")
}

func TestSymlink(t *testing.T) {
	h := newHarness(t, quick("current.log"))
	h.write("app-1.txt", "1\n")
	link := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, h.path("tmp")), os.Rename(h.path("tmp"), h.path("current.log"))); err != nil {
			t.Fatal(err)
		}
	}
	link("app-1.txt")
	h.start()
	h.want("current.log", "1")
	h.write("app-1.txt", "2\n")
	h.want("current.log", "1 2")
	h.write("app-2.txt", "3\n")
	link("app-2.txt")
	h.want("current.log", "1 2 3")
}

func TestPartialAndLong(t *testing.T) {
	cfg := quick("app.log")
	cfg.MaxLine = 20
	h := newHarness(t, cfg)
	h.write("app.log", "half")
	h.start()
	h.want("app.log", "half")
	h.write("app.log", "\nnext\n")
	h.want("app.log", "half next")
	h.write("app.log", strings.Repeat("x", 1000))
	long := strings.Repeat("x", 20-len(lines.Mark)) + lines.Mark
	h.want("app.log", "half next "+long)
	known := h.halt()
	h.write("app.log", strings.Repeat("x", 1000)+"\nafter\n")
	h.start(known...)
	h.want("app.log", "after")
}

func TestFromEnd(t *testing.T) {
	cfg := quick("*.log")
	cfg.Groups[0].FromEnd = true
	h := newHarness(t, cfg)
	h.write("a.log", "old\nha")
	h.start()
	deadline := time.Now().Add(patience)
	h.write("b.log", "new\n") // it may be there before the first look
	for len(h.rec.lines(h.path("c.log"))) == 0 && time.Now().Before(deadline) {
		h.write("c.log", "c\n") // this one is not, at some time
		time.Sleep(5 * time.Millisecond)
	}
	h.write("a.log", "lf\n1\n")
	h.want("a.log", "lf 1")
}

// A full sink stops reading; nothing is lost by replacing files meanwhile, and
// no file waits for ever.
func TestFull(t *testing.T) {
	h := newHarness(t, quick("*.log"))
	h.rec.limit = 1
	for i := range 10 {
		h.write("a.log", fmt.Sprintf("a%d\n", i))
		h.write("b.log", fmt.Sprintf("b%d\n", i))
	}
	h.start()
	h.want("a.log", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9")
	time.Sleep(50 * time.Millisecond)
	h.rename("a.log", "gone")
	h.write("a.log", "a10\n")
	time.Sleep(50 * time.Millisecond)
	h.remove("gone") // its descriptor is open
	h.want("a.log", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9")
	h.want("b.log", "")
	for i := range 200 {
		h.rec.mu.Lock()
		h.rec.limit = 1
		n := len(h.rec.got[h.path("a.log")]) + len(h.rec.got[h.path("b.log")])
		h.rec.mu.Unlock()
		if i == 3 && len(h.rec.lines(h.path("b.log"))) == 0 {
			t.Error("b.log waits although a.log had many turns")
		}
		select { // it may not have heard of the last time yet
		case h.rec.space <- struct{}{}:
		default:
		}
		deadline := time.Now().Add(patience)
		for len(h.rec.lines(h.path("a.log")))+len(h.rec.lines(h.path("b.log"))) == n && n < 21 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n == 21 {
			break
		}
	}
	h.want("a.log", "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 a10")
	h.want("b.log", "b0 b1 b2 b3 b4 b5 b6 b7 b8 b9")
}

func TestGeneration(t *testing.T) {
	for name, want := range map[string]bool{
		"app.log.1": true, "app.log-20260131": true, "app.log.2026-01-31T10:00:00Z": true, "app.log.old": true,
		"app-1.log": true, "app-2026-01-31.log": true, "app.1.log": true,
		"app.log": false, "app.log.1.gz": false, "app-error.log": false, "app.log.bak": false, "app.log.": false,
		"other.log.1": false, "app.log.swp": false, "apple.log": false,
	} {
		if _, got := generation("app.log", name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
