package wal_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

var update = flag.Bool("update", false, "write the golden files of the current format version")

func goldenFS(t testing.TB) *waltest.FS {
	fs := waltest.New()
	opts := options(fs)
	opts.Rand = bytes.NewReader([]byte("0123456789abcdefSALT"))
	log := open(t, opts)
	for i, payload := range []string{"", "hello\n", "\x00\xff\xf5\xc1Wr"} {
		if _, err := log.Append(t.Context(), byte(i), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	closeOK(t, log)
	return fs
}

// What version 1 wrote is read for ever, and is what this version writes.
func TestGolden(t *testing.T) {
	golden := filepath.Join("testdata", "v1")
	names := []string{"0000000000000001.wal", "incarnation", "state"}
	written := goldenFS(t)
	if *update {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(golden, name), written.ReadFile(filepath.Join(dir, name)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	fs := waltest.New()
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(golden, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := written.ReadFile(filepath.Join(dir, name)); !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%q, the golden file is\n%q", name, got, want)
		}
		fs.WriteFile(filepath.Join(dir, name), want)
	}
	log := open(t, options(fs))
	got, report := replay(t, log)
	want := []record{{1, 0, ""}, {2, 1, "hello\n"}, {3, 2, "\x00\xff\xf5\xc1Wr"}}
	if !slices.Equal(got, want) || len(report.Damage)+len(report.Torn) > 0 || log.NextLSN() != 4 {
		t.Fatalf("%v %+v", got, report)
	}
	if id, fresh := log.Incarnation(); fresh || id.String() != "30313233343536373839616263646566" {
		t.Fatal(id)
	}
}

// FuzzReplay feeds any bytes as the middle one of three segments.
func FuzzReplay(f *testing.F) {
	base := threeSegments(f, true)
	whole := base.ReadFile(two)
	f.Add(whole)
	f.Add([]byte{})
	f.Add(whole[:60])
	f.Add(flip(70)(bytes.Clone(whole)))
	f.Add(zero(0, 100)(bytes.Clone(whole)))
	f.Add(append(bytes.Clone(whole), whole...))
	f.Add(whole[48:])
	f.Add(base.ReadFile(one))
	f.Add(bytes.Repeat(wal.HeaderForTest(1, 4), 3))
	f.Fuzz(func(t *testing.T, segment []byte) {
		fs := base.Reboot(waltest.LoseNone, nil)
		fs.WriteFile(two, segment)
		log, err := wal.Open(dir, options(fs))
		if err != nil {
			return // a later version's header
		}
		defer log.Close()
		if err := accounted(log); err != nil {
			t.Fatal(err)
		}
	})
}

// Any mixture of damage to any segments.
func TestAnyDamage(t *testing.T) {
	base := threeSegments(t, true)
	rapid.Check(t, func(t *rapid.T) {
		fs := base.Reboot(waltest.LoseNone, nil)
		for range rapid.IntRange(1, 6).Draw(t, "wounds") {
			name := rapid.SampledFrom([]string{one, two, three}).Draw(t, "segment")
			edit(fs, name, func(b []byte) []byte {
				if len(b) == 0 {
					return b
				}
				from := rapid.IntRange(0, len(b)-1).Draw(t, "from")
				to := rapid.IntRange(from, len(b)).Draw(t, "to")
				switch rapid.IntRange(0, 6).Draw(t, "kind") {
				case 0:
					return flip(from)(b)
				case 1:
					return zero(from, to)(b)
				case 2:
					return cut(from)(b)
				case 3:
					return slices.Delete(b, from, to)
				case 4:
					return slices.Insert(b, from, b[from:to]...)
				case 5:
					return slices.Insert(b, from, base.ReadFile(one)...)
				default:
					return remove(b)
				}
			})
		}
		for range 2 {
			log, err := wal.Open(dir, options(fs))
			if err != nil {
				t.Fatal(err)
			}
			err = accounted(log)
			if next := log.NextLSN(); err == nil && next < 10 {
				err = fmt.Errorf("LSN %d will be used again", next)
			}
			if err := errors.Join(err, log.Close()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// accounted replays what is left of threeSegments: nothing is delivered that was not written, or
// out of order, and every record is either delivered or reported missing.
func accounted(log *wal.Log) error {
	here := map[uint64]bool{}
	last := uint64(0)
	report, err := log.Replay(context.Background(), func(lsn uint64, typ byte, payload []byte) error {
		if lsn > 9 || typ != 1 || string(payload) != fmt.Sprintf("payload %d", lsn) || lsn <= last {
			return fmt.Errorf("record %d %d %q after %d", lsn, typ, payload, last)
		}
		here[lsn], last = true, lsn
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range report.Damage {
		for lsn := d.FirstLSN; lsn != 0 && lsn <= min(d.LastLSN, 9); lsn++ {
			here[lsn] = true
		}
	}
	for lsn := uint64(1); lsn <= 9; lsn++ {
		if !here[lsn] {
			return fmt.Errorf("record %d is neither delivered nor missed: %+v", lsn, report)
		}
	}
	return nil
}
