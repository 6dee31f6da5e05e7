package lokiapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

const (
	maxDelay     = 5 // seconds
	defaultTail  = 100
	frameEntries = 100
	pingEvery    = time.Second
	// pingTimeout is how long a client may take to answer, writeTimeout to take a
	// frame.
	pingTimeout  = 30 * time.Second
	writeTimeout = 30 * time.Second
	// maxCloseText is the most bytes of text in a close frame.
	maxCloseText = 123
)

// tail follows logs over a WebSocket. What is wrong with a request is said before the
// upgrade, what happens later in the close frame.
func (a *API) tail(w http.ResponseWriter, r *http.Request) {
	req, err := a.tailRequest(r)
	if err != nil {
		writeError(w, err, "")
		return
	}
	select {
	case a.tails <- struct{}{}:
	default:
		writeError(w, rpcerr.New(rpcerr.Overloaded, "too many live tails: at most %d are served", cap(a.tails)).WithRetry(time.Second), "")
		return
	}
	defer func() { <-a.tails }()
	a.deps.Tails.Inc()
	defer a.deps.Tails.Dec()
	// Loki takes any origin, and Grafana's live view comes from its own.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow() //nolint:errcheck // it is closed
	flags, categorize := encodingFlags(r)
	// The context of a read or write that ends closes the connection, so the request's
	// is the one for those: what ends a tail still has a close frame to send.
	client := c.CloseRead(r.Context()) // ends when the client goes away, or sends data
	pings := make(chan struct{})
	go func() {
		defer close(pings)
		ping(client, c)
	}()
	err = a.follow(client, c, req, flags, categorize)
	code, text := websocket.StatusNormalClosure, ""
	if !errors.Is(err, io.EOF) {
		code, text = websocket.StatusInternalError, closeText(err)
	}
	_ = c.Close(code, text) // the client may be gone
	<-pings
}

func (a *API) tailRequest(r *http.Request) (*tailv1.TailRequest, error) {
	if _, err := tenant.Require(r.Context()); err != nil {
		return nil, err // a tail is of one
	}
	if err := r.ParseForm(); err != nil {
		return nil, badParam("%v", err)
	}
	query := r.Form.Get("query")
	if most := int(a.limits(r).MaxQueryText); len(query) > most {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(query), most)
	}
	if _, err := syntax.ParseLogQuery(query); err != nil {
		return nil, rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	limit, err := limitParam(r, "limit")
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = defaultTail
	}
	if s := r.Form.Get("delay_for"); s != "" {
		delay, err := strconv.Atoi(s)
		if err != nil {
			return nil, badParam("%v", err)
		}
		if delay < 0 || delay > maxDelay {
			return nil, badParam("delay_for can't be greater than %d", maxDelay)
		}
	}
	start, err := timeParam(r, "start")
	if err != nil {
		return nil, err
	}
	if start == nil {
		start = timestamppb.New(a.deps.Now().Add(-time.Hour))
	}
	return &tailv1.TailRequest{Query: query, Start: start, Limit: limit}, nil
}

// follow sends frames until something ends, io.EOF if that was the tail itself.
func (a *API) follow(client context.Context, c *websocket.Conn, req *tailv1.TailRequest, flags []string, categorize bool) error {
	ctx, cancel := context.WithCancel(client)
	defer cancel()
	stream, err := a.deps.Tail.Tail(ctx, req)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, frame := range cutFrames(m) {
			wctx, done := context.WithTimeout(client, writeTimeout)
			err := c.Write(wctx, websocket.MessageText, appendFrame(nil, frame, flags, categorize))
			done()
			if err != nil {
				return err
			}
		}
	}
}

// ping shows proxies that the connection lives, and us that the client does. It
// returns when the connection is closed.
func ping(client context.Context, c *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-client.Done():
			return
		}
		ctx, done := context.WithTimeout(client, pingTimeout)
		err := c.Ping(ctx)
		done()
		if err != nil {
			_ = c.CloseNow() // it does not answer
			return
		}
	}
}

// cutFrames cuts a message into ones of at most frameEntries entries. One that only
// moves the cursor makes none.
func cutFrames(m *tailv1.TailResponse) []*tailv1.TailResponse {
	var out []*tailv1.TailResponse
	cur := &tailv1.TailResponse{Dropped: m.GetDropped()}
	n := 0
	flush := func() {
		if n > 0 || len(cur.GetDropped()) > 0 {
			out = append(out, cur)
		}
		cur, n = &tailv1.TailResponse{}, 0
	}
	for _, s := range m.GetStreams() {
		rest := s.GetEntries()
		for len(rest) > 0 {
			take := min(len(rest), frameEntries-n)
			cur.Streams = append(cur.Streams, &queryv1.LogStream{Labels: s.GetLabels(), Entries: rest[:take]})
			rest = rest[take:]
			if n += take; n == frameEntries {
				flush()
			}
		}
	}
	flush()
	return out
}

func appendFrame(b []byte, m *tailv1.TailResponse, flags []string, categorize bool) []byte {
	g := newGrouping(categorize)
	for _, s := range m.GetStreams() {
		g.add(s)
	}
	b, _ = g.append(append(b, `{"streams":`...), nil) // without a writer nothing fails
	for i, d := range m.GetDropped() {
		if i == 0 {
			b = append(b, `,"dropped_entries":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, `{"timestamp":"`...)
		if d.GetFrom() != nil {
			b = strconv.AppendInt(b, d.GetFrom().AsTime().UnixNano(), 10)
		} else {
			b = append(b, '0')
		}
		// Loki names entries one by one; Weir says how many there were.
		b = strconv.AppendUint(append(b, `","labels":{},"entries":`...), d.GetEntries(), 10)
		b = appendString(append(b, `,"reason":`...), d.GetReason())
		b = append(b, '}')
	}
	if len(m.GetDropped()) > 0 {
		b = append(b, ']')
	}
	if len(flags) > 0 {
		b = append(b, `,"encodingFlags":`...)
		b = appendStrings(b, flags)
	}
	return append(b, '}')
}

// closeText is an error's text as far as a close frame holds it.
func closeText(err error) string {
	s := strings.ToValidUTF8(rpcerr.Table(nil).ToError(err).Error(), "\uFFFD")
	if len(s) <= maxCloseText {
		return s
	}
	cut := maxCloseText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
