package ingester

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/wal"
	"github.com/weir-logs/weir/services/ingester/head"
)

// keptLog is what of the write-ahead log stays for tails that come back though it is in
// blocks: what was written in the last tailMemory, and at most so many bytes.
type keptLog struct {
	bytes int64
	marks []mark // ascending
}

// mark is which record came next at a time.
type mark struct {
	lsn uint64
	at  time.Time
}

// maxLogReaders is how many followers read from the log at a time; others wait. While one
// sends it does not count, so that clients who are slow to take it hold up nobody.
const maxLogReaders = 2

// markEvery is how close together marks are.
const markEvery = 15 * time.Second

// from returns the first record that is to stay of those below needed, which are in
// blocks. oldest is Log.Oldest.
func (k *keptLog) from(needed uint64, now time.Time, oldest func(lsn uint64, bytes int64) uint64) uint64 {
	if n := len(k.marks); n == 0 || now.Sub(k.marks[n-1].at) >= markEvery {
		k.marks = append(k.marks, mark{needed, now})
	}
	// The newest mark that is old enough says what need not be kept; those before it say
	// nothing more.
	old := 0
	for i, m := range k.marks {
		if now.Sub(m.at) < tailMemory {
			break
		}
		old = i
	}
	k.marks = slices.Delete(k.marks, 0, old)
	least := uint64(0)
	if now.Sub(k.marks[0].at) >= tailMemory {
		least = k.marks[0].lsn
	}
	return min(needed, max(least, oldest(needed, k.bytes)))
}

// truncateLog drops what of the write-ahead log is of no use any more. What is kept for
// tails takes a quarter of the disk's free space at most, and none on one that is nearly
// full.
func (s *Service) truncateLog() error {
	s.keptMu.Lock()
	defer s.keptMu.Unlock()
	needed := s.gens.unwritten()
	s.kept.bytes = int64(s.cfg.TailLog)
	if d, err := s.log.DiskState(); err == nil {
		s.kept.bytes = min(s.kept.bytes, int64(d.FreeBytes/4))
		if d.Full {
			s.kept.bytes = 0
		}
	}
	return s.log.TruncateBefore(s.kept.from(needed, s.now(), s.log.Oldest))
}

// yieldLog gives up what of the log is kept for tails, since the disk is full.
func (s *Service) yieldLog() {
	if !s.yielding.CompareAndSwap(false, true) {
		return // somebody does
	}
	defer s.yielding.Store(false)
	if err := s.truncateLog(); err != nil {
		s.logger.Warn("cannot truncate the write-ahead log", "err", err)
	}
}

// seenRows bounds the rows that a reader of the log remembers, of each of two generations.
const seenRows = 1 << 15

// behind reads what came behind a follower's position from the write-ahead log, since it
// has left memory, up to where memory begins. It is false if it is not there any more.
//
// The log has rows that were there before and are in no answer from memory: retries. Those
// whose first copy the log still has are left out.
func (f *follower) behind(ctx context.Context) (bool, error) {
	s := f.service
	if err := f.awaitReader(ctx); err != nil {
		return false, err
	}
	defer f.giveReader()
	upto := s.gens.oldest()
	if upto <= f.position {
		return true, nil
	}
	s.metrics.logReads.Inc()
	w := &followWriter{follower: f, out: newRowSet()}
	seen, before := map[uint64]struct{}{}, map[uint64]struct{}{}
	known := func(hash uint64) bool {
		if _, ok := seen[hash]; ok {
			return true
		}
		_, ok := before[hash]
		if len(seen) >= seenRows {
			before, seen = seen, map[uint64]struct{}{}
		}
		seen[hash] = struct{}{}
		return ok
	}
	reached := uint64(0)
	read := func(lsn uint64, typ byte, payload []byte) error {
		reached = lsn
		if !w.pieces && time.Since(f.sent) >= followIdle {
			if err := w.flush(max(w.position, lsn-1)); err != nil {
				return err
			}
		}
		if typ != recordIngest {
			return fmt.Errorf("record %d is of type %d", lsn, typ)
		}
		req := &ingestv1.IngestRequest{}
		if err := proto.Unmarshal(payload, req); err != nil {
			return fmt.Errorf("record %d: %w", lsn, err)
		}
		if req.GetTenant() != f.tenant {
			return nil
		}
		blocks, err := s.rows(req, &memory{})
		if err != nil {
			return fmt.Errorf("record %d: %w", lsn, err)
		}
		for i := range blocks {
			b := &blocks[i]
			if !f.match(b.Labels) {
				continue
			}
			b.Rows.BatchTimes = slices.Repeat([]int64{req.GetBatchTimeUnixNano()}, b.Rows.Len())
			fingerprint := b.Labels.Fingerprint()
			for from := range b.Rows.Len() {
				if known(model.StreamHash(fingerprint, b.Rows.Hashes[from])) || lsn <= f.began {
					continue
				}
				if err := w.add(&head.Appended{Labels: b.Labels, Seq: lsn, Rows: &b.Rows, From: from, To: from + 1}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	f.began = f.position
	for _, from := range []uint64{s.log.FirstLSN(), f.position + 1} {
		err := s.log.Read(ctx, min(from, f.position+1), upto+1, read)
		switch {
		case err == nil:
			return true, w.finish(upto)
		case !errors.Is(err, wal.ErrGone):
			return false, err
		case reached > f.began:
			return false, nil
		}
		// What is gone may be of what only tells which rows are copies.
	}
	return false, nil
}

// awaitReader is takeReader for when all that was read was sent: whoever follows is told
// meanwhile that this is not over.
func (f *follower) awaitReader(ctx context.Context) error {
	for {
		turn, cancel := context.WithTimeout(ctx, followIdle)
		err := f.takeReader(turn)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := f.send(&ingestv1.FollowResponse{}); err != nil {
			return err
		}
	}
}

// takeReader waits until the follower may read from the log.
func (f *follower) takeReader(ctx context.Context) error {
	select {
	case f.service.logReaders <- struct{}{}:
		f.reads = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *follower) giveReader() {
	if f.reads {
		f.reads = false
		<-f.service.logReaders
	}
}

// inBlocks reports whether records were in local blocks at the start.
func (s *Service) inBlocks(first, last uint64) bool {
	for _, r := range s.covered {
		if r.First <= first && last <= r.Last {
			return first > 0
		}
	}
	return false
}
