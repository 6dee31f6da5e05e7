package pipeline

import (
	"bytes"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
)

// partialWait is how long the rest of a line is waited for that came in pieces.
// Engines write them at once.
const partialWait = 5 * time.Second

// criStage reads the format of Kubernetes' container engines:
//
//	2026-01-02T15:04:05.999999999Z stdout F the line
type criStage struct {
	partials
	time, stream, flags, content int
}

func buildCRI(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		MaxLines int           `yaml:"max_partial_lines"`
		MaxSize  conf.ByteSize `yaml:"max_partial_line_size"`
		Truncate bool          `yaml:"max_partial_line_size_truncate"`
	}{MaxLines: 100}
	c.decode(body, path, &cfg)
	if cfg.MaxLines < 1 {
		c.ps.Fail(body, path+".max_partial_lines", "must be 1 or more, not %d", cfg.MaxLines)
		return
	}
	st := &criStage{
		partials: partials{wait: partialWait, maxGroups: cfg.MaxLines, maxBytes: c.p.deps.MaxJoined},
		time:     c.slot("time"), stream: c.slot("stream"), flags: c.slot("flags"), content: c.slot("content"),
	}
	if cfg.MaxSize > 0 && cfg.Truncate {
		st.maxBytes, st.truncate = min(int(cfg.MaxSize), st.maxBytes), true
	}
	c.add(st)
}

func (p *partials) joins() {}

func (st *criStage) run(r *Runner, s *state, at int) verdict {
	line := s.line
	a := bytes.IndexByte(line, ' ')
	if a <= 0 {
		return r.fail(at)
	}
	rest := line[a+1:]
	b := bytes.IndexByte(rest, ' ')
	if b < 0 {
		return r.fail(at)
	}
	stream, rest := rest[:b], rest[b+1:]
	b = bytes.IndexByte(rest, ' ')
	if b <= 0 || string(stream) != "stdout" && string(stream) != "stderr" {
		return r.fail(at)
	}
	flags, content := rest[:b], rest[b+1:]
	s.copyLabels(r.p)
	s.setText(st.time, str(line[:a]))
	s.setText(st.stream, str(stream))
	s.setText(st.flags, str(flags))
	s.setText(st.content, str(content))
	name := "stdout"
	if stream[3] == 'e' {
		name = "stderr"
	}
	s.setLabel("stream", name)
	if t, ok := parseRFC3339(line[:a]); ok {
		s.time, s.ownTime = t, true
	} else {
		r.fail(at)
	}
	s.line = content
	partial := flags[0] == 'P' && (len(flags) == 1 || flags[1] == ':')
	return st.piece(r, s, at, !partial)
}

// dockerStage reads Docker's json-file format:
//
//	{"log":"the line\n","stream":"stdout","time":"2026-01-02T15:04:05.999999999Z"}
//
// A log without a newline at its end is a piece of a line, which Docker has cut.
type dockerStage struct {
	partials
	tree              jsonNode
	time, stream, log int
}

func buildDocker(c *compiler, body *yaml.Node, path string) {
	var none struct{}
	c.decode(body, path, &none)
	st := &dockerStage{
		partials: partials{wait: partialWait, maxGroups: 100, maxBytes: c.p.deps.MaxJoined},
		time:     c.slot("timestamp"), stream: c.slot("stream"), log: c.slot("output"),
	}
	for i, key := range []string{"log", "stream", "time"} {
		n := st.tree.at([]jsonStep{{key, -1}})
		n.outs = append(n.outs, i)
	}
	c.add(st)
}

func (st *dockerStage) run(r *Runner, s *state, at int) verdict {
	r.results = append(r.results[:0], jsonValue{}, jsonValue{}, jsonValue{})
	scan := jsonScan{b: s.line, results: r.results}
	if scan.object(&st.tree) != nil || r.results[0].kind != text {
		return r.fail(at)
	}
	log, ok := r.take(s.line, r.results[0])
	if !ok {
		return r.fail(at)
	}
	in := s.line
	s.copyLabels(r.p)
	if stream, ok := r.take(in, r.results[1]); ok && stream.kind == text {
		s.values[st.stream] = stream
		s.setLabel("stream", stream.s)
	}
	if when, ok := r.take(in, r.results[2]); ok && when.kind == text {
		s.values[st.time] = when
		if t, ok := parseRFC3339(raw(when.s)); ok {
			s.time, s.ownTime = t, true
		} else {
			r.fail(at)
		}
	}
	line, whole := bytes.CutSuffix(raw(log.s), []byte("\n"))
	if whole {
		line, _ = bytes.CutSuffix(line, []byte("\r"))
	}
	s.setText(st.log, str(line))
	s.line = line
	return st.piece(r, s, at, whole)
}

// parseRFC3339 reads a time like 2026-01-02T15:04:05.999999999+02:00 without
// allocation.
func parseRFC3339(b []byte) (int64, bool) {
	if len(b) < 20 || b[4] != '-' || b[7] != '-' || b[10] != 'T' && b[10] != 't' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	bad := false
	num := func(from, to int) int {
		n := 0
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				bad = true
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := num(0, 4), num(5, 7), num(8, 10)
	hour, minute, second := num(11, 13), num(14, 16), num(17, 19)
	i := 19
	nanos := 0
	if b[i] == '.' {
		scale := 100_000_000
		for i++; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			nanos += int(b[i]-'0') * scale
			scale /= 10
		}
		if b[i-1] == '.' {
			return 0, false
		}
	}
	offset := 0
	switch rest := b[i:]; {
	case len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z'):
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		h, m := num(i+1, i+3), num(i+4, i+6)
		if h > 23 || m > 59 {
			return 0, false
		}
		offset = h*3600 + m*60
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return 0, false
	}
	if bad || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 ||
		year < 1678 || year > 2261 {
		return 0, false
	}
	// Days since 1970-01-01, the year reckoned from March.
	y, m := year, month
	if m <= 2 {
		y, m = y-1, m+12
	}
	days := 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + day - 719469
	return (int64(days)*86400+int64(hour*3600+minute*60+second-offset))*1e9 + int64(nanos), true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
