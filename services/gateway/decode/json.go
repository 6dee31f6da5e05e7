package decode

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
)

// LokiJSON decodes the JSON of Loki's push API:
//
//	{"streams": [{"stream": {"name": "value"}, "values": [["nanoseconds", "line", {"metadata": "value"}]]}]}
//
// Times, lines and metadata are strings. Label values may be numbers, booleans and
// null too, and become their text. A row may lack its line, or all. Keys that are
// not known are skipped. Nothing of data is referred to afterwards.
func LokiJSON(data []byte, memory *Reservation) (*ingestv1.WriteRequest, error) {
	return lokiJSON(data, memory, (*jsonReader).stream)
}

// LokiLegacyJSON decodes the JSON of Loki's old push API:
//
//	{"streams": [{"labels": "{name=\"value\"}", "entries": [{"ts": "RFC 3339", "line": "line"}]}]}
func LokiLegacyJSON(data []byte, memory *Reservation) (*ingestv1.WriteRequest, error) {
	return lokiJSON(data, memory, (*jsonReader).legacyStream)
}

type jsonReader struct {
	scanner
	*builder
}

func lokiJSON(data []byte, memory *Reservation, stream func(*jsonReader) error) (*ingestv1.WriteRequest, error) {
	r := &jsonReader{scanner{b: data}, newBuilder(memory, DoorLoki)}
	if !r.null() {
		err := r.object(func(key []byte) error {
			if string(key) != "streams" {
				return r.skip(1)
			}
			if r.null() {
				return nil
			}
			return r.array(func(int) error { return stream(r) })
		})
		if err != nil {
			return nil, err
		}
	}
	return r.out, r.end()
}

func (r *jsonReader) stream() error {
	if err := r.startStream(0, 0); err != nil {
		return err
	}
	pairs := r.pairs[:0]
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "stream":
			pairs = pairs[:0]
			return r.object(func(name []byte) error {
				name = bytes.ToValidUTF8(name, []byte("\uFFFD"))
				p := model.Label{Name: string(name)}
				var value []byte
				var err error
				if r.peek() == '"' {
					value, err = r.text()
				} else {
					value, err = r.scalar()
				}
				p.Value = string(value)
				pairs = append(pairs, p)
				if err != nil {
					return err
				}
				return r.memory.Grow(32 + len(name) + len(value))
			})
		case "values":
			return r.array(func(int) error { return r.entry() })
		}
		return r.skip(3)
	})
	if err != nil {
		return err
	}
	r.setLabels(pairs)
	r.pairs = pairs[:0]
	r.endStream()
	return nil
}

func (r *jsonReader) entry() error {
	at := int64(NoTime)
	err := r.array(func(i int) error {
		switch i {
		case 0:
			text, err := r.text()
			if err != nil {
				return err
			}
			if at, err = strconv.ParseInt(string(text), 10, 64); err != nil {
				return r.fail("a time that is not a whole number of nanoseconds")
			}
		case 1:
			line, err := r.text()
			if err != nil {
				return err
			}
			return r.setLine(line)
		case 2:
			return r.object(func(name []byte) error {
				if !utf8.Valid(name) {
					name = bytes.ToValidUTF8(name, []byte("_"))
				}
				value, err := r.text()
				if err != nil {
					return err
				}
				return r.setMetadata(name, value)
			})
		default:
			return r.skip(5)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.endRow(at, 0)
}

func (r *jsonReader) legacyStream() error {
	if err := r.startStream(0, 0); err != nil {
		return err
	}
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "labels":
			text, err := r.text()
			r.labels = string(text)
			if !utf8.Valid(text) {
				r.labels = quote(r.labels)
			}
			return err
		case "entries":
			return r.array(func(int) error { return r.legacyEntry() })
		}
		return r.skip(3)
	})
	if err != nil {
		return err
	}
	r.endStream()
	return nil
}

func (r *jsonReader) legacyEntry() error {
	at := int64(NoTime)
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "ts":
			text, err := r.text()
			if err != nil {
				return err
			}
			t, err := time.Parse(time.RFC3339Nano, string(text))
			if err != nil {
				return r.fail("a time that is not RFC 3339")
			}
			at = nanoseconds(t.Unix(), int64(t.Nanosecond()))
		case "line":
			line, err := r.text()
			if err != nil {
				return err
			}
			return r.setLine(line)
		default:
			return r.skip(5)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.endRow(at, 0)
}
