package wal

import "hash/crc32"

// HeaderForTest encodes a segment header of any version.
func HeaderForTest(version uint16, first uint64) []byte {
	return segmentHeader{version: version, firstLSN: first}.encode()
}

// RecordForTest encodes a record with the salt of the segment that it is to be smuggled into.
func RecordForTest(segment []byte, lsn uint64, payload string) []byte {
	h, _ := decodeSegmentHeader(segment)
	r := recordHeader{salt: h.salt, lsn: lsn, length: uint32(len(payload)), payloadCRC: crc32.Checksum([]byte(payload), castagnoli), typ: 1}
	return append(r.appendTo(nil), payload...)
}
