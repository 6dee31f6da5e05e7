package wal_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

// The twin is a map of what was appended: reading returns it, up to the first record that
// was truncated.
func TestReadAgainstTwin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		disk := waltest.New()
		opts := options(disk)
		opts.SegmentBytes = 64 << 10
		log, err := wal.Open(dir, opts)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = log.Close() }()
		want := map[uint64]string{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "do") {
			case 0, 1, 2:
				payload := fmt.Sprint(rapid.IntRange(0, 99).Draw(rt, "payload"), string(make([]byte, rapid.IntRange(0, 30<<10).Draw(rt, "size"))))
				lsn, err := log.Append(t.Context(), 1, []byte(payload))
				if err != nil {
					rt.Fatal(err)
				}
				want[lsn] = payload
			case 3:
				if err := log.Cut(t.Context()); err != nil {
					rt.Fatal(err)
				}
			case 4:
				next := log.NextLSN()
				keep := log.Oldest(next, rapid.Int64Range(0, 256<<10).Draw(rt, "keep"))
				if err := log.TruncateBefore(keep); err != nil {
					rt.Fatal(err)
				}
			case 5: // another process
				if err := log.Close(); err != nil {
					rt.Fatal(err)
				}
				if log, err = wal.Open(dir, opts); err != nil {
					rt.Fatal(err)
				}
				if _, err := log.Replay(t.Context(), func(uint64, byte, []byte) error { return nil }); err != nil {
					rt.Fatal(err)
				}
			}
			next := log.NextLSN()
			from := rapid.Uint64Range(1, next).Draw(rt, "from")
			to := rapid.Uint64Range(from, next).Draw(rt, "to")
			at := from
			err := log.Read(t.Context(), from, to, func(lsn uint64, typ byte, payload []byte) error {
				if lsn != at || typ != 1 || string(payload) != want[lsn] {
					rt.Fatalf("record %d of type %d with %d bytes at %d", lsn, typ, len(payload), at)
				}
				at++
				return nil
			})
			switch {
			case err == nil && at != to:
				rt.Fatalf("read up to %d of %d", at, to)
			case err != nil && (!errors.Is(err, wal.ErrGone) || at != from):
				rt.Fatalf("%v at %d of %d to %d", err, at, from, to)
			case err != nil:
				// What is gone is gone from the beginning: the newest stay.
				if size := log.SizeFrom(at); size > 0 && log.Read(t.Context(), next, next, nil) != nil {
					rt.Fatal("nothing cannot be read")
				}
			}
		}
		if next := log.NextLSN(); log.Read(t.Context(), 1, next+1, func(uint64, byte, []byte) error { return nil }) == nil {
			rt.Fatal("read what was not written")
		}
	})
}

func TestReadEndsWithItsCaller(t *testing.T) {
	log := open(t, options(waltest.New()))
	for i := range 3 {
		appendOK(t, log, fmt.Sprint(i))
	}
	stop := errors.New("stop")
	if err := log.Read(t.Context(), 1, 4, func(uint64, byte, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestOldestKeepsAtMostSoMuch(t *testing.T) {
	log := open(t, options(waltest.New()))
	for i := range 5 {
		appendOK(t, log, fmt.Sprint(i))
		if err := log.Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_, all := log.Size()
	for _, c := range []struct {
		lsn   uint64
		bytes int64
		want  uint64
	}{{6, 0, 6}, {6, all, 1}, {6, all - 1, 2}, {6, all / 5, 5}, {3, all, 1}, {3, 0, 3}, {1, all, 1}} {
		if got := log.Oldest(c.lsn, c.bytes); got != c.want {
			t.Errorf("%d bytes below %d: from %d on, want %d", c.bytes, c.lsn, got, c.want)
		}
	}
	if got := log.SizeFrom(4); got != 2*all/5 {
		t.Errorf("%d of %d bytes from 4 on", got, all)
	}
}
