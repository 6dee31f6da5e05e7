package deliver

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/weir-logs/weir/libs/model"
)

var errWire = errors.New("a request of the queue cannot be read")

// field is one field of a protobuf message.
type field struct {
	tag  byte
	body []byte // of fields with a length
	num  uint64 // of fixed64
}

// fields calls f with each field of a message of the kinds that this package
// writes.
func fields(b []byte, f func(field) error) error {
	for len(b) > 0 {
		tag := b[0]
		b = b[1:]
		switch tag & 7 {
		case 1:
			if len(b) < 8 {
				return errWire
			}
			if err := f(field{tag: tag, num: binary.LittleEndian.Uint64(b)}); err != nil {
				return err
			}
			b = b[8:]
		case 2:
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return errWire
			}
			if err := f(field{tag: tag, body: b[k : k+int(n)]}); err != nil {
				return err
			}
			b = b[k+int(n):]
		default:
			return errWire
		}
	}
	return nil
}

func pair(b []byte) (l model.Label, err error) {
	err = fields(b, func(f field) error {
		switch f.tag {
		case tagKey:
			l.Name = string(f.body)
		case tagValue:
			l.Value = string(f.body)
		}
		return nil
	})
	return l, err
}

// withLabels gives a request whose streams have labels that they lack.
func withLabels(body []byte, more []model.Label) ([]byte, error) {
	out := make([]byte, 0, len(body)+len(body)/16+256)
	var one []byte
	err := fields(body, func(f field) error {
		if f.tag != tagStreams {
			out = append(out, f.tag)
			out = binary.LittleEndian.AppendUint64(out, f.num)
			return nil
		}
		var have []model.Label
		err := fields(f.body, func(g field) error {
			if g.tag != tagLabels {
				return nil
			}
			l, err := pair(g.body)
			have = append(have, l)
			return err
		})
		one = one[:0]
		for _, m := range more {
			if !slices.ContainsFunc(have, func(l model.Label) bool { return l.Name == m.Name }) {
				one = appendPair(one, tagLabels, m.Name, m.Value)
			}
		}
		out = append(out, tagStreams)
		out = binary.AppendUvarint(out, uint64(len(one)+len(f.body)))
		out = append(append(out, one...), f.body...)
		return err
	})
	return out, err
}

// lokiStream is a stream of a Loki request that is being made.
type lokiStream struct {
	labels  []model.Label
	entries [][]byte // encoded weir.push.v1.Entry
}

// streamsOf reads a request's streams; entries lie in body.
func streamsOf(body []byte) (out []lokiStream, err error) {
	err = fields(body, func(f field) error {
		if f.tag != tagStreams {
			return nil
		}
		var s lokiStream
		err := fields(f.body, func(g field) error {
			switch g.tag {
			case tagLabels:
				l, err := pair(g.body)
				s.labels = append(s.labels, l)
				return err
			case tagEntries:
				s.entries = append(s.entries, g.body)
			}
			return nil
		})
		out = append(out, s)
		return err
	})
	return out, err
}

// labelText gives {a="b"} as Loki has it.
func labelText(labels []model.Label) string {
	labels = slices.Clone(labels)
	slices.SortFunc(labels, func(a, b model.Label) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	b := []byte{'{'}
	for i, l := range labels {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, l.Name...), '=')
		b = strconv.AppendQuote(b, l.Value)
	}
	return string(append(b, '}'))
}

// appendLoki appends a stream as logproto.PushRequest has it:
// streams=1{labels=1, entries=2{timestamp=1{seconds=1,nanos=2}, line=2,
// structuredMetadata=3{name=1,value=2}}}.
func appendLoki(dst []byte, s lokiStream) ([]byte, error) {
	var one []byte
	text := labelText(s.labels)
	one = append(one, 1<<3|2)
	one = binary.AppendUvarint(one, uint64(len(text)))
	one = append(one, text...)
	var e []byte
	for _, body := range s.entries {
		e = e[:0]
		err := fields(body, func(f field) error {
			switch f.tag {
			case tagTime:
				t := int64(f.num)
				sec, nano := t/1e9, t%1e9
				if nano < 0 {
					sec, nano = sec-1, nano+1e9
				}
				var ts []byte
				if sec != 0 {
					ts = binary.AppendUvarint(append(ts, 1<<3), uint64(sec))
				}
				if nano != 0 {
					ts = binary.AppendUvarint(append(ts, 2<<3), uint64(nano))
				}
				e = append(e, 1<<3|2, byte(len(ts)))
				e = append(e, ts...)
			case tagText, tagRaw:
				e = append(e, 2<<3|2)
				e = binary.AppendUvarint(e, uint64(len(f.body)))
				e = append(e, f.body...)
			case tagMetadata:
				l, err := pair(f.body)
				e = appendPair(e, 3<<3|2, l.Name, l.Value)
				return err
			}
			return nil
		})
		if err != nil {
			return dst, err
		}
		one = append(one, 2<<3|2)
		one = binary.AppendUvarint(one, uint64(len(e)))
		one = append(one, e...)
	}
	dst = append(dst, 1<<3|2)
	dst = binary.AppendUvarint(dst, uint64(len(one)))
	return append(dst, one...), nil
}
