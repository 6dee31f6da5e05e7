// Package syslog reads syslog messages: RFC 5424, RFC 3164, and how they are
// framed on a connection (RFC 6587). It is pure.
package syslog

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Message is a message. Its bytes alias the input.
type Message struct {
	Priority int // facility*8 + severity
	// Time is zero if the message has none.
	Time     time.Time
	Hostname string
	AppName  string
	ProcID   string
	MsgID    string
	// Data are the structured data, in order.
	Data []Element
	// Text is the message proper, nil if there is none.
	Text []byte
}

// Element is an element of structured data.
type Element struct {
	ID     string
	Params []Param
}

// Param is a parameter of an element.
type Param struct{ Name, Value string }

var severities = [...]string{"emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"}

var facilities = [...]string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "security", "console", "cron2",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// Severity is the name of the severity.
func (m *Message) Severity() string { return severities[m.Priority&7] }

// Facility is the name of the facility.
func (m *Message) Facility() string { return facilities[m.Priority>>3] }

// ErrMessage is the error of all that is no message.
var ErrMessage = errors.New("not a syslog message")

func bad(what string) error { return &parseError{what} }

type parseError struct{ what string }

func (e *parseError) Error() string   { return ErrMessage.Error() + ": " + e.what }
func (e *parseError) Is(t error) bool { return t == ErrMessage } //nolint:errorlint // the sentinel itself

var bom = []byte("\xef\xbb\xbf")

// word takes what comes before the next space.
func word(b []byte) (w string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, ' ')
	if i <= 0 {
		return "", b, false
	}
	w = string(b[:i])
	if w == "-" {
		w = ""
	}
	return w, b[i+1:], true
}

// priority takes <n>.
func priority(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 3 || b[0] != '<' {
		return 0, b, false
	}
	end := bytes.IndexByte(b[:min(len(b), 5)], '>')
	if end < 2 {
		return 0, b, false
	}
	for _, c := range b[1:end] {
		if c < '0' || c > '9' {
			return 0, b, false
		}
		n = n*10 + int(c-'0')
	}
	return n, b[end+1:], n < 8*len(facilities)
}

// Parse5424 reads a message of RFC 5424.
func Parse5424(b []byte) (m Message, err error) {
	n, rest, ok := priority(b)
	if !ok {
		return m, bad("priority")
	}
	m.Priority = n
	version, rest, ok := word(rest)
	if !ok || len(version) > 3 || strings.Trim(version, "0123456789") != "" || version == "" || version[0] == '0' {
		return m, bad("version")
	}
	stamp, rest, ok := word(rest)
	if !ok {
		return m, bad("timestamp")
	}
	if stamp != "" {
		if m.Time, err = time.Parse(time.RFC3339Nano, stamp); err != nil {
			return m, bad("timestamp")
		}
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"hostname", &m.Hostname}, {"app-name", &m.AppName}, {"procid", &m.ProcID}, {"msgid", &m.MsgID}} {
		if *f.to, rest, ok = word(rest); !ok {
			return m, bad(f.name)
		}
	}
	if m.Data, rest, err = structured(rest); err != nil {
		return m, err
	}
	switch {
	case len(rest) == 0:
	case rest[0] != ' ':
		return m, bad("structured data")
	default:
		m.Text = bytes.TrimPrefix(rest[1:], bom)
	}
	return m, nil
}

// structured takes structured data.
func structured(b []byte) (out []Element, rest []byte, err error) {
	if len(b) > 0 && b[0] == '-' {
		return nil, b[1:], nil
	}
	if len(b) == 0 || b[0] != '[' {
		return nil, b, bad("structured data")
	}
	for len(b) > 0 && b[0] == '[' {
		end := bytes.IndexAny(b, " ]")
		if end < 2 {
			return nil, b, bad("structured data")
		}
		e := Element{ID: string(b[1:end])}
		b = b[end:]
		for len(b) > 0 && b[0] == ' ' {
			b = bytes.TrimLeft(b, " ")
			if len(b) > 0 && b[0] == ']' {
				break
			}
			eq := bytes.IndexByte(b, '=')
			if eq <= 0 || eq+1 >= len(b) || b[eq+1] != '"' || bytes.ContainsAny(b[:eq], " ]\"") {
				return nil, b, bad("structured data")
			}
			p := Param{Name: string(b[:eq])}
			b = b[eq+2:]
			var v []byte
			closed := false
			for i := 0; i < len(b); i++ {
				if b[i] == '"' {
					b, closed = b[i+1:], true
					break
				}
				if b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\' || b[i+1] == ']') {
					i++
				}
				v = append(v, b[i])
			}
			if !closed {
				return nil, b, bad("structured data")
			}
			p.Value = string(v)
			e.Params = append(e.Params, p)
		}
		if len(b) == 0 || b[0] != ']' {
			return nil, b, bad("structured data")
		}
		b = b[1:]
		out = append(out, e)
	}
	return out, b, nil
}

// Parse3164 reads a message of RFC 3164, whose time has no year and no zone: the
// year is taken so that the time is near now, the zone is now's. What has no
// header is all text.
func Parse3164(b []byte, now time.Time) (m Message, err error) {
	n, rest, ok := priority(b)
	if !ok {
		return m, bad("priority")
	}
	m.Priority = n
	if t, after, ok := stamp3164(rest, now); ok {
		m.Time, rest = t, after
		if h, after, ok := word(rest); ok && !strings.HasSuffix(h, ":") && !strings.HasSuffix(h, "]") {
			m.Hostname, rest = h, after
		}
	}
	// TAG[PID]: or TAG:
	i := 0
	for i < len(rest) && i < 48 && rest[i] != ' ' && rest[i] != ':' && rest[i] != '[' {
		i++
	}
	m.Text = rest
	if i > 0 && i < len(rest) && (rest[i] == ':' || rest[i] == '[') {
		tag, after := string(rest[:i]), rest[i:]
		pid := ""
		if after[0] == '[' {
			if end := bytes.IndexByte(after[:min(len(after), 48)], ']'); end > 0 {
				pid, after = string(after[1:end]), after[end+1:]
			}
		}
		if len(after) > 0 && after[0] == ':' {
			m.AppName, m.ProcID = tag, pid
			m.Text = bytes.TrimPrefix(after[1:], []byte(" "))
		}
	}
	if len(m.Text) == 0 {
		m.Text = nil
	}
	return m, nil
}

func stamp3164(b []byte, now time.Time) (t time.Time, rest []byte, ok bool) {
	const layout = "Jan _2 15:04:05"
	if len(b) > len(layout) && b[len(layout)] == ' ' {
		if t, err := time.ParseInLocation(layout, string(b[:len(layout)]), now.Location()); err == nil {
			best := time.Time{}
			for _, year := range []int{now.Year() - 1, now.Year(), now.Year() + 1} {
				c := time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
				if c.Day() == t.Day() && (best.IsZero() || c.Sub(now).Abs() < best.Sub(now).Abs()) {
					best = c
				}
			}
			return best, b[len(layout)+1:], !best.IsZero()
		}
	}
	// Many senders write this instead.
	if w, after, ok := word(b); ok && len(w) >= 20 && len(w) <= 40 {
		if t, err := time.Parse(time.RFC3339Nano, w); err == nil {
			return t, after, true
		}
	}
	return t, b, false
}

// ErrFrame is the error of a connection whose framing cannot be understood.
var ErrFrame = errors.New("syslog: the framing cannot be understood")

// Frame takes the first message off buf, n bytes with its framing: octet counting
// if it begins with a digit, else up to a newline. n is 0 where more is needed. A
// message longer than max is cut; the number of bytes left out up to the end of it
// is skip. end says that no more bytes will come.
func Frame(buf []byte, max int, end bool) (msg []byte, n, skip int, err error) {
	blank := 0
	for blank < len(buf) && (buf[blank] == '\n' || buf[blank] == '\r' || buf[blank] == 0) {
		blank++
	}
	if blank > 0 {
		return nil, blank, 0, nil
	}
	if len(buf) == 0 {
		return nil, 0, 0, nil
	}
	switch {
	case buf[0] >= '1' && buf[0] <= '9':
		i := 0
		for i < len(buf) && i < 10 && buf[i] >= '0' && buf[i] <= '9' {
			i++
		}
		if i == len(buf) && !end && i < 10 {
			return nil, 0, 0, nil
		}
		if i == len(buf) || buf[i] != ' ' {
			return nil, 0, 0, ErrFrame
		}
		size, _ := strconv.Atoi(string(buf[:i]))
		keep := min(size, max)
		if len(buf) < i+1+keep {
			if end {
				return nil, 0, 0, ErrFrame
			}
			return nil, 0, 0, nil
		}
		return buf[i+1 : i+1+keep], i + 1 + keep, size - keep, nil
	case buf[0] == '<':
		head := buf[:min(len(buf), max+2)]
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			return bytes.TrimSuffix(buf[:i], []byte("\r")), i + 1, 0, nil
		}
		if len(head) == max+2 {
			return buf[:max], max, -1, nil // up to the next newline
		}
		if end {
			return buf, len(buf), 0, nil
		}
		return nil, 0, 0, nil
	}
	return nil, 0, 0, ErrFrame
}
