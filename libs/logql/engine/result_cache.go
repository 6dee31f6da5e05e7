package engine

import (
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ResultCache remembers what range aggregations of range queries came to, in parts of
// some steps. A part is found again only by all that it was made from: the aggregation's
// text and the digests and identities of the sources that meet the range of its
// windows, and what was left out of them. So nothing in it is ever wrong, only useless:
// data of any age may arrive. It is bounded in bytes; of the tenant that has most what
// was used longest ago goes first. It is safe for concurrent use; nil remembers
// nothing.
type ResultCache struct {
	max     int64
	hits    prometheus.Counter
	misses  prometheus.Counter
	evicted prometheus.Counter

	mu      sync.Mutex // guards what follows
	parts   map[partKey]*list.Element
	tenants map[string]*tenantParts
	bytes   int64
}

// tenantParts is the parts of a tenant.
type tenantParts struct {
	list  *list.List // of *cachedPart, the one used last in front
	bytes int64
}

// partKey names a part.
type partKey struct {
	tenant, query string
	step, start   int64     // of the query; start is the part's first step
	sum           [2]uint64 // of what it was made from
}

// cachedPart is a part. It is immutable.
type cachedPart struct {
	key   partKey
	value *vectors
	bytes int64
}

// CacheStats is what a query had to do with a ResultCache.
type CacheStats struct {
	Requested, Found, Stored uint64 // parts
	BytesFound, BytesStored  uint64
	Length                   time.Duration // of the parts that were found
}

// NewResultCache returns a cache that holds no more than max bytes.
func NewResultCache(maxBytes int64, reg prometheus.Registerer) *ResultCache {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_engine_result_cache_" + name, Help: help})
	}
	c := &ResultCache{
		max: maxBytes, parts: map[partKey]*list.Element{}, tenants: map[string]*tenantParts{},
		hits:    counter("hits_total", "Parts of answers that were remembered."),
		misses:  counter("misses_total", "Parts of answers that were looked for and not remembered."),
		evicted: counter("evictions_total", "Parts of answers that were forgotten to make room."),
	}
	if reg != nil {
		gauge := func(name, help string, value func() float64) prometheus.Collector {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_engine_result_cache_" + name, Help: help}, func() float64 {
				c.mu.Lock()
				defer c.mu.Unlock()
				return value()
			})
		}
		reg.MustRegister(c.hits, c.misses, c.evicted,
			gauge("bytes", "Memory of remembered parts of answers.", func() float64 { return float64(c.bytes) }),
			gauge("parts", "Remembered parts of answers.", func() float64 { return float64(len(c.parts)) }))
	}
	return c
}

// get returns a part, or nil.
func (c *ResultCache) get(k partKey) *cachedPart {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.parts[k]
	if e == nil {
		c.misses.Inc()
		return nil
	}
	c.hits.Inc()
	c.tenants[k.tenant].list.MoveToFront(e)
	return e.Value.(*cachedPart)
}

// put remembers a part, which the caller does not change any more. It reports whether
// there was room.
func (c *ResultCache) put(p *cachedPart) bool {
	p.bytes = int64(p.value.size()) + 256 + int64(len(p.key.query)+len(p.key.tenant))
	for _, l := range p.value.series {
		for _, pair := range l {
			p.bytes += 32 + int64(len(pair.Name)+len(pair.Value))
		}
	}
	if p.bytes > c.max/8 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parts[p.key] != nil {
		return true
	}
	t := c.tenants[p.key.tenant]
	if t == nil {
		t = &tenantParts{list: list.New()}
		c.tenants[p.key.tenant] = t
	}
	c.parts[p.key] = t.list.PushFront(p)
	t.bytes += p.bytes
	c.bytes += p.bytes
	for c.bytes > c.max {
		c.evict()
	}
	return true
}

// evict forgets one part. The caller holds the lock.
func (c *ResultCache) evict() {
	var most *tenantParts
	for _, t := range c.tenants {
		if most == nil || t.bytes > most.bytes {
			most = t
		}
	}
	p := most.list.Remove(most.list.Back()).(*cachedPart)
	delete(c.parts, p.key)
	most.bytes -= p.bytes
	c.bytes -= p.bytes
	if most.list.Len() == 0 {
		delete(c.tenants, p.key.tenant)
	}
	c.evicted.Inc()
}
