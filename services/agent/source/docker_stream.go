package source

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
)

// dockerReader reads a log stream of the API.
type dockerReader struct {
	br      *bufio.Reader
	tty     bool
	ended   bool // no more will come than there is
	maxLine int
	at      *places
	skip    places
	seen    [3]int // lines of each stream's time skip.at that were met
	sets    map[byte]*entry.Set
	put     func([]entry.Entry) error
	parts   [3]struct {
		line []byte
		time int64
		open bool
		cut  bool
	}
	ents []entry.Entry
}

func (r *dockerReader) run() error {
	for {
		err := r.next()
		if errors.Is(err, io.EOF) && r.ended {
			for stream := range r.parts {
				if r.parts[stream].open {
					r.emit(byte(stream))
				}
			}
		}
		if err == nil && r.br.Buffered() > 0 && len(r.ents) < 512 {
			continue
		}
		if len(r.ents) > 0 {
			if perr := r.put(r.ents); perr != nil {
				return perr
			}
			r.ents = r.ents[:0]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errDockerStream = errors.New("docker: the log stream cannot be understood")

// next reads one frame, or of a terminal's stream one line.
func (r *dockerReader) next() error {
	if r.tty {
		var line []byte
		for {
			part, err := r.br.ReadSlice('\n')
			line = append(line, part[:min(len(part), r.maxLine+64-min(r.maxLine+64, len(line)))]...)
			if err == nil || errors.Is(err, io.EOF) && len(line) > 0 {
				if len(line) > 0 && line[len(line)-1] != '\n' {
					line = append(line, '\n')
				}
				return r.frame(1, line)
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
		}
	}
	var head [8]byte
	if _, err := io.ReadFull(r.br, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[4:])
	if head[0] > 2 || n > 16<<20 {
		return errDockerStream
	}
	data, err := io.ReadAll(io.LimitReader(r.br, int64(n)))
	if err != nil {
		return err
	}
	if len(data) != int(n) {
		return io.ErrUnexpectedEOF
	}
	return r.frame(max(head[0], 1), data)
}

// frame takes a message, which begins with its time. One without a newline at its
// end goes on in the next of its stream.
func (r *dockerReader) frame(stream byte, data []byte) error {
	stamp, text, ok := bytes.Cut(data, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if !ok || err != nil {
		return errDockerStream
	}
	p := &r.parts[stream]
	if p.open && p.time != t.UnixNano() {
		// The pieces of a line have one time; some drivers leave out the newline
		// of the last.
		r.emit(stream)
	}
	if !p.open {
		p.line, p.open, p.cut = nil, true, false
	}
	p.time = t.UnixNano()
	whole := bytes.HasSuffix(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\n"))
	if room := r.maxLine - len(lines.Mark) - len(p.line); len(text) > room && len(p.line)+len(text) > r.maxLine {
		text, p.cut = text[:max(room, 0)], true
	}
	if !p.cut || len(text) > 0 {
		p.line = append(p.line, text...)
	}
	if whole {
		r.emit(stream)
	}
	return nil
}

// emit gives out the line that is open.
func (r *dockerReader) emit(stream byte) {
	p := &r.parts[stream]
	p.open = false
	line := bytes.TrimSuffix(p.line, []byte("\r"))
	if p.cut {
		line = append(line, lines.Mark...)
	}
	skip, at := r.skip[stream], &r.at[stream]
	if p.time < skip.at {
		return
	}
	if p.time == skip.at {
		if r.seen[stream]++; r.seen[stream] <= skip.count {
			return
		}
	}
	if at.at == p.time {
		at.count++
	} else if p.time > at.at {
		*at = place{p.time, 1}
	}
	if set := r.sets[stream]; set != nil {
		r.ents = append(r.ents, entry.Entry{Labels: set, Line: line, Time: p.time, OwnTime: true})
	}
}

// dockerAPI is the few calls that are needed of the daemon's API.
type dockerAPI struct {
	base string
	http *http.Client
}

var errNotFound = errors.New("docker: not found")

func newDockerAPI(host string, c *http.Client) (*dockerAPI, error) {
	kind, rest, ok := strings.Cut(host, "://")
	if !ok {
		return nil, fmt.Errorf("docker: host %q is no URL", host)
	}
	switch kind {
	case "unix":
		t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", rest)
		}, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
		return &dockerAPI{"http://docker", &http.Client{Transport: t}}, nil
	case "tcp":
		host = "http://" + rest
		if t, ok := c.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
			host = "https://" + rest
		}
	case "http", "https":
	default:
		return nil, fmt.Errorf("docker: host %q is none of unix, tcp, http, https", host)
	}
	return &dockerAPI{strings.TrimSuffix(host, "/"), c}, nil
}

// get gives the body of an answer, which the caller closes.
func (a *dockerAPI) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode == http.StatusNotFound {
		return nil, errNotFound
	}
	return nil, fmt.Errorf("docker answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
}

func (a *dockerAPI) json(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, err := a.get(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(io.LimitReader(body, 64<<20)).Decode(out)
}
