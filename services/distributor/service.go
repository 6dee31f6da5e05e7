// Package distributor is the service that takes writes: it validates them entry by
// entry, finds the ingesters of each stream on the ring, and acknowledges what a
// quorum of them has on disk.
package distributor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model/rowspb"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// maxRejections is how many refused pieces an answer lists.
const maxRejections = 1000

// Config is the configuration of a distributor.
type Config struct {
	ReplicaTimeout time.Duration `yaml:"replica_timeout" help:"How long an ingester may take to store a request before it counts as unavailable, at most 10s: live tails wait for copies of what they have sent for little longer."`
	MaxInFlight    int           `yaml:"max_in_flight" help:"Most requests in flight to one ingester."`
	LabelCache     int           `yaml:"label_cache" help:"Label sets whose canonical form is remembered."`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{ReplicaTimeout: 5 * time.Second, MaxInFlight: 128, LabelCache: 50_000}
}

// Validate returns all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.ReplicaTimeout <= 0 || c.ReplicaTimeout > 10*time.Second {
		errs = append(errs, fmt.Errorf("replica_timeout is %s, must be above 0 and at most 10s", c.ReplicaTimeout))
	}
	if c.MaxInFlight < 1 {
		errs = append(errs, fmt.Errorf("max_in_flight is %d, must be at least 1", c.MaxInFlight))
	}
	if c.LabelCache < 1 {
		errs = append(errs, fmt.Errorf("label_cache is %d, must be at least 1", c.LabelCache))
	}
	return errors.Join(errs...)
}

// Ring tells where streams belong.
type Ring interface {
	View() *ring.View
}

// Ingesters gives the client of a member.
type Ingesters interface {
	Ingester(m *ring.Member) (ingestv1.IngestServiceClient, error)
}

// Limits knows each tenant's limits.
type Limits interface {
	For(tenant string) limits.Limits
}

// Rates counts what tenants send against their rate.
type Rates interface {
	Allow(tenant string, n int64, perSecond float64, burst int64) error
}

// Deps is what a distributor needs from outside.
type Deps struct {
	Log       *slog.Logger
	Reg       prometheus.Registerer // nil: count, publish nothing
	Ring      Ring
	Ingesters Ingesters
	Limits    Limits
	Rates     Rates
	Deletes   Deletes // nil: nothing is deleted
	// Learn merges the member table of a member, given its version; nil: there is none
	// but the own one.
	Learn func(ctx context.Context, member string, version uint64) bool
	Peers Peers // nil: there are no other distributors
	Now   func() time.Time
}

// Service is a distributor.
type Service struct {
	ingestv1.UnsafeWriteServiceServer

	cfg       Config
	logger    *slog.Logger
	metrics   *metrics
	ring      Ring
	ingesters Ingesters
	limits    Limits
	rates     Rates
	now       func() time.Time
	labels    *labelCache
	spaces    spaces
	streams   *streamLimit
	gone      *goneCache
	breakers  *breakers
	clocks    *clocks
	shares    *shares
	peers     Peers
	batches   *batchTimes
	learn     func(ctx context.Context, member string, version uint64) bool
	clock     atomic.Int64   // the last batch time given out
	stamps    atomic.Int64   // the first time that was not given out yet
	writes    sync.WaitGroup // replica writes in work

	mu       sync.Mutex // guards inFlight
	inFlight map[string]load
}

var _ ingestv1.WriteServiceServer = (*Service)(nil)

// New returns a distributor.
func New(cfg Config, d Deps) *Service {
	s := &Service{
		cfg: cfg, logger: d.Log, ring: d.Ring, ingesters: d.Ingesters, limits: d.Limits, rates: d.Rates, now: d.Now,
		labels: newLabelCache(cfg.LabelCache), streams: newStreamLimit(d.Now), gone: newGoneCache(d.Deletes, d.Now), inFlight: map[string]load{},
	}
	s.shares, s.peers = newShares(d.Now), d.Peers
	s.breakers, s.clocks, s.batches, s.learn = newBreakers(d.Log), newClocks(d.Log, d.Now), newBatchTimes(), d.Learn
	s.metrics = newMetrics(d.Reg, s)
	return s
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { ingestv1.RegisterWriteServiceServer(r, s) }

// Run does what must be done now and then until ctx ends, then waits for replica
// writes in work.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	if s.peers != nil {
		s.writes.Go(func() { s.shares.run(ctx, s.peers) })
	}
	for {
		select {
		case <-tick.C:
			s.streams.sweep()
			s.gone.sweep()
		case <-ctx.Done():
			s.writes.Wait()
			s.gone.reads.Wait()
			return nil
		}
	}
}

// Write implements ingestv1.WriteServiceServer.
func (s *Service) Write(ctx context.Context, req *ingestv1.WriteRequest) (*ingestv1.WriteResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	lim := s.limits.For(id)
	size := requestSize(req)
	share := s.shares.of(id, size, len(s.ring.View().With(ring.Distributor)))
	if err := s.rates.Allow(id, size, share*float64(lim.IngestionRate), int64(lim.IngestionBurst)); err != nil {
		return nil, s.rateError(err, id, lim, req, size)
	}
	batchTime := req.GetBatchTimeUnixNano()
	var content uint64 // 0: the producer has fixed the batch time
	if batchTime <= 0 {
		content = contentOf(id, req)
		if batchTime = s.batches.of(content); batchTime == 0 {
			batchTime = s.nextBatchTime()
		}
	}
	check := &checker{limits: lim, now: s.now().UnixNano(), stamp: req.GetStamp(), space: s.spaces.take()}
	defer s.spaces.leave(check.space)
	if check.stamp {
		rows := 0
		for _, in := range req.GetStreams() {
			rows += len(in.GetTimes())
		}
		check.stamps = s.nextStamps(rows)
	}
	check.gone, check.noted = s.gone.of(ctx, id, lim), s.streams.active.Generation(id)
	check.seed = ring.Seed(id)
	s.recognise(ctx, id, lim.MaxStreams, lim.IngestionShardSize, req.GetStreams())
	resp := &ingestv1.WriteResponse{}
	blocks := make([]*ingestv1.StreamBlock, 0, len(req.GetStreams()))
	position := uint32(0)
	var found [ahead]*canonical
	for i, in := range req.GetStreams() {
		if i%ahead == 0 {
			s.labels.find(&found, req.GetStreams()[i:min(i+ahead, len(req.GetStreams()))])
		}
		c := found[i%ahead]
		if c == nil {
			c = s.labels.get(in.GetLabels())
		}
		n := len(in.GetTimes())
		check.space.left = len(req.GetStreams()) - i
		var rej rejects
		var stamped int
		if blocks, rej, stamped, err = s.stream(blocks, id, in, c, check, position); err != nil {
			return nil, rpcerr.Wrap(err, rpcerr.InvalidArgument, "stream %d: %v", i, err)
		}
		position += uint32(n)
		resp.AcceptedEntries += uint64(n - rej.rows)
		resp.RejectedEntries += uint64(rej.rows)
		resp.StampedEntries += uint64(stamped)
		for _, it := range rej.items {
			s.metrics.refused(it.reason, it.count)
			if len(resp.Rejections) < maxRejections {
				resp.Rejections = append(resp.Rejections, &ingestv1.Rejection{
					Stream: uint32(i), Row: uint32(it.row), Count: uint32(it.count), Reason: uint32(it.reason), Message: it.message,
				})
			}
		}
	}
	if err := s.replicate(ctx, id, batchTime, lim.IngestionShardSize, blocks, check.space); err != nil {
		if content != 0 {
			s.batches.keep(content, batchTime)
		}
		return nil, err
	}
	s.metrics.accepted(req.GetDoor(), resp.AcceptedEntries, size)
	return resp, nil
}

// stream validates one stream of a request, whose labels are c, and appends what of it is left to into.
func (s *Service) stream(into []*ingestv1.StreamBlock, id string, in *ingestv1.StreamBlock, c *canonical, check *checker, position uint32) (_ []*ingestv1.StreamBlock, rej rejects, stamped int, err error) {
	before := len(into)
	n := len(in.GetTimes())
	whole := func(why refusal) ([]*ingestv1.StreamBlock, rejects, int, error) {
		return into[:before], rejects{items: []rejected{{0, n, why}}, rows: n}, 0, nil
	}
	if c.refusal != nil {
		return whole(*c.refusal)
	}
	if c.unusual != nil && !check.limits.UTF8Names {
		return whole(*c.unusual)
	}
	if why, bad := streamLabels(c, check.limits); bad {
		return whole(why)
	}
	rows, err := rowspb.FromBlock(in)
	if err != nil || n == 0 {
		return into, rejects{}, 0, err
	}
	rows.Derived = nil
	rows.Copies = nil // duplicates collapse
	admitted := false
	sp := check.space
	for _, part := range sp.narrow(&rows) {
		first := position + uint32(part.from)
		rows := part.rows
		normalise(&rows, check.limits.UTF8Names)
		refused, filled := check.rows(c.text, &rows, first)
		check.gone.refuse(c.text, c.labels, &rows, &refused)
		rej.join(refused, part.from)
		stamped += filled
		if refused.rows == rows.Len() {
			continue
		}
		if !admitted {
			if why := s.admit(id, c, check); why != nil {
				return whole(*why)
			}
		}
		admitted = true
		if refused.rows > 0 {
			rows = without(&rows, &refused)
			for k := range rows.Positions {
				rows.Positions[k] += first
			}
		}
		deriveLevel(c.level, &rows, sp)
		out := sp.blocks.Of(c.text, &rows, sp.left)
		out.Position = first
		out.Token = check.seed.Token(c.fingerprint)
		into = append(into, out)
	}
	return into, rej, stamped, nil
}

// nextStamps returns the first of n times that no other row of this distributor
// gets: entries that were sent without a time are new each time.
func (s *Service) nextStamps(n int) int64 {
	for {
		last := s.stamps.Load()
		first := max(s.now().UnixNano(), last)
		if s.stamps.CompareAndSwap(last, first+int64(n)) {
			return first
		}
	}
}

// nextBatchTime is a hybrid logical clock: the wall clock, but always ahead of
// what it gave out before.
func (s *Service) nextBatchTime() int64 {
	for {
		last := s.clock.Load()
		next := max(s.now().UnixNano(), last+1)
		if s.clock.CompareAndSwap(last, next) {
			return next
		}
	}
}

func (s *Service) rateError(err error, id string, lim limits.Limits, req *ingestv1.WriteRequest, size int64) error {
	if !rpcerr.Is(err, rpcerr.RateLimited) {
		return err
	}
	lines := 0
	for _, b := range req.GetStreams() {
		lines += len(b.GetTimes())
	}
	s.metrics.rateLimited(lines)
	return rpcerr.Wrap(err, rpcerr.RateLimited,
		"ingestion rate limit exceeded for user %s (limit: %d bytes/sec) while attempting to ingest '%d' lines totaling '%d' bytes, reduce log volume or contact your Loki administrator to see if the limit can be increased",
		id, int64(lim.IngestionRate), lines, size).WithRetry(rpcerr.RetryAfter(err))
}

func requestSize(req *ingestv1.WriteRequest) int64 {
	n := 0
	for _, b := range req.GetStreams() {
		n += len(b.GetSlab())
		for _, c := range b.GetMetadata() {
			n += len(c.GetName())*len(c.GetEnds()) + len(c.GetSlab())
		}
	}
	return int64(n)
}
