package wal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/data/wal"

func options(fs wal.FS) wal.Options {
	return wal.Options{FS: fs, ReserveBytes: -1, Rand: rand.NewChaCha8([32]byte{1})}
}

func open(t testing.TB, opts wal.Options) *wal.Log {
	t.Helper()
	log, err := wal.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func appendOK(t testing.TB, log *wal.Log, payload string) uint64 {
	t.Helper()
	lsn, err := log.Append(t.Context(), 1, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func closeOK(t testing.TB, log *wal.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

type record struct {
	lsn     uint64
	typ     byte
	payload string
}

func replay(t testing.TB, log *wal.Log) ([]record, wal.Report) {
	t.Helper()
	var got []record
	report, err := log.Replay(context.Background(), func(lsn uint64, typ byte, payload []byte) error {
		got = append(got, record{lsn, typ, string(payload)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got, report
}

func lsns(records []record) []uint64 {
	out := []uint64{}
	for _, r := range records {
		out = append(out, r.lsn)
	}
	return out
}

func span(first, last uint64) []uint64 {
	out := []uint64{}
	for lsn := first; lsn <= last; lsn++ {
		out = append(out, lsn)
	}
	return out
}

func TestAppendThenReplay(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	first, fresh := log.Incarnation()
	if !fresh || first == (wal.Incarnation{}) {
		t.Fatalf("incarnation %v, fresh %v", first, fresh)
	}
	if lsn, err := log.Append(t.Context(), 7, []byte("ab"), nil, []byte("c")); lsn != 1 || err != nil {
		t.Fatal(lsn, err)
	}
	if lsn, err := log.Append(t.Context(), 0); lsn != 2 || err != nil {
		t.Fatal(lsn, err)
	}
	if log.DurableLSN() != 3 || log.NextLSN() != 3 {
		t.Fatal(log.DurableLSN(), log.NextLSN())
	}
	closeOK(t, log)
	closeOK(t, log)
	if _, err := log.Append(t.Context(), 1); !errors.Is(err, wal.ErrClosed) {
		t.Fatal(err)
	}

	reg := prometheus.NewRegistry()
	opts := options(fs)
	opts.Registerer = reg
	log = open(t, opts)
	if again, fresh := log.Incarnation(); fresh || again != first {
		t.Fatalf("incarnation %v, fresh %v", again, fresh)
	}
	got, report := replay(t, log)
	want := []record{{1, 7, "abc"}, {2, 0, ""}}
	if !slices.Equal(got, want) || len(report.Damage)+len(report.Torn) > 0 || report.Records != 2 || report.Bytes != 3 || !report.Complete() {
		t.Fatalf("%v %+v", got, report)
	}
	if lsn := appendOK(t, log, "d"); lsn != 3 {
		t.Fatal(lsn)
	}
	if n, size := log.Size(); n != 2 || size != 2*48+3*32+4 {
		t.Fatal(n, size)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	closeOK(t, log)
	log = open(t, opts) // the same registry
	if _, report = replay(t, log); report.LastLSN != 3 || report.FirstLSN != 1 || report.Segments != 2 {
		t.Fatalf("%+v", report)
	}
}

// An idle restart leaves nothing behind, and takes no space.
func TestReopenWithoutAppends(t *testing.T) {
	fs := waltest.New()
	for range 3 {
		closeOK(t, open(t, options(fs)))
	}
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "create" || op.Kind == "write" {
			t.Errorf("%+v", op)
		}
		return nil
	})
	log := open(t, options(fs))
	if n, _ := log.Size(); n != 0 || log.NextLSN() != 1 {
		t.Fatal(n, log.NextLSN())
	}
}

func TestSegmentsRollAndTruncate(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	opts.SegmentBytes = 48 + 3*(32+10)
	log := open(t, opts)
	for range 10 {
		appendOK(t, log, "0123456789")
	}
	if n, _ := log.Size(); n != 4 {
		t.Fatal(n)
	}
	for _, c := range []struct {
		before   uint64
		segments int
	}{{1, 4}, {3, 4}, {4, 3}, {9, 2}, {100, 1}} {
		if err := log.TruncateBefore(c.before); err != nil {
			t.Fatal(err)
		}
		if n, _ := log.Size(); n != c.segments {
			t.Fatalf("before %d: %d segments, want %d", c.before, n, c.segments)
		}
	}
	closeOK(t, log)
	log = open(t, opts)
	got, report := replay(t, log)
	if !slices.Equal(lsns(got), []uint64{10}) || len(report.Damage) > 0 {
		t.Fatalf("%v %+v", got, report)
	}
	appendOK(t, log, "x")
	if err := log.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := log.TruncateBefore(12); err != nil {
		t.Fatal(err)
	}
	if n, size := log.Size(); n != 0 || size != 0 {
		t.Fatal(n, size)
	}
	closeOK(t, log)
	log = open(t, opts)
	if got, report := replay(t, log); len(got) > 0 || len(report.Damage) > 0 || log.NextLSN() != 12 {
		t.Fatalf("%v %+v %d", got, report, log.NextLSN())
	}
}

func TestReplayEnds(t *testing.T) {
	fs := waltest.New()
	log := open(t, options(fs))
	for range 3 {
		appendOK(t, log, "x")
	}
	closeOK(t, log)
	log = open(t, options(fs))
	stop := errors.New("stop")
	n := 0
	report, err := log.Replay(t.Context(), func(uint64, byte, []byte) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if err != stop || report.Records != 1 {
		t.Fatal(err, report)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Replay(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestTruncateDuringReplay(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	opts.SegmentBytes = 100
	log := open(t, opts)
	for range 6 {
		appendOK(t, log, "0123456789012345678901234567890123456789")
	}
	closeOK(t, log)
	log = open(t, opts)
	var got []uint64
	report, err := log.Replay(t.Context(), func(lsn uint64, _ byte, _ []byte) error {
		got = append(got, lsn)
		if lsn == 2 {
			return log.TruncateBefore(5)
		}
		return nil
	})
	if err != nil || !slices.Equal(got, []uint64{1, 2, 5, 6}) || len(report.Damage) > 0 {
		t.Fatal(got, report, err)
	}
}

func TestLimits(t *testing.T) {
	opts := options(waltest.New())
	opts.MaxRecordBytes = 10
	log := open(t, opts)
	if _, err := log.Append(t.Context(), 1, make([]byte, 6), make([]byte, 5)); !errors.Is(err, wal.ErrTooLarge) {
		t.Fatal(err)
	}
	if lsn := appendOK(t, log, "0123456789"); lsn != 1 {
		t.Fatal(lsn)
	}
	err := wal.Options{SegmentBytes: -1, MaxRecordBytes: 2 << 30}.Validate()
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 2 {
		t.Fatal(err)
	}
}

func TestOverloaded(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	opts.QueueBytes = 100
	log := open(t, opts)
	entered, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(entered) })
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "write" {
			once()
			<-release
		}
		return nil
	})
	ticket, err := log.Begin(t.Context(), 1, make([]byte, 1000))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := log.Begin(ctx, 1, []byte("x")); !errors.Is(err, wal.ErrOverloaded) || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := ticket.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(release)
	if err := ticket.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lsn := appendOK(t, log, "x"); lsn != 2 {
		t.Fatal(lsn)
	}
}

func TestSyncInterval(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	opts.SyncInterval = 1 // as soon as the timer fires
	log := open(t, opts)
	synced := make(chan struct{}, 100)
	fs.SetHook(func(op waltest.Op) error {
		if op.Kind == "sync" && op.Name == dir+"/0000000000000001.wal" {
			synced <- struct{}{}
		}
		return nil
	})
	appendOK(t, log, "a")
	<-synced // the header
	<-synced // the record, with nothing else happening
	appendOK(t, log, "b")
	closeOK(t, log)
	log = open(t, options(fs.Reboot(waltest.LoseAll, nil)))
	if got, _ := replay(t, log); len(got) != 2 {
		t.Fatal(got)
	}
}

// Many appenders: every acknowledged record is there once, each appender's in its order, in the
// order in which Begin handed LSNs out.
func TestConcurrentAppenders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := waltest.New()
		opts := options(fs)
		opts.SegmentBytes = rapid.Int64Range(60, 4000).Draw(t, "segment")
		opts.QueueBytes = rapid.Int64Range(1, 2000).Draw(t, "queue")
		opts.MaxBatchBytes = rapid.Int64Range(1, 2000).Draw(t, "batch")
		appenders := rapid.IntRange(1, 8).Draw(t, "appenders")
		each := rapid.IntRange(1, 20).Draw(t, "each")
		size := rapid.IntRange(0, 200).Draw(t, "size")
		log, err := wal.Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		acked := make([][]uint64, appenders)
		var wg sync.WaitGroup
		for a := range appenders {
			wg.Go(func() {
				for i := range each {
					head := binary.BigEndian.AppendUint32([]byte{byte(a)}, uint32(i))
					lsn, err := log.Append(context.Background(), byte(a), head, make([]byte, size))
					if err != nil {
						panic(err)
					}
					acked[a] = append(acked[a], lsn)
				}
			})
		}
		wg.Wait()
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if log, err = wal.Open(dir, options(fs)); err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		next := make([]int, appenders)
		expected := uint64(1)
		report, err := log.Replay(context.Background(), func(lsn uint64, typ byte, payload []byte) error {
			want := binary.BigEndian.AppendUint32([]byte{typ}, uint32(next[typ]))
			if lsn != expected || acked[typ][next[typ]] != lsn || !bytes.Equal(payload, append(want, make([]byte, size)...)) {
				return fmt.Errorf("record %d, expected %d: %x", lsn, expected, payload)
			}
			expected++
			next[typ]++
			return nil
		})
		if err != nil || report.Records != uint64(appenders*each) || len(report.Damage)+len(report.Torn) > 0 {
			t.Fatal(err, report)
		}
	})
}
