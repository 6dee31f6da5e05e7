package wal

// HeaderForTest encodes a segment header of any version.
func HeaderForTest(version uint16, first uint64) []byte {
	return segmentHeader{version: version, firstLSN: first}.encode()
}
