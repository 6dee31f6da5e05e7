package decode

import (
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// DoorGRPC names Weir's own push in WriteRequest.door.
const DoorGRPC = "grpc"

func quote(s string) string { return strconv.Quote(s) }

// Push decodes a weir.push.v1.PushRequest. Rows without a time keep 0, which the
// request asks to be filled in. Nothing of data is referred to afterwards.
func Push(data []byte, memory *Reservation) (*ingestv1.WriteRequest, error) {
	b := newBuilder(memory, DoorGRPC)
	b.out.Stamp = true
	if err := b.push(data); err != nil {
		return nil, err
	}
	return b.out, nil
}

// PushStream decodes a weir.push.v1.PushStreamRequest. An absent batch is an empty
// one. The sequence is returned with an error too, as far as it was read.
func PushStream(data []byte, memory *Reservation) (sequence uint64, req *ingestv1.WriteRequest, err error) {
	b := newBuilder(memory, DoorGRPC)
	b.out.Stamp = true
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.VarintType:
			sequence = v.number
		case num == 2 && typ == protowire.BytesType:
			return b.push(v.bytes)
		}
		return nil
	})
	if err != nil {
		return sequence, nil, err
	}
	return sequence, b.out, nil
}

func (b *builder) push(data []byte) error {
	b.left = len(data)
	return fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			err := b.pushStream(v.bytes)
			b.left -= len(v.bytes)
			return err
		case num == 2 && typ == protowire.Fixed64Type:
			b.out.BatchTimeUnixNano = int64(v.number)
		}
		return nil
	})
}

func (b *builder) pushStream(data []byte) error {
	rows, size, err := count(data, 2)
	if err != nil {
		return err
	}
	if err := b.startStream(rows, size); err != nil {
		return err
	}
	pairs := b.pairs[:0]
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			name, value, err := pair(v.bytes)
			if err != nil {
				return err
			}
			if !utf8.Valid(name) || !utf8.Valid(value) {
				return rpcerr.New(rpcerr.InvalidArgument, "stream %d: a label is not valid UTF-8", len(b.out.Streams))
			}
			pairs = append(pairs, model.Label{Name: string(name), Value: string(value)})
			return b.memory.Grow(32 + len(name) + len(value))
		case num == 2 && typ == protowire.BytesType:
			return b.pushEntry(v.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.setLabels(pairs)
	b.pairs = pairs[:0]
	b.endStream()
	return nil
}

func (b *builder) pushEntry(data []byte) error {
	var time int64
	var copyNumber uint32
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.Fixed64Type:
			time = int64(v.number)
		case num == 2 && typ == protowire.BytesType:
			if !utf8.Valid(v.bytes) {
				return b.entryError("the text is not valid UTF-8; send such lines as raw")
			}
			return b.setLine(v.bytes)
		case num == 3 && typ == protowire.BytesType:
			return b.setLine(v.bytes)
		case num == 4 && typ == protowire.BytesType:
			name, value, err := pair(v.bytes)
			if err != nil {
				return err
			}
			if !utf8.Valid(name) || !utf8.Valid(value) {
				return b.entryError("structured metadata is not valid UTF-8")
			}
			return b.setMetadata(name, value)
		case num == 5 && typ == protowire.VarintType:
			copyNumber = uint32(v.number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.endRow(time, copyNumber)
}

func (b *builder) entryError(what string) error {
	return rpcerr.New(rpcerr.InvalidArgument, "stream %d, entry %d: %s", len(b.out.Streams), b.row(), what)
}
