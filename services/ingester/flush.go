package ingester

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"syscall"
	"time"

	"github.com/weir-logs/weir/services/ingester/local"
)

const (
	// tick is how often the workers look at what is due by age.
	tick = time.Second
	// tidyEvery is how often local copies that nobody needs are looked for.
	tidyEvery = 5 * time.Second
	// After a failure they wait, twice as long each time.
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// request asks a worker for something now.
type request struct {
	compact bool
	done    chan error // capacity 1
}

// ask hands a request to a worker and waits for it. The work goes on if ctx ends.
func (s *Service) ask(ctx context.Context, worker chan *request, r *request) error {
	r.done = make(chan error, 1)
	select {
	case worker <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.workers.Done():
		return errStopping
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.workers.Done():
		return errStopping
	}
}

var errStopping = errors.New("the ingester is stopping")

// wake makes the flusher look at once.
func (s *Service) wakeFlusher() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// runFlusher is the worker that moves rows from memory to local blocks, one generation
// after the other, and keeps the number of containers small.
func (s *Service) runFlusher(ctx context.Context) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	retry, merging := backoff{now: s.now}, backoff{now: s.now}
	var tidied time.Time
	for {
		var r *request
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		case r = <-s.flushes:
		}
		if r != nil || s.cutDue() {
			s.freeze()
		}
		var err error
		if r != nil || retry.over() {
			err = s.drain(ctx)
			retry.note(err)
		}
		if err == nil && (r != nil || merging.over()) {
			err = s.merge(ctx, r != nil && r.compact)
			merging.note(err)
		}
		if time.Since(tidied) >= tidyEvery {
			s.dropExpired()
			tidied = time.Now()
		}
		s.gens.forget(s.now(), s.tailBytes())
		if err != nil && ctx.Err() == nil {
			s.metrics.cutFailures.Inc()
			s.logger.Error("cannot write local blocks; the rows stay in memory and in the write-ahead log", "err", err)
		}
		if r != nil {
			r.done <- err
		}
	}
}

// tailBytes is how much memory generations may take that are kept for tails only.
func (s *Service) tailBytes() int64 {
	keep := s.deps.HeadLimit / 8
	if len(s.followers) > 0 {
		keep = max(keep, 2*s.cutSize()) // the newest: followers may be a little behind
	}
	return keep
}

// cutSize is the size at which the active head is frozen.
func (s *Service) cutSize() int64 {
	if n := int64(s.cfg.CutSize); n > 0 {
		return min(n, s.deps.HeadLimit/2)
	}
	return s.deps.HeadLimit / 4
}

// full reports whether the active head is as large as one is to become. What streams take
// without a row is left out within limits: they take the same in the next head, so that
// with very many of them to cut often is of little use.
func (s *Service) full() bool {
	_, size, rows, _ := s.gens.ages()
	if s.cfg.CutSize > 0 {
		return size >= s.cutSize()
	}
	return rows >= s.cutSize() || size >= s.deps.HeadLimit/8*3
}

// cutDue reports whether the active head is to be frozen: by size, by age, because it
// is in the way, or because it pins more of the write-ahead log than is good.
func (s *Service) cutDue() bool {
	born, _, _, empty := s.gens.ages()
	if empty {
		return false
	}
	if s.full() || s.squeezed.Swap(false) && s.gens.next() == nil || s.now().Sub(born) >= s.cfg.CutInterval {
		return true
	}
	return s.log.SizeFrom(s.gens.unwritten()) > 2*s.deps.HeadLimit+2*int64(s.cfg.WALSegmentSize)
}

// freeze ends the active generation. Records that are still on their way to the head
// come behind it.
func (s *Service) freeze() *generation {
	var g *generation
	s.sequence.hold(func() { g = s.gens.freeze() })
	return g
}

// drain writes all frozen generations to local blocks and gives up their records.
func (s *Service) drain(ctx context.Context) error {
	for g := s.gens.next(); g != nil; g = s.gens.next() {
		if err := s.cut(ctx, g); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				// There is a reserve for this: what follows frees more.
				err = errors.Join(err, s.log.ReleaseReserve())
			}
			return err
		}
		if err := s.truncate(ctx); err != nil {
			// The rows are safe twice.
			s.logger.Warn("cannot truncate the write-ahead log", "err", err)
		}
	}
	return nil
}

// cut moves a generation to a container.
func (s *Service) cut(ctx context.Context, g *generation) error {
	began := s.now()
	c, err := s.encode(ctx, g)
	if err != nil {
		return err
	}
	if err := s.hook("cut.publish"); err != nil {
		return err
	}
	s.blocks.publish(c, nil, func() { s.gens.pass(g, s.now()) })
	s.room.free(math.MaxInt64) // it gives way from now on, and what rows need is another matter in another head
	s.metrics.cutDuration.Observe(s.now().Sub(began).Seconds())
	if c == nil {
		return nil
	}
	s.metrics.cuts.Inc()
	s.metrics.cutBytes.Add(float64(c.Size()))
	s.metrics.cutRows.Add(float64(g.head.Stats().Rows))
	s.logger.Debug("wrote local blocks", "container", c.Name(), "blocks", len(c.Blocks), "bytes", c.Size(), "records", fmt.Sprintf("%d-%d", g.first, g.last))
	s.wakeUploader()
	return nil
}

// truncate gives up the records of the write-ahead log that are in local blocks.
func (s *Service) truncate(ctx context.Context) error {
	if s.state.Load() == starting {
		return nil // the log is being read
	}
	if err := s.hook("cut.truncate"); err != nil {
		return err
	}
	if err := s.noteGaps(); err != nil {
		return err
	}
	if err := s.log.Cut(ctx); err != nil {
		return err
	}
	if err := s.truncateLog(); err != nil {
		return err
	}
	return s.hook("cut.done")
}

// dropExpired drops containers all of whose blocks are in the object store for so long
// that nobody needs the local copies.
func (s *Service) dropExpired() {
	now := s.now()
	var gone []*local.Container
	s.blocks.mu.RLock()
	for _, c := range s.blocks.containers {
		if s.expired(c, now) {
			gone = append(gone, c)
		}
	}
	s.blocks.mu.RUnlock()
	if len(gone) > 0 {
		if s.hook("drop") != nil {
			return
		}
		if err := s.giveUpLog(gone); err != nil {
			s.logger.Warn("cannot truncate the write-ahead log; local blocks stay that are in the object store", "err", err)
			return
		}
		if s.hook("drop.log") != nil {
			return
		}
		s.setAside(gone)
		if s.hook("drop.publish") != nil {
			return
		}
		s.blocks.publish(nil, gone, nil)
		s.metrics.dropped.Add(float64(len(gone)))
	}
	if err := s.changeState(s.prune); err != nil {
		s.logger.Warn("cannot write the record of uploads", "err", err)
	}
}

// giveUpLog drops what the log still has of containers that are to be dropped: a start
// would take what no container covers for new. That is what one with damage needs.
func (s *Service) giveUpLog(gone []*local.Container) error {
	last := uint64(0)
	s.blocks.mu.RLock()
	for _, c := range gone {
		damaged := slices.ContainsFunc(c.Blocks, func(b local.Block) bool { _, bad := s.blocks.bad[b.ID]; return bad })
		if n := len(c.Covers); n > 0 && c.Incarnation == s.incarnationID && !damaged {
			last = max(last, c.Covers[n-1].Last)
		}
	}
	s.blocks.mu.RUnlock()
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	return s.log.TruncateBefore(min(last, s.gens.unwritten()-1) + 1)
}

// setAside keeps those containers, of some that are to be dropped, that hold a damaged
// block which is nowhere else: as a gap, and for an operator to look at.
func (s *Service) setAside(list []*local.Container) {
	for _, c := range list {
		what := ""
		s.blocks.mu.RLock()
		for i := range c.Blocks {
			if w, bad := s.blocks.bad[c.Blocks[i].ID]; bad && s.blocks.uploaded[c.Blocks[i].ID] == nil {
				what = w
			}
		}
		s.blocks.mu.RUnlock()
		if what == "" {
			continue
		}
		if err := c.SetAside(); err != nil {
			s.logger.Error("cannot set a damaged container aside", "container", c.Path(), "err", err)
		}
		s.blocks.mu.Lock()
		s.blocks.lost = append(s.blocks.lost, local.Damage{Name: c.Name(), Err: errors.New(what)})
		s.blocks.mu.Unlock()
	}
}

// expired is called with the blocks' lock held.
func (s *Service) expired(c *local.Container, now time.Time) bool {
	for i := range c.Blocks {
		if !s.blockExpired(&c.Blocks[i], now) {
			return false
		}
	}
	return true
}

// blockExpired is called with the blocks' lock held.
func (s *Service) blockExpired(b *local.Block, now time.Time) bool {
	if _, bad := s.blocks.bad[b.ID]; bad {
		return true
	}
	u := s.blocks.uploaded[b.ID]
	return u != nil && (now.Sub(u.At) >= s.cfg.KeepUploaded && s.blocks.checked[u.Key] || s.deps.Known != nil && s.deps.Known(u.Key))
}

// prune forgets uploads that are neither named nor of a block that is here any more.
func (s *Service) prune(st *state) bool {
	here := map[string]bool{}
	s.blocks.mu.RLock()
	for _, c := range s.blocks.containers {
		for i := range c.Blocks {
			here[string(c.Blocks[i].ID)] = true
		}
	}
	s.blocks.mu.RUnlock()
	now, before := s.now(), len(st.Uploads)+len(st.Damaged)
	st.Damaged = slices.DeleteFunc(st.Damaged, func(d damagedBlock) bool { return !here[string(d.ID)] })
	uploads := st.Uploads[:0]
	for _, u := range st.Uploads {
		keep := now.Sub(u.At) < named
		for _, id := range u.Of {
			keep = keep || here[string(id)]
		}
		if keep {
			uploads = append(uploads, u)
		}
	}
	st.Uploads = uploads
	return len(st.Uploads)+len(st.Damaged) != before
}

// backoff spaces attempts after failures.
type backoff struct {
	now   func() time.Time
	delay time.Duration
	next  time.Time
}

// over reports whether the next attempt may be made.
func (b *backoff) over() bool { return !b.now().Before(b.next) }

func (b *backoff) note(err error) {
	if err == nil {
		b.delay, b.next = 0, time.Time{}
		return
	}
	b.delay = min(max(2*b.delay, minBackoff), maxBackoff)
	b.next = b.now().Add(b.delay)
}
