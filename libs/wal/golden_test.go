package wal_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

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

// FuzzReplay feeds any bytes as the middle one of three segments. The neighbours are delivered,
// nothing is delivered that was not written, and every LSN is accounted for.
func FuzzReplay(f *testing.F) {
	whole := threeSegments(f, true).ReadFile(two)
	f.Add(whole)
	f.Add([]byte{})
	f.Add(whole[:60])
	f.Add(flip(70)(bytes.Clone(whole)))
	f.Add(zero(0, 100)(bytes.Clone(whole)))
	f.Add(append(bytes.Clone(whole), whole...))
	f.Add(whole[48:])
	f.Add(threeSegments(f, true).ReadFile(one))
	f.Add(bytes.Repeat(wal.HeaderForTest(1, 4), 3))
	f.Fuzz(func(t *testing.T, segment []byte) {
		fs := threeSegments(t, true)
		fs.WriteFile(two, segment)
		log, err := wal.Open(dir, options(fs))
		if err != nil {
			return // a later version's header
		}
		defer log.Close()
		written := map[record]bool{}
		for lsn := uint64(1); lsn <= 9; lsn++ {
			written[record{lsn, 1, fmt.Sprintf("payload %d", lsn)}] = true
		}
		here := map[uint64]bool{}
		last := uint64(0)
		report, err := log.Replay(context.Background(), func(lsn uint64, typ byte, payload []byte) error {
			if !written[record{lsn, typ, string(payload)}] || lsn <= last {
				return fmt.Errorf("record %d %d %q after %d", lsn, typ, payload, last)
			}
			here[lsn], last = true, lsn
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range report.Damage {
			for lsn := d.FirstLSN; lsn != 0 && lsn <= min(d.LastLSN, 9); lsn++ {
				here[lsn] = true
			}
		}
		for lsn := range uint64(9) {
			if !here[lsn+1] {
				t.Fatalf("record %d is neither delivered nor missed: %+v", lsn+1, report)
			}
		}
	})
}
