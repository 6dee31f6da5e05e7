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
	r := reader{left: data}
	for r.next() {
		if r.is(1) {
			if err := b.lokiStream(r.bytes); err != nil {
				return nil, err
			}
			b.left -= len(r.bytes)
		}
	}
	if r.err != nil {
		return nil, r.err
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
	r := reader{left: data}
	for r.next() {
		switch {
		case r.is(1):
			b.labels = b.shared(r.bytes)
			if !utf8.Valid(r.bytes) {
				b.labels = quote(b.labels) // text that does not parse, and may be sent on
			}
			err = b.memory.Grow(len(r.bytes))
		case r.is(2):
			err = b.lokiEntry(r.bytes)
		}
		if err != nil {
			return err
		}
	}
	if r.err != nil {
		return r.err
	}
	b.endStream()
	return nil
}

func (b *builder) lokiEntry(data []byte) error {
	time := int64(NoTime)
	r := reader{left: data}
	for r.next() {
		var err error
		switch {
		case r.is(1):
			time, err = timestamp(r.bytes)
		case r.is(2):
			err = b.setLine(r.bytes)
		case r.is(3):
			var name, value []byte
			if name, value, err = pair(r.bytes); err != nil {
				return err
			}
			if !utf8.Valid(name) {
				name = bytes.ToValidUTF8(name, []byte("_"))
			}
			err = b.setMetadata(name, value)
		}
		if err != nil {
			return err
		}
	}
	if r.err != nil {
		return r.err
	}
	return b.endRow(time, 0)
}

// timestamp reads a google.protobuf.Timestamp as nanoseconds since the Unix epoch.
// Times that do not fit become the nearest that do: they are refused as too old or
// too new, each by itself.
func timestamp(data []byte) (int64, error) {
	var seconds, nanos int64
	r := reader{left: data}
	for r.next() {
		if r.typ == protowire.VarintType {
			switch r.num {
			case 1:
				seconds = int64(r.number)
			case 2:
				nanos = int64(int32(r.number))
			}
		}
	}
	if r.err != nil {
		return 0, r.err
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
