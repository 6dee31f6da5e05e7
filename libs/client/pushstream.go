package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
)

// maxInFlight is how many batches the server works on at a time.
const maxInFlight = 16

// PushStream sends batches over one call without waiting for each answer. It
// neither splits nor retries: a batch that failed, or whose answer was lost
// with the call, may be sent again as it is if it has a batch time.
type PushStream struct {
	call   pushv1.PushService_PushStreamClient
	cancel context.CancelFunc
	slots  chan struct{}
	done   chan struct{} // closed when no more answers come

	sendMu sync.Mutex // guards call.Send and seq
	seq    uint64

	mu      sync.Mutex // guards pending and err
	pending map[uint64]*Pending
	err     error
}

// Pending is a batch that was sent.
type Pending struct {
	done chan struct{}
	resp *pushv1.PushResponse
	err  error
}

// Wait returns what became of the batch. If ctx ends first, its error: the batch
// is still on its way.
func (p *Pending) Wait(ctx context.Context) (*pushv1.PushResponse, error) {
	select {
	case <-p.done:
		return p.resp, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// PushStream opens the call. It lives until Close, or until ctx ends or the
// connection breaks, which fails all that is pending.
func (c *Client) PushStream(ctx context.Context) (*PushStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	call, err := c.push.PushStream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &PushStream{
		call: call, cancel: cancel,
		slots: make(chan struct{}, maxInFlight), done: make(chan struct{}),
		pending: map[uint64]*Pending{},
	}
	go s.receive()
	return s, nil
}

// Send sends a batch. It blocks while 16 are in flight.
func (s *PushStream) Send(ctx context.Context, req *pushv1.PushRequest) (*Pending, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.done:
		return nil, s.failure()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	s.seq++
	p := &Pending{done: make(chan struct{})}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		<-s.slots
		return nil, s.failure()
	}
	s.pending[s.seq] = p
	s.mu.Unlock()
	if err := s.call.Send(&pushv1.PushStreamRequest{Sequence: s.seq, Batch: req}); err != nil {
		// The call is over; the receiver learns why and fails what is pending.
		<-s.done
		return nil, s.failure()
	}
	return p, nil
}

func (s *PushStream) receive() {
	defer s.cancel()
	for {
		msg, err := s.call.Recv()
		if err != nil {
			s.end(err)
			return
		}
		s.mu.Lock()
		p := s.pending[msg.GetSequence()]
		delete(s.pending, msg.GetSequence())
		s.mu.Unlock()
		if p == nil {
			s.end(&Error{Code: codes.Internal, Message: "acknowledgement of a batch that was not sent"})
			return
		}
		if e := msg.GetError(); e != nil {
			p.err = &Error{
				Code: codes.Code(e.GetCode()), Reason: e.GetReason(), Message: e.GetMessage(),
				RetryAfter: time.Duration(e.GetRetryAfterMillis()) * time.Millisecond,
			}
		} else {
			p.resp = msg.GetResponse()
		}
		close(p.done)
		<-s.slots
	}
}

var errClosed = &Error{Code: codes.Canceled, Message: "the push stream is closed"}

// end fails all that is pending and makes later Sends fail.
func (s *PushStream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = errClosed
	}
	s.err = err
	for seq, p := range s.pending {
		p.err = err
		close(p.done)
		delete(s.pending, seq)
	}
	close(s.done)
}

func (s *PushStream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the call after all batches sent have been answered. It returns why
// the call failed, if it did.
func (s *PushStream) Close() error {
	s.sendMu.Lock()
	_ = s.call.CloseSend() // its failure shows in what is received
	s.sendMu.Unlock()
	<-s.done
	if err := s.failure(); err != error(errClosed) {
		return err
	}
	return nil
}
