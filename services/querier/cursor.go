package querier

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	cursorv1 "github.com/weir-logs/weir/gen/go/weir/cursor/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// position is a place in the append order of one incarnation of an ingester.
type position struct {
	Incarnation string
	Position    uint64
	Done        int64 // since when nothing is owed behind it, as the ingester has left or is about to: Unix seconds; 0: something is
}

// place is where a position is.
func (p position) place() position { return position{Incarnation: p.Incarnation, Position: p.Position} }

// tailCursor is where a tail can go on: the position at each ingester, and the
// entries that were sent and may still come from another replica.
type tailCursor struct {
	Positions map[string]position // by ingester
	Pending   []uint64
	Began     int64        // when the tail did, by the clock of the querier where
	History   *tailHistory // what is not over of it
}

const (
	// cursorVersion is that of weir.cursor.v1; those before were JSON.
	cursorVersion = 3
	maxCursor     = 256 << 10
	// maxPending is how many entries a cursor names. Beyond that an entry that was
	// sent may be sent again after a resumption.
	maxPending = 4096
	// doneFor is how long a cursor names an ingester that has left: one that comes back
	// with what it had is followed from there.
	doneFor = time.Hour
)

func queryHash(q *syntax.LogSelector) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(q.String())) // never fails
	return h.Sum64()
}

// encodeCursor encodes the cursor of the query of which hash is the queryHash.
func encodeCursor(hash uint64, c tailCursor) string {
	m := &cursorv1.TailCursor{Version: cursorVersion, Query: hash, Pending: c.Pending, Began: c.Began}
	for name, at := range c.Positions {
		m.Positions = append(m.Positions, &cursorv1.TailPosition{
			Ingester: name, Incarnation: at.Incarnation, Position: at.Position, DoneSeconds: uint64(max(at.Done, 0)),
		})
	}
	if h := c.History; h != nil {
		m.History = &cursorv1.TailHistory{Start: h.Start, End: h.End, Limit: h.Limit, Done: h.Done, Shown: h.Shown}
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return "" // a name that is no UTF-8, which no member has
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
	var m cursorv1.TailCursor
	if len(b) > 0 && b[0] == '{' {
		err = decodeJSONCursor(b, &m)
	} else {
		err = proto.Unmarshal(b, &m)
	}
	if err != nil || m.GetVersion() == 0 || m.GetVersion() > cursorVersion || m.GetQuery() != queryHash(q) ||
		len(m.GetPending()) > maxPending || len(m.GetHistory().GetShown()) > maxShown {
		return nil, bad
	}
	c.Pending, c.Began = m.GetPending(), m.GetBegan()
	for _, at := range m.GetPositions() {
		c.Positions[at.GetIngester()] = position{at.GetIncarnation(), at.GetPosition(), int64(min(at.GetDoneSeconds(), math.MaxInt64))}
	}
	if h := m.GetHistory(); h != nil {
		c.History = &tailHistory{Start: h.GetStart(), End: h.GetEnd(), Limit: h.GetLimit(), Done: h.GetDone(), Shown: h.GetShown()}
	}
	return c, nil
}

// decodeJSONCursor reads what earlier versions gave out.
func decodeJSONCursor(b []byte, m *cursorv1.TailCursor) error {
	var c struct {
		Version   uint32 `json:"v"`
		Query     uint64 `json:"q"`
		Positions map[string]struct {
			Incarnation string `json:"i"`
			Position    uint64 `json:"p"`
			Done        bool   `json:"d"`
		} `json:"a"`
		Pending []uint64 `json:"s"`
		Began   int64    `json:"b"`
		History *struct {
			Start int64  `json:"s"`
			End   int64  `json:"e"`
			Limit uint32 `json:"l"`
			Done  bool   `json:"d"`
			Shown []byte `json:"k"` // 8 bytes each
		} `json:"h"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	m.Version, m.Query, m.Pending, m.Began = c.Version, c.Query, c.Pending, c.Began
	for name, at := range c.Positions {
		p := &cursorv1.TailPosition{Ingester: name, Incarnation: at.Incarnation, Position: at.Position}
		if at.Done {
			p.DoneSeconds = uint64(time.Now().Unix())
		}
		m.Positions = append(m.Positions, p)
	}
	if h := c.History; h != nil {
		m.History = &cursorv1.TailHistory{Start: h.Start, End: h.End, Limit: h.Limit, Done: h.Done}
		for key := range slices.Chunk(h.Shown[:len(h.Shown)/8*8], 8) {
			m.History.Shown = append(m.History.Shown, binary.LittleEndian.Uint64(key))
		}
	}
	return nil
}
