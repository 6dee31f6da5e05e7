package harness

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy passes TCP connections on to an address, slowly or not for long, as told.
type Proxy struct {
	Addr string // where it listens

	target string
	delay  atomic.Int64 // nanoseconds, in each direction
	cutAt  atomic.Int64 // connections are reset after up to so many bytes of answers; 0: never
	cuts   atomic.Int64

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool // no more of them
	wg     sync.WaitGroup
}

// NewProxy starts a proxy that ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return newProxy(t, FreeAddr(t), target)
}

func newProxy(t testing.TB, addr, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.CloseAll()
		p.wg.Wait()
	})
	return p
}

// Delay holds what comes for that long, in each direction.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

// CutAfter resets each connection after a random number of bytes, at most n, of answers
// have passed, in the middle of one, most likely. 0: never.
func (p *Proxy) CutAfter(n int64) { p.cutAt.Store(n) }

// Cuts is how many connections were reset.
func (p *Proxy) Cuts() int64 { return p.cuts.Load() }

// CloseAll closes all connections that there are.
func (p *Proxy) CloseAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) serve(in net.Conn) {
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.conns[in], p.conns[out] = true, true
	}
	p.mu.Unlock()
	if closed { // while it was dialled
		_, _ = in.Close(), out.Close()
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.conns, in)
		delete(p.conns, out)
		p.mu.Unlock()
	}()
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(out, in, false) })
	wg.Go(func() { p.pass(in, out, true) })
	wg.Wait()
}

type chunk struct {
	at time.Time
	b  []byte
}

// pass copies from one connection to the other until either ends, and then ends both.
func (p *Proxy) pass(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	queue := make(chan chunk, 1000) // a delay is no limit of the rate
	var wg sync.WaitGroup
	wg.Go(func() {
		defer from.Close()
		defer to.Close()
		for c := range queue {
			time.Sleep(time.Until(c.at))
			if _, err := to.Write(c.b); err != nil {
				break
			}
		}
		for range queue { // the reader must not wait for ever
		}
	})
	defer wg.Wait()
	defer close(queue)
	left := int64(-1)
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if limit := p.cutAt.Load(); answers && limit > 0 && left < 0 {
			left = rand.Int64N(limit)
		}
		if left >= 0 && p.cutAt.Load() > 0 {
			if left -= int64(n); left < 0 {
				p.cuts.Add(1)
				for _, c := range []net.Conn{to, from} {
					if tcp, ok := c.(*net.TCPConn); ok {
						_ = tcp.SetLinger(0) // a reset
					}
				}
				return
			}
		}
		if n > 0 {
			queue <- chunk{time.Now().Add(time.Duration(p.delay.Load())), b[:n]}
		}
		if err != nil {
			return
		}
	}
}
