package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
)

// GELF receives Graylog's messages over UDP (plain, gzip, zlib, in chunks) and, at
// the same address, over TCP (each ended by a zero byte).
type GELF struct {
	h   *Hub
	cfg *config.GELF
}

// NewGELF makes a GELF.
func NewGELF(h *Hub, cfg *config.GELF) *GELF { return &GELF{h: h, cfg: cfg} }

const (
	maxGELF       = 1 << 20 // of a message, decompressed
	maxChunks     = 128
	maxUnfinished = 1000
	chunkWait     = 5 * time.Second
)

// Run implements Source.
func (g *GELF) Run(ctx context.Context) error {
	addr := g.cfg.Listen
	if addr == "" {
		addr = ":12201"
	}
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	lis, err := net.Listen("tcp", c.LocalAddr().String())
	if err != nil {
		return err
	}
	g.h.log().Info("listening for GELF", "address", c.LocalAddr().String())
	tcp := make(chan struct{})
	go func() {
		defer close(tcp)
		_ = serveConns(ctx, lis, 1000, func() { g.h.Count("gelf", "too_many_connections") }, g.conn)
	}()
	defer func() { _ = lis.Close(); <-tcp }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	p := g.h.Open("gelf", "udp "+c.LocalAddr().String(), "")
	defer g.h.Done(p)
	if u, ok := c.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(4 << 20)
	}
	buf := make([]byte, 64<<10)
	chunks := newChunks()
	for {
		n, _, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		msg, ok := chunks.add(buf[:n], time.Now())
		if !ok {
			continue
		}
		g.message(ctx, p, msg)
	}
}

func (g *GELF) conn(ctx context.Context, c net.Conn) {
	p := g.h.Open("gelf", c.RemoteAddr().String(), "")
	defer g.h.Done(p)
	var buf []byte
	part := make([]byte, 64<<10)
	for {
		if ctx.Err() == nil {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Minute))
		}
		n, err := c.Read(part)
		buf = append(buf, part[:n]...)
		for {
			i := bytes.IndexByte(buf, 0)
			if i < 0 {
				break
			}
			if i > 0 {
				g.message(ctx, p, buf[:i])
			}
			buf = buf[i+1:]
		}
		if err != nil && len(buf) > 0 && errors.Is(err, io.EOF) {
			g.message(ctx, p, buf)
		}
		if err != nil || ctx.Err() != nil {
			return
		}
		if len(buf) > maxGELF {
			g.h.Count("gelf", "too_large")
			return
		}
	}
}

// message decompresses a message and puts it.
func (g *GELF) message(ctx context.Context, p *Port, b []byte) {
	text, err := inflate(b)
	if err != nil {
		g.h.Count("gelf", "parse")
		return
	}
	e, labels, err := ParseGELF(text, time.Now())
	if err != nil {
		g.h.Count("gelf", "parse")
		return
	}
	maps.Copy(labels, g.cfg.Labels)
	set, ok := g.h.Relabel.Set(labels)
	if !ok {
		return
	}
	e.Labels = set
	if !g.cfg.IncomingTime {
		e.Time, e.OwnTime = time.Now().UnixNano(), false
	}
	_ = p.Put(ctx, []entry.Entry{e}, "")
}

func inflate(b []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b:
		r, err = gzip.NewReader(bytes.NewReader(b))
	case len(b) > 2 && b[0]&0x0f == 8 && (int(b[0])<<8|int(b[1]))%31 == 0:
		r, err = zlib.NewReader(bytes.NewReader(b))
	default:
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxGELF+1))
	if err == nil && len(out) > maxGELF {
		err = errors.New("gelf: too large")
	}
	return out, err
}

// ParseGELF reads a message. The line is its text; the labels are those that
// relabelling sees. Without a level it is an alert, as GELF says.
func ParseGELF(b []byte, now time.Time) (e entry.Entry, labels map[string]string, err error) {
	var m struct {
		Version, Host, Facility string
		Timestamp               json.Number
		Level                   *int
	}
	b = bytes.TrimSpace(b)
	if err := json.Unmarshal(b, &m); err != nil {
		return e, nil, err
	}
	if len(b) == 0 || b[0] != '{' {
		return e, nil, errors.New("gelf: no object")
	}
	level := 1
	if m.Level != nil {
		level = *m.Level
	}
	labels = map[string]string{}
	set := func(n, v string) {
		if v != "" {
			labels["__gelf_message_"+n] = v
		}
	}
	names := [...]string{"emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"}
	if level >= 0 && level < len(names) {
		set("level", names[level])
	}
	set("host", m.Host)
	set("version", m.Version)
	set("facility", m.Facility)
	e = entry.Entry{Line: append([]byte(nil), b...), Time: now.UnixNano()}
	if s := m.Timestamp.String(); s != "" {
		if f, err := strconv.ParseFloat(s, 64); err == nil && f > 0 && f < math.MaxInt64/1e9 {
			e.Time, e.OwnTime = int64(math.Round(f*1e6))*1000, true
		}
	}
	return e, labels, nil
}

// chunks puts messages together that come in several datagrams.
type chunks struct {
	open map[[8]byte]*unfinished
}

type unfinished struct {
	parts [][]byte
	have  int
	since time.Time
}

func newChunks() *chunks { return &chunks{open: map[[8]byte]*unfinished{}} }

// add takes a datagram and gives a message that it completes, or is.
func (c *chunks) add(b []byte, now time.Time) ([]byte, bool) {
	if len(b) < 12 || b[0] != 0x1e || b[1] != 0x0f {
		return b, len(b) > 0
	}
	var id [8]byte
	copy(id[:], b[2:10])
	n, count := int(b[10]), int(b[11])
	if count == 0 || count > maxChunks || n >= count {
		return nil, false
	}
	for k, u := range c.open {
		if now.Sub(u.since) > chunkWait {
			delete(c.open, k)
		}
	}
	u := c.open[id]
	if u == nil {
		if len(c.open) >= maxUnfinished {
			return nil, false
		}
		u = &unfinished{parts: make([][]byte, count), since: now}
		c.open[id] = u
	}
	if len(u.parts) != count || u.parts[n] != nil {
		return nil, false
	}
	u.parts[n] = append([]byte{}, b[12:]...)
	if u.have++; u.have < count {
		return nil, false
	}
	delete(c.open, id)
	return bytes.Join(u.parts, nil), true
}
