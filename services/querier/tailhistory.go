package querier

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
)

// maxShown is how many entries of history a cursor names. What was sent before these may be
// sent again after a resumption.
const maxShown = 6000

// tailHistory is history that a tail sends first, and what it has sent of it.
type tailHistory struct {
	Start, End int64
	Limit      uint32
	Done       bool     // all was sent; what was may come again from ingesters
	Shown      []uint64 // contentKeys of what was sent
}

// historyOf returns what is still to be sent of a request's history, or nil. What is
// appended while it is read is noticed by now.
func (t *tail) historyOf(req *tailv1.TailRequest) *tailHistory {
	if h := t.cursor.History; h != nil {
		for _, key := range h.Shown {
			t.seen.shown(key)
		}
		if h.Done {
			return nil
		}
		return h
	}
	if req.GetStart() == nil {
		return nil
	}
	// What clients whose clocks are ahead have pushed by now does not come again, either.
	start, end := req.GetStart().AsTime(), t.service.deps.Now()
	if ahead := min(end.Add(t.sc.limits.MaxFuture).Sub(start), t.sc.limits.MaxQueryRange); ahead > end.Sub(start) {
		end = start.Add(ahead)
	}
	h := &tailHistory{Start: nanos(start), End: nanos(end), Limit: req.GetLimit()}
	if h.Limit == 0 {
		h.Limit = defaultLimit
	}
	t.cursor.History = h
	return h
}

// history sends the newest entries before its end that were not sent.
func (t *tail) history(h *tailHistory) error {
	res, _, err := t.service.runRange(t.ctx, &queryv1.QueryRangeRequest{
		Query: t.query.String(), Start: timestamppb.New(time.Unix(0, h.Start)), End: timestamppb.New(time.Unix(0, h.End)),
		Limit: h.Limit, Direction: queryv1.Direction_DIRECTION_BACKWARD,
	}, nil, nil)
	if err != nil {
		return err
	}
	for _, text := range res.Warnings {
		t.dropped = append(t.dropped, &tailv1.Dropped{Reason: text})
	}
	left, found, oldest := 0, 0, h.End
	for i := range res.Streams {
		st := &res.Streams[i]
		for k := range st.Entries {
			oldest = min(oldest, st.Entries[k].Time)
		}
		found += len(st.Entries)
		st.Entries = slices.DeleteFunc(st.Entries, func(e engine.Entry) bool { return t.seen.wasShown(shownKey(st, &e)) })
		slices.Reverse(st.Entries)
		left += len(st.Entries)
	}
	switch full := found >= int(h.Limit); {
	case full && len(h.Shown) > 0 && oldest > h.Start:
		t.dropped = append(t.dropped, &tailv1.Dropped{Reason: "so much of the time before came while history was sent that the oldest of it may be missing"})
	case full:
		// Whoever comes back within history gets none that are older, but what has come
		// since.
		h.Start = oldest
	}
	h.Limit = uint32(max(int(h.Limit), t.sc.limits.MaxQueryEntries))
	// Whoever comes back finds from here on what has come since.
	for _, ev := range t.early {
		if _, ok := t.sent[ev.ingester]; !ok && len(ev.messages) > 0 {
			m := ev.messages[0] // it tells the position only
			t.sent[ev.ingester] = position{Incarnation: m.GetIncarnation(), Position: m.GetPosition()}
		}
	}
	err = pages(res.Streams, func(page []engine.LogStream) error {
		for i := range page {
			for k := range page[i].Entries {
				key := shownKey(&page[i], &page[i].Entries[k])
				t.seen.shown(key)
				h.Shown = append(h.Shown, key)
				left--
			}
		}
		h.Shown = h.Shown[max(0, len(h.Shown)-maxShown):]
		h.Done = left == 0
		resp := &tailv1.TailResponse{Streams: streams(page).GetStreams(), Dropped: t.dropped, Cursor: t.cursorAt(t.pending)}
		t.dropped = nil
		return t.stream.Send(resp)
	})
	h.Done = true
	t.seen.since = time.Now()
	return err
}

func shownKey(st *engine.LogStream, e *engine.Entry) uint64 {
	return contentKey(e.Time, st.Labels, e.Metadata, e.Parsed, e.Line)
}

// cursorAt is the cursor as of the last send that was whole, with what has been sent since.
func (t *tail) cursorAt(pending []uint64) string {
	c := *t.cursor
	c.Positions, c.Pending = t.sent, pending
	if h := c.History; h != nil && h.Done && len(t.seen.history) == 0 {
		c.History = nil // nothing of it comes again
	}
	return encodeCursor(t.hash, c)
}
