package pipeline

import (
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

// packStage puts extracted values and the line into one JSON object, which
// becomes the line: LogQL's unpack takes it apart.
type packStage struct {
	names  []string // sorted
	slots  []int
	ingest bool
}

func buildPack(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Labels []string `yaml:"labels"`
		Ingest bool     `yaml:"ingest_timestamp"`
	}{Ingest: true}
	if isList(body) {
		node.Decode(body, path, &cfg.Labels, node.Options{Loose: true}, c.ps)
	} else {
		c.decode(body, path, &cfg)
	}
	p := &packStage{names: slices.Compact(slices.Sorted(slices.Values(cfg.Labels))), ingest: cfg.Ingest}
	if len(p.names) == 0 {
		c.ps.Warn(body, node.Join(path, "labels"), "is empty: the line alone will be packed")
	}
	for _, n := range p.names {
		p.slots = append(p.slots, c.slot(n))
	}
	c.add(p)
}

func (p *packStage) run(r *Runner, s *state, _ int) verdict {
	out := append(r.room(), '{')
	for i, n := range p.names {
		v, ok := s.text(p.slots[i])
		if !ok {
			continue
		}
		out = append(appendJSON(out, n), ':')
		out = append(appendJSON(out, v), ',')
	}
	out = append(out, `"_entry":`...)
	out = append(appendJSON(out, str(s.line)), '}')
	s.line = r.kept(out)
	s.keepLabels(func(n string) bool {
		i, found := slices.BinarySearch(p.names, n)
		if !found {
			return true
		}
		_, packed := s.text(p.slots[i])
		return !packed
	})
	if p.ingest {
		s.time, s.ownTime = r.now.UnixNano(), false
	}
	return keep
}

const hexDigits = "0123456789abcdef"

// appendJSON appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendJSON(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			dst = append(append(dst, s[from:i]...), "\uFFFD"...)
			i++
			from = i
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
