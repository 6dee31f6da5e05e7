package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weir-logs/weir/libs/ring"
)

// What nodes send each other. Both forms begin with their format:
//
//	packet = format byte, one member record
//	state  = format byte, sender, uvarint size of the table, table,
//	         uvarint number of peers, (name, address)*
//	string = uvarint length, bytes
//
// The peers are those that the sender holds alive, and where: by this a
// restarted node learns whether the others have taken up its new address.
const (
	packetFormat = 1
	stateFormat  = 1

	maxStateSize = ring.MaxTableSize + ring.MaxMembers*(ring.MaxNameLen+maxPeerAddr+4) + 1024
	maxPeerAddr  = 64
)

var errCorrupt = errors.New("gossip: corrupt message")

func encodePacket(m ring.Member) []byte {
	b, _ := m.AppendBinary([]byte{packetFormat})
	return b
}

func decodePacket(b []byte) (ring.Member, error) {
	if len(b) == 0 || b[0] != packetFormat {
		return ring.Member{}, fmt.Errorf("%w: unknown packet format", errCorrupt)
	}
	m, rest, err := ring.DecodeMember(b[1:])
	if err != nil {
		return ring.Member{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if len(rest) > 0 {
		return ring.Member{}, fmt.Errorf("%w: %d bytes after the record", errCorrupt, len(rest))
	}
	return m, nil
}

// state is one side of a synchronisation.
type state struct {
	sender string
	table  ring.Table
	peers  map[string]string // name to address
}

func (s state) encode() []byte {
	table, _ := s.table.AppendBinary(nil)
	b := make([]byte, 0, len(table)+64*len(s.peers)+64)
	b = append(b, stateFormat)
	b = appendString(b, s.sender)
	b = binary.AppendUvarint(b, uint64(len(table)))
	b = append(b, table...)
	b = binary.AppendUvarint(b, uint64(len(s.peers)))
	for name, addr := range s.peers {
		b = appendString(b, name)
		b = appendString(b, addr)
	}
	return b
}

func decodeState(b []byte) (state, error) {
	bad := func(what string) (state, error) { return state{}, fmt.Errorf("%w: %s", errCorrupt, what) }
	if len(b) > maxStateSize {
		return bad("too large")
	}
	if len(b) == 0 || b[0] != stateFormat {
		return bad("unknown state format")
	}
	sender, b, ok := cut(b[1:], ring.MaxNameLen)
	if !ok {
		return bad("sender")
	}
	raw, b, ok := cut(b, ring.MaxTableSize)
	if !ok {
		return bad("table size")
	}
	table, err := ring.DecodeTable(raw)
	if err != nil {
		return state{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	n, w := binary.Uvarint(b)
	// A peer takes two bytes at least.
	if w <= 0 || n > ring.MaxMembers || n > uint64(len(b)-w)/2 {
		return bad("peer count")
	}
	b = b[w:]
	s := state{sender: string(sender), table: table, peers: make(map[string]string, n)}
	for range n {
		var name, addr []byte
		if name, b, ok = cut(b, ring.MaxNameLen); !ok {
			return bad("peer name")
		}
		if addr, b, ok = cut(b, maxPeerAddr); !ok {
			return bad("peer address")
		}
		s.peers[string(name)] = string(addr)
	}
	if len(b) > 0 {
		return bad("bytes after the peers")
	}
	return s, nil
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// cut takes a string of at most limit bytes off b.
func cut(b []byte, limit uint64) (s, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > limit || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}
