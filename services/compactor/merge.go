package compactor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/objstore"
)

const tempPrefix = "merge-"

// maxStreams is how many streams the sources of one merge have, if they are more than
// two: some hundred bytes of memory are taken for each.
const maxStreams = 400_000

// job is a merge that is being made.
type job struct {
	s       *Service
	task    compact.Task
	id      catalog.ID
	sources []compact.Source
	infos   []block.Info
	removes []compact.Remover
	deletes []pending      // of removes
	rules   *compact.Rules // of removes; nil: nothing expires
	clock   time.Time
	merge   *compact.Merge
	results []*result
}

// result is a block that a merge has written to a temporary file.
type result struct {
	file *os.File
	info block.Info
	sum  uint64 // of the file
	// removed counts the rows left out by each delete.
	removed map[string]uint64
}

// run makes a merge and stores its results. All or nothing is seen of it: what it
// stores before it fails hides nothing.
func (s *Service) run(ctx context.Context, task compact.Task, rules *compact.Rules, deletes []pending, clock time.Time) (err error) {
	j := &job{s: s, task: task, rules: rules, clock: clock}
	defer func() { err = errors.Join(err, j.close()) }()
	var sources []string
	for _, b := range task.Sources {
		sources = append(sources, catalog.Key(b.Block))
	}
	if err := s.caught(func() error { return j.make(ctx, deletes) }, "sources", sources); err != nil {
		return err
	}
	return j.store(ctx)
}

// make makes the results, and shows that they are what they are to be.
func (j *job) make(ctx context.Context, deletes []pending) (err error) {
	s, task := j.s, j.task
	if j.id, err = s.newID(); err != nil {
		return err
	}
	streams := 0
	for i, b := range task.Sources {
		r, err := s.open(ctx, b.Block)
		if err == nil && i >= 2 && streams+r.Streams() > s.maxStreams {
			// The others' turn is later; what is left out keeps the order open.
			j.task.Sources, j.task.Fix = task.Sources[:i], false
			break
		}
		if err == nil {
			streams += r.Streams()
			var src *compact.BlockSource
			if src, err = compact.NewBlockSource(r); err == nil {
				j.sources, j.infos = append(j.sources, src), append(j.infos, src.Info())
			}
		}
		if err != nil {
			s.damagedBy(err)
			return err
		}
	}
	j.choose(deletes)
	if err = j.produce(ctx); damaged(err) || errors.Is(err, compact.ErrProof) {
		return j.blame(ctx, err)
	}
	return err
}

// produce writes the results and proves them.
func (j *job) produce(ctx context.Context) error {
	ranges, err := j.ranges(ctx)
	if err != nil {
		return err
	}
	if err := j.write(ctx, ranges); err != nil {
		return err
	}
	// A part without rows is left out. How many there are is known only now, and is in
	// each footer.
	if full := j.nonEmpty(ranges); len(full) < len(ranges) && len(full) > 0 {
		ranges = full
		if err := j.write(ctx, ranges); err != nil {
			return err
		}
	}
	return j.prove(ctx)
}

// blame adds to why a merge was not made which of its sources are damaged, and counts them.
// What met the damage may not know whose rows it had, and what a source's index says of its
// rows is only shown to be wrong by reading all of it. Damage that is no longer there, or that
// of a result, is counted once.
func (j *job) blame(ctx context.Context, err error) error {
	cause, whole := err, true
	for _, src := range j.sources {
		if e := src.(*compact.BlockSource).Verify(ctx); e != nil {
			j.s.damagedBy(e)
			err, whole = errors.Join(err, e), false
		}
	}
	if whole {
		j.s.damagedBy(cause)
	}
	return err
}

// damagedBy counts errors that tell of damage.
func (s *Service) damagedBy(err error) {
	if damaged(err) {
		s.metrics.damaged.Inc()
	}
}

// damaged reports whether an error tells of damage.
func damaged(err error) bool {
	return errors.Is(err, column.ErrCorrupt) || errors.Is(err, objstore.ErrDamaged) || errors.Is(err, objstore.ErrRange)
}

// choose picks the removers that concern the sources.
func (j *job) choose(deletes []pending) {
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for _, i := range j.infos {
		if i.Rows > 0 {
			lo, hi = min(lo, i.MinTime), max(hi, i.MaxTime)
		}
	}
	for _, d := range deletes {
		if d.Overlaps(lo, hi) {
			j.deletes = append(j.deletes, d)
			j.removes = append(j.removes, d)
		}
	}
	if j.rules != nil {
		j.removes = append(j.removes, j.rules.Remover(j.clock.UnixNano()))
	}
}

// part is the rows of a result.
type part struct {
	start, end int64
	partition  time.Time
}

// ranges says how the merge is cut.
func (j *job) ranges(ctx context.Context) ([]part, error) {
	if !j.task.Partition.IsZero() {
		parts := int((j.task.Bytes() + int64(j.s.cfg.MaxBlockSize) - 1) / int64(j.s.cfg.MaxBlockSize))
		return split(compact.Cuts(j.sources, parts), func(int64) time.Time { return j.task.Partition }), nil
	}
	days := map[time.Time]bool{}
	for _, src := range j.sources {
		err := src.Each(ctx, compact.MinTime, compact.MaxTime, func(int) bool { return false }, func(_ model.Labels, rows *model.Rows, from, to int) error {
			last := time.Time{}
			for _, t := range rows.Times[from:to] {
				if d := compact.Day(t); d != last {
					days[d] = true
					last = d
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var cuts []int64
	for d := range days {
		cuts = append(cuts, d.UnixNano())
	}
	slices.Sort(cuts)
	if len(cuts) == 0 { // blocks without rows
		return []part{{compact.MinTime, compact.MaxTime, time.Time{}}}, nil
	}
	first := cuts[0]
	return split(cuts[1:], func(start int64) time.Time {
		if start == compact.MinTime {
			start = first
		}
		return compact.Day(start)
	}), nil
}

// split returns the parts between cuts, which cover all times.
func split(cuts []int64, partition func(start int64) time.Time) []part {
	var out []part
	start := int64(compact.MinTime)
	for _, c := range append(slices.Clone(cuts), compact.MaxTime) {
		out = append(out, part{start, c, partition(start)})
		start = c
	}
	return out
}

// nonEmpty returns parts that cover all times and hold the rows of the results: an
// empty one goes to the one before it, which it adds nothing to.
func (j *job) nonEmpty(ranges []part) []part {
	var out []part
	for i, p := range ranges {
		if j.results[i].info.Rows > 0 {
			out = append(out, p)
		}
	}
	for i := range out {
		if i == 0 {
			out[i].start = compact.MinTime
		} else {
			out[i-1].end = out[i].start
		}
		out[i].end = compact.MaxTime
	}
	return out
}

// mergedRowGroup is the size of row groups in merged blocks: larger than in new ones,
// which are read a little at a time, and a tenth smaller in the store (ADR 0009). Pages make
// up for much of what a slice of them costs (ADR 0034).
const mergedRowGroup = 4 << 20

// write makes the results, in temporary files.
func (j *job) write(ctx context.Context, ranges []part) error {
	if err := j.close(); err != nil {
		return err
	}
	m, err := compact.NewMerge(j.sources, j.removes, j.task.Fix, block.Compare)
	if err != nil {
		return err
	}
	j.merge = m
	before := map[string]uint64{}
	for i, p := range ranges {
		if err := j.s.step("write"); err != nil {
			return err
		}
		f, err := os.CreateTemp(j.s.deps.TempDir, tempPrefix)
		if err != nil {
			return err
		}
		r := &result{file: f, removed: map[string]uint64{}}
		j.results = append(j.results, r)
		meta, err := j.meta(p, i, len(ranges))
		if err != nil {
			return err
		}
		buf := bufio.NewWriterSize(f, 1<<20)
		w := block.NewWriter(buf, meta, block.Options{Level: column.LevelBetter, RowGroupBytes: mergedRowGroup, Pages: true})
		if err := m.Run(ctx, p.start, p.end, w); err != nil {
			return err
		}
		for _, d := range j.deletes {
			r.removed[d.ID] = m.RemovedBy(d.ID) - before[d.ID]
			before[d.ID] = m.RemovedBy(d.ID)
		}
		if r.info, err = w.Close(); err != nil {
			return err
		}
		if err := buf.Flush(); err != nil {
			return err
		}
		if r.sum, err = objstore.Sum(f, r.info.Size); err != nil {
			return err
		}
	}
	return nil
}

// meta is what part i of n says about itself.
func (j *job) meta(p part, i, n int) (block.Meta, error) {
	id, err := j.s.newID()
	if err != nil {
		return block.Meta{}, err
	}
	m := block.Meta{ID: id, Tenant: j.task.Tenant, Partition: p.partition, Ordered: j.task.Fix}
	last := int64(math.MinInt64)
	for k, src := range j.infos {
		m.Level = max(m.Level, min(src.Level+1, 255))
		m.Sources = append(m.Sources, catalog.Source{ID: src.ID, Part: i, Of: n, Merge: j.id})
		last = max(last, src.MaxTime)
		// What was applied to all sources was applied to the result.
		for _, t := range src.Tombstones {
			if k == 0 && t != compact.MarkOrdered {
				m.Tombstones = append(m.Tombstones, t)
			}
		}
		m.Tombstones = slices.DeleteFunc(m.Tombstones, func(t string) bool { return !slices.Contains(src.Tombstones, t) })
	}
	for _, d := range j.deletes {
		m.Tombstones = append(m.Tombstones, d.ID)
	}
	if j.rules != nil {
		m.Tombstones = append(m.Tombstones, j.rules.Marks(last, j.clock.UnixNano())...)
	}
	if m.Ordered {
		m.Tombstones = append(m.Tombstones, compact.MarkOrdered)
	}
	slices.Sort(m.Tombstones)
	m.Tombstones = slices.Compact(m.Tombstones)
	return m, nil
}

// prove shows that the results hold what the sources do, before anything is stored:
// by what was read and written, and by what the written blocks say after they were
// read back whole.
func (j *job) prove(ctx context.Context) error {
	if err := j.s.step("prove"); err != nil {
		return err
	}
	if err := j.merge.Prove(); err != nil {
		return err
	}
	var lists [][]compact.Stream
	for _, r := range j.results {
		reader, err := block.Open(ctx, fileRange{r.file}, r.info.Size)
		if err == nil {
			err = reader.Verify(ctx)
		}
		var streams []compact.Stream
		if err == nil {
			streams, err = compact.Streams(reader)
		}
		if err != nil {
			return fmt.Errorf("read back what was written: %w", err)
		}
		lists = append(lists, streams)
	}
	return j.merge.ProveResults(lists...)
}

type fileRange struct{ f *os.File }

// ReadRange implements block.RangeReader.
func (r fileRange) ReadRange(_ context.Context, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.f.ReadAt(b, off)
	return b, err
}

// store puts the results and reads them back.
func (j *job) store(ctx context.Context) error {
	s := j.s
	if err := j.recordRemovals(ctx); err != nil {
		return err
	}
	var keys []string
	for _, r := range j.results {
		if err := s.step("put"); err != nil {
			return err
		}
		b := r.info.Catalog()
		key := catalog.Key(b)
		if err := s.deps.Bucket.Put(ctx, key, r.file, r.info.Size); err != nil {
			return fmt.Errorf("store block: %w", err)
		}
		if err := s.step("read back"); err != nil {
			return err
		}
		if err := objstore.Verify(ctx, s.deps.Bucket, key, r.info.Size, r.sum); err != nil {
			s.damagedBy(err)
			return fmt.Errorf("read block back: %w", err)
		}
		if s.cfg.DeleteDelay == 0 { // else it is read back again before its sources go
			o, err := s.deps.Bucket.Stat(ctx, key)
			if err != nil {
				return err
			}
			s.verified[b.ID] = o.Modified
		}
		keys = append(keys, key)
	}
	if err := s.step("announce"); err != nil {
		return err
	}
	if err := s.deps.Loader.Announce(ctx, keys...); err != nil {
		return fmt.Errorf("list new blocks: %w", err)
	}
	if s.deps.Stored != nil {
		s.deps.Stored(keys)
	}
	j.count()
	return nil
}

func (j *job) count() {
	m, r := j.s.metrics, j.merge.Report()
	out := int64(0)
	for _, res := range j.results {
		out += res.info.Size
	}
	m.mergedBytes.WithLabelValues("in").Add(float64(j.task.Bytes()))
	m.mergedBytes.WithLabelValues("out").Add(float64(out))
	m.rows.WithLabelValues("kept").Add(float64(r.RowsOut))
	m.rows.WithLabelValues("copy").Add(float64(r.Copies))
	m.rows.WithLabelValues("removed").Add(float64(r.Removed))
	j.s.log.Info("blocks merged", "tenant", j.task.Tenant, "partition", partitionText(j.task.Partition), "reason", j.task.Reason,
		"sources", len(j.task.Sources), "results", len(j.results), "bytes_in", j.task.Bytes(), "bytes_out", out,
		"rows", r.RowsOut, "copies", r.Copies, "removed", r.Removed)
}

func partitionText(t time.Time) string {
	if t.IsZero() {
		return "any"
	}
	return t.UTC().Format(time.DateOnly)
}

// close removes the temporary files.
func (j *job) close() error {
	var errs []error
	for _, r := range j.results {
		errs = append(errs, r.file.Close(), os.Remove(r.file.Name()))
	}
	j.results = nil
	return errors.Join(errs...)
}
