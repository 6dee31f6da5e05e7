package remote

import (
	"testing"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// Whatever a server sends: rows that decode can be read.
func FuzzDecodeRows(f *testing.F) {
	good, _ := proto.Marshal(&ingestv1.Rows{
		NewLabels: []*ingestv1.RowLabels{{Stream: 1, Labels: []*ingestv1.Pair{{Name: "a", Value: []byte("b")}}}},
		Labels:    []uint32{0}, Times: []int64{5}, LineEnds: []uint32{2}, Slab: []byte("hi"),
		Hashes: []uint64{7}, BatchTimes: []int64{1}, Positions: []uint32{0},
	})
	f.Add(good, false, true)
	f.Add([]byte{}, true, false)
	f.Fuzz(func(t *testing.T, b []byte, metric, identity bool) {
		var m ingestv1.Rows
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		var rows engine.ScanRows
		if decodeRows(&rows, &m, 2, metric, identity) != nil {
			return
		}
		for i := range rows.Times {
			l := rows.Labels[rows.Sets[i]]
			if l.Stream > 1 {
				t.Fatal("stream that does not exist")
			}
			_, _ = rows.BatchTimes[i], rows.Positions[i]
			if metric {
				_ = rows.Values[i]
			} else {
				_ = rows.Lines.At(i)
			}
			if identity || !metric {
				_ = rows.Hashes[i]
			}
		}
	})
}

// Whatever a server sends as streams: they are in order, and so are their runs.
func FuzzStreams(f *testing.F) {
	good, _ := proto.Marshal(&ingestv1.StreamRuns{Labels: []string{`{a="b"}`}, RunCounts: []uint32{1}, Runs: []*ingestv1.Run{{MinTime: 1, MaxTime: 2, Rows: 3}}})
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m ingestv1.StreamRuns
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		s := &session{}
		if s.addStreams(&m) != nil {
			return
		}
		for i, st := range s.streams {
			if i > 0 && s.streams[i-1].Labels.Compare(st.Labels) >= 0 {
				t.Fatal("streams out of order")
			}
			for j, r := range st.Runs {
				if r.MinTime > r.MaxTime || (j > 0 && st.Runs[j-1].MaxTime >= r.MinTime) {
					t.Fatal("runs out of order")
				}
			}
		}
	})
}
