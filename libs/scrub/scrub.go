// Package scrub reads blocks of a store again, slowly and all the time, and checks them:
// what has gone bad is to be known before it is needed. It never changes anything.
package scrub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
)

const (
	// idle is how long a scrubber waits when there is nothing to do, or the store is away.
	idle = time.Minute
	// share is how many times as long as it works a scrubber rests: less than 1% of a core.
	share = 120
	// maxRest bounds a rest: a machine that was asleep has not worked.
	maxRest = 10 * time.Minute
	minRate = 64 << 10 // bytes a second
)

// Options say what is scrubbed, and how.
type Options struct {
	Bucket objstore.Bucket
	// Blocks returns those that are this scrubber's, in any order.
	Blocks func() []catalog.Block
	// Every is how long it may take to read all of them once.
	Every time.Duration
	// State is a file that remembers how far it is.
	State string
	Now   func() time.Time
	// Sleep waits, or returns the error of ctx. nil: by the clock.
	Sleep func(ctx context.Context, d time.Duration) error
	Log   *slog.Logger
	Reg   prometheus.Registerer
}

// Scrubber checks blocks, one after the other.
type Scrubber struct {
	o       Options
	rate    float64 // bytes a second, of the block at work
	damaged map[catalog.ID]error
	number  atomic.Int64 // of those

	blocks, bytes, failures, panics prometheus.Counter
}

// New returns a scrubber.
func New(o Options) *Scrubber {
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	f := promauto.With(o.Reg)
	s := &Scrubber{
		o: o, damaged: map[catalog.ID]error{},
		blocks: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_scrub_blocks_total", Help: "Blocks of the object store that were read and checked in the background."}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_scrub_bytes_total", Help: "Bytes of blocks that were read in the background."}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_scrub_failures_total", Help: "Blocks that could not be checked because the object store did not answer."}),
	}
	s.panics = f.NewCounter(prometheus.CounterOpts{
		Name: "weir_scrub_panics_total", Help: "Panics while blocks were checked in the background: bugs, not damage. The log has the block and the stack."})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_scrub_damaged_blocks", Help: "Blocks that were found damaged when they were checked last."},
		func() float64 { return float64(s.number.Load()) })
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run scrubs until ctx ends.
func (s *Scrubber) Run(ctx context.Context) error {
	at := s.load()
	for {
		b, total, ok := s.next(at)
		wait := idle
		if ok {
			s.rate = max(float64(total)/s.o.Every.Seconds(), minRate)
			wait = s.check(ctx, b)
			if ctx.Err() == nil {
				at = place(b.ID)
				s.save(at)
			}
		}
		if s.o.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// place is where a block comes in a round. Places of blocks of all times and tenants are
// mixed, so that those that come and go meanwhile do not matter.
func place(id catalog.ID) uint64 { return xxhash.Sum64String(string(id)) }

// next returns the block that comes behind a place, or the first one, and the bytes of
// all.
func (s *Scrubber) next(at uint64) (b catalog.Block, total int64, ok bool) {
	list := s.o.Blocks()
	if len(list) == 0 {
		return b, 0, false
	}
	for _, x := range list {
		total += x.Size
		// The distance going round, 0 being a whole round.
		if !ok || place(x.ID)-at-1 < place(b.ID)-at-1 {
			b, ok = x, true
		}
	}
	for id := range s.damaged {
		if !slices.ContainsFunc(list, func(x catalog.Block) bool { return x.ID == id }) {
			delete(s.damaged, id)
		}
	}
	s.number.Store(int64(len(s.damaged)))
	return b, total, true
}

// check reads a block, and returns how long to rest.
func (s *Scrubber) check(ctx context.Context, b catalog.Block) time.Duration {
	key := catalog.Key(b)
	r := &reader{s: s, key: key, last: s.o.Now()}
	err := bug.Caught(func() error {
		x, err := block.Open(ctx, r, b.Size)
		if err != nil {
			return err
		}
		if info := x.Info(); info.ID != b.ID || info.Tenant != b.Tenant {
			return fmt.Errorf("it is block %s of tenant %q", info.ID, info.Tenant)
		}
		return x.Verify(ctx)
	}, func(value any, stack []byte) {
		s.panics.Inc()
		s.o.Log.Error("a bug: checking a block ended in a panic, which says nothing about the block", "block", key, "panic", value, "stack", string(stack))
	})
	switch {
	case ctx.Err() != nil:
		return 0
	case err == nil:
		s.blocks.Inc()
		if s.damaged[b.ID] != nil {
			s.o.Log.Info("a block is no longer damaged", "block", key)
			delete(s.damaged, b.ID)
		}
	case errors.Is(err, bug.ErrPanic): // the next round tries again
	case errors.Is(err, objstore.ErrNotFound): // it was replaced, or the catalog will tell
	case errors.Is(err, objstore.ErrUnavailable), errors.Is(err, objstore.ErrDenied):
		s.failures.Inc()
		s.o.Log.Warn("cannot check a block", "block", key, "err", err)
		return idle
	default:
		s.blocks.Inc()
		s.damaged[b.ID] = err
		s.o.Log.Error("a block of the object store is damaged", "block", key, "err", err)
	}
	s.number.Store(int64(len(s.damaged)))
	return r.rest()
}

// reader reads an object so slowly that a round takes its time, and a core has its rest.
type reader struct {
	s    *Scrubber
	key  string
	last time.Time // when the work on what was read last began
	read int       // bytes of that
}

// rest returns how long to rest for what was done since then.
func (r *reader) rest() time.Duration {
	worked := max(0, r.s.o.Now().Sub(r.last))
	return min(max(share*worked, time.Duration(float64(r.read)/r.s.rate*float64(time.Second))), maxRest)
}

// ReadRange implements block.RangeReader.
func (r *reader) ReadRange(ctx context.Context, off int64, n int) ([]byte, error) {
	if err := r.s.o.Sleep(ctx, r.rest()); err != nil {
		return nil, err
	}
	b, err := r.s.o.Bucket.Get(ctx, r.key, off, n)
	r.s.bytes.Add(float64(len(b)))
	r.last, r.read = r.s.o.Now(), len(b)
	return b, err
}

// load returns how far an earlier scrubber was.
func (s *Scrubber) load() uint64 {
	text, err := os.ReadFile(s.o.State)
	b, bad := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || bad != nil || len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// save remembers how far it is. If that fails, some are checked again after a restart.
func (s *Scrubber) save(at uint64) {
	temp := s.o.State + ".new"
	err := os.WriteFile(temp, []byte(hex.EncodeToString(binary.BigEndian.AppendUint64(nil, at))+"\n"), 0o600)
	if err == nil {
		err = os.Rename(temp, s.o.State)
	}
	if err != nil {
		s.o.Log.Warn("cannot note which blocks were checked", "err", err)
	}
}
