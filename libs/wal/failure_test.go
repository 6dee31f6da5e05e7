package wal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

func failOn(fs *waltest.FS, kind, name string, err error) {
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == kind && strings.Contains(op.Name, name) {
			return err
		}
		return nil
	})
}

// stall holds the next write until release is called, so that what is begun meanwhile queues up.
func stall(fs *waltest.FS) (entered chan struct{}, release func()) {
	entered = make(chan struct{})
	gate := make(chan struct{})
	first := true
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "write" && first {
			first = false
			close(entered)
			<-gate
		}
		return nil
	})
	return entered, func() { close(gate) }
}

func begin(t testing.TB, log *wal.Log, payload string) *wal.Ticket {
	t.Helper()
	ticket, err := log.Begin(t.Context(), 1, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestFailureIsFinal(t *testing.T) {
	for _, c := range []struct {
		kind string
		err  error
	}{
		{"sync", syscall.EIO},
		{"sync", syscall.ENOSPC}, // the pages are gone all the same
		{"write", syscall.EIO},
		{"write", &waltest.Partial{N: 20, Err: syscall.EIO}},
		{"write", &waltest.Partial{N: 20}}, // short, without a word
	} {
		t.Run(c.kind, func(t *testing.T) {
			fs := waltest.New()
			opts := options(fs)
			reg := prometheus.NewRegistry()
			opts.Registerer = reg
			log := open(t, opts)
			appendOK(t, log, "acked")
			err := c.err
			if partial, ok := errors.AsType[*waltest.Partial](err); ok && partial.Err == nil {
				partial.Err = errors.New("short write")
			}
			syncs := 0
			fs.SetHook(func(op waltest.Op) error {
				if op.Kind == "sync" {
					syncs++
				}
				if op.Kind == c.kind {
					return err
				}
				return nil
			})
			if _, got := log.Append(t.Context(), 1, []byte("lost")); !errors.Is(got, wal.ErrFailed) || !errors.Is(got, err) || errors.Is(got, wal.ErrDiskFull) {
				t.Fatal(got)
			}
			<-log.Failed()
			fs.SetHook(nil)
			if _, err := log.Append(t.Context(), 1, []byte("refused")); !errors.Is(err, wal.ErrFailed) || !errors.Is(log.Err(), wal.ErrFailed) {
				t.Fatal(err)
			}
			closeOK(t, log)
			if c.kind == "sync" && syncs != 1 {
				t.Fatalf("synced %d times", syncs)
			}
			if log.DurableLSN() != 2 {
				t.Fatal(log.DurableLSN())
			}
			if testutil.CollectAndCount(reg, "weir_wal_failed") != 1 {
				t.Fatal("no metric")
			}
			after := fs.Reboot(waltest.LoseAll, nil)
			log = open(t, options(after))
			if got, report := replay(t, log); !slices.Equal(lsns(got), []uint64{1}) || len(report.Damage) > 0 {
				t.Fatalf("%v %+v", got, report)
			}
			appendOK(t, log, "again")
		})
	}
}

// All that waited behind a failed write fails with it.
func TestFailureFailsTheQueue(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	appendOK(t, log, "acked")
	entered := make(chan struct{})
	gate := make(chan struct{})
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "sync" {
			close(entered)
			<-gate
			return syscall.EIO
		}
		return nil
	})
	tickets := []*wal.Ticket{begin(t, log, "a")}
	<-entered
	for range 10 {
		tickets = append(tickets, begin(t, log, "b"))
	}
	close(gate)
	for _, ticket := range tickets {
		if err := ticket.Wait(t.Context()); !errors.Is(err, wal.ErrFailed) {
			t.Fatal(err)
		}
	}
}

func TestDiskFullRecovers(t *testing.T) {
	for _, c := range []struct{ kind, name string }{
		{"write", "2.wal"}, // the header of a new segment
		{"write", "1.wal"},
		{"create", "2.wal"},
		{"write", "state.tmp"},
		{"create", "state.tmp"},
	} {
		t.Run(c.kind+" "+c.name, func(t *testing.T) {
			fs := waltest.New()
			opts := options(fs)
			if c.name != "1.wal" {
				opts.SegmentBytes = 50 // every record starts a segment
			}
			log := open(t, opts)
			appendOK(t, log, "acked")
			var err error = syscall.ENOSPC
			if c.kind == "write" {
				err = &waltest.Partial{N: 40, Err: err}
			}
			failOn(fs, c.kind, c.name, err)
			for range 3 {
				if _, err := log.Append(t.Context(), 1, []byte("refused")); !errors.Is(err, wal.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
					t.Fatal(err)
				}
			}
			if log.NextLSN() != 2 || log.Err() != nil {
				t.Fatal(log.NextLSN(), log.Err())
			}
			fs.SetHook(nil)
			if lsn := appendOK(t, log, "later"); lsn != 2 {
				t.Fatal(lsn)
			}
			closeOK(t, log)
			log = open(t, options(fs.Reboot(waltest.LoseAll, nil)))
			got, report := replay(t, log)
			if !slices.Equal(got, []record{{1, 1, "acked"}, {2, 1, "later"}}) || len(report.Damage)+len(report.Torn) > 0 {
				t.Fatalf("%v %+v", got, report)
			}
		})
	}
}

// The LSNs of what a full disk refused, and of all that was begun behind it, are given out again.
func TestDiskFullLeavesNoHole(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	appendOK(t, log, "acked")
	entered, release := stall(fs)
	first := begin(t, log, "a")
	<-entered
	var tickets []*wal.Ticket
	for range 5 {
		tickets = append(tickets, begin(t, log, "refused"))
	}
	changed := make(chan struct{})
	go func() { // the hook's lock is held by the stalled write: space is changed behind it
		defer close(changed)
		fs.SetSpace(0, 1<<30)
	}()
	release()
	<-changed
	if err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, ticket := range tickets {
		if err := ticket.Wait(t.Context()); errors.Is(err, wal.ErrDiskFull) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	fs.SetSpace(1<<30, 1<<30)
	if lsn := appendOK(t, log, "later"); lsn != uint64(8-refused) {
		t.Fatal(lsn, refused)
	}
	closeOK(t, log)
	log = open(t, options(fs))
	if got, report := replay(t, log); len(got) != 8-refused || !report.Complete() {
		t.Fatalf("%v %+v", got, report)
	}
}

func TestWatermark(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	for _, c := range []struct {
		free, total uint64
		full        bool
	}{
		{1 << 40, 1 << 40, false},
		{6 << 30, 100 << 30, false},
		{4 << 30, 100 << 30, true},   // 96 % used
		{60 << 20, 100 << 20, true},  // 60 MiB free
		{70 << 20, 100 << 20, false}, // 70 MiB free
		{0, 1 << 30, true},
	} {
		fs.SetSpace(c.free, c.total)
		s, err := log.DiskState()
		if err != nil || s.Full != c.full || s.FreeBytes != c.free {
			t.Errorf("%+v: %+v %v", c, s, err)
		}
		if _, err := log.Append(t.Context(), 1, []byte("x")); errors.Is(err, wal.ErrDiskFull) != c.full {
			t.Errorf("%+v: %v", c, err)
		}
	}
	opts := options(fs)
	opts.MaxUsedPercent, opts.MinFreeBytes = -1, -1
	closeOK(t, log)
	log = open(t, opts)
	appendOK(t, log, "the checks are off")
}

// A node whose disk is full starts, replays, refuses appends, truncates and recovers.
func TestStartOnAFullDisk(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	opts.ReserveBytes = 1000
	log := open(t, opts)
	appendOK(t, log, "acked")
	closeOK(t, log)
	reserve := dir + "/reserve"
	if len(fs.ReadFile(reserve)) != 1000 {
		t.Fatal("no reserve")
	}
	fs.SetSpace(0, 1<<30)
	full := true
	fs.SetHook(func(op waltest.Op) error {
		if full && (op.Kind == "create" || op.Kind == "write") {
			return syscall.ENOSPC
		}
		return nil
	})
	log = open(t, opts)
	if fs.ReadFile(reserve) != nil {
		t.Fatal("the reserve was not released")
	}
	if got, report := replay(t, log); len(got) != 1 || !report.Complete() {
		t.Fatalf("%v %+v", got, report)
	}
	if _, err := log.Append(t.Context(), 1, []byte("x")); !errors.Is(err, wal.ErrDiskFull) {
		t.Fatal(err)
	}
	// The state file cannot be written before the segment is removed, which makes room for it.
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "remove" && op.Name == one {
			full = false
		}
		if full && (op.Kind == "create" || op.Kind == "write") {
			return syscall.ENOSPC
		}
		return nil
	})
	fs.SetSpace(1<<30, 1<<30)
	if err := log.TruncateBefore(2); err != nil {
		t.Fatal(err)
	}
	if len(fs.ReadFile(reserve)) != 1000 {
		t.Fatal("the reserve did not come back")
	}
	if lsn := appendOK(t, log, "later"); lsn != 2 {
		t.Fatal(lsn)
	}
	closeOK(t, log)
	log = open(t, opts)
	if got, report := replay(t, log); !slices.Equal(lsns(got), []uint64{2}) || len(report.Damage) > 0 {
		t.Fatalf("%v %+v", got, report)
	}
	if err := log.ReleaseReserve(); err != nil {
		t.Fatal(err)
	}
}

func TestReadOnlyFileSystemIsNotFinal(t *testing.T) {
	for _, errno := range []error{syscall.EROFS, syscall.EMFILE, syscall.EACCES} {
		fs := waltest.New()
		log := open(t, options(fs))
		failOn(fs, "create", ".wal", errno)
		if _, err := log.Append(t.Context(), 1, nil); !errors.Is(err, wal.ErrReadOnly) || !errors.Is(err, errno) {
			t.Fatal(err)
		}
		fs.SetHook(nil)
		if lsn := appendOK(t, log, "x"); lsn != 1 {
			t.Fatal(lsn)
		}
	}
}

func TestCloseWritesWhatWasBegun(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	var tickets []*wal.Ticket
	for range 100 {
		tickets = append(tickets, begin(t, log, "x"))
	}
	closeOK(t, log)
	for _, ticket := range tickets {
		if err := ticket.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	log = open(t, options(fs.Reboot(waltest.LoseAll, nil)))
	if got, _ := replay(t, log); len(got) != 100 {
		t.Fatal(len(got))
	}
}

// A record whose time is over when it would be written is not: its place in the order is
// kept by a void record, which nobody gets to see, and what is before and behind is as ever.
func TestLateRecordsAreNotWritten(t *testing.T) {
	fs := waltest.New()
	held, release := make(chan struct{}), make(chan struct{})
	var hold, over atomic.Bool
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "sync" && hold.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
		return nil
	})
	log := open(t, options(fs))
	appendOK(t, log, "before")
	hold.Store(true)
	begin := func(late func() bool, payload string) *wal.Ticket {
		t.Helper()
		ticket, err := log.BeginUnless(t.Context(), late, 1, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return ticket
	}
	first := begin(over.Load, "in time")
	<-held // the process is as good as frozen
	late, never, other := begin(over.Load, "late"), begin(nil, "never late"), begin(func() bool { return false }, "in time, too")
	over.Store(true)
	close(release)
	for _, ticket := range []*wal.Ticket{first, never, other} {
		if err := ticket.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := late.Wait(t.Context()); !errors.Is(err, wal.ErrLate) {
		t.Errorf("a late record: error %v", err)
	}
	want := []record{{1, 1, "before"}, {2, 1, "in time"}, {4, 1, "never late"}, {5, 1, "in time, too"}}
	var got []record
	keep := func(lsn uint64, typ byte, payload []byte) error {
		got = append(got, record{lsn, typ, string(payload)})
		return nil
	}
	if err := log.Read(t.Context(), 1, 6, keep); err != nil || !slices.Equal(got, want) {
		t.Errorf("read: %v, %v", got, err)
	}
	closeOK(t, log)
	log = open(t, options(fs))
	got = nil
	report, err := log.Replay(t.Context(), keep)
	if err != nil || len(report.Damage) > 0 || !slices.Equal(got, want) {
		t.Errorf("replay: %v, %+v, %v", got, report, err)
	}
	if next := log.NextLSN(); next != 6 {
		t.Errorf("the next record is %d", next)
	}
	if _, err := log.Begin(t.Context(), wal.TypeVoid, nil); err == nil {
		t.Error("a record of the log's own type was taken")
	}
}

// TestMustStayFree: a part of a small disk, and no more than is ample of a large one.
func TestMustStayFree(t *testing.T) {
	for _, c := range []struct {
		percent     float64
		min         int64
		total, want uint64
	}{
		{0, 0, 100 << 30, 5 << 30},
		{90, 0, 50 << 30, 5 << 30},
		{95, 0, 4 << 40, wal.AmpleBytes},
		{95, 1 << 30, 1 << 30, 1 << 30},
		{-1, 0, 4 << 40, 64 << 20},
		{100, -1, 4 << 40, 0},
		{-1, -1, 4 << 40, 0},
	} {
		// A percentage is no exact binary fraction.
		got := wal.Options{MaxUsedPercent: c.percent, MinFreeBytes: c.min}.MustStayFree(c.total)
		if max(got, c.want)-min(got, c.want) > 1 {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
