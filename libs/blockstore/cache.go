// Package blockstore runs queries over blocks: each block is an engine.Store. What is
// read of blocks, and what queries decode of it, goes through one cache for the whole
// process.
package blockstore

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/block"
)

// Cache keeps parts of blocks that were read: footers of sections, row groups with
// what was decompressed of them. It holds at most a number of bytes, but for the parts
// that are in use, and drops what was not asked for the longest. Safe for concurrent
// use.
type Cache struct {
	limit   int64
	metrics *cacheMetrics

	mu      sync.Mutex
	entries map[key]*entry
	lists   [2]recency
	size    int64
}

// recency is parts in the order of their use. Those of sections, which all row groups
// need, and what was worked out of all of a row group, are in one of their own: row
// groups, of which there are far more bytes than memory, must not push them out.
type recency struct {
	*list.List // of *entry, the one asked for last in front
	size       int64
}

const (
	ofSections  = 0 // up to half of the cache
	ofRowGroups = 1
)

func (k kind) list() int {
	if k == kindSection || k == kindProgram || k == kindFields {
		return ofSections
	}
	return ofRowGroups
}

type kind uint8

const (
	kindSection kind = iota
	kindBody
	kindOrder
	kindMetadata
	kindPicked  // of one query: which rows of a row group it wants
	kindRows    // of one query: those rows, a chunk of them
	kindProgram // filters, made ready for a section
	kindFields  // which slots of a row group's templates matter to fields
	kinds
)

func (k kind) String() string {
	return [...]string{"section", "lines", "order", "metadata", "selection", "rows", "filters", "fields"}[k]
}

type key struct {
	block *block.Reader
	kind  kind
	n     int
	query *selected // nil: of all queries
	text  string    // of filters
}

// part is what a cache holds.
type part interface {
	// MemorySize may grow as more of the part is decompressed.
	MemorySize() int
}

type entry struct {
	key   key
	place *list.Element // nil until it is loaded, and once it is dropped
	ready chan struct{}
	part  part // after ready
	err   error
	size  int64 // what it counts for
}

// NewCache returns a cache of that many bytes. A nil registerer: no metrics.
func NewCache(bytes int64, reg prometheus.Registerer) *Cache {
	c := &Cache{limit: bytes, entries: map[key]*entry{}}
	for i := range c.lists {
		c.lists[i].List = list.New()
	}
	c.metrics = newCacheMetrics(reg, c)
	return c
}

// Size returns how many bytes the parts take.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Limit returns how many bytes the parts may take.
func (c *Cache) Limit() int64 { return c.limit }

// Forget drops the parts of a block. Whoever uses them may go on.
func (c *Cache) Forget(r *block.Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if k.block == r && e.place != nil {
			c.drop(e)
		}
	}
}

// missing returns which of some parts are not there, nor being loaded.
func (c *Cache) missing(keys []key) (out []key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if c.entries[k] == nil {
			out = append(out, k)
		}
	}
	return out
}

// forget drops the parts of queries.
func (c *Cache) forget(keys []key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if e := c.entries[k]; e != nil && e.place != nil {
			c.drop(e)
		}
	}
}

// get returns a part, which it loads if it is not there. Callers that ask for a part
// that is being loaded wait for it.
func (c *Cache) get(ctx context.Context, k key, load func() (part, error)) (part, error) {
	for {
		c.mu.Lock()
		e := c.entries[k]
		if e == nil {
			e = &entry{key: k, ready: make(chan struct{})}
			c.entries[k] = e
			c.mu.Unlock()
			c.metrics.misses[k.kind].Inc()
			return c.load(e, load)
		}
		loaded := e.place != nil // without an error
		c.mu.Unlock()
		if !loaded {
			select {
			case <-e.ready:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if e.err == nil {
			c.metrics.hits[k.kind].Inc()
			c.touch(e)
			return e.part, nil
		}
		// That another query ended is no reason for this one to fail.
		if ctx.Err() != nil || !errors.Is(e.err, context.Canceled) && !errors.Is(e.err, context.DeadlineExceeded) {
			return nil, e.err
		}
	}
}

func (c *Cache) load(e *entry, load func() (part, error)) (_ part, err error) {
	err = errors.New("reading ended in a panic") // unless it returns
	defer func() {
		if err != nil {
			e.err = err
			c.mu.Lock()
			delete(c.entries, e.key)
			c.mu.Unlock()
		}
		close(e.ready)
	}()
	e.part, err = load()
	if err != nil {
		return nil, err
	}
	size := int64(e.part.MemorySize())
	c.mu.Lock()
	defer c.mu.Unlock()
	e.place = c.listOf(e).PushFront(e)
	c.resize(e, size)
	c.evict(e)
	return e.part, nil
}

// touch notes that a part was asked for, and what it takes now.
func (c *Cache) touch(e *entry) {
	size := int64(e.part.MemorySize())
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.place == nil {
		return // dropped meanwhile
	}
	c.listOf(e).MoveToFront(e.place)
	c.resize(e, size)
	c.evict(e)
}

func (c *Cache) listOf(e *entry) *recency { return &c.lists[e.key.kind.list()] }

// resize notes what a part takes. Call with mu held.
func (c *Cache) resize(e *entry, size int64) {
	c.listOf(e).size += size - e.size
	c.size += size - e.size
	e.size = size
}

// measure notes what a part takes now, if it is there.
func (c *Cache) measure(k key) {
	c.mu.Lock()
	e := c.entries[k]
	c.mu.Unlock()
	if e == nil {
		return
	}
	select {
	case <-e.ready:
		if e.err == nil {
			c.touch(e)
		}
	default:
	}
}

// evict drops parts until the rest fits, but not the one that is asked for. Call with
// mu held.
func (c *Cache) evict(keep *entry) {
	for c.size > c.limit {
		first := ofRowGroups
		if c.lists[ofSections].size > c.limit/2 {
			first = ofSections
		}
		last := c.lists[first].last(keep)
		if last == nil {
			last = c.lists[1-first].last(keep)
		}
		if last == nil {
			return
		}
		c.drop(last)
		c.metrics.evictions.Inc()
	}
}

// last returns the part that was not asked for the longest, but not the one to keep.
func (r *recency) last(keep *entry) *entry {
	e := r.Back()
	if e != nil && e.Value == keep {
		e = e.Prev()
	}
	if e == nil {
		return nil
	}
	return e.Value.(*entry)
}

func (c *Cache) drop(e *entry) {
	c.listOf(e).Remove(e.place)
	e.place = nil
	delete(c.entries, e.key)
	c.resize(e, 0)
}

type cacheMetrics struct {
	hits, misses [kinds]prometheus.Counter
	evictions    prometheus.Counter
	byColumns    prometheus.Counter // rows
	byPipeline   prometheus.Counter
}

func newCacheMetrics(reg prometheus.Registerer, c *Cache) *cacheMetrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_blockstore_cache_requests_total", Help: "Parts of blocks that were asked for, by part and whether they were there (hit) or read (miss).",
	}, []string{"part", "result"})
	m := &cacheMetrics{
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_blockstore_cache_evictions_total", Help: "Parts of blocks that were dropped for others.",
		}),
	}
	fields := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_blockstore_field_rows_total", Help: "Rows that were aggregated by fields of their lines, by what told the fields: columns of the block, or the pipeline, which ran on the line.",
	}, []string{"by"})
	m.byColumns, m.byPipeline = fields.WithLabelValues("columns"), fields.WithLabelValues("pipeline")
	for k := range kinds {
		m.hits[k] = requests.WithLabelValues(k.String(), "hit")
		m.misses[k] = requests.WithLabelValues(k.String(), "miss")
	}
	if reg != nil {
		reg.MustRegister(requests, fields, m.evictions,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "weir_blockstore_cache_bytes", Help: "Bytes of memory that parts of blocks take.",
			}, func() float64 { return float64(c.Size()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "weir_blockstore_cache_limit_bytes", Help: "The most that parts of blocks may take.",
			}, func() float64 { return float64(c.limit) }))
	}
	return m
}
