package weirctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"

	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/client"
)

const (
	// maxPushLine is the longest line that is read whole; servers take far less.
	maxPushLine = 2 << 20
	// stopGrace is how long an interrupted command goes on sending what it has.
	stopGrace = 5 * time.Second
	// maxRefusalsShown is how many refused lines are told one by one.
	maxRefusalsShown = 10
)

type pushOptions struct {
	server        server
	labels, pairs map[string]string
	batchLines    int
	batchBytes    int
	interval      duration
}

func pushCommand(env *Env) *command {
	o := &pushOptions{interval: duration(time.Second)}
	fs := pflag.NewFlagSet("push", pflag.ContinueOnError)
	fs.StringToStringVarP(&o.labels, "label", "l", nil, "label of the stream, as name=value; may be repeated")
	fs.StringToStringVarP(&o.pairs, "metadata", "m", nil, "structured metadata of each line, as name=value; may be repeated")
	fs.IntVar(&o.batchLines, "batch-lines", 1000, "most lines to send at a time")
	fs.IntVar(&o.batchBytes, "batch-bytes", 1<<20, "most bytes to send at a time")
	fs.Var(&o.interval, "interval", "longest time that a line waits for others to be sent with")
	o.server.register(fs, env, time.Minute, "how long to try to store a batch")
	return &command{
		name: "push", nargs: [2]int{0, 0}, flags: fs,
		short: "store lines from standard input",
		long: `Store the lines of standard input as entries of one stream, with the time at
which they are read. A batch that cannot be stored for now (no server, a full disk)
is sent again until --timeout; standard error says why, and when. The exit code is
0 only if every line is stored.`,
		examples: []string{
			"One line\npush --label app=backup --label host=db-1 <<< 'backup done'",
			"What a program says\npush -l app=build -m commit=4f2a91c < <(make 2>&1)",
			"A file that grows\npush -l app=legacy < <(tail -F /var/log/legacy.log)",
		},
		run: func(ctx context.Context, _ []string) error { return o.run(ctx, env) },
	}
}

func (o *pushOptions) run(ctx context.Context, env *Env) error {
	switch {
	case len(o.labels) == 0:
		return usagef("push needs at least one --label, such as --label app=backup")
	case o.batchLines < 1 || o.batchBytes < 1:
		return usagef("--batch-lines and --batch-bytes must be at least 1")
	}
	c, err := o.server.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is in flight

	p := &linePusher{o: o, env: env, pusher: c.NewPusher(client.PusherOptions{Now: env.Now, OnRetry: o.server.tellRetry})}
	err = p.all(ctx, readLines(ctx, env.Stdin))
	if p.refused > 0 || err != nil || env.StderrTerminal {
		fmt.Fprintf(env.Stderr, "%s lines stored, %s refused\n", formatCount(p.stored), formatCount(p.refused))
	}
	switch {
	case err != nil:
		return o.server.translate(err, "")
	case p.refused > 0:
		return errReported
	}
	return nil
}

// input is a line, or how reading ended.
type input struct {
	line []byte
	err  error // io.EOF at the end
}

// readLines reads lines without their ends. The channel is closed after the
// last input, or soon after ctx is done and the reader returns.
func readLines(ctx context.Context, r io.Reader) <-chan input {
	lines := make(chan input, 128)
	go func() {
		defer close(lines)
		br := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := readLine(br)
			if len(line) > 0 || err == nil {
				select {
				case lines <- input{line: line}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				select {
				case lines <- input{err: err}:
				case <-ctx.Done():
				}
				return
			}
		}
	}()
	return lines
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxPushLine {
			return nil, fmt.Errorf("a line is longer than %s", formatBytes(maxPushLine))
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

type linePusher struct {
	o       *pushOptions
	env     *Env
	pusher  *client.Pusher
	batch   client.Batch
	first   uint64 // number of the batch's first line
	read    uint64
	last    time.Time
	stored  uint64
	refused uint64
}

// all stores lines until they end or ctx does, and then what is left.
func (p *linePusher) all(ctx context.Context, lines <-chan input) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case in, ok := <-lines:
			if !ok {
				return p.rest(ctx)
			}
			if in.err != nil {
				err := p.rest(ctx)
				if !errors.Is(in.err, io.EOF) {
					err = errors.Join(err, fmt.Errorf("standard input: %w", in.err))
				}
				return err
			}
			if p.batch.Len() == 0 {
				timer.Reset(time.Duration(p.o.interval))
			}
			p.add(in.line)
			if p.batch.Len() < p.o.batchLines && p.batch.Size() < p.o.batchBytes {
				continue
			}
		case <-timer.C:
		case <-ctx.Done():
			p.drain(lines)
			return p.rest(ctx)
		}
		if err := p.send(ctx); err != nil {
			if ctx.Err() != nil {
				p.drain(lines)
				return p.rest(ctx)
			}
			return err
		}
	}
}

// add takes a line. Two lines never have the same time, so that equal ones are
// two entries.
func (p *linePusher) add(line []byte) {
	t := p.env.Now()
	if !t.After(p.last) {
		t = p.last.Add(1)
	}
	p.last = t
	p.read++
	if p.batch.Len() == 0 {
		p.first = p.read
	}
	p.batch.Add(p.o.labels, t, line, p.o.pairs)
}

// drain takes the lines that have been read already.
func (p *linePusher) drain(lines <-chan input) {
	for {
		select {
		case in, ok := <-lines:
			if !ok || in.err != nil {
				return
			}
			p.add(in.line)
		default:
			return
		}
	}
}

// rest stores what is left, with a little time of its own if ctx is done.
func (p *linePusher) rest(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
	}
	return p.send(ctx)
}

// send stores the batch. If ctx ends first, the batch stays.
func (p *linePusher) send(ctx context.Context) error {
	if p.batch.Len() == 0 {
		return nil
	}
	req := p.batch.Take()
	limited, cancel := p.o.server.limit(ctx)
	defer cancel()
	r, err := p.pusher.Push(limited, req)
	if err != nil && ctx.Err() != nil {
		// Interrupted: rest sends it again, which changes nothing where it is
		// stored already.
		for _, s := range req.GetStreams() {
			for _, e := range s.GetEntries() {
				p.batch.AddEntry(s.GetLabels(), e)
			}
		}
		return err
	}
	p.stored += r.GetAcceptedEntries()
	p.tell(r)
	return err
}

// tell says which lines were refused and why.
func (p *linePusher) tell(r *pushv1.PushResponse) {
	before := p.refused
	p.refused += r.GetRejectedEntries()
	for _, j := range r.GetRejections() {
		if before++; before > maxRefusalsShown {
			break
		}
		from := p.first + uint64(j.GetEntry())
		lines := fmt.Sprintf("line %d", from)
		if j.GetCount() > 1 {
			lines = fmt.Sprintf("lines %d to %d", from, from+uint64(j.GetCount())-1)
		}
		reason := strings.TrimPrefix(j.GetReason().String(), "REJECT_REASON_")
		warn(p.env.Stderr, []string{fmt.Sprintf("%s refused: %s (%s)", lines, j.GetMessage(), reason)})
	}
}
