package blockstore

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/block/lines"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Store is a block as a store for the query engine. It is safe for concurrent use.
type Store struct {
	block *block.Reader
	cache *Cache
}

// NewStore returns a block as a store. Everything that is read goes through the cache.
func NewStore(r *block.Reader, c *Cache) *Store { return &Store{r, c} }

// Open implements engine.Store. No row is read for it, so a stream may be listed for a
// run that reaches into the range or spans it, and runs are given whole. The snapshot
// is an engine.Selective.
func (s *Store) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sn := &snapshot{store: s, start: start, end: end}
	sn.numbers = s.block.Match(matchers, start, end)
	sn.index()
	sn.all = newSelected(ctx, sn, nil)
	return sn, nil
}

// index finds the streams by their numbers in the block.
func (sn *snapshot) index() {
	sn.ascending = sn.numbers
	if !slices.IsSorted(sn.numbers) {
		sn.ascending, sn.places = ascending(sn.numbers)
	}
}

// ascending sorts distinct numbers; places are where each was.
func ascending(numbers []uint32) (sorted, places []uint32) {
	// Both in one word, which sorts fast.
	both := make([]uint64, len(numbers))
	for i, n := range numbers {
		both[i] = uint64(n)<<32 | uint64(i)
	}
	slices.Sort(both)
	sorted, places = make([]uint32, len(numbers)), make([]uint32, len(numbers))
	for i, b := range both {
		sorted[i], places[i] = uint32(b>>32), uint32(b)
	}
	return sorted, places
}

func (s *Store) footer(ctx context.Context, n int) (*block.SectionFooter, error) {
	return get(ctx, s.cache, key{block: s.block, kind: kindSection, n: n}, func() (*block.SectionFooter, error) { return s.block.ReadSectionFooter(ctx, n) })
}

func (s *Store) section(ctx context.Context, n int) (*block.Section, error) {
	f, err := s.footer(ctx, n)
	if err != nil {
		return nil, err
	}
	return s.open(f, n)
}

// open opens a section's footer, which takes more memory then.
func (s *Store) open(f *block.SectionFooter, n int) (*block.Section, error) {
	had := f.Opened()
	sec, err := f.Open()
	k := key{block: s.block, kind: kindSection, n: n}
	switch {
	case err != nil:
		s.cache.forget([]key{k}) // it may have been read wrong: the next one reads it again
	case !had:
		s.cache.measure(k)
	}
	return sec, err
}

func (s *Store) body(ctx context.Context, group int) (*lines.Body, error) {
	b, err := get(ctx, s.cache, key{block: s.block, kind: kindBody, n: group}, func() (body, error) {
		n, _ := s.block.Place(group)
		sec, err := s.section(ctx, n)
		if err != nil {
			return body{}, err
		}
		b, err := s.block.ReadBody(ctx, sec, group)
		return body{b}, err
	})
	return b.Body, err
}

// body is the lines of a row group in the cache.
type body struct{ *lines.Body }

// emptied implements emptier.
func (b body) emptied() part {
	if e := b.Body.Emptied(); e != nil {
		return body{e}
	}
	return nil
}

// damaged has the parts of a row group read again by the next query if an error says that
// one was read wrong. Most of a part is only looked at when it is needed, so it may have been
// in the cache for long.
func (s *Store) damaged(group int, err error) error {
	if errors.Is(err, column.ErrCorrupt) {
		s.cache.forget([]key{
			{block: s.block, kind: kindBody, n: group}, {block: s.block, kind: kindOrder, n: group}, {block: s.block, kind: kindMetadata, n: group},
		})
	}
	return err
}

func (s *Store) order(ctx context.Context, body *lines.Body, group int) (*block.Order, error) {
	o, err := get(ctx, s.cache, key{block: s.block, kind: kindOrder, n: group}, func() (*block.Order, error) { return s.block.ReadOrder(ctx, body, group) })
	return o, s.damaged(group, err)
}

func (s *Store) metadata(ctx context.Context, body *lines.Body, group int) (*block.Metadata, error) {
	m, err := get(ctx, s.cache, key{block: s.block, kind: kindMetadata, n: group}, func() (*block.Metadata, error) { return s.block.ReadMetadata(ctx, body, group) })
	return m, s.damaged(group, err)
}

func get[T part](ctx context.Context, c *Cache, k key, load func() (T, error)) (T, error) {
	p, err := c.get(ctx, k, func() (part, error) { return load() })
	if err != nil {
		var none T
		return none, err
	}
	return p.(T), nil
}

// snapshot is the streams of a block that a query asked for. The block never changes.
type snapshot struct {
	store      *Store
	start, end int64
	numbers    []uint32 // of the streams in the block
	ascending  []uint32 // the same
	places     []uint32 // where in numbers those of ascending are; nil: at the same place
	all        *selected

	measured sync.Once
	extent   engine.Extent // once it was asked for

	once    sync.Once
	streams []engine.Stream // once they were asked for

	mu   sync.Mutex
	keys []key            // of what the cache has for the query
	used map[int]struct{} // row groups whose parts may have grown
	more []key            // likewise, other parts
}

// Streams implements engine.Snapshot.
func (sn *snapshot) Streams() []engine.Stream {
	sn.once.Do(func() {
		sn.streams = make([]engine.Stream, len(sn.numbers))
		runs := 0
		for _, n := range sn.numbers {
			runs += len(sn.store.block.Runs(int(n), sn.start, sn.end))
		}
		all := make([]engine.Run, 0, runs)
		for i, n := range sn.numbers {
			from := len(all)
			all = sn.appendRuns(all, n)
			sn.streams[i] = engine.Stream{Labels: sn.store.block.Labels(int(n)), Runs: all[from:len(all):len(all)]}
		}
	})
	return sn.streams
}

// appendRuns appends the runs of a stream of the block.
func (sn *snapshot) appendRuns(dst []engine.Run, n uint32) []engine.Run {
	known := sn.store.block.Info().HashVersion == model.HashVersion
	for _, r := range sn.store.block.Runs(int(n), sn.start, sn.end) {
		run := engine.Run(r)
		if !known {
			run.Digest = 0
		}
		dst = append(dst, run)
	}
	return dst
}

// Labels implements engine.Indexed.
func (sn *snapshot) Labels(i int) model.Labels { return sn.store.block.Labels(int(sn.numbers[i])) }

// AppendLabels implements engine.Indexed.
func (sn *snapshot) AppendLabels(dst model.Labels, i int) model.Labels {
	return sn.store.block.AppendLabels(dst, int(sn.numbers[i]))
}

// AppendRuns implements engine.Indexed.
func (sn *snapshot) AppendRuns(dst []engine.Run, i int) []engine.Run {
	return sn.appendRuns(dst, sn.numbers[i])
}

// Extent implements engine.Indexed.
func (sn *snapshot) Extent() engine.Extent {
	sn.measured.Do(func() { sn.extent = sn.measure() })
	return sn.extent
}

// Applied implements engine.Applied.
func (sn *snapshot) Applied() []string { return sn.store.block.Info().Tombstones }

func (sn *snapshot) measure() engine.Extent {
	info := sn.store.block.Info()
	e := engine.Extent{MinTime: info.MinTime, MaxTime: info.MaxTime, Streams: len(sn.numbers)}
	if int64(len(sn.numbers)) == info.Streams && sn.start <= info.MinTime && info.MaxTime < sn.end {
		e.Bytes = uint64(info.RawBytes)
		return e
	}
	for _, n := range sn.numbers {
		for _, r := range sn.store.block.Runs(int(n), sn.start, sn.end) {
			e.Bytes += r.Bytes
		}
	}
	return e
}

// Bounds implements engine.Indexed.
func (sn *snapshot) Bounds(i int) (least, greatest int64) {
	runs := sn.store.block.Runs(int(sn.numbers[i]), sn.start, sn.end)
	return runs[0].MinTime, runs[len(runs)-1].MaxTime
}

// Values implements engine.Indexed.
func (sn *snapshot) Values(name string) ([]string, func(stream int) uint32) {
	values, of := sn.store.block.LabelValues(name)
	return values, func(i int) uint32 {
		if of == nil {
			return 0
		}
		return of[sn.numbers[i]]
	}
}

// place returns the number in the snapshot of the k-th stream in the order of the
// block.
func (sn *snapshot) place(k int) int {
	if sn.places != nil {
		return int(sn.places[k])
	}
	return k
}

// Rows implements engine.Snapshot.
func (sn *snapshot) Rows(stream int, start, end int64, backward bool) engine.RowReader {
	return sn.all.Rows(stream, start, end, backward)
}

// own notes that the cache has a part for the query.
func (sn *snapshot) own(k key, group int) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.keys = append(sn.keys, k)
	sn.note(group)
}

// grew notes that the parts of a row group take more memory than they did.
func (sn *snapshot) grew(group int) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.note(group)
}

func (sn *snapshot) note(group int) {
	if sn.used == nil {
		sn.used = map[int]struct{}{}
	}
	sn.used[group] = struct{}{}
}

// use notes that a part of the cache may grow.
func (sn *snapshot) use(k key) {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	sn.more = append(sn.more, k)
}

// Close implements engine.Snapshot.
func (sn *snapshot) Close() {
	sn.mu.Lock()
	defer sn.mu.Unlock()
	c := sn.store.cache
	c.forget(sn.keys)
	for group := range sn.used {
		c.measure(key{block: sn.store.block, kind: kindBody, n: group})
		c.measure(key{block: sn.store.block, kind: kindMetadata, n: group})
	}
	for _, k := range sn.more {
		c.measure(k)
	}
	sn.keys, sn.used, sn.more = nil, nil, nil
}

// Select implements engine.Selective.
func (sn *snapshot) Select(ctx context.Context, n *engine.Need) engine.Snapshot {
	return newSelected(ctx, sn, n)
}
