package ingester

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/bug"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/services/ingester/local"
)

const (
	// uploads is how many blocks are uploaded at a time.
	uploads = 4
	// uploadTimeout is how long the upload of one block may take.
	uploadTimeout = 10 * time.Minute
	// noted is how many uploads are noted on disk together.
	noted = 64
)

func (s *Service) wakeUploader() {
	select {
	case s.uploadWake <- struct{}{}:
	default:
	}
}

// runUploader is the worker that copies local blocks to the object store.
func (s *Service) runUploader(ctx context.Context) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	retry := backoff{now: s.now}
	for {
		var r *request
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.uploadWake:
		case r = <-s.uploadRequests:
		}
		if r == nil && !retry.over() {
			continue
		}
		err := s.upload(ctx, r != nil)
		retry.note(err)
		if err != nil && ctx.Err() == nil {
			s.metrics.uploadFailures.Inc()
			s.logger.Error("cannot upload blocks; they stay on the local disk", "err", err, "retry_in", retry.delay.String())
		}
		if r != nil {
			r.done <- err
		}
	}
}

// upload uploads the blocks of all tenants that are due, or of all.
func (s *Service) upload(ctx context.Context, all bool) error {
	s.tidying.Lock()
	defer s.tidying.Unlock()
	rechecked := s.recheck(ctx)
	held := s.dueUploads(all)
	defer held.release()
	jobs := s.uploadJobs(held.blocks)
	if len(jobs) == 0 {
		return rechecked
	}
	var (
		mu   sync.Mutex // guards done, errs and away
		done []upload
		errs []error
		away bool
		next atomic.Int64
		wg   sync.WaitGroup
	)
	note := func(least int) error { // with mu held
		if len(done) < least {
			return nil
		}
		batch := done
		done = nil
		return s.changeState(func(st *state) bool {
			st.Uploads = append(st.Uploads, batch...)
			return true
		})
	}
	for range min(uploads, len(jobs)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(jobs) || ctx.Err() != nil {
					return
				}
				var u upload
				err := s.caught(func() (err error) {
					u, err = s.uploadOne(ctx, jobs[i])
					return err
				}, "blocks", names(jobs[i]))
				bad := errors.Is(err, bug.ErrPanic)
				mu.Lock()
				if err == nil {
					done = append(done, u)
					err = note(noted)
				}
				if err != nil {
					errs = append(errs, err)
				}
				away = away || err != nil && !bad
				stop := away
				mu.Unlock()
				if stop {
					return // the store may be away: try again later
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(rechecked, errors.Join(errs...), note(1), ctx.Err())
}

// pendingUpload reports whether a block is to be uploaded one day. It is called with the
// blocks' lock held.
func (s *Service) pendingUpload(b *localBlock) bool {
	_, up := s.blocks.uploaded[b.ID]
	_, bad := s.blocks.bad[b.ID]
	return !up && !bad
}

// dueUploads returns the blocks of tenants that are due, or of all.
func (s *Service) dueUploads(all bool) *held {
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	h := &held{}
	now := s.now()
	for _, list := range s.blocks.byTenant {
		raw, due := int64(0), all
		for _, b := range list {
			if s.pendingUpload(b) {
				raw += b.RawBytes
				due = due || now.Sub(b.Born) >= s.cfg.UploadInterval
			}
		}
		if !due && raw < int64(s.cfg.UploadSize) {
			continue
		}
		for _, b := range list {
			if s.pendingUpload(b) {
				s.blocks.hold(h, b)
			}
		}
	}
	return h
}

// uploadJobs groups blocks: those of one group become one object. Large ones go as they
// are, and those that are merged no more.
func (s *Service) uploadJobs(list []*localBlock) [][]*localBlock {
	var jobs [][]*localBlock
	small := map[partition][]*localBlock{}
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	for _, b := range list {
		if s.blocks.alone[b.ID] || 2*b.RawBytes >= int64(s.cfg.UploadSize) {
			jobs = append(jobs, []*localBlock{b})
			continue
		}
		k := partition{b.Tenant, b.Partition}
		small[k] = append(small[k], b)
	}
	for _, k := range sortedPartitions(small) {
		jobs = append(jobs, small[k])
	}
	return jobs
}

// uploadOne uploads blocks as one object and reads it back.
func (s *Service) uploadOne(ctx context.Context, list []*localBlock) (upload, error) {
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	began := s.now()
	var (
		info block.Info
		body io.ReaderAt
		sum  uint64
	)
	if len(list) == 1 {
		b := list[0]
		r, err := b.peek(ctx)
		if err != nil {
			if isDamage(err) {
				s.damaged(b, err)
			}
			return upload{}, err
		}
		info, body, sum = r.Info(), b.container.Section(b.Block), b.Sum
		// What is damaged must not get there.
		if err := s.checkSum(b); err != nil {
			return upload{}, err
		}
	} else {
		f, in, hash, err := s.mergeForUpload(ctx, list)
		if err != nil {
			return upload{}, err
		}
		defer func() {
			_ = f.Close() // it was read only
			_ = os.Remove(f.Name())
		}()
		info, body, sum = in, f, hash
	}
	key := catalog.Key(info.Catalog())
	if err := s.hook("upload.put"); err != nil {
		return upload{}, err
	}
	if err := s.deps.Bucket.Put(ctx, key, body, info.Size); err != nil {
		return upload{}, fmt.Errorf("put %s: %w", key, err)
	}
	if err := s.hook("upload.verify"); err != nil {
		return upload{}, err
	}
	if err := objstore.Verify(ctx, s.deps.Bucket, key, info.Size, sum); err != nil {
		return upload{}, fmt.Errorf("read %s back: %w", key, err)
	}
	if err := s.hook("upload.note"); err != nil {
		return upload{}, err
	}
	u := upload{Key: key, Tenant: info.Tenant, MinTime: info.MinTime, MaxTime: info.MaxTime, At: s.now()}
	for _, b := range list {
		u.Of = append(u.Of, b.ID)
	}
	s.metrics.uploads.Inc()
	s.metrics.uploadBytes.Add(float64(info.Size))
	s.metrics.uploadDuration.Observe(s.now().Sub(began).Seconds())
	s.logger.Debug("uploaded a block", "key", key, "bytes", info.Size, "of", len(list))
	return u, nil
}

// names returns the ids of blocks.
func names(list []*localBlock) (out []string) {
	for _, b := range list {
		out = append(out, string(b.ID))
	}
	return out
}

// checkSum reads a local block as a whole.
func (s *Service) checkSum(b *localBlock) error {
	sum, err := objstore.Sum(b.container.Section(b.Block), b.Size)
	if err == nil && sum != b.Sum {
		err = fmt.Errorf("local block %s: %w", b.ID, local.ErrDamaged)
		s.damaged(b, err)
	}
	return err
}

// mergeForUpload writes the union of blocks to a temporary file, whose checksum it
// returns.
func (s *Service) mergeForUpload(ctx context.Context, list []*localBlock) (_ *os.File, info block.Info, sum uint64, err error) {
	slices.SortFunc(list, func(a, b *localBlock) int { return a.Born.Compare(b.Born) })
	// One at a time: each takes an encoder's memory.
	s.encoder.Lock()
	defer s.encoder.Unlock()
	w, err := local.Create(s.blocksDir(), local.Directory{Incarnation: s.incarnationID, Created: s.now()}, s.rand, nil)
	if err != nil {
		return nil, info, 0, err
	}
	if info, err = s.uniteBlocks(ctx, w, list); err != nil {
		w.Abort()
		return nil, info, 0, err
	}
	f, sum, err := w.Detach()
	return f, info, sum, err
}

// backlog returns the bytes of lines that wait to be uploaded, and since when.
func (s *Service) backlog() (bytes int64, oldest time.Time) {
	s.blocks.mu.RLock()
	defer s.blocks.mu.RUnlock()
	for _, list := range s.blocks.byTenant {
		for _, b := range list {
			if !s.pendingUpload(b) {
				continue
			}
			bytes += b.RawBytes
			if oldest.IsZero() || b.Born.Before(oldest) {
				oldest = b.Born
			}
		}
	}
	return bytes, oldest
}

func (s *Service) blocksDir() string { return filepath.Join(s.deps.DataDir, "blocks") }
