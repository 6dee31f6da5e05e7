// Package source has what reads lines from elsewhere than growing files: standard
// input, compressed files, containers, the journal, and receivers of syslog, Loki
// pushes, OTLP and GELF. Each source puts entries into a Port.
package source

import (
	"context"
	"sync"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/positions"
)

// Sink is where entries go in the end.
type Sink interface {
	// Add takes entries whatever room there is.
	Add(ents []entry.Entry, files []positions.Position, cursor, at string)
	// Full says that nothing should be added; Room is closed when that is over.
	Full() bool
	Room() <-chan struct{}
	// Sync waits until what was added before is on disk.
	Sync(ctx context.Context) error
}

// Options are what a Port is made of.
type Options struct {
	Sink Sink
	// Runner is the pipeline's state for this source alone.
	Runner entry.Runner
	// Key names the source's cursor. Empty: it has none.
	Key string
	// At is the cursor that was remembered.
	At string
	// Stat is counted into.
	Stat *Stat
}

// Port takes the entries of one source through its pipeline. Its methods may be
// called by any goroutine, Put by one at a time.
type Port struct {
	o Options

	mu     sync.Mutex
	at     string // of all that was put
	marks  []mark // where held entries may be, oldest first
	timer  *time.Timer
	closed bool
	held   []entry.Span
	span   int64
}

// mark is a cursor and the number of the last entry before it.
type mark struct {
	end int64
	at  string
}

// NewPort makes a Port. Close it.
func NewPort(o Options) *Port {
	if o.Runner == nil {
		o.Runner = entry.Plain{}
	}
	if o.Stat == nil {
		o.Stat = &Stat{}
	}
	return &Port{o: o, at: o.At}
}

// Cursor is what was remembered when the Port was made; empty if nothing was.
func (p *Port) Cursor() string { return p.o.At }

// Stat is what the Port counts into.
func (p *Port) Stat() *Stat { return p.o.Stat }

// Put takes entries, whose Spans it numbers, and the cursor behind them (empty: as
// before). It waits for room. What the entries point to is not kept. The error is
// that of ctx; then nothing was taken.
func (p *Port) Put(ctx context.Context, ents []entry.Entry, cursor string) error {
	for p.o.Sink.Full() {
		p.o.Stat.setWaiting(true)
		select {
		case <-p.o.Sink.Room():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.o.Stat.setWaiting(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return entry.ErrClosed
	}
	n := 0
	for i := range ents {
		ents[i].Span = entry.Span{Start: p.span, End: p.span + 1}
		p.span++
		n += len(ents[i].Line)
	}
	out, err := p.o.Runner.Run(ctx, ents, time.Now())
	if err != nil {
		return err
	}
	p.o.Stat.add(len(ents), n)
	if cursor != "" {
		p.at = cursor
	}
	p.hand(out)
	return nil
}

// hand passes on what came out of the pipeline. The caller holds mu.
func (p *Port) hand(out []entry.Entry) {
	p.held = p.o.Runner.Held(p.held[:0])
	at := p.at
	if p.o.Key != "" {
		// The cursor stays before the oldest entry that is held.
		if len(p.held) > 0 {
			p.marks = append(p.marks, mark{p.span, p.at})
			n := 0
			for n+1 < len(p.marks) && p.marks[n+1].end <= p.held[0].Start {
				n++
			}
			p.marks = p.marks[n:]
			at = ""
			if p.marks[0].end <= p.held[0].Start {
				at = p.marks[0].at
			}
		} else {
			p.marks = append(p.marks[:0], mark{p.span, p.at})
		}
	}
	key := p.o.Key
	if at == "" {
		key = ""
	}
	if len(out) > 0 || key != "" {
		p.o.Sink.Add(out, nil, key, at)
	}
	p.o.Runner.Release()
	p.schedule()
}

func (p *Port) schedule() {
	due := p.o.Runner.Deadline()
	if due.IsZero() {
		return
	}
	wait := max(time.Until(due), time.Millisecond)
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.flushDue)
		return
	}
	p.timer.Reset(wait)
}

func (p *Port) flushDue() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.hand(p.o.Runner.Flush(time.Now(), false))
}

// Flush gives out all that is held.
func (p *Port) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.hand(p.o.Runner.Flush(time.Now(), true))
	}
}

// Sync waits until all that was put is on disk, held lines included.
func (p *Port) Sync(ctx context.Context) error {
	p.Flush()
	return p.o.Sink.Sync(ctx)
}

// Close flushes and ends the Port.
func (p *Port) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.hand(p.o.Runner.Flush(time.Now(), true))
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
