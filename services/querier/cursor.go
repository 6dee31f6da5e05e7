package querier

import (
	"encoding/base64"
	"encoding/json"
	"hash/fnv"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// position is a place in the append order of one incarnation of an ingester.
type position struct {
	Incarnation string `json:"i"`
	Position    uint64 `json:"p"`
	Done        bool   `json:"d,omitempty"` // nothing is owed behind it: the ingester has left, or is about to
}

// place is where a position is.
func (p position) place() position { return position{Incarnation: p.Incarnation, Position: p.Position} }

// tailCursor is where a tail can go on: the position at each ingester, and the
// entries that were sent and may still come from another replica.
type tailCursor struct {
	Version   int                 `json:"v"`
	Query     uint64              `json:"q"` // hash of the query's text
	Positions map[string]position `json:"a"` // by ingester
	Pending   []uint64            `json:"s,omitempty"`
	Began     int64               `json:"b,omitempty"` // when the tail did, by the clock of the querier where
	History   *tailHistory        `json:"h,omitempty"` // what is not over of it
}

const (
	cursorVersion = 1
	// historyVersion is that of cursors within history.
	historyVersion = 2
	maxCursor      = 256 << 10
	// maxPending is how many entries a cursor names. Beyond that an entry that was
	// sent may be sent again after a resumption.
	maxPending = 4096
)

func queryHash(q *syntax.LogSelector) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(q.String())) // never fails
	return h.Sum64()
}

func encodeCursor(q *syntax.LogSelector, c tailCursor) string {
	c.Version, c.Query = cursorVersion, queryHash(q)
	if c.History != nil && !c.History.Done {
		c.Version = historyVersion
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "" // cannot be: numbers and strings only
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeCursor returns the cursor of an earlier tail of the same query, or an empty
// one for an empty text.
func decodeCursor(text string, q *syntax.LogSelector) (*tailCursor, error) {
	c := &tailCursor{Positions: map[string]position{}}
	if text == "" {
		return c, nil
	}
	bad := rpcerr.New(ReasonCursor, "the cursor is not one of this query")
	bad.Code = 3 // INVALID_ARGUMENT
	if len(text) > maxCursor {
		return nil, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, bad
	}
	if err := json.Unmarshal(b, c); err != nil || c.Version < cursorVersion || c.Version > historyVersion || c.Query != queryHash(q) || c.Positions == nil || len(c.Pending) > maxPending {
		return nil, bad
	}
	if h := c.History; h != nil && (len(h.Shown)%8 != 0 || len(h.Shown) > 8*maxShown) {
		return nil, bad
	}
	return c, nil
}
