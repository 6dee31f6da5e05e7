package gossip

import (
	"sync"

	"github.com/weir-logs/weir/libs/ring"
)

// tellFormat begins packets of members' own messages to each other.
const tellFormat = 2

// MaxTell is the longest message that Tell sends: it must fit a packet.
const MaxTell = 1100

// listeners hear what other members tell.
type listeners struct {
	mu sync.Mutex // guards f
	f  func(sender string, message []byte)
}

// Hear sets who hears the messages that other members tell. It must not block and not
// keep the message. Senders are not authenticated beyond the key of the gossip.
func (l *listeners) Hear(f func(sender string, message []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f = f
}

func (l *listeners) heard(b []byte) error {
	sender, message, ok := cut(b[1:], ring.MaxNameLen)
	if !ok || len(message) > MaxTell {
		return errCorrupt
	}
	l.mu.Lock()
	f := l.f
	l.mu.Unlock()
	if f != nil {
		f(string(sender), message)
	}
	return nil
}

// Tell sends a message of at most MaxTell bytes to all healthy members with the roles,
// in one packet each. Packets may be lost.
func (n *Node) Tell(roles ring.Role, message []byte) {
	if n.list == nil || len(message) > MaxTell {
		return
	}
	packet := append(appendString([]byte{tellFormat}, n.cfg.Self.Name), message...)
	peers := n.peers()
	for _, m := range n.View().With(roles) {
		if p, ok := peers[m.Name]; ok {
			if err := n.list.SendBestEffort(&p.node, packet); err != nil {
				n.log.Debug("a message could not be sent", "member", m.Name, "err", err)
			}
		}
	}
}

// Tell has nobody to tell.
func (s *Static) Tell(ring.Role, []byte) {}
