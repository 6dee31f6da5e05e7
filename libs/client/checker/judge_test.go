package checker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

func TestLine(t *testing.T) {
	e := Entry{ID{3, 17}, 5, 1_700_000_000_000_000_001}
	for _, size := range []int{0, 100, 10_000} {
		line := e.Line(size)
		if len(line) < size || len(line) > max(size, 100) {
			t.Errorf("line of %d bytes, asked for %d", len(line), size)
		}
		got, err := ParseLine(line)
		if err != nil || got != e {
			t.Fatalf("%q: %+v %v", line, got, err)
		}
		for i := range line {
			bad := bytes.Clone(line)
			bad[i] ^= 4
			if _, err := ParseLine(bad); err == nil {
				t.Fatalf("a flipped bit in byte %d goes unseen", i)
			}
			if _, err := ParseLine(line[:i]); err == nil {
				t.Fatalf("a line cut to %d bytes goes unseen", i)
			}
		}
	}
}

// TestJudge breaks each promise once in a history that is right otherwise.
func TestJudge(t *testing.T) {
	entry := func(w, q uint32, time int64) Entry { return Entry{ID{w, q}, 1, time} }
	var (
		a, b, c  = entry(0, 0, 10), entry(0, 1, 20), entry(0, 2, 20) // acknowledged; b and c of one time
		other    = entry(1, 0, 20)                                   // of another writer
		refused  = entry(0, 3, 30)
		unknown  = entry(0, 4, 40)
		late     = entry(0, 5, 50) // acknowledged after the read began
		never    = entry(2, 7, 60)
		misdated = entry(0, 1, 21)
	)
	history := func() (*History, Mark) {
		h := &History{}
		h.Sent([]Entry{a, b, c, other, refused, unknown, late})
		for _, e := range []Entry{a, b, c, other} {
			h.Acked(e)
		}
		h.Refused(refused)
		mark := h.Mark()
		h.Acked(late)
		return h, mark
	}
	right := []Entry{a, b, other, c}
	for _, x := range []struct {
		name     string
		backward bool
		rows     []Entry
		stream   string
		gone     map[ID]bool
		want     Verdict
	}{
		{name: "right", rows: right},
		{name: "other interleaving", rows: []Entry{a, b, c, other}},
		{name: "right, backward", backward: true, rows: []Entry{c, other, b, a}},
		{name: "unknown is there", rows: append(slices.Clone(right), unknown, late), want: Verdict{UnknownPresent: 1}},
		{name: "lost", rows: []Entry{a, b, c}, want: Verdict{Lost: 1}},
		{name: "all lost", want: Verdict{Lost: 4}},
		{name: "lost as announced", rows: []Entry{a, b, c}, gone: map[ID]bool{other.ID: true}},
		{name: "gone is there", rows: right, gone: map[ID]bool{other.ID: true}, want: Verdict{Phantom: 1}},
		{name: "duplicate", rows: []Entry{a, b, b, c, other}, want: Verdict{Duplicate: 1}},
		{name: "unknown twice", rows: append(slices.Clone(right), unknown, unknown), want: Verdict{UnknownPresent: 1, Duplicate: 1}},
		{name: "refused is there", rows: append([]Entry{}, a, b, other, c, refused), want: Verdict{Phantom: 1}},
		{name: "never sent", rows: append(slices.Clone(right), never), want: Verdict{Phantom: 1}},
		{name: "sent with another time", rows: []Entry{a, b, other, c, misdated}, want: Verdict{Phantom: 1}},
		{name: "wrong stream", rows: right, stream: "2", want: Verdict{Corrupt: 4}},
		{name: "times out of order", rows: []Entry{b, a, c, other}, want: Verdict{Reorder: 1}},
		{name: "equal times out of order", rows: []Entry{a, c, b, other}, want: Verdict{Reorder: 1}},
		{name: "forward where backward was asked", backward: true, rows: []Entry{a, b, c, other}, want: Verdict{Reorder: 2}},
	} {
		t.Run(x.name, func(t *testing.T) {
			h, mark := history()
			r := &Read{Backward: x.backward}
			stream := "1"
			if x.stream != "" {
				stream = x.stream
			}
			for _, e := range x.rows {
				r.Add(stream, e.Time, e.Line(0))
			}
			r.EndPage()
			v := h.Judge(mark, r, x.gone)
			if v.Broken() > 0 != (v.Err() != nil) {
				t.Errorf("error is %v", v.Err())
			}
			x.want.Acked, x.want.Rows = 4, len(x.rows)
			x.want.UnknownAbsent = 1 - min(1, x.want.UnknownPresent)
			v.Examples = nil
			if fmt.Sprint(v) != fmt.Sprint(x.want) {
				t.Errorf("got  %s\nwant %s", v, x.want)
			}
		})
	}
}

func TestPages(t *testing.T) {
	read := func(backward bool, pages ...[]int64) *Read {
		r := &Read{Backward: backward}
		for _, p := range pages {
			for i, at := range p {
				e := Entry{ID{0, uint32(i)}, 0, at}
				r.Add("0", at, e.Line(0))
			}
			r.EndPage()
		}
		return r
	}
	for _, x := range []struct {
		backward bool
		pages    [][]int64
		wrong    int
	}{
		{false, [][]int64{{1, 2}, {2, 3}, {4}}, 0},
		{false, [][]int64{{1, 3}, {2, 4}}, 1},
		{true, [][]int64{{4, 3}, {3, 2}}, 0},
		{true, [][]int64{{4, 2}, {3, 1}}, 1},
	} {
		if got := len(read(x.backward, x.pages...).wrong); got != x.wrong {
			t.Errorf("%v: %d wrong pages, want %d", x.pages, got, x.wrong)
		}
	}
	var v Verdict
	v.Compare(read(false, []int64{1, 2}), read(false, []int64{1}, []int64{2}))
	if v.Differ != 1 { // the second page numbers its entries anew
		t.Errorf("differences: %+v", v)
	}
	v = Verdict{Rows: 2}
	v.Count(2)
	v.Count(3)
	v.Count(1)
	if v.Differ != 1 || v.Short != 1 {
		t.Errorf("counts: %+v", v)
	}
}

// store is a Sink with faults to be found.
type store struct {
	mu      sync.Mutex
	n       int
	rows    map[string][]taken
	seen    map[string]bool
	drop    int // loses every n-th entry
	double  bool
	lenient bool // takes what must be refused
	fail    int  // every n-th request fails, half of them after they were stored
}

// taken is an entry and when its batch was made, which orders entries of one time:
// a batch that comes late, because an earlier try of it failed, is no newer for it.
type taken struct {
	*pushv1.Entry
	batch int64
}

func (s *store) Push(_ context.Context, req *pushv1.PushRequest) (*pushv1.PushResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	failing := s.fail > 0 && s.n%s.fail == 0
	if failing && s.n%2 == 0 {
		return nil, status.Error(codes.Unavailable, "not stored")
	}
	resp := &pushv1.PushResponse{}
	for i, st := range req.GetStreams() {
		for k, e := range st.GetEntries() {
			if !s.lenient && e.GetTimestampUnixNano() > time.Now().Add(10*time.Minute).UnixNano() {
				resp.RejectedEntries++
				resp.Rejections = append(resp.Rejections, &pushv1.Rejection{Stream: uint32(i), Entry: uint32(k), Count: 1})
				continue
			}
			resp.AcceptedEntries++
			if s.seen[e.GetText()] && !s.double {
				continue
			}
			s.seen[e.GetText()] = true
			if s.drop > 0 && len(s.seen)%s.drop == 0 {
				continue
			}
			name := st.GetLabels()["stream"]
			s.rows[name] = append(s.rows[name], taken{e, req.GetBatchTimeUnixNano()})
		}
	}
	if failing {
		return nil, errors.New("connection lost")
	}
	return resp, nil
}

func (s *store) read() *Read {
	r := &Read{}
	for name, rows := range s.rows {
		slices.SortStableFunc(rows, func(a, b taken) int {
			return cmp.Or(cmp.Compare(a.GetTimestampUnixNano(), b.GetTimestampUnixNano()), cmp.Compare(a.batch, b.batch))
		})
		for _, e := range rows {
			r.Add(name, e.GetTimestampUnixNano(), []byte(e.GetText()))
		}
	}
	r.EndPage()
	return r
}

// TestLoad runs a load against a store in memory that is right, and against some
// that are not.
func TestLoad(t *testing.T) {
	for _, x := range []struct {
		name  string
		store *store
		want  func(v Verdict, l *Load) bool
	}{
		{"right", &store{fail: 7}, func(v Verdict, l *Load) bool {
			p := l.Pushes()
			return v.Err() == nil && l.Err() == nil && v.Acked > 1000 && v.UnknownPresent > 0 && v.UnknownAbsent > 0 && p.Resent > 0 && p.Failed > 0
		}},
		{"drops one in 500", &store{drop: 500}, func(v Verdict, _ *Load) bool { return v.Lost > 0 && v.Duplicate == 0 }},
		{"doubles what is sent again", &store{double: true}, func(v Verdict, _ *Load) bool { return v.Duplicate > 0 && v.Lost == 0 }},
		{"refuses nothing", &store{lenient: true}, func(_ Verdict, l *Load) bool { return l.Err() != nil }},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.store.rows, x.store.seen = map[string][]taken{}, map[string]bool{}
			l := &Load{Sink: x.store, History: &History{}, Resend: true, Batch: 10, Pause: time.Microsecond, Seed: 1}
			stop := l.Start()
			for l.Pushes().Stored < 1200 {
				time.Sleep(time.Millisecond)
			}
			stop()
			v := l.History.Judge(l.History.Mark(), x.store.read(), nil)
			if !x.want(v, l) {
				t.Errorf("%s; %+v; %v", v, l.Pushes(), l.Err())
			}
		})
	}
}

// All that is counted is counted together, too.
func TestVerdictsAreAdded(t *testing.T) {
	var one, sum Verdict
	v := reflect.ValueOf(&one).Elem()
	for i := range v.NumField() {
		if v.Field(i).CanInt() {
			v.Field(i).SetInt(int64(i + 1))
		}
	}
	sum.Add(one)
	if !reflect.DeepEqual(sum, one) {
		t.Errorf("%+v", sum)
	}
}
