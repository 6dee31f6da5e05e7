package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weir-logs/weir/services/agent/positions"
)

func batch(seq uint64, size int) *Batch {
	return &Batch{
		Seq: seq, Time: int64(seq),
		After: positions.Snapshot{
			Seq: seq, Last: int64(seq) * 10, Cursors: map[string]string{"c": fmt.Sprint(seq)},
			Files: []positions.Position{{ID: positions.ID{Dev: 1, Ino: seq % 3}, Path: "/p", Offset: int64(seq)}},
		},
		Requests: []Request{{Tenant: "t", Entries: 2, Body: bytes.Repeat([]byte{byte(seq)}, size)}, {Entries: 1, Body: []byte("x")}},
	}
}

func check(t interface{ Fatalf(string, ...any) }, b *Batch, seq uint64) {
	want := batch(seq, len(b.Requests[0].Body))
	if b.Seq != seq || b.Entries() != 3 || b.Requests[0].Tenant != "t" || !bytes.Equal(b.Requests[0].Body, want.Requests[0].Body) || b.After.Cursors["c"] != fmt.Sprint(seq) {
		t.Fatalf("batch %d is %+v", seq, b)
	}
}

func next(t interface{ Fatalf(string, ...any) }, r *Reader, wait time.Duration) *Batch {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	b, err := r.Next(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	return b
}

// Two clients read at their own pace, over crashes that lose what was saved
// elsewhere: each gets every batch in order, and none that it has acknowledged
// before the last append.
func TestModel(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run))
		names := []string{"a", "b"}
		open := func() *Queue {
			q, err := Open(dir, positions.Snapshot{}, Options{Clients: map[string]Bound{"a": {MaxBytes: 1 << 20}, "b": {MaxBytes: 1 << 20}}, NoSync: true, OnDamage: func(err error) { t.Fatalf("%v", err) }})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return q
		}
		q := open()
		seq := uint64(0)
		got := map[string]uint64{}   // newest that was read
		acked := map[string]uint64{} // newest that was acknowledged
		noted := map[string]uint64{} // and is in the queue
		ever := map[string]uint64{}  // acknowledged, what was forgotten included
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				n := rapid.IntRange(1, 3).Draw(t, "n")
				var bs []*Batch
				for i := range n {
					bs = append(bs, batch(seq+uint64(i)+1, rapid.SampledFrom([]int{1, 100, 5000, 40_000}).Draw(t, "size")))
				}
				err := q.Append(bs)
				if errors.Is(err, ErrFull) {
					return
				}
				if err != nil {
					t.Fatalf("%v", err)
				}
				seq += uint64(n)
				for _, c := range names {
					noted[c] = acked[c]
				}
			},
			"read": func(t *rapid.T) {
				c := rapid.SampledFrom(names).Draw(t, "client")
				if got[c] == seq {
					return
				}
				b := next(t, q.Reader(c), 5*time.Second)
				if b == nil {
					t.Fatalf("%s: nothing behind %d of %d", c, got[c], seq)
				}
				// What every client is done with is gone, though it was forgotten.
				if b.Seq <= got[c] || b.Seq > max(got[c], ever[c])+1 {
					t.Fatalf("%s: batch %d behind %d", c, b.Seq, got[c])
				}
				got[c] = b.Seq
				check(t, b, got[c])
				q.Reader(c).Release(b)
			},
			"ack": func(t *rapid.T) {
				c := rapid.SampledFrom(names).Draw(t, "client")
				q.Reader(c).Ack(got[c])
				acked[c] = got[c]
				ever[c] = max(ever[c], got[c])
			},
			"crash": func(*rapid.T) {
				for _, c := range names {
					q.Reader(c).Close()
				}
				_ = q.f.Close()
				q = open()
				st := q.State()
				if st.Seq != seq || seq > 0 && (st.Last != int64(seq)*10 || st.Cursors["c"] != fmt.Sprint(seq)) {
					t.Fatalf("state %+v after %d", st, seq)
				}
				for _, c := range names {
					at := q.Reader(c).Acked()
					if at < noted[c] || at > acked[c] {
						t.Fatalf("%s: acknowledged %d to %d, known %d", c, noted[c], acked[c], at)
					}
					acked[c], got[c], noted[c] = at, at, at
				}
			},
			"": func(t *rapid.T) {
				if q.Size() > 1<<20+200_000 {
					t.Fatalf("%d bytes", q.Size())
				}
			},
		})
		for _, c := range names {
			q.Reader(c).Close()
		}
		_ = q.Close()
	})
}

func TestFullAndDrop(t *testing.T) {
	for _, drop := range []bool{false, true} {
		dropped := 0
		q, err := Open(t.TempDir(), positions.Snapshot{}, Options{
			Clients: map[string]Bound{"slow": {MaxBytes: 256 << 10, DropOldest: drop}}, OnDrop: func(_ string, n int) { dropped += n },
		})
		if err != nil {
			t.Fatal(err)
		}
		n := uint64(0)
		var full error
		for n < 40 && full == nil {
			if full = q.Append([]*Batch{batch(n+1, 20_000)}); full == nil {
				n++
			}
		}
		if drop != (full == nil) || full != nil && !errors.Is(full, ErrFull) {
			t.Fatalf("drop %v: %v after %d", drop, full, n)
		}
		r := q.Reader("slow")
		got := 0
		for b := next(t, r, 50*time.Millisecond); b != nil; b = next(t, r, 50*time.Millisecond) {
			got += b.Entries()
			r.Ack(b.Seq)
		}
		if got+dropped != int(n)*3 || drop == (dropped == 0) {
			t.Errorf("drop %v: %d entries, %d read, %d dropped", drop, n*3, got, dropped)
		}
		if err := q.Append([]*Batch{batch(n+1, 20_000)}); err != nil {
			t.Errorf("room was not given back: %v", err)
		}
		r.Close()
		_ = q.Close()
	}
}

// Each client has its own bound and its own choice: one that is away and may skip
// stops nothing, whatever the other does; one that may not stops all at its bound.
func TestBounds(t *testing.T) {
	dropped := map[string]int{}
	q, err := Open(t.TempDir(), positions.Snapshot{}, Options{
		Clients: map[string]Bound{
			"good":  {MaxBytes: 128 << 10},
			"away":  {MaxBytes: 256 << 10, DropOldest: true},
			"stuck": {MaxBytes: 1 << 20},
			"old":   {MaxBytes: 1 << 30, DropOldest: true, MaxAge: time.Hour},
		},
		OnDrop: func(name string, n int) { dropped[name] += n },
	})
	if err != nil {
		t.Fatal(err)
	}
	n, got := uint64(0), 0
	var full error
	for n < 200 && full == nil {
		if full = q.Append([]*Batch{batch(n+1, 20_000)}); full == nil {
			n++
			b := next(t, q.Reader("good"), time.Second)
			got += b.Entries()
			q.Reader("good").Ack(b.Seq)
		}
	}
	// Times are the numbers of batches, so all are old: but for the newest segment.
	if !errors.Is(full, ErrFull) || n < 40 || n > 53 || got != int(n)*3 || dropped["good"]+dropped["stuck"] > 0 || dropped["old"] < 100 {
		t.Fatalf("%v after %d; %d read, dropped %v", full, n, got, dropped)
	}
	q.Reader("stuck").Ack(n)
	for range 200 {
		if err := q.Append([]*Batch{batch(n+1, 20_000)}); err != nil {
			t.Fatal(err)
		}
		n++
		b := next(t, q.Reader("good"), time.Second)
		q.Reader("good").Ack(b.Seq)
		q.Reader("stuck").Ack(n)
	}
	if q.Size() > 400<<10 {
		t.Errorf("%d bytes on disk", q.Size())
	}
	r, prev := q.Reader("away"), uint64(0)
	got = dropped["away"]
	for b := next(t, r, 50*time.Millisecond); b != nil; b = next(t, r, 50*time.Millisecond) {
		if b.Seq <= prev {
			t.Errorf("batch %d after %d", b.Seq, prev)
		}
		prev = b.Seq
		got += b.Entries()
		r.Ack(b.Seq)
	}
	if got != int(n)*3 || prev != n {
		t.Errorf("%d of %d entries read or dropped, up to batch %d", got, n*3, prev)
	}
	for _, r := range q.readers {
		r.Close()
	}
	_ = q.Close()
}

// A torn or damaged end loses nothing that was durable.
func TestTorn(t *testing.T) {
	for cut := range 60 {
		dir := t.TempDir()
		damaged := 0
		o := Options{Clients: map[string]Bound{"a": {MaxBytes: 1 << 20}}, OnDamage: func(error) { damaged++ }}
		q, err := Open(dir, positions.Snapshot{}, o)
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(3) {
			if err := q.Append([]*Batch{batch(seq+1, 100)}); err != nil {
				t.Fatal(err)
			}
		}
		_ = q.Close()
		name := q.segs[0].name
		st, _ := os.Stat(name)
		if err := os.Truncate(name, st.Size()-int64(cut)); err != nil {
			t.Fatal(err)
		}
		if q, err = Open(dir, positions.Snapshot{}, o); err != nil {
			t.Fatal(err)
		}
		want := uint64(3)
		if cut > 0 {
			want = 2
		}
		if got := q.State().Seq; got != want || cut > 0 && damaged != 1 {
			t.Fatalf("cut %d: %d batches, %d damaged", cut, got, damaged)
		}
		if err := q.Append([]*Batch{batch(want+1, 7)}); err != nil {
			t.Fatal(err)
		}
		for seq := range want + 1 {
			check(t, next(t, q.Reader("a"), time.Second), seq+1)
		}
		q.Reader("a").Close()
		_ = q.Close()
	}
}

// A segment that is there and cannot be opened now is no damage: its batches come when it can.
func TestCannotOpen(t *testing.T) {
	dir := t.TempDir()
	troubles := make(chan error, 1)
	count := 0
	q, err := Open(dir, positions.Snapshot{}, Options{
		Clients: map[string]Bound{"a": {MaxBytes: 1 << 20}},
		OnDamage: func(err error) {
			t.Errorf("damage: %v", err)
			troubles <- err
		},
		OnTrouble: func(err error, first bool) {
			if first != (count == 0) {
				t.Errorf("attempt %d: %v", count, first)
			}
			if count++; count == 3 {
				troubles <- err
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close() //nolint:errcheck // done
	r := q.Reader("a")
	defer r.Close()
	for seq := range uint64(2) {
		if err := q.Append([]*Batch{batch(seq+1, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	// A link to itself cannot be opened, whoever tries.
	name := q.segs[0].name
	if err := errors.Join(os.Rename(name, name+".away"), os.Symlink(name, name)); err != nil {
		t.Fatal(err)
	}
	got := make(chan *Batch)
	go func() { got <- next(t, r, time.Minute) }()
	if err := <-troubles; !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
	if err := os.Rename(name+".away", name); err != nil {
		t.Fatal(err)
	}
	check(t, <-got, 1)
	check(t, next(t, r, time.Minute), 2)

	// Who waits for it ends with its context.
	r.Close()
	if err := errors.Join(os.Rename(name, name+".away"), os.Symlink(name, name), q.Append([]*Batch{batch(3, 100)})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A client that is new has nothing to do with what is there; a known one has.
func TestNewClient(t *testing.T) {
	dir := t.TempDir()
	q, err := Open(dir, positions.Snapshot{}, Options{Clients: map[string]Bound{"a": {}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Append([]*Batch{batch(1, 10), batch(2, 10)}); err != nil {
		t.Fatal(err)
	}
	_ = q.Close()
	if q, err = Open(dir, positions.Snapshot{}, Options{Clients: map[string]Bound{"a": {}, "b": {}}}); err != nil {
		t.Fatal(err)
	}
	if a, b := q.Reader("a").Acked(), q.Reader("b").Acked(); a != 0 || b != 2 {
		t.Errorf("a %d, b %d", a, b)
	}
}

func FuzzRecord(f *testing.F) {
	var all []byte
	parts := batch(1, 50).parts()
	h, _ := head(parts)
	all = append(all, h[:]...)
	for _, p := range parts {
		all = append(all, p...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			_, _ = decodeBatch(b[1:])
		}
		p, n, err := readRecord(bytes.NewReader(b), 0, int64(len(b)), nil)
		if err == nil && int64(len(p)) != n {
			t.Error(len(p), n)
		}
	})
}
