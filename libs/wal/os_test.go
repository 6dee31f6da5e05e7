package wal_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/wal"
)

func osOptions() wal.Options { return wal.Options{ReserveBytes: 1 << 20, Preallocate: true} }

func TestOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	log, err := wal.Open(path, osOptions())
	if err != nil {
		t.Fatal(err)
	}
	var many [][]byte // more than one writev takes
	for i := range 3000 {
		many = append(many, []byte(strconv.Itoa(i)), nil)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, payload := range [][][]byte{many, {big, big}, {}} {
		if _, err := log.Append(t.Context(), 3, payload...); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(path, "reserve")); err != nil || info.Size() != 1<<20 {
		t.Fatal(info, err)
	}
	if log, err = wal.Open(path, osOptions()); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var sizes []int
	report, err := log.Replay(t.Context(), func(lsn uint64, typ byte, payload []byte) error {
		sizes = append(sizes, len(payload))
		switch lsn {
		case 1:
			if !bytes.Equal(payload, bytes.Join(many, nil)) {
				return errors.New("the first payload differs")
			}
		case 2:
			if !bytes.Equal(payload, append(slices.Clone(big), big...)) {
				return errors.New("the second payload differs")
			}
		}
		return nil
	})
	if err != nil || len(sizes) != 3 || len(report.Damage)+len(report.Torn) > 0 {
		t.Fatal(sizes, report, err)
	}
	if s, err := log.DiskState(); err != nil || s.TotalBytes == 0 || s.FreeBytes == 0 || s.UsedPercent <= 0 {
		t.Fatal(s, err)
	}
}

func TestUnreadableSegmentOnDisk(t *testing.T) {
	path := t.TempDir()
	opts := osOptions()
	opts.SegmentBytes = 100
	log, err := wal.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := log.Append(t.Context(), 1, make([]byte, 60)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(path, "0000000000000002.wal")
	if err := errors.Join(os.Remove(two), os.Mkdir(two, 0o755)); err != nil { // reads fail with EISDIR
		t.Fatal(err)
	}
	if log, err = wal.Open(path, opts); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	got, report := replay(t, log)
	if !slices.Equal(lsns(got), []uint64{1, 3}) || len(report.Damage) != 1 || report.Damage[0].FirstLSN != 2 || report.Damage[0].LastLSN != 2 {
		t.Fatalf("%v %+v", lsns(got), report)
	}
}

func TestLockWithinTheProcess(t *testing.T) {
	path := t.TempDir()
	log, err := wal.Open(path, osOptions())
	if err != nil {
		t.Fatal(err)
	}
	_, err = wal.Open(path, osOptions())
	want := fmt.Sprintf("data directory %s is locked by process %d", path, os.Getpid())
	if locked, ok := errors.AsType[*wal.LockedError](err); !ok || locked.Error() != want {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if log, err = wal.Open(path, osOptions()); err != nil {
		t.Fatal(err)
	}
	_ = log.Close()
}

const childEnv = "WEIR_WAL_TEST_CHILD"

// TestChild is the other process of the tests below: it appends until it is killed, and says what
// was acknowledged.
func TestChild(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		t.Skip("runs as a child process only")
	}
	opts := osOptions()
	opts.SegmentBytes = 1 << 16
	log, err := wal.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		lsn, err := log.Append(t.Context(), 1, fmt.Appendf(nil, "record %d of %d", i, os.Getpid()), make([]byte, i%5000))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("acked %d\n", lsn)
	}
}

// A process that is killed while it appends loses nothing that it acknowledged, and while it lives
// nobody else gets in.
func TestKilledProcess(t *testing.T) {
	path := t.TempDir()
	var acked uint64
	for range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestChild$")
		child.Env = append(os.Environ(), childEnv+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			digits, ok := strings.CutPrefix(lines.Text(), "acked ")
			lsn, err := strconv.ParseUint(digits, 10, 64)
			if !ok || err != nil || lsn <= acked {
				t.Fatalf("%q after %d", lines.Text(), acked)
			}
			acked = lsn
			if n == 50 {
				_, err := wal.Open(path, osOptions())
				if locked, ok := errors.AsType[*wal.LockedError](err); !ok || locked.PID != child.Process.Pid {
					t.Fatal(err)
				}
			}
			if n == 200 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait()
	}
	log, err := wal.Open(path, osOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	got, report := replay(t, log)
	if len(report.Damage) > 0 || report.LastLSN < acked || !slices.Equal(lsns(got), span(1, report.LastLSN)) {
		t.Fatalf("acked %d, %d records, %+v", acked, len(got), report)
	}
}
