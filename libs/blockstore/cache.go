// Package blockstore runs queries over blocks: each block is an engine.Store. What is
// read of blocks, and what queries decode of it, goes through one cache for the whole
// process.
package blockstore

import (
	"container/list"
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-logs/weir/libs/block"
)

// Cache keeps parts of blocks that were read: footers of sections, row groups with
// what was decompressed of them. It holds at most a number of bytes, but for the parts
// that are in use, and drops what is asked for least. Safe for concurrent use.
type Cache struct {
	limit   int64
	metrics *cacheMetrics

	mu      sync.Mutex
	entries map[key]*entry
	shares  [shares]share
	gone    gone
	clock   uint64 // how often parts were asked for
	loaded  int64  // bytes of parts
	size    int64
}

type kind uint8

const (
	kindSection kind = iota
	kindBody
	kindOrder
	kindMetadata
	kindPicked   // of one query: which rows of a row group it wants
	kindRows     // of one query: those rows, a chunk of them
	kindProgram  // filters, made ready for a section
	kindFields   // which slots of a row group's templates matter to fields
	kindTouching // which streams of two blocks have rows of the same times
	kinds
)

func (k kind) String() string {
	return [...]string{"section", "lines", "order", "metadata", "selection", "rows", "filters", "fields", "touching"}[k]
}

type key struct {
	block *block.Reader
	kind  kind
	n     int
	query *selected     // nil: of all queries
	text  string        // of filters
	other *block.Reader // of kindTouching
}

// part is what a cache holds.
type part interface {
	// MemorySize may grow as more of the part is decompressed.
	MemorySize() int
}

// emptier is a part of which something stays when it makes room for others: it is asked for
// as before, and grows again if it has to. Neither method waits for who uses the part.
type emptier interface {
	part
	// EmptiedSize returns what it takes if nothing is there but what stays.
	EmptiedSize() int
	// emptied returns what stays; nil: nothing.
	emptied() part
}

type entry struct {
	key   key
	queue *queue
	place *list.Element // in the queue; nil until it is loaded, and once it is dropped
	ready chan struct{}
	part  part // after ready; with the cache's mu held
	err   error
	size  int64 // what it counts for
	// When it was asked for last, by the cache's clock, and when before it was loaded; 0:
	// that is not known.
	asked, before uint64
	left          uint64 // when it was asked for last before it was emptied
	loaded        int64  // how much the cache had loaded when it was asked for last
	forgotten     bool   // it goes once it is loaded
	alone         bool   // its section is gone, or was loaded again: nothing of it stays
}

// NewCache returns a cache of that many bytes. A nil registerer: no metrics.
func NewCache(bytes int64, reg prometheus.Registerer) *Cache {
	c := &Cache{limit: bytes, entries: map[key]*entry{}}
	for i := range c.shares {
		c.shares[i].recent.of, c.shares[i].kept.of = i, i
	}
	c.gone.seed = maphash.MakeSeed()
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

// Forget drops the parts of a block, those that are being loaded once they are. Whoever uses
// them may go on.
func (c *Cache) Forget(r *block.Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.entries {
		if k.block != r && k.other != r {
			continue
		}
		if e.forgotten = true; e.place != nil {
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
			return c.hit(e), nil
		}
		// That another query ended is no reason for this one to fail.
		if ctx.Err() != nil || !errors.Is(e.err, context.Canceled) && !errors.Is(e.err, context.DeadlineExceeded) {
			return nil, e.err
		}
	}
}

// ErrPanic is the error of those who waited for a part whose reading ended in a panic: a bug,
// which says nothing about the block. Who read it has the panic.
var ErrPanic = errors.New("reading ended in a panic")

func (c *Cache) load(e *entry, load func() (part, error)) (_ part, err error) {
	err = ErrPanic // unless it returns
	defer func() {
		if err != nil {
			e.err = err
			c.mu.Lock()
			delete(c.entries, e.key)
			c.mu.Unlock()
		}
		close(e.ready)
	}()
	p, err := load()
	if err != nil {
		return nil, err
	}
	size := int64(p.MemorySize())
	c.mu.Lock()
	defer c.mu.Unlock()
	e.part = p
	c.loaded += size
	e.before = c.gone.at(e.key)
	c.ask(e)
	c.insert(e, e.key.kind.share())
	c.resize(e, size)
	c.evict(e)
	c.settle(e.key.kind.share(), e)
	if e.forgotten && e.place != nil {
		c.drop(e)
	}
	return p, nil
}

// hit returns a part that was loaded, and notes that it was asked for.
func (c *Cache) hit(e *entry) part {
	c.mu.Lock()
	p, empty := e.part, e.queue.of == ofEmptied
	c.mu.Unlock()
	if empty {
		c.metrics.emptyHits.Inc()
	} else {
		c.metrics.hits[e.key.kind].Inc()
	}
	c.note(e, p, true)
	return p
}

// note notes what a part takes now, and whether it was asked for.
func (c *Cache) note(e *entry, p part, asked bool) {
	size, least := int64(p.MemorySize()), int64(0)
	if x, is := p.(emptier); is {
		least = int64(x.EmptiedSize())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.place == nil || e.part != p {
		return // dropped meanwhile, or emptied
	}
	if asked {
		c.used(e)
	}
	had := e.size
	c.resize(e, size)
	filled := e.queue.of == ofEmptied && size > least
	if filled {
		c.metrics.misses[e.key.kind].Inc()
		c.loaded += size - had
		c.remove(e)
		e.before = e.left
		c.insert(e, ofRowGroups)
	}
	if c.evict(e); filled {
		c.settle(ofRowGroups, e)
	}
}

// resize notes what a part takes. Call with mu held.
func (c *Cache) resize(e *entry, size int64) {
	e.queue.size += size - e.size
	c.size += size - e.size
	e.size = size
}

// measure notes what a part takes now, if it is there.
func (c *Cache) measure(k key) {
	c.mu.Lock()
	e := c.entries[k]
	var p part
	if e != nil && e.place != nil {
		p = e.part
	}
	c.mu.Unlock()
	if p != nil {
		c.note(e, p, false)
	}
}

// drop drops a part that is there. Call with mu held.
func (c *Cache) drop(e *entry) {
	c.remove(e)
	c.size -= e.size
	e.size, e.place = 0, nil
	delete(c.entries, e.key)
	// Row groups hold on to the section that they were opened with. That which is there now
	// stands for many of them.
	if s, is := e.part.(interface{ Groups() (first, n int) }); is {
		first, n := s.Groups()
		for group := first; group < first+n; group++ {
			of := c.entries[key{block: e.key.block, kind: kindBody, n: group}]
			switch {
			case of == nil:
			case of.place != nil && of.queue.of == ofEmptied:
				c.drop(of)
			default:
				of.alone = true
			}
		}
	}
}

type cacheMetrics struct {
	hits, misses [kinds]prometheus.Counter
	emptyHits    prometheus.Counter
	evictions    prometheus.Counter
	byColumns    prometheus.Counter // rows
	byPipeline   prometheus.Counter
}

func newCacheMetrics(reg prometheus.Registerer, c *Cache) *cacheMetrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_blockstore_cache_requests_total", Help: "Parts of blocks that were asked for, by part and whether they were there (hit) or read (miss). Of lines of which is known what searches found out, but which are not there, that is told (emptied), and then that they were read (miss) if that did not answer.",
	}, []string{"part", "result"})
	m := &cacheMetrics{
		evictions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_blockstore_cache_evictions_total", Help: "Parts of blocks that were dropped for others, also if what searches found out about them stayed.",
		}),
	}
	fields := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_blockstore_field_rows_total", Help: "Rows that were aggregated by fields of their lines, by what told the fields: columns of the block, or the pipeline, which ran on the line.",
	}, []string{"by"})
	m.byColumns, m.byPipeline = fields.WithLabelValues("columns"), fields.WithLabelValues("pipeline")
	m.emptyHits = requests.WithLabelValues(kindBody.String(), "emptied")
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
				Name: "weir_blockstore_cache_emptied_bytes", Help: "Bytes of memory of these that what searches found out takes of lines that are not there.",
			}, func() float64 {
				c.mu.Lock()
				defer c.mu.Unlock()
				return float64(c.shares[ofEmptied].size())
			}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "weir_blockstore_cache_limit_bytes", Help: "The most that parts of blocks may take.",
			}, func() float64 { return float64(c.limit) }))
	}
	return m
}
