package storage

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// blockFiles returns the files of blocks below a directory.
func blockFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		// Objects of blocks are in directories of their days; the rest are indexes and deletes.
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(path, ".blocks") || strings.Count(filepath.Base(path), "-") >= 4) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRow36BitFlips flips bits in local containers and in stored blocks, at random
// places: a read has all, or fails, or has less and says so; never another line. With
// the bit back, all is there.
func TestRow36BitFlips(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"blocks", "objects"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			node := harness.New(t, "all", "", "--ingester.cut-interval=1h", "--ingester.upload-interval=1h", "--compactor.interval=1h")
			if where == "blocks" {
				node.Args = append(node.Args, "--ingester.upload-size=1GiB")
			}
			node.Start()
			node.AwaitReady()
			l := &checker.Load{Sink: node.Client(), History: &checker.History{}, Seed: 3}
			for range 3 {
				stop := l.Start()
				stored := l.Pushes().Stored
				harness.Until(t, func() error {
					if l.Pushes().Stored < stored+50 {
						return fmt.Errorf("%d requests stored", l.Pushes().Stored)
					}
					return nil
				})
				stop()
				post(t, node, "/flush")
			}
			if where == "objects" {
				drained(t, node)
			} else {
				// Only the local copies count: the store's are taken away.
				node.Kill()
				if err := os.RemoveAll(filepath.Join(node.Dir, "objects")); err != nil {
					t.Fatal(err)
				}
				node.Start()
				node.AwaitReady()
			}
			files := blockFiles(t, filepath.Join(node.Dir, where))
			if len(files) == 0 {
				t.Skipf("there is nothing in %s: the store has it all", where)
			}
			rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
			whole, failed, less := 0, 0, 0
			for range number(t, "WEIR_FLIPS", 3) {
				path := files[rng.IntN(len(files))]
				before, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				node.Kill()
				keep := filepath.Join(t.TempDir(), "kept")
				if err := os.CopyFS(keep, os.DirFS(node.Dir)); err != nil {
					t.Fatal(err)
				}
				after := append([]byte(nil), before...)
				at := rng.IntN(len(after))
				after[at] ^= 1 << rng.IntN(8)
				if err := os.WriteFile(path, after, 0o600); err != nil {
					t.Fatal(err)
				}
				node.Start()
				node.AwaitReady()
				mark := l.History.Mark()
				r, err := harness.Read(harness.Context(t), node.Client(), false, 5000)
				switch {
				case err != nil:
					failed++
					if !strings.Contains(err.Error(), "block") && !strings.Contains(err.Error(), "damage") && !strings.Contains(err.Error(), "DATA_LOSS") {
						t.Errorf("%s, byte %d of %d: the error does not tell of damage: %v", filepath.Base(path), at, len(after), err)
					}
				default:
					v := l.History.Judge(mark, r, nil)
					if v.Duplicate+v.Phantom+v.Corrupt+v.Reorder > 0 {
						t.Errorf("%s, byte %d of %d: %s", filepath.Base(path), at, len(after), v)
					}
					if v.Lost == 0 {
						whole++
						break
					}
					less++
					warnings, err := harness.Warnings(harness.Context(t), node.Client())
					if err != nil || len(warnings) == 0 {
						t.Errorf("%s, byte %d of %d: %d entries are missing and no answer says so (%v)", filepath.Base(path), at, len(after), v.Lost, err)
					}
				}
				// As it was.
				node.Kill()
				if err := os.RemoveAll(node.Dir); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(keep, node.Dir); err != nil {
					t.Fatal(err)
				}
				node.Start()
				node.AwaitReady()
			}
			v := check(t, node, l)
			t.Logf("%d flips: %d reads have all, %d fail, %d have less and say so; %s", whole+failed+less, whole, failed, less, v)
		})
	}
}

// TestRow40BlockMissing takes a stored block away: answers do not fail and are not
// silently short, before and after a restart.
func TestRow40BlockMissing(t *testing.T) {
	t.Parallel()
	node := harness.Start(t, append([]string{}, quick[:4]...)...)
	l, stop := load(t, node)
	atLeast(t, node, "weir_ingester_uploads_total", 3)
	stop()
	drained(t, node)
	all := check(t, node, l)
	var victim string
	for _, path := range blockFiles(t, filepath.Join(node.Dir, "objects")) {
		victim = path
	}
	node.Kill()
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		node.Start()
		node.AwaitReady()
		mark := l.History.Mark()
		r, err := harness.Read(harness.Context(t), node.Client(), false, 5000)
		if err == nil {
			v := l.History.Judge(mark, r, nil)
			if v.Duplicate+v.Phantom+v.Corrupt+v.Reorder > 0 {
				t.Error(v)
			}
			warnings, err := harness.Warnings(harness.Context(t), node.Client())
			if err != nil || v.Lost == 0 || !strings.Contains(strings.Join(warnings, " "), "data_loss") {
				t.Errorf("%d entries are missing, warnings %q, %v", v.Lost, warnings, err)
			}
			t.Logf("%d of %d rows are there, and %q", v.Rows, all.Rows, warnings)
		} else if !strings.Contains(err.Error(), "data_loss") && !strings.Contains(err.Error(), "DATA_LOSS") {
			t.Errorf("the error does not say data_loss: %v", err)
		}
		node.Kill()
	}
}
