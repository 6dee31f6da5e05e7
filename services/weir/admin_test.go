package weir

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// text is an address as the HTTP port gives it.
type text string

func (t text) Network() string { return "tcp" }
func (t text) String() string  { return string(t) }

type memoryDoor struct{}

func (memoryDoor) Network() string { return "bufconn" }
func (memoryDoor) String() string  { return "bufconn" }

func TestOperatorsCallsAreLocal(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		ok   bool
	}{
		{memoryDoor{}, true},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, true},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, true},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, false},
		{text("127.0.0.1:1"), true},
		{text("[::1]:1"), true},
		{text("10.0.0.1:1"), false},
		{text("bufconn"), false},
		{text(""), false},
	} {
		err := local(peer.NewContext(context.Background(), &peer.Peer{Addr: c.addr}))
		if (err == nil) != c.ok {
			t.Errorf("%T %s: %v", c.addr, c.addr, err)
		}
	}
	for to, ok := range map[string]bool{"10.0.0.1:9095": true, "10.0.0.2:9095": false, "0.0.0.0:9095": false, "nonsense": false} {
		from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
		if err := local(peer.NewContext(context.Background(), &peer.Peer{Addr: from, LocalAddr: text(to)})); (err == nil) != ok {
			t.Errorf("from %s to %s: %v", from, to, err)
		}
	}
	for door, ok := range map[net.Addr]bool{text("127.0.0.1:1"): false, memoryDoor{}: true} { // a gateway sets it there
		ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: door})
		if err := local(metadata.NewIncomingContext(ctx, metadata.Pairs("x-forwarded-for", "127.0.0.1"))); (err == nil) != ok {
			t.Errorf("by a proxy to %s: %v", door, err)
		}
	}
	if local(context.Background()) == nil {
		t.Error("a caller without an address is let in")
	}
}
