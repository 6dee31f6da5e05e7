package local

import (
	"encoding/binary"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// laterTail is a tail that a later version might write.
func laterTail(tail []byte) []byte {
	b := slices.Clone(tail[:tailSize-8])
	binary.LittleEndian.PutUint32(b[8:], version+1)
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}
