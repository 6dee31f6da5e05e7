package wal_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/libs/wal/waltest"
)

const (
	segmentHeader = 48
	recordHeader  = 32
)

var (
	one   = dir + "/0000000000000001.wal"
	two   = dir + "/0000000000000004.wal"
	three = dir + "/0000000000000007.wal"
)

// threeSegments returns a log of records 1-3, 4-6 and 7-9, closed cleanly or killed.
func threeSegments(t testing.TB, clean bool) *waltest.FS {
	t.Helper()
	fs := waltest.New()
	opts := options(fs)
	opts.SegmentBytes = segmentHeader + 3*(recordHeader+9)
	log := open(t, opts)
	for i := range 9 {
		appendOK(t, log, fmt.Sprintf("payload %d", i+1))
	}
	if !clean {
		fs.Crash()
		_ = log.Close()
		return fs.Reboot(waltest.LoseAll, nil)
	}
	closeOK(t, log)
	return fs
}

// at returns the offset of record i (0, 1, 2) of a segment.
func at(i int) int { return segmentHeader + i*(recordHeader+9) }

func edit(fs *waltest.FS, name string, change func(b []byte) []byte) {
	fs.WriteFile(name, change(fs.ReadFile(name)))
}

func flip(off int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[off] ^= 0x10
		return b
	}
}

func zero(from, to int) func([]byte) []byte {
	return func(b []byte) []byte {
		clear(b[from:to])
		return b
	}
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

func remove([]byte) []byte { return nil }

type damaged struct {
	segment string
	reason  wal.Reason
	first   uint64
	last    uint64
}

func summary(ds []wal.Damage) []damaged {
	var out []damaged
	for _, d := range ds {
		out = append(out, damaged{strings.TrimLeft(strings.TrimSuffix(d.Segment, ".wal"), "0"), d.Reason, d.FirstLSN, d.LastLSN})
	}
	return out
}

func TestCorruptions(t *testing.T) {
	const span = 1 << 32
	all := span9()
	for _, c := range []struct {
		name    string
		killed  bool // not closed cleanly
		damage  func(fs *waltest.FS)
		survive []uint64
		damaged []damaged
		torn    int
		next    uint64 // 0 means 10
	}{
		{name: "none", damage: func(*waltest.FS) {}, survive: all},
		{name: "none, killed", killed: true, damage: func(*waltest.FS) {}, survive: all},
		{name: "bit in a payload", damage: func(fs *waltest.FS) { edit(fs, two, flip(at(1)+recordHeader)) },
			survive: without(all, 5), damaged: []damaged{{"4", wal.ReasonChecksum, 5, 5}}},
		{name: "bit in a length", damage: func(fs *waltest.FS) { edit(fs, two, flip(at(1)+17)) },
			survive: without(all, 5), damaged: []damaged{{"4", wal.ReasonHeader, 5, 5}}},
		{name: "bit in an LSN", damage: func(fs *waltest.FS) { edit(fs, two, flip(at(2)+8)) },
			survive: without(all, 6), damaged: []damaged{{"4", wal.ReasonHeader, 6, 6}}},
		{name: "bit in a segment header", damage: func(fs *waltest.FS) { edit(fs, two, flip(20)) },
			survive: all, damaged: []damaged{{"4", wal.ReasonSegment, 0, 0}}},
		{name: "two adjacent payloads", damage: func(fs *waltest.FS) { edit(fs, two, flip(at(0)+40)); edit(fs, two, flip(at(1)+40)) },
			survive: without(all, 4, 5), damaged: []damaged{{"4", wal.ReasonChecksum, 4, 5}}},
		{name: "last payload, killed", killed: true, damage: func(fs *waltest.FS) { edit(fs, three, flip(at(2)+40)) },
			survive: without(all, 9), damaged: []damaged{{"7", wal.ReasonChecksum, 9, 9}}},
		{name: "last header, killed", killed: true, damage: func(fs *waltest.FS) { edit(fs, three, flip(at(2))) },
			survive: without(all, 9), damaged: []damaged{{"7", wal.ReasonHeader, 9, 9}}},
		{name: "NULs over two records", damage: func(fs *waltest.FS) { edit(fs, two, zero(at(0), at(2))) },
			survive: without(all, 4, 5), damaged: []damaged{{"4", wal.ReasonZeros, 4, 5}}},
		{name: "segment full of NULs", damage: func(fs *waltest.FS) { edit(fs, two, zero(0, at(3))) },
			survive: without(all, 4, 5, 6), damaged: []damaged{{"4", wal.ReasonZeros, 4, 6}}},
		{name: "first segment full of NULs", damage: func(fs *waltest.FS) { edit(fs, one, zero(0, at(3))) },
			survive: without(all, 1, 2, 3), damaged: []damaged{{"1", wal.ReasonZeros, 1, 3}}},
		{name: "last segment full of NULs", damage: func(fs *waltest.FS) { edit(fs, three, zero(0, at(3))) },
			survive: without(all, 7, 8, 9), damaged: []damaged{{"7", wal.ReasonZeros, 7, 9}}},
		// As a power cut leaves it, since the records of a killed process may not have been synced.
		{name: "NULs at the end, killed", killed: true, damage: func(fs *waltest.FS) { edit(fs, three, zero(at(1), at(3))) },
			survive: without(all, 8, 9), torn: 1, next: 8},
		{name: "header and first record gone", damage: func(fs *waltest.FS) { edit(fs, two, zero(0, at(1))) },
			survive: without(all, 4), damaged: []damaged{{"4", wal.ReasonSegment, 4, 4}}},
		{name: "middle segment removed", damage: func(fs *waltest.FS) { edit(fs, two, remove) },
			survive: without(all, 4, 5, 6), damaged: []damaged{{"1", wal.ReasonMissing, 4, 6}}},
		{name: "first segment removed", damage: func(fs *waltest.FS) { edit(fs, one, remove) },
			survive: without(all, 1, 2, 3), damaged: []damaged{{"", wal.ReasonMissing, 1, 3}}},
		{name: "last segment removed", damage: func(fs *waltest.FS) { edit(fs, three, remove) },
			survive: without(all, 7, 8, 9), damaged: []damaged{{"7", wal.ReasonMissing, 7, 6 + span}}, next: 7 + span},
		{name: "all segments removed", damage: func(fs *waltest.FS) { edit(fs, one, remove); edit(fs, two, remove); edit(fs, three, remove) },
			damaged: []damaged{{"", wal.ReasonMissing, 1, 6}, {"7", wal.ReasonMissing, 7, 6 + span}}, next: 7 + span},
		{name: "middle segment empty", damage: func(fs *waltest.FS) { edit(fs, two, cut(0)) },
			survive: without(all, 4, 5, 6), damaged: []damaged{{"4", wal.ReasonMissing, 4, 6}}},
		{name: "last segment empty", damage: func(fs *waltest.FS) { edit(fs, three, cut(0)) },
			survive: without(all, 7, 8, 9), damaged: []damaged{{"7", wal.ReasonTruncated, 7, 6 + span}}, next: 7 + span},
		{name: "last segment shorter than its header", killed: true, damage: func(fs *waltest.FS) { edit(fs, three, cut(47)) },
			survive: without(all, 7, 8, 9), damaged: []damaged{{"7", wal.ReasonHeader, 7, 6 + span}}, next: 7 + span},
		{name: "middle segment truncated in a record", damage: func(fs *waltest.FS) { edit(fs, two, cut(at(1)+5)) },
			survive: without(all, 5, 6), damaged: []damaged{{"4", wal.ReasonTruncated, 5, 6}}},
		{name: "middle segment truncated between records", damage: func(fs *waltest.FS) { edit(fs, two, cut(at(2))) },
			survive: without(all, 6), damaged: []damaged{{"4", wal.ReasonMissing, 6, 6}}},
		{name: "tail torn, killed", killed: true, damage: func(fs *waltest.FS) { edit(fs, three, cut(at(2)+35)) },
			survive: without(all, 9), torn: 1, next: 9},
		{name: "tail cut after a clean end", damage: func(fs *waltest.FS) { edit(fs, three, cut(at(2)+35)) },
			survive: without(all, 9), damaged: []damaged{{"7", wal.ReasonTruncated, 9, 9}}},
		{name: "tail cut between records after a clean end", damage: func(fs *waltest.FS) { edit(fs, three, cut(at(1))) },
			survive: without(all, 8, 9), damaged: []damaged{{"", wal.ReasonMissing, 8, 9}}},
		{name: "unreadable", damage: func(fs *waltest.FS) { fs.SetUnreadable(two) },
			survive: without(all, 4, 5, 6), damaged: []damaged{{"4", wal.ReasonUnreadable, 4, 6}}},
		{name: "last unreadable", damage: func(fs *waltest.FS) { fs.SetUnreadable(three) },
			survive: without(all, 7, 8, 9), damaged: []damaged{{"7", wal.ReasonUnreadable, 7, 9}}},
		{name: "garbage between records", damage: func(fs *waltest.FS) {
			edit(fs, two, func(b []byte) []byte { return slices.Insert(b, at(1), []byte("garbage")...) })
		}, survive: all, damaged: []damaged{{"4", wal.ReasonHeader, 0, 0}}},
		{name: "garbage behind the end", damage: func(fs *waltest.FS) {
			edit(fs, two, func(b []byte) []byte { return append(b, bytes.Repeat([]byte("garbage"), 20)...) })
		}, survive: all, torn: 1},
		{name: "a record twice", damage: func(fs *waltest.FS) {
			edit(fs, two, func(b []byte) []byte { return slices.Insert(b, at(1), b[at(0):at(1)]...) })
		}, survive: all, damaged: []damaged{{"4", wal.ReasonOrder, 0, 0}}},
		{name: "a record from elsewhere", damage: func(fs *waltest.FS) {
			foreign := fs.ReadFile(one)[at(1):at(2)]
			edit(fs, two, func(b []byte) []byte { return slices.Insert(b, at(1), foreign...) })
		}, survive: all, damaged: []damaged{{"4", wal.ReasonHeader, 0, 0}}},
		{name: "a segment twice", damage: func(fs *waltest.FS) { fs.WriteFile(dir+"/0000000000000005.wal", fs.ReadFile(two)) },
			survive: all, damaged: []damaged{
				{"5", wal.ReasonSegment, 0, 0}, {"5", wal.ReasonOrder, 0, 0}, {"5", wal.ReasonOrder, 0, 0}, {"5", wal.ReasonOrder, 0, 0}}},
		{name: "a segment renamed", damage: func(fs *waltest.FS) {
			fs.WriteFile(dir+"/0000000000000123.wal", fs.ReadFile(two))
			edit(fs, two, remove)
		}, survive: all, damaged: []damaged{{"123", wal.ReasonSegment, 0, 0}}},
		{name: "state file lost", damage: func(fs *waltest.FS) { edit(fs, dir+"/state", remove) },
			survive: all, damaged: []damaged{{"state", wal.ReasonState, 0, 0}}},
		{name: "state file damaged", damage: func(fs *waltest.FS) { edit(fs, dir+"/state", flip(30)) },
			survive: all, damaged: []damaged{{"state", wal.ReasonState, 0, 0}}},
		{name: "stale temporary and foreign files", damage: func(fs *waltest.FS) {
			fs.WriteFile(dir+"/state.tmp", []byte("x"))
			fs.WriteFile(dir+"/0.wal", []byte("x"))
			fs.WriteFile(dir+"/notes", []byte("x"))
		}, survive: all},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := threeSegments(t, !c.killed)
			c.damage(fs)
			if c.next == 0 {
				c.next = 10
			}
			if c.survive == nil {
				c.survive = []uint64{}
			}
			opts := options(fs)
			reg := prometheus.NewRegistry()
			opts.Registerer = reg
			log := open(t, opts)
			got, report := replay(t, log)
			if !slices.Equal(lsns(got), c.survive) {
				t.Errorf("delivered %v, want %v", lsns(got), c.survive)
			}
			for _, r := range got {
				if r.typ != 1 || r.payload != fmt.Sprintf("payload %d", r.lsn) {
					t.Errorf("record %d: %q", r.lsn, r.payload)
				}
			}
			if s := summary(report.Damage); !slices.Equal(s, c.damaged) || len(report.Torn) != c.torn {
				t.Errorf("damage %v, want %v\ntorn %v", s, c.damaged, report.Torn)
			}
			if n, _ := testutil.GatherAndCount(reg, "weir_wal_corrupt_ranges_total"); (n > 0) != (len(c.damaged) > 0) {
				t.Errorf("%d damage metrics", n)
			}
			if log.NextLSN() != c.next {
				t.Errorf("next LSN %d, want %d", log.NextLSN(), c.next)
			}
			// Life goes on, and a second restart finds the same damage.
			appendOK(t, log, "after")
			closeOK(t, log)
			log = open(t, options(fs))
			got, again := replay(t, log)
			if !slices.Equal(lsns(got), append(slices.Clone(c.survive), c.next)) {
				t.Errorf("delivered later %v, want %v and %d", lsns(got), c.survive, c.next)
			}
			if missing(report.Damage) != missing(again.Damage) || again.Complete() != report.Complete() {
				t.Errorf("missing %s, later %s", missing(report.Damage), missing(again.Damage))
			}
			if fs.ReadFile(dir+"/state.tmp") != nil {
				t.Error("a stale temporary file is still there")
			}
		})
	}
}

// missing merges the ranges of missing LSNs into one canonical text.
func missing(ds []wal.Damage) string {
	var out []string
	var first, last uint64
	flush := func() {
		if first != 0 {
			out = append(out, fmt.Sprintf("%d-%d", first, last))
		}
	}
	for _, d := range ds {
		switch {
		case d.FirstLSN == 0:
		case first != 0 && d.FirstLSN == last+1:
			last = d.LastLSN
		default:
			flush()
			first, last = d.FirstLSN, d.LastLSN
		}
	}
	flush()
	return strings.Join(out, " ")
}

func span9() []uint64 { return span(1, 9) }

func without(all []uint64, drop ...uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(all), func(lsn uint64) bool { return slices.Contains(drop, lsn) })
}

// A crash during the last append may leave any prefix of it.
func TestEveryTruncation(t *testing.T) {
	whole := threeSegments(t, false).ReadFile(three)
	for n := segmentHeader; n <= len(whole); n++ {
		fs := threeSegments(t, false)
		edit(fs, three, cut(n))
		intact := uint64(6 + (n-segmentHeader)/(recordHeader+9))
		torn := (n - segmentHeader) % (recordHeader + 9)
		log := open(t, options(fs))
		for range 2 {
			got, report := replay(t, log)
			if !slices.Equal(lsns(got), span(1, intact)) || len(report.Damage) > 0 || len(report.Torn) != min(1, torn) {
				t.Fatalf("%d bytes: %v %+v", n, lsns(got), report)
			}
		}
		if lsn := appendOK(t, log, "after"); lsn != intact+1 {
			t.Fatalf("%d bytes: %d", n, lsn)
		}
		closeOK(t, log)
		log = open(t, options(fs))
		got, report := replay(t, log)
		if !slices.Equal(lsns(got), span(1, intact+1)) || got[intact].payload != "after" || len(report.Damage) > 0 {
			t.Fatalf("%d bytes, later: %v %+v", n, lsns(got), report)
		}
		// The torn bytes are still there, beside the new segment if they had its name.
		if kept := fs.ReadFile(three + ".torn"); (kept != nil) != (intact == 6 && torn > 0) {
			t.Fatalf("%d bytes: kept %d", n, len(kept))
		}
		if err := log.TruncateBefore(100); err != nil {
			t.Fatal(err)
		}
		if fs.ReadFile(three+".torn") != nil {
			t.Fatalf("%d bytes: torn bytes outlive their truncation", n)
		}
		closeOK(t, log)
	}
}

// A flipped bit anywhere costs the record it hits, which is reported, and nothing else.
func TestEveryByteFlipped(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for s, name := range []string{one, two, three} {
			for off := range at(3) {
				for _, bit := range []byte{0x01, 0x80} {
					fs := threeSegments(t, clean)
					edit(fs, name, func(b []byte) []byte {
						b[off] ^= bit
						return b
					})
					want, hit := span9(), uint64(0)
					if off >= segmentHeader {
						hit = uint64(3*s + (off-segmentHeader)/(recordHeader+9) + 1)
						want = without(want, hit)
					}
					log := open(t, options(fs))
					got, report := replay(t, log)
					if !slices.Equal(lsns(got), want) || len(report.Torn) > 0 || len(report.Damage) != 1 ||
						report.Damage[0].FirstLSN != hit || report.Damage[0].LastLSN != hit || log.NextLSN() != 10 {
						t.Fatalf("%s byte %d: %v %+v next %d", name, off, lsns(got), report, log.NextLSN())
					}
					closeOK(t, log)
				}
			}
		}
	}
}

// A damaged record whose payload quotes a whole record, as a log of this very file would, does not
// bring the quoted one to life, whatever its LSN.
func TestQuotedRecordsStayQuoted(t *testing.T) {
	other := threeSegments(t, true).ReadFile(one)
	for _, damage := range []int{0, 16, 28} {
		fs := waltest.New()
		opts := options(fs)
		opts.Rand = bytes.NewReader(bytes.Repeat([]byte("abcdefgh"), 100)) // another salt than other's
		log := open(t, opts)
		if _, err := log.Append(t.Context(), 1, other, other); err != nil {
			t.Fatal(err)
		}
		appendOK(t, log, "next")
		closeOK(t, log)
		edit(fs, one, flip(segmentHeader+damage))
		log = open(t, options(fs))
		got, report := replay(t, log)
		if !slices.Equal(got, []record{{2, 1, "next"}}) || len(report.Damage) != 1 || report.Damage[0].FirstLSN != 1 {
			t.Fatalf("%v %+v", got, report)
		}
		closeOK(t, log)
	}
}

// Even with the right salt a record has to stand where its LSN is possible: one that claims a far
// LSN would make all that follow look like old ones.
func TestImpossibleLSN(t *testing.T) {
	for name, c := range map[string]struct {
		at   int // replaces or precedes the record there
		from int
	}{"between records": {at(1), at(1)}, "in the place of a damaged one": {at(1), at(2)}} {
		t.Run(name, func(t *testing.T) {
			fs := threeSegments(t, true)
			edit(fs, two, func(b []byte) []byte {
				smuggled := wal.RecordForTest(b, 1<<40, "invented")
				if c.from > c.at { // a record whose header is lost, and whose payload quotes another
					smuggled = append([]byte("lost header"), smuggled...)
				}
				return slices.Concat(b[:c.at], smuggled, b[c.from:])
			})
			log := open(t, options(fs))
			got, report := replay(t, log)
			want := span9()
			if c.from > c.at {
				want = without(want, 5)
			}
			if !slices.Equal(lsns(got), want) || len(report.Damage) != 1 {
				t.Fatalf("%v %+v", lsns(got), report)
			}
		})
	}
}

func TestDamagedSegmentsAreKept(t *testing.T) {
	fs := threeSegments(t, true)
	edit(fs, two, flip(at(1)+40))
	log := open(t, options(fs))
	replay(t, log)
	if err := log.TruncateBefore(100); err != nil {
		t.Fatal(err)
	}
	if fs.ReadFile(one) != nil || fs.ReadFile(two) != nil || fs.ReadFile(three) != nil {
		t.Fatal("segments are still there")
	}
	if fs.ReadFile(two+".damaged") == nil || fs.ReadFile(one+".damaged") != nil {
		t.Fatal("the damaged segment, and it alone, should be kept aside")
	}
	closeOK(t, log)
	log = open(t, options(fs))
	if got, report := replay(t, log); len(got) > 0 || len(report.Damage) > 0 {
		t.Fatalf("%v %+v", got, report)
	}
}

func TestLostIncarnation(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{"lost": remove, "damaged": flip(25), "empty": cut(0)} {
		t.Run(name, func(t *testing.T) {
			fs := threeSegments(t, true)
			log := open(t, options(fs))
			before, _ := log.Incarnation()
			closeOK(t, log)
			edit(fs, dir+"/incarnation", change)
			opts := options(fs)
			opts.Rand = bytes.NewReader(bytes.Repeat([]byte{7}, 1000))
			log = open(t, opts)
			if after, fresh := log.Incarnation(); after == before || !fresh {
				t.Fatal(after, fresh)
			}
			if got, report := replay(t, log); len(got) != 9 || !report.Complete() {
				t.Fatalf("%v %+v", got, report)
			}
		})
	}
}

func TestLaterVersionIsRefused(t *testing.T) {
	fs := threeSegments(t, true)
	edit(fs, two, func(b []byte) []byte { return wal.HeaderForTest(2, 4) })
	if _, err := wal.Open(dir, options(fs)); err == nil || !strings.Contains(err.Error(), "format version 2, this program reads version 1") {
		t.Fatal(err)
	}
}

// The report is bounded, and covers what it does not list.
func TestReportIsBounded(t *testing.T) {
	fs := waltest.New()
	opts := options(fs)
	log := open(t, opts)
	const n = 10000
	tickets := make([]*wal.Ticket, 0, n)
	for range n {
		ticket, err := log.Begin(t.Context(), 1, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	for _, ticket := range tickets {
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	closeOK(t, log)
	edit(fs, one, func(b []byte) []byte {
		for i := 0; i < n-1; i += 2 {
			b[segmentHeader+i*(recordHeader+1)+recordHeader] ^= 1
		}
		return b
	})
	log = open(t, opts)
	got, report := replay(t, log)
	last := report.Damage[len(report.Damage)-1]
	if len(got) != n/2 || len(report.Damage) > 5000 || last.LastLSN != n-1 || last.Offset+last.Bytes != segmentHeader+(n-1)*(recordHeader+1) {
		t.Fatalf("%d %d %+v", len(got), len(report.Damage), last)
	}
}
