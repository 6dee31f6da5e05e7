package gossip

import (
	"sync"

	"github.com/weir-logs/weir/libs/ring"
)

// tellFormat begins packets of members' own messages to each other:
//
//	packet = format byte, sender, topic byte, message
const tellFormat = 3

// MaxTell is the longest message that Tell sends: it must fit a packet.
const MaxTell = 1100

// Topic is what a message is about.
type Topic byte

// The topics.
const (
	TopicRates   Topic = 1 // what tenants send to a distributor
	TopicStreams Topic = 2 // how many streams of tenants an ingester has
)

// listeners hear what other members tell.
type listeners struct {
	mu sync.Mutex // guards of
	of map[Topic]func(sender string, message []byte)
}

// Hear sets who hears the messages on a topic that other members tell. It must not block
// and not keep the message. Senders are not authenticated beyond the key of the gossip.
func (l *listeners) Hear(topic Topic, f func(sender string, message []byte)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[Topic]func(string, []byte){}
	}
	l.of[topic] = f
}

func (l *listeners) heard(b []byte) error {
	sender, message, ok := cut(b[1:], ring.MaxNameLen)
	if !ok || len(message) == 0 || len(message) > MaxTell+1 {
		return errCorrupt
	}
	l.mu.Lock()
	f := l.of[Topic(message[0])]
	l.mu.Unlock()
	if f != nil {
		f(string(sender), message[1:])
	}
	return nil
}

// Tell sends a message of at most MaxTell bytes to all healthy members with the roles,
// in one packet each. Packets may be lost.
func (n *Node) Tell(roles ring.Role, topic Topic, message []byte) {
	if n.list == nil || len(message) > MaxTell {
		return
	}
	packet := append(append(appendString([]byte{tellFormat}, n.cfg.Self.Name), byte(topic)), message...)
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
func (s *Static) Tell(ring.Role, Topic, []byte) {}
