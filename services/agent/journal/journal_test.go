package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"testing"

	"github.com/weir-logs/weir/services/agent/positions"
)

func batch(n uint64) Batch {
	return Batch{
		Seq:     n,
		After:   positions.Snapshot{Seq: n, Last: int64(n), Files: []positions.Position{{ID: positions.ID{Ino: 1}, Path: "/a", Offset: int64(n)}}},
		Request: bytes.Repeat([]byte{byte(n)}, 10),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seqs describes what was recovered: acked | pending | damaged.
func seqs(r Recovered) string {
	s := ""
	for _, b := range r.Acked {
		s += fmt.Sprint(b.Seq, " ")
	}
	s += "|"
	for _, b := range r.Pending {
		s += fmt.Sprint(" ", b.Seq)
	}
	return fmt.Sprint(s, " | ", r.Damaged)
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	j, rec, err := Open(dir, 0)
	must(t, err)
	if s := seqs(rec); s != "| | 0" {
		t.Fatal(s)
	}
	for n := uint64(1); n <= 5; n++ {
		must(t, j.Append(batch(n)))
	}
	j.Ack(2)
	must(t, j.Close())
	for after, want := range map[uint64]string{0: "1 2 | 3 4 5 | 0", 2: "| 3 4 5 | 0", 4: "| 5 | 0", 5: "| | 0"} {
		j, rec, err := Open(dir, after)
		must(t, err)
		if s := seqs(rec); s != want {
			t.Errorf("after %d: %s, want %s", after, s, want)
		}
		for _, b := range rec.Pending {
			if w := batch(b.Seq); !bytes.Equal(b.Request, w.Request) || b.After.Files[0] != w.After.Files[0] {
				t.Errorf("batch %d is another: %v", b.Seq, b)
			}
		}
		must(t, j.Close())
	}
	// It goes on in a new segment, and the old one goes when all in it is old.
	j, _, err = Open(dir, 2)
	must(t, err)
	must(t, j.Append(batch(6)))
	if j.Segments() != 2 {
		t.Fatalf("%d segments", j.Segments())
	}
	must(t, j.Trim(4))
	if j.Segments() != 2 {
		t.Error("a segment that is needed is gone")
	}
	must(t, j.Trim(5))
	if j.Segments() != 1 {
		t.Error("a segment that is not needed is there")
	}
	must(t, j.Close())
	_, rec, err = Open(dir, 5)
	must(t, err)
	if s := seqs(rec); s != "| 6 | 0" {
		t.Error(s)
	}
}

// openCopy opens a journal of one segment with this content, twice: what is
// recovered must not change by recovering.
func openCopy(t *testing.T, content []byte) Recovered {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile((&Journal{dir: dir}).name(1), content, 0o600))
	j, rec, err := Open(dir, 0)
	must(t, err)
	must(t, j.Close())
	j, again, err := Open(dir, 0)
	must(t, err)
	must(t, j.Close())
	if len(again.Pending) != len(rec.Pending) || again.Damaged != 0 {
		t.Fatalf("recovered %s, then %s", seqs(rec), seqs(again))
	}
	return rec
}

// Wherever the file ends, the whole records before are there; a damaged one
// hides all behind it, for positions must not skip anything.
func TestTornAndDamaged(t *testing.T) {
	dir := t.TempDir()
	j, _, err := Open(dir, 0)
	must(t, err)
	ends := []int64{0}
	for n := uint64(1); n <= 3; n++ {
		must(t, j.Append(batch(n)))
		ends = append(ends, j.Size())
	}
	must(t, j.Close())
	name := j.name(1)
	whole, err := os.ReadFile(name)
	must(t, err)
	for cut := 0; cut < len(whole); cut += 7 {
		rec := openCopy(t, whole[:cut])
		n := 0
		for n+1 < len(ends) && ends[n+1] <= int64(cut) {
			n++
		}
		if len(rec.Pending) != n || (rec.Damaged == 0) != (int64(cut) == ends[n]) {
			t.Fatalf("cut at %d: %s, want %d batches", cut, seqs(rec), n)
		}
	}
	for at := 0; at < len(whole); at += 7 {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		rec := openCopy(t, bad)
		for i, b := range rec.Pending {
			if b.Seq != uint64(i+1) || int64(at) < ends[i+1] && int64(at) >= ends[i] {
				t.Fatalf("flipped at %d: %s", at, seqs(rec))
			}
		}
	}
	rec := openCopy(t, append(bytes.Clone(whole), make([]byte, 4096)...))
	if s := seqs(rec); s != "| 1 2 3 | 1" {
		t.Errorf("NULs behind: %s", s)
	}
}

// After a failed write the batch goes into a new segment, once.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	j, _, err := Open(dir, 0)
	must(t, err)
	must(t, j.Append(batch(1)))
	must(t, j.f.Close()) // the next write fails
	if err := j.Append(batch(2)); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("error %v", err)
	}
	must(t, j.Append(batch(2)))
	must(t, j.Append(batch(3)))
	must(t, j.Close())
	_, rec, err := Open(dir, 0)
	must(t, err)
	if s := seqs(rec); s != "| 1 2 3 | 0" {
		t.Error(s)
	}
	// A gap ends it: nothing behind may move a position.
	must(t, os.Remove(j.name(2)))
	j, rec, err = Open(dir, 0)
	must(t, err)
	if s := seqs(rec); s != "| 1 | 0" {
		t.Error(s)
	}
	// Numbers are used again, with other content, and none of the old comes back.
	b := batch(2)
	b.Request = []byte("new")
	must(t, j.Append(b))
	must(t, j.Close())
	j, rec, err = Open(dir, 0)
	must(t, err)
	if s := seqs(rec); s != "| 1 2 | 0" || string(rec.Pending[1].Request) != "new" {
		t.Error(s)
	}
	must(t, j.Close())
}

func FuzzRecord(f *testing.F) {
	rec := func(p []byte) []byte {
		var h [8]byte
		binary.LittleEndian.PutUint32(h[:], uint32(len(p)))
		binary.LittleEndian.PutUint32(h[4:], crc32.Checksum(p, castagnoli))
		return append(h[:], p...)
	}
	f.Add(rec([]byte{typeAck, 5}))
	f.Add(rec([]byte{typeBatch, 1, 0}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readRecord(bytes.NewReader(data))
		if err == nil && len(p) == 0 {
			t.Fatal("empty payload")
		}
		if _, err := decodeBatch(data); err != nil && !errors.Is(err, errRecord) {
			t.Fatal(err)
		}
	})
}
