package source

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
)

// Stdin reads lines until the input ends. Blank lines are left out.
type Stdin struct {
	h       *Hub
	in      *os.File
	set     *entry.Set
	maxLine int
}

// NewStdin makes a Stdin whose lines have these labels.
func NewStdin(h *Hub, in *os.File, labels map[string]string, maxLine int) *Stdin {
	return &Stdin{h: h, in: in, set: entry.SetOf(labels), maxLine: maxLine}
}

// Run implements Source.
func (s *Stdin) Run(ctx context.Context) error {
	p := s.h.Open("stdin", "-", "")
	p.Stat().Labels.Store(s.set)
	defer s.h.Done(p)
	// A read of a terminal or pipe is not ended by ctx; the process ends then.
	return untilDone(ctx, func() error {
		return Copy(ctx, s.in, s.maxLine, nil, func(batch []entry.Entry, _ int64) error {
			return p.Put(ctx, batch, "")
		}, s.set, true)
	})
}

// untilDone runs f, but waits no longer for it than until ctx ends.
func untilDone(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Copy reads all lines of r and hands them on, many at a time, with the number of
// bytes read up to their end. skipBlank leaves out empty ones.
func Copy(ctx context.Context, r io.Reader, maxLine int, enc *lines.Encoding, put func([]entry.Entry, int64) error, set *entry.Set, skipBlank bool) error {
	const step = 64 << 10
	maxLine = max(maxLine, lines.MinLimit)
	buf := make([]byte, 0, maxLine+4+step)
	var (
		state lines.State
		ents  []entry.Entry
		arena []byte
		at    int64 // of buf[0]
		ended bool
	)
	for !ended {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), len(buf)+step)])
		buf = buf[:len(buf)+n]
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return err
			}
			ended = true
		}
		now := time.Now().UnixNano()
		ents, arena = ents[:0], arena[:0]
		used := 0
		for {
			r := enc.Next(buf[used:], at+int64(used), state, maxLine, ended)
			if r.N == 0 {
				break
			}
			if r.Emit && (!skipBlank || len(r.Line) > 0) {
				line := r.Line
				if r.Cut || enc != nil {
					from := len(arena)
					arena = enc.Append(arena, line)
					if r.Cut {
						arena = append(arena, lines.Mark...)
					}
					line = arena[from:len(arena):len(arena)]
				}
				ents = append(ents, entry.Entry{Labels: set, Line: line, Time: now})
			}
			used += r.N
			state = r.State
		}
		if len(ents) > 0 {
			if err := put(ents, at+int64(used)); err != nil {
				return err
			}
		}
		at += int64(used)
		buf = buf[:copy(buf, buf[used:])]
	}
	return nil
}
