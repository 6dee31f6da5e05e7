package decode

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// value is the value of one protobuf field: a number, or bytes that alias the
// message.
type value struct {
	number uint64
	bytes  []byte
}

func malformed(n int) error {
	return rpcerr.New(rpcerr.InvalidArgument, "the protobuf message is malformed: %v", protowire.ParseError(n))
}

// fields calls f with each field of a message. Groups are skipped.
func fields(data []byte, f func(protowire.Number, protowire.Type, value) error) error {
	for len(data) > 0 {
		// Nearly all fields are bytes with a tag of one byte and a length of one or two.
		if c := data[0]; c < 0x80 && c >= 8 && c&7 == byte(protowire.BytesType) && len(data) > 2 {
			size, head := int(data[1]), 2
			if size >= 0x80 && data[2] < 0x80 {
				size, head = size&0x7f|int(data[2])<<7, 3
			}
			if (size < 0x80 || head == 3) && size <= len(data)-head {
				if err := f(protowire.Number(c>>3), protowire.BytesType, value{bytes: data[head : head+size : head+size]}); err != nil {
					return err
				}
				data = data[head+size:]
				continue
			}
		}
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return malformed(n)
		}
		if num > protowire.MaxValidNumber {
			return rpcerr.New(rpcerr.InvalidArgument, "the protobuf message is malformed: invalid field number")
		}
		data = data[n:]
		var v value
		switch typ {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(data)
		case protowire.Fixed32Type:
			var u uint32
			u, n = protowire.ConsumeFixed32(data)
			v.number = uint64(u)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return malformed(n)
		}
		data = data[n:]
		if err := f(num, typ, v); err != nil {
			return err
		}
	}
	return nil
}

// pair reads a message of two strings, 1 and 2: an entry of a map.
func pair(data []byte) (name, val []byte, err error) {
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if typ == protowire.BytesType {
			switch num {
			case 1:
				name = v.bytes
			case 2:
				val = v.bytes
			}
		}
		return nil
	})
	return name, val, err
}

// count returns how many fields of number want a message has and how many bytes
// they hold.
func count(data []byte, want protowire.Number) (n, size int, err error) {
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == want && typ == protowire.BytesType {
			n++
			size += len(v.bytes)
		}
		return nil
	})
	return n, size, err
}
