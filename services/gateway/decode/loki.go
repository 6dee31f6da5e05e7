package decode

import (
	"bytes"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
)

// DoorLoki names Loki's push API in WriteRequest.door.
const DoorLoki = "loki"

// NoTime is the time of a row that came without one over Loki's API, where none is
// filled in.
const NoTime = math.MinInt64

// Loki decodes Loki's protobuf push message, decompressed:
//
//	PushRequest      { streams 1: Stream }
//	Stream           { labels 1: string, entries 2: Entry }
//	Entry            { timestamp 1: google.protobuf.Timestamp, line 2: bytes, structuredMetadata 3: Pair }
//	Pair             { name 1: string, value 2: string }
//
// Strings need not be UTF-8. Nothing of data is referred to afterwards.
func Loki(data []byte, memory *Reservation) (*ingestv1.WriteRequest, error) {
	b := newBuilder(memory, DoorLoki)
	b.left = len(data)
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 1 && typ == protowire.BytesType {
			err := b.lokiStream(v.bytes)
			b.left -= len(v.bytes)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.out, nil
}

func (b *builder) lokiStream(data []byte) error {
	rows, size, err := count(data, 2)
	if err != nil {
		return err
	}
	if err := b.startStream(rows, size); err != nil {
		return err
	}
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			b.labels = b.shared(v.bytes)
			if !utf8.Valid(v.bytes) {
				b.labels = quote(b.labels) // text that does not parse, and may be sent on
			}
			return b.memory.Grow(len(v.bytes))
		case num == 2 && typ == protowire.BytesType:
			return b.lokiEntry(v.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.endStream()
	return nil
}

func (b *builder) lokiEntry(data []byte) error {
	time := int64(NoTime)
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case 1:
			t, err := timestamp(v.bytes)
			time = t
			return err
		case 2:
			return b.setLine(v.bytes)
		case 3:
			name, value, err := pair(v.bytes)
			if err != nil {
				return err
			}
			if !utf8.Valid(name) {
				name = bytes.ToValidUTF8(name, []byte("_"))
			}
			return b.setMetadata(name, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.endRow(time, 0)
}

// timestamp reads a google.protobuf.Timestamp as nanoseconds since the Unix epoch.
// Times that do not fit become the nearest that do: they are refused as too old or
// too new, each by itself.
func timestamp(data []byte) (int64, error) {
	var seconds, nanos int64
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if typ == protowire.VarintType {
			switch num {
			case 1:
				seconds = int64(v.number)
			case 2:
				nanos = int64(int32(v.number))
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return nanoseconds(seconds, nanos), nil
}

// nanoseconds returns a time as nanoseconds since the Unix epoch, one that does not
// fit as the nearest that does.
func nanoseconds(seconds, nanos int64) int64 {
	const most = math.MaxInt64/1_000_000_000 - 3
	switch {
	case seconds > most:
		return math.MaxInt64
	case seconds < -most:
		return NoTime + 1
	}
	return seconds*1_000_000_000 + nanos
}
