package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// The layout is described, with diagrams, in docs/format/wal.md.
const (
	formatVersion     = 1
	segmentHeaderSize = 48
	recordHeaderSize  = 32
	segmentSuffix     = ".wal"

	// TypeVoid is the type of records that only keep a place in the order: Replay and Read pass
	// over them.
	TypeVoid byte = 0xFF

	// maxPayload is the format's own limit; Options.MaxRecordBytes can only be lower. A reader
	// accepts anything up to it, so that lowering the option does not lose what is on disk.
	maxPayload = 1 << 30

	// maxFirstLSN keeps arithmetic on LSNs from overflowing, whatever a file is called.
	maxFirstLSN = 1 << 62
)

var (
	segmentMagic = [8]byte{0xF5, 'W', 'E', 'I', 'R', 'W', 'A', 'L'}
	// recordMagic begins with two bytes that never occur in UTF-8 text, so that a search for the
	// next record seldom stops inside a payload.
	recordMagic = []byte{0xF5, 0xC1, 'W', 'r'}
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// Incarnation identifies one life of a data directory. It is drawn when the directory is first
// opened and kept in it; a directory that lost it is a new incarnation.
type Incarnation [16]byte

// String returns 32 hexadecimal digits.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

type segmentHeader struct {
	version     uint16
	salt        uint32
	incarnation Incarnation
	firstLSN    uint64
}

func (h segmentHeader) encode() []byte {
	b := make([]byte, segmentHeaderSize)
	copy(b, segmentMagic[:])
	binary.LittleEndian.PutUint16(b[8:], h.version)
	binary.LittleEndian.PutUint32(b[12:], h.salt)
	copy(b[16:32], h.incarnation[:])
	binary.LittleEndian.PutUint64(b[32:], h.firstLSN)
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
	return b
}

// decodeSegmentHeader reports false for anything that is not an intact header. The version is for
// the caller to judge.
func decodeSegmentHeader(b []byte) (segmentHeader, bool) {
	if len(b) < segmentHeaderSize || !bytes.Equal(b[:8], segmentMagic[:]) ||
		binary.LittleEndian.Uint32(b[44:]) != crc32.Checksum(b[:44], castagnoli) {
		return segmentHeader{}, false
	}
	h := segmentHeader{
		version:  binary.LittleEndian.Uint16(b[8:]),
		salt:     binary.LittleEndian.Uint32(b[12:]),
		firstLSN: binary.LittleEndian.Uint64(b[32:]),
	}
	copy(h.incarnation[:], b[16:32])
	return h, true
}

type recordHeader struct {
	salt       uint32
	lsn        uint64
	length     uint32
	payloadCRC uint32
	typ        byte
}

// appendTo appends the encoded header to b.
func (h recordHeader) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, h.salt)
	b = binary.LittleEndian.AppendUint64(b, h.lsn)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.payloadCRC)
	b = append(b, h.typ, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func decodeRecordHeader(b []byte) (recordHeader, bool) {
	if len(b) < recordHeaderSize || !bytes.Equal(b[:4], recordMagic) ||
		binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return recordHeader{}, false
	}
	h := recordHeader{
		salt:       binary.LittleEndian.Uint32(b[4:]),
		lsn:        binary.LittleEndian.Uint64(b[8:]),
		length:     binary.LittleEndian.Uint32(b[16:]),
		payloadCRC: binary.LittleEndian.Uint32(b[20:]),
		typ:        b[24],
	}
	return h, h.length <= maxPayload
}

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

// parseSegmentName is the inverse of segmentName and accepts nothing else.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, found := strings.CutSuffix(name, segmentSuffix)
	if !found {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, err == nil && first > 0 && first <= maxFirstLSN && segmentName(first) == name
}

// The two small text files of the directory share one shape: fields, then a CRC of all before it.

func sealLine(fields string) []byte {
	return fmt.Appendf(nil, "%s crc=%08x\n", fields, crc32.Checksum([]byte(fields), castagnoli))
}

func unsealLine(b []byte) (fields string, ok bool) {
	fields, _, found := strings.Cut(string(b), " crc=")
	return fields, found && bytes.Equal(sealLine(fields), b)
}

func encodeIncarnation(id Incarnation) []byte {
	return sealLine("weir-incarnation 1 id=" + id.String())
}

func decodeIncarnation(b []byte) (id Incarnation, ok bool) {
	fields, ok := unsealLine(b)
	digits, found := strings.CutPrefix(fields, "weir-incarnation 1 id=")
	if !ok || !found || len(digits) != 2*len(id) {
		return Incarnation{}, false
	}
	raw, err := hex.DecodeString(digits)
	copy(id[:], raw)
	return id, err == nil
}

// state is what the log remembers outside its segments, so that a lost segment is noticed even
// where no neighbour gives it away.
type state struct {
	low     uint64 // records below it are safe elsewhere; 0 means unknown
	newest  uint64 // first LSN of the newest segment started; 0 means unknown
	durable uint64 // every record below it was durable once
}

func (s state) encode() []byte {
	return sealLine(fmt.Sprintf("weir-wal-state 1 low=%d newest=%d durable=%d", s.low, s.newest, s.durable))
}

func decodeState(b []byte) (s state, ok bool) {
	fields, ok := unsealLine(b)
	if !ok {
		return state{}, false
	}
	_, err := fmt.Sscanf(fields, "weir-wal-state 1 low=%d newest=%d durable=%d", &s.low, &s.newest, &s.durable)
	return s, err == nil
}
