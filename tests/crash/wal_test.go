package crash

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/client/checker"
	"github.com/weir-logs/weir/tests/harness"
)

// record is a record of the write-ahead log, found by docs/format/wal.md alone.
type record struct {
	path        string // of the segment
	from, until int64  // in the segment, its header included
	ids         []checker.ID
}

// segments returns the paths of a node's segments, in order.
func segments(t *testing.T, node *harness.Node) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(node.Dir, "wal", "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

// records returns all records of a node that does not run.
func records(t *testing.T, node *harness.Node) []record {
	t.Helper()
	var out []record
	for _, path := range segments(t, node) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < 48 || string(b[1:8]) != "WEIRWAL" {
			t.Fatalf("%s is no segment", path)
		}
		for at := int64(48); at+32 <= int64(len(b)) && b[at] == 0xF5; {
			size := int64(binary.LittleEndian.Uint32(b[at+16:]))
			until := at + 32 + size
			if until > int64(len(b)) {
				break // torn
			}
			r := record{path: path, from: at, until: until}
			var req ingestv1.IngestRequest
			if err := proto.Unmarshal(b[at+32:until], &req); err != nil {
				t.Fatalf("%s at %d: %v", path, at, err)
			}
			for _, s := range req.GetStreams() {
				begin := uint32(0)
				for _, end := range s.GetLineEnds() {
					e, err := checker.ParseLine(s.GetSlab()[begin:end])
					if err != nil {
						t.Fatal(err)
					}
					r.ids = append(r.ids, e.ID)
					begin = end
				}
			}
			out = append(out, r)
			at = until
		}
	}
	return out
}

// only returns the entries that are in lost and in none of the other records.
func only(all []record, lost ...record) map[checker.ID]bool {
	gone := map[checker.ID]bool{}
	for _, r := range lost {
		for _, id := range r.ids {
			gone[id] = true
		}
	}
	for _, r := range all {
		if !slices.ContainsFunc(lost, func(l record) bool { return l.path == r.path && l.from == r.from }) {
			for _, id := range r.ids {
				delete(gone, id)
			}
		}
	}
	return gone
}

// own returns a record near the middle that holds entries which no other record holds.
// Not every one does: what failed or was stored already is sent again.
func own(t *testing.T, all []record) record {
	t.Helper()
	for i := range all {
		r := all[(len(all)/2+i)%len(all)]
		if len(only(all, r)) > 0 {
			return r
		}
	}
	t.Fatal("every entry is in several records")
	return record{}
}

// filled returns a node that was filled and killed, and what it should hold.
func filled(t *testing.T) (*harness.Node, *checker.Load) {
	t.Helper()
	node := harness.Start(t, "--ingester.wal-segment-size=1MiB")
	load := &checker.Load{Seed: seed(t), Resend: true}
	fill(t, node, load, 400)
	node.Kill()
	load.Resend = false // it would bring back what is taken away now
	return node, load
}

// TestFlippedBit flips one bit in the middle of the log, or takes a whole record as a disk
// does that says it has written and has not: that record is missing, which is logged, counted and said with each answer; the rest is served.
func TestFlippedBit(t *testing.T) {
	for _, part := range []string{"payload", "header", "lost write"} {
		t.Run(part, func(t *testing.T) {
			node, load := filled(t)
			all := records(t, node)
			victim := own(t, all)
			at := victim.from + 32 + (victim.until-victim.from-32)/2
			if part == "header" {
				at = victim.from + 16 // its length
			}
			if part == "lost write" {
				zero(t, victim.path, victim.from, victim.until)
			} else {
				flip(t, victim.path, at)
			}
			gone := only(all, victim)
			node.Start()
			node.AwaitReady()
			v := check(t, node, load.History, gone)
			damaged(t, node, filepath.Base(victim.path))

			fill(t, node, load, 50) // and it goes on
			node.Kill()
			node.Start()
			node.AwaitReady()
			check(t, node, load.History, gone)
			t.Logf("%d of %d records, %d entries gone; %s", 1, len(all), len(gone), v)
		})
	}
}

// damaged checks that a loss is reported: in the log, by a metric, in answers.
func damaged(t *testing.T, node *harness.Node, segment string) {
	t.Helper()
	if got := node.Metric("weir_wal_corrupt_ranges_total"); got != 1 {
		t.Errorf("weir_wal_corrupt_ranges_total is %v", got)
	}
	if log := node.Log(); !strings.Contains(log, "damaged") || segment != "" && !strings.Contains(log, segment) {
		t.Errorf("the log does not tell of damage in %s", segment)
	}
	warnings, err := harness.Warnings(harness.Context(t), node.Client())
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) == 0 {
		t.Error("answers do not warn of the loss")
	}
}

func zero(t *testing.T, path string, from, until int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, until-from), from); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail cuts the last record short, as a crash within a write does: only that
// record is missing, and it is no damage.
func TestTornTail(t *testing.T) {
	node, load := filled(t)
	gone := map[checker.ID]bool{}
	for i, keep := range []int64{1, 31, 32, 60} {
		all := records(t, node)
		last := all[len(all)-1]
		if err := os.Truncate(last.path, last.from+keep); err != nil {
			t.Fatal(err)
		}
		for id := range only(all, last) {
			gone[id] = true
		}
		node.Start()
		node.AwaitReady()
		check(t, node, load.History, gone)
		if got := node.Metric("weir_wal_corrupt_ranges_total"); got != 0 {
			t.Errorf("cut %d: %v damaged ranges", i, got)
		}
		fill(t, node, load, 20)
		node.Kill()
	}
	node.Start()
	node.AwaitReady()
	t.Logf("4 cuts, %d entries gone; %s", len(gone), check(t, node, load.History, gone))
}

// TestDeletedSegment removes a segment from the middle of the log.
func TestDeletedSegment(t *testing.T) {
	node, load := filled(t)
	all := records(t, node)
	paths := segments(t, node)
	if len(paths) < 3 {
		t.Fatalf("%d segments", len(paths))
	}
	victim := paths[len(paths)/2]
	var lost []record
	for _, r := range all {
		if r.path == victim {
			lost = append(lost, r)
		}
	}
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	node.Start()
	node.AwaitReady()
	gone := only(all, lost...)
	v := check(t, node, load.History, gone)
	damaged(t, node, "")
	t.Logf("1 of %d segments, %d entries gone; %s", len(paths), len(gone), v)
}
