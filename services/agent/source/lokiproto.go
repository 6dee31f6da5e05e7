package source

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
)

var errProto = errors.New("not a Loki push request")

// each calls f with each field of a message.
func each(b []byte, f func(num protowire.Number, body []byte, v uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errProto
		}
		b = b[n:]
		var body []byte
		var v uint64
		switch typ {
		case protowire.BytesType:
			body, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errProto
		}
		b = b[n:]
		if err := f(num, body, v); err != nil {
			return err
		}
	}
	return nil
}

// DecodeLokiProto reads logproto.PushRequest. Lines alias b.
func DecodeLokiProto(b []byte) (out []PushedStream, err error) {
	err = each(b, func(num protowire.Number, body []byte, _ uint64) error {
		if num != 1 {
			return nil
		}
		var s PushedStream
		text := ""
		err := each(body, func(num protowire.Number, body []byte, _ uint64) error {
			switch num {
			case 1:
				text = string(body)
			case 2:
				e, err := lokiEntry(body)
				s.Entries = append(s.Entries, e)
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
		if s.Labels, err = ParseLabels(text); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

func lokiEntry(b []byte) (e entry.Entry, err error) {
	meta := map[string]string{}
	err = each(b, func(num protowire.Number, body []byte, _ uint64) error {
		switch num {
		case 1:
			return each(body, func(num protowire.Number, _ []byte, v uint64) error {
				switch num {
				case 1:
					e.Time += int64(v) * 1e9
				case 2:
					e.Time += int64(v)
				}
				return nil
			})
		case 2:
			e.Line = body
		case 3:
			var name, value string
			err := each(body, func(num protowire.Number, body []byte, _ uint64) error {
				switch num {
				case 1:
					name = string(body)
				case 2:
					value = string(body)
				}
				return nil
			})
			meta[name] = value
			return err
		}
		return nil
	})
	if len(meta) > 0 {
		e.Metadata = model.LabelsFromMap(meta)
	}
	return e, err
}

// ParseLabels reads {a="b", c="d"}.
func ParseLabels(s string) (map[string]string, error) {
	bad := func() (map[string]string, error) { return nil, fmt.Errorf("labels %.200q cannot be read", s) }
	out := map[string]string{}
	rest := s
	trim := func() {
		for rest != "" && (rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n') {
			rest = rest[1:]
		}
	}
	trim()
	if rest == "" || rest[0] != '{' {
		return bad()
	}
	rest = rest[1:]
	for {
		trim()
		if rest != "" && rest[0] == '}' {
			return out, nil
		}
		i := 0
		for i < len(rest) && (rest[i] == '_' || rest[i] >= '0' && rest[i] <= '9' || rest[i] >= 'a' && rest[i] <= 'z' || rest[i] >= 'A' && rest[i] <= 'Z') {
			i++
		}
		name := rest[:i]
		rest = rest[i:]
		trim()
		if name == "" || rest == "" || rest[0] != '=' {
			return bad()
		}
		rest = rest[1:]
		trim()
		q, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return bad()
		}
		v, err := strconv.Unquote(q)
		if err != nil {
			return bad()
		}
		out[name] = v
		rest = rest[len(q):]
		trim()
		if rest != "" && rest[0] == ',' {
			rest = rest[1:]
			continue
		}
		if rest == "" || rest[0] != '}' {
			return bad()
		}
	}
}
