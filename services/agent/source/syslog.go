package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/syslog"
)

// Syslog receives syslog messages over TCP, with or without TLS, or UDP.
type Syslog struct {
	h   *Hub
	cfg *config.Syslog
	tls *tls.Config
}

// NewSyslog makes a Syslog; tc may be nil.
func NewSyslog(h *Hub, cfg *config.Syslog, tc *tls.Config) (*Syslog, error) {
	switch cfg.Protocol {
	case "", "tcp":
	case "udp":
		if tc != nil {
			return nil, errors.New("syslog: TLS is for tcp only")
		}
	default:
		return nil, fmt.Errorf("syslog: listen_protocol %q is neither tcp nor udp", cfg.Protocol)
	}
	switch cfg.Format {
	case "", "rfc5424", "rfc3164":
	default:
		return nil, fmt.Errorf("syslog: syslog_format %q is neither rfc5424 nor rfc3164", cfg.Format)
	}
	return &Syslog{h: h, cfg: cfg, tls: tc}, nil
}

func (s *Syslog) maxMessage() int { return max(cmp.Or(s.cfg.MaxMessage, 8192), 64) }

// Run implements Source.
func (s *Syslog) Run(ctx context.Context) error {
	if s.cfg.Protocol == "udp" {
		return s.udp(ctx)
	}
	lis, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return err
	}
	if s.tls != nil {
		lis = tls.NewListener(lis, s.tls)
	}
	s.h.log().Info("listening for syslog", "address", lis.Addr().String(), "tls", s.tls != nil)
	p := s.h.Open("syslog", "tcp "+lis.Addr().String(), "")
	defer s.h.Done(p)
	return serveConns(ctx, lis, cmp.Or(s.cfg.MaxConnections, 1000), func() { s.h.Count("syslog", "too_many_connections") }, s.conn)
}

// serveConns calls serve for each connection, for at most limit at a time, until
// ctx ends.
func serveConns(ctx context.Context, lis net.Listener, limit int, refused func(), serve func(context.Context, net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { _ = lis.Close() })
	defer stop()
	defer lis.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, limit)
	for {
		c, err := lis.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			select { // such as too many open files
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			refused()
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
			defer stop()
			serve(ctx, c)
		})
	}
}

// conn reads a connection to its end. Whatever waits on it when the agent stops is
// for the sender to send again: syslog has no acknowledgement.
func (s *Syslog) conn(ctx context.Context, c net.Conn) {
	p := s.h.Open("syslog", c.RemoteAddr().String(), "")
	defer s.h.Done(p)
	base := s.peer(c.RemoteAddr())
	limit := s.maxMessage()
	buf := make([]byte, 0, 2*limit+16<<10)
	idle := cmp.Or(s.cfg.IdleTimeout, 2*time.Minute)
	var ents []entry.Entry
	skip := 0 // bytes to leave out; -1: up to a newline
	for ended := false; !ended; {
		if ctx.Err() == nil {
			_ = c.SetReadDeadline(time.Now().Add(idle))
			if ctx.Err() != nil { // it ended meanwhile
				_ = c.SetReadDeadline(time.Now())
			}
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		ended = err != nil
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				s.h.Count("syslog", "idle")
			} else {
				s.h.Count("syslog", "connection")
			}
		}
		now := time.Now()
		used := 0
		ents = ents[:0]
		for {
			rest := buf[used:]
			if skip < 0 {
				i := bytes.IndexByte(rest, '\n')
				if i < 0 {
					used = len(buf)
					break
				}
				used, skip = used+i+1, 0
				continue
			}
			if skip > 0 {
				k := min(skip, len(rest))
				used, skip = used+k, skip-k
				if skip > 0 {
					break
				}
				continue
			}
			msg, n, more, err := syslog.Frame(rest, limit, ended)
			if err != nil {
				s.h.Count("syslog", "framing")
				s.h.log().Warn("a syslog connection cannot be understood; closing it", "peer", c.RemoteAddr().String(), "begins", string(rest[:min(len(rest), 40)]))
				ended = true
				break
			}
			if n == 0 {
				break
			}
			if more != 0 {
				s.h.Count("syslog", "cut")
			}
			used, skip = used+n, more
			if len(msg) > 0 {
				ents = s.entry(ents, msg, base, now)
			}
		}
		if len(ents) > 0 {
			if err := p.Put(ctx, ents, ""); err != nil {
				return
			}
		}
		buf = buf[:copy(buf, buf[used:])]
	}
}

func (s *Syslog) udp(ctx context.Context) error {
	c, err := net.ListenPacket("udp", s.cfg.Listen)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	s.h.log().Info("listening for syslog", "address", c.LocalAddr().String(), "protocol", "udp")
	p := s.h.Open("syslog", "udp "+c.LocalAddr().String(), "")
	defer s.h.Done(p)
	if u, ok := c.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(4 << 20)
	}
	limit := s.maxMessage()
	buf := make([]byte, limit+1)
	var ents []entry.Entry
	for {
		n, from, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			s.h.Count("syslog", "connection")
			continue
		}
		if n > limit {
			n = limit
			s.h.Count("syslog", "cut")
		}
		msg := bytes.TrimRight(buf[:n], "\r\n\x00")
		if len(msg) == 0 {
			continue
		}
		if ents = s.entry(ents[:0], msg, s.peer(from), time.Now()); len(ents) > 0 {
			if err := p.Put(ctx, ents, ""); err != nil {
				return nil
			}
		}
	}
}

// peer gives the labels that a connection has.
func (s *Syslog) peer(a net.Addr) map[string]string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		host = a.String()
	}
	m := maps.Clone(s.cfg.Labels)
	if m == nil {
		m = map[string]string{}
	}
	m["__syslog_connection_ip_address"], m["__syslog_connection_hostname"] = host, host
	return m
}

// entry appends a message as an entry, unless it is none, or none is wanted.
func (s *Syslog) entry(ents []entry.Entry, b []byte, base map[string]string, now time.Time) []entry.Entry {
	var m syslog.Message
	var err error
	if s.cfg.Format == "rfc3164" {
		m, err = syslog.Parse3164(b, now)
	} else if m, err = syslog.Parse5424(b); err != nil {
		if m, err = syslog.Parse3164(b, now); err == nil {
			s.h.Count("syslog", "rfc3164")
		}
	}
	if err != nil {
		s.h.Count("syslog", "parse")
		return ents
	}
	if m.Text == nil && !s.cfg.WholeMessage {
		s.h.Count("syslog", "empty")
		return ents
	}
	labels := maps.Clone(base)
	for n, v := range map[string]string{
		"severity": m.Severity(), "facility": m.Facility(), "hostname": m.Hostname, "app_name": m.AppName, "proc_id": m.ProcID, "msg_id": m.MsgID,
	} {
		if v != "" {
			labels["__syslog_message_"+n] = v
		}
	}
	if s.cfg.StructuredData {
		for _, e := range m.Data {
			for _, p := range e.Params {
				labels["__syslog_message_sd_"+strings.ReplaceAll(e.ID, "@", "_")+"_"+p.Name] = p.Value
			}
		}
	}
	set, ok := s.h.Relabel.Set(labels)
	if !ok {
		return ents
	}
	e := entry.Entry{Labels: set, Line: m.Text, Time: now.UnixNano()}
	if s.cfg.WholeMessage {
		e.Line = b
	}
	if s.cfg.IncomingTime && !m.Time.IsZero() {
		e.Time, e.OwnTime = m.Time.UnixNano(), true
	}
	return append(ents, e)
}
