package limits

import (
	"container/list"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// MaxRateTenants is how many tenants a RateLimiter remembers by default.
const MaxRateTenants = 50_000

// RateLimiter is a token bucket per tenant. It remembers a bounded number of tenants: beyond it
// the one that came least recently is forgotten, and starts with a full bucket should it return.
// It is safe for concurrent use.
type RateLimiter struct {
	now func() time.Time
	max int

	mu      sync.Mutex
	buckets map[string]*list.Element // of *bucket
	recent  *list.List               // the tenant that came last is at the front

	evicted prometheus.Counter
	refused prometheus.Counter
}

type bucket struct {
	tenant  string
	limiter *rate.Limiter
	last    time.Time
}

// NewRateLimiter returns a limiter that remembers at most maxTenants (0: [MaxRateTenants]). now is
// the clock; reg may be nil.
func NewRateLimiter(maxTenants int, now func() time.Time, reg prometheus.Registerer) *RateLimiter {
	if maxTenants <= 0 {
		maxTenants = MaxRateTenants
	}
	r := &RateLimiter{now: now, max: maxTenants, buckets: map[string]*list.Element{}, recent: list.New()}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_limits_rate_tenants", Help: "Tenants whose rate is remembered.",
	}, func() float64 { return float64(r.Tenants()) })
	r.evicted = f.NewCounter(prometheus.CounterOpts{
		Name: "weir_limits_rate_evicted_total", Help: "Tenants whose rate was forgotten before their bucket was full again.",
	})
	r.refused = f.NewCounter(prometheus.CounterOpts{
		Name: "weir_limits_rate_refused_total", Help: "Requests refused because of a rate.",
	})
	return r
}

// Allow takes n from the tenant's bucket, which fills by perSecond up to burst. It returns nil, or
// takes nothing and returns an error with the reason RateLimited and the delay after which the
// same request would pass. n over burst can never pass: the reason is TooLarge then.
//
// perSecond and burst may differ from call to call (an override was reloaded, a distributor
// joined); the level of the bucket is kept.
func (r *RateLimiter) Allow(tenant string, n int64, perSecond float64, burst int64) error {
	if n <= 0 {
		return nil
	}
	if n > burst {
		r.refused.Inc()
		return rpcerr.New(rpcerr.TooLarge, "%d bytes at once are more than the burst of %d that the tenant may send", n, burst).
			With("limit", fmt.Sprint(burst))
	}
	if r.takes(tenant, n, perSecond, burst) {
		return nil
	}
	r.refused.Inc()
	// The exact wait depends on what others of the tenant send meanwhile; a whole bucket's worth
	// of delay for small n would be unkind, less than a second makes clients hammer.
	wait := time.Duration(math.Ceil(float64(n) / perSecond * float64(time.Second)))
	return rpcerr.New(rpcerr.RateLimited, "ingestion rate limit exceeded (limit: %.0f bytes/sec)", perSecond).
		With("limit", fmt.Sprintf("%.0f", perSecond)).WithRetry(max(wait, time.Second))
}

func (r *RateLimiter) takes(tenant string, n int64, perSecond float64, burst int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := r.bucket(tenant, now, perSecond, burst)
	if b.limiter.Limit() != rate.Limit(perSecond) {
		b.limiter.SetLimitAt(now, rate.Limit(perSecond))
	}
	if b.limiter.Burst() != int(burst) {
		b.limiter.SetBurstAt(now, int(burst))
	}
	b.last = now
	return b.limiter.AllowN(now, int(n))
}

// bucket returns the tenant's bucket. The caller holds mu.
func (r *RateLimiter) bucket(tenant string, now time.Time, perSecond float64, burst int64) *bucket {
	if e, ok := r.buckets[tenant]; ok {
		r.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	for len(r.buckets) >= r.max {
		r.forget(r.recent.Back(), now)
	}
	b := &bucket{tenant: tenant, limiter: rate.NewLimiter(rate.Limit(perSecond), int(burst)), last: now}
	r.buckets[tenant] = r.recent.PushFront(b)
	return b
}

func (r *RateLimiter) forget(e *list.Element, now time.Time) {
	b := e.Value.(*bucket)
	if b.limiter.TokensAt(now) < float64(b.limiter.Burst()) {
		r.evicted.Inc()
	}
	r.recent.Remove(e)
	delete(r.buckets, b.tenant)
}

// Evict forgets the tenants that sent nothing for idle. Call it now and then; correctness does not
// depend on it as long as idle is longer than a bucket takes to fill.
func (r *RateLimiter) Evict(idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for e := r.recent.Back(); e != nil && now.Sub(e.Value.(*bucket).last) > idle; e = r.recent.Back() {
		r.forget(e, now)
	}
}

// Tenants returns how many tenants are remembered.
func (r *RateLimiter) Tenants() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.buckets)
}
