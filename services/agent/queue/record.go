package queue

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/weir-logs/weir/services/agent/positions"
)

const (
	typeBatch    = 'B'
	typeAck      = 'A'
	typeSnapshot = 'S'

	headBytes = 8
	// maxRecord is the largest payload that is read.
	maxRecord = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("queue: damaged record")

// Request is the entries of one tenant in a batch.
type Request struct {
	// Tenant is empty for the client's own.
	Tenant string
	// Entries is how many there are.
	Entries int
	// Body is an encoded weir.push.v1.PushRequest.
	Body []byte
}

// Batch is one record.
type Batch struct {
	// Seq numbers batches from 1 without gaps.
	Seq uint64
	// Time is when it was completed, in ns.
	Time int64
	// After is where the sources go on behind the batch; its Seq is the batch's.
	After positions.Snapshot
	// Requests are the entries, one item a tenant.
	Requests []Request

	raw []byte // what the requests lie in, if they were read
}

// Entries is how many entries the batch has.
func (b *Batch) Entries() (n int) {
	for _, r := range b.Requests {
		n += r.Entries
	}
	return n
}

// Bytes is how many bytes the requests have.
func (b *Batch) Bytes() (n int) {
	for _, r := range b.Requests {
		n += len(r.Body)
	}
	return n
}

// parts gives the payload of a batch's record in pieces, of which those that are
// large are the batch's own.
func (b *Batch) parts() [][]byte {
	after := positions.Encode(b.After)
	head := []byte{typeBatch}
	head = binary.AppendUvarint(head, b.Seq)
	head = binary.AppendVarint(head, b.Time)
	head = binary.AppendUvarint(head, uint64(len(after)))
	head = append(head, after...)
	head = binary.AppendUvarint(head, uint64(len(b.Requests)))
	out := [][]byte{head}
	for _, r := range b.Requests {
		var h []byte
		h = binary.AppendUvarint(h, uint64(len(r.Tenant)))
		h = append(h, r.Tenant...)
		h = binary.AppendUvarint(h, uint64(r.Entries))
		h = binary.AppendUvarint(h, uint64(len(r.Body)))
		out = append(out, h, r.Body)
	}
	return out
}

// decoder reads the pieces of a payload; bad is set where one is not whole.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	n, k := binary.Uvarint(d.p)
	if k <= 0 {
		d.bad, d.p = true, nil
		return 0
	}
	d.p = d.p[k:]
	return n
}

func (d *decoder) varint() int64 {
	n, k := binary.Varint(d.p)
	if k <= 0 {
		d.bad, d.p = true, nil
		return 0
	}
	d.p = d.p[k:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.p)) {
		d.bad, d.p = true, nil
		return nil
	}
	b := d.p[:n:n]
	d.p = d.p[n:]
	return b
}

// decodeBatch reads a payload behind its type. Without bodies only what stands
// before the requests is read, and how many entries there are.
func decodeBatch(p []byte) (*Batch, error) {
	d := &decoder{p: p}
	b := &Batch{Seq: d.uvarint(), Time: d.varint()}
	after := d.bytes()
	if d.bad {
		return nil, errRecord
	}
	var err error
	if b.After, err = positions.Decode(after); err != nil || b.After.Seq != b.Seq {
		return nil, errRecord
	}
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		r := Request{Tenant: string(d.bytes())}
		r.Entries = int(min(d.uvarint(), maxRecord))
		r.Body = d.bytes()
		b.Requests = append(b.Requests, r)
	}
	if d.bad || len(d.p) > 0 {
		return nil, errRecord
	}
	return b, nil
}

func encodeAcks(acks map[string]uint64) []byte {
	return append([]byte{typeAck}, positions.Encode(positions.Snapshot{Clients: acks})...)
}

// head gives what stands before a payload.
func head(parts [][]byte) (h [headBytes]byte, size int) {
	crc := uint32(0)
	for _, p := range parts {
		crc = crc32.Update(crc, castagnoli, p)
		size += len(p)
	}
	binary.LittleEndian.PutUint32(h[:], uint32(size))
	binary.LittleEndian.PutUint32(h[4:], crc)
	return h, size
}

// readRecord reads the payload of the record at off into buf, which it grows.
// io.EOF: there is none before end. errRecord: it is not whole; n is then what
// its head says it has, 0 if that cannot be.
func readRecord(r io.ReaderAt, off, end int64, buf []byte) (payload []byte, n int64, err error) {
	if off >= end {
		return buf, 0, io.EOF
	}
	var h [headBytes]byte
	if off+headBytes > end {
		return buf, 0, errRecord
	}
	if _, err := r.ReadAt(h[:], off); err != nil {
		return buf, 0, err
	}
	n = int64(binary.LittleEndian.Uint32(h[:]))
	if n == 0 || n > maxRecord || off+headBytes+n > end {
		return buf, 0, errRecord
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := r.ReadAt(buf, off+headBytes); err != nil {
		return buf, n, err
	}
	if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(h[4:]) {
		return buf, n, errRecord
	}
	return buf, n, nil
}
