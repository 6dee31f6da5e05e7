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

// reader reads the fields of a message one after the other.
type reader struct {
	left []byte // not read yet

	// The field that was read last. Groups have a number and a type only.
	num protowire.Number
	typ protowire.Type
	value
	err error // why there are no more fields, unless the message is over
}

// next reads a field, and returns false if there is none.
func (r *reader) next() bool {
	data := r.left
	if len(data) == 0 {
		return false
	}
	// Nearly all fields are bytes with a tag of one byte and a length of one or two.
	if c := data[0]; c < 0x80 && c >= 8 && c&7 == byte(protowire.BytesType) && len(data) > 2 {
		size, head := int(data[1]), 2
		if size >= 0x80 && data[2] < 0x80 {
			size, head = size&0x7f|int(data[2])<<7, 3
		}
		if (size < 0x80 || head == 3) && size <= len(data)-head {
			r.num, r.typ, r.value = protowire.Number(c>>3), protowire.BytesType, value{bytes: data[head : head+size : head+size]}
			r.left = data[head+size:]
			return true
		}
	}
	return r.any()
}

// any is next of a field of any kind.
func (r *reader) any() bool {
	num, typ, n := protowire.ConsumeTag(r.left)
	if n < 0 {
		return r.fail(malformed(n))
	}
	if num > protowire.MaxValidNumber {
		return r.fail(rpcerr.New(rpcerr.InvalidArgument, "the protobuf message is malformed: invalid field number"))
	}
	data := r.left[n:]
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
		return r.fail(malformed(n))
	}
	r.num, r.typ, r.value, r.left = num, typ, v, data[n:]
	return true
}

func (r *reader) fail(err error) bool {
	r.err, r.left = err, nil
	return false
}

// is reports whether the field that was read last is bytes of a number.
func (r *reader) is(num protowire.Number) bool { return r.num == num && r.typ == protowire.BytesType }

// fields calls f with each field of a message. Groups are skipped.
func fields(data []byte, f func(protowire.Number, protowire.Type, value) error) error {
	r := reader{left: data}
	for r.next() {
		if err := f(r.num, r.typ, r.value); err != nil {
			return err
		}
	}
	return r.err
}

// pair reads a message of two strings, 1 and 2: an entry of a map.
func pair(data []byte) (name, val []byte, err error) {
	r := reader{left: data}
	for r.next() {
		switch {
		case r.is(1):
			name = r.bytes
		case r.is(2):
			val = r.bytes
		}
	}
	return name, val, r.err
}

// count returns how many fields of number want a message has and how many bytes
// they hold.
func count(data []byte, want protowire.Number) (n, size int, err error) {
	r := reader{left: data}
	for r.next() {
		if r.is(want) {
			n++
			size += len(r.bytes)
		}
	}
	return n, size, r.err
}
