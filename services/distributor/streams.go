package distributor

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/tenant"
)

const (
	// CountsEvery is how often ingesters tell how many streams they have.
	CountsEvery = 2 * time.Second
	// countsAge is after how long what an ingester has told means nothing.
	countsAge = 30 * time.Second
	// maxCounts is how many tenants a message holds.
	maxCounts = 90
	// maxCounted bounds the tenants that are remembered of one ingester.
	maxCounted = 50_000
	// knownWait is how long ingesters are waited for that are asked whether they have
	// a stream.
	knownWait = time.Second
	// knownMore is how much longer for each maxAsked streams.
	knownMore = 100 * time.Millisecond
	// maxAsked is the most streams that they are asked for at once.
	maxAsked = 10_000
)

// EncodeCounts returns messages of which each fits a packet of the gossip: how many
// streams of which tenants an ingester has.
func EncodeCounts(counts []limits.TenantStreams) [][]byte {
	var out [][]byte
	for len(counts) > 0 {
		n := min(len(counts), maxCounts)
		b := make([]byte, 0, 12*n)
		for _, c := range counts[:n] {
			b = binary.LittleEndian.AppendUint64(b, xxhash.Sum64String(c.Tenant))
			b = binary.LittleEndian.AppendUint32(b, uint32(min(c.Streams, 1<<32-1)))
		}
		out, counts = append(out, b), counts[n:]
	}
	return out
}

// streamLimit knows how many streams tenants have, here and in the whole cluster.
type streamLimit struct {
	now    func() time.Time
	active *limits.ActiveStreams // that came through this distributor, by token

	mu   sync.Mutex                    // guards what follows
	told map[string]map[uint64]counted // by ingester and hash of the tenant
	// fresh is how many new streams were let through since an ingester has told, by hash
	// of the tenant.
	fresh map[uint64]int
}

// counted is what an ingester has told of a tenant.
type counted struct {
	at      time.Time
	streams uint32
}

func newStreamLimit(now func() time.Time) *streamLimit {
	return &streamLimit{now: now, active: limits.NewActiveStreams(now), told: map[string]map[uint64]counted{}, fresh: map[uint64]int{}}
}

// hear takes in what an ingester has told.
func (l *streamLimit) hear(sender string, b []byte) {
	if len(b)%12 != 0 || len(b) > 12*maxCounts {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.told[sender]
	if of == nil {
		if len(l.told) >= maxTellers {
			return
		}
		of = map[uint64]counted{}
		l.told[sender] = of
	}
	now := l.now()
	for ; len(b) > 0; b = b[12:] {
		hash := binary.LittleEndian.Uint64(b)
		if _, ok := of[hash]; ok || len(of) < maxCounted {
			of[hash] = counted{now, binary.LittleEndian.Uint32(b[8:])}
			delete(l.fresh, hash)
		}
	}
}

// count returns how many streams a tenant has: as many as came through here, or as
// ingesters tell, of which copies have each.
func (l *streamLimit) count(id string, copies int) int {
	here := l.active.Count(id)
	hash := xxhash.Sum64String(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	now, sum := l.now(), 0
	for _, of := range l.told {
		if c, ok := of[hash]; ok && now.Sub(c.at) < countsAge {
			sum += int(c.streams)
		}
	}
	if sum == 0 {
		return here
	}
	return max(here, sum/max(copies, 1)+l.fresh[hash])
}

// admit notes that a stream gets entries and returns false if it is new and the
// tenant has as many as the limit already. Existing streams are never refused.
func (l *streamLimit) admit(id string, token uint64, limit, copies int) bool {
	if l.active.Touch(id, token) {
		return true
	}
	if l.count(id, copies) >= limit || !l.active.AddBelow(id, token, limit) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if hash := xxhash.Sum64String(id); l.fresh[hash] > 0 || len(l.fresh) < maxCounted {
		l.fresh[hash]++
	}
	return true
}

// sweep forgets what means nothing any more.
func (l *streamLimit) sweep() {
	l.active.Sweep()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for sender, of := range l.told {
		for hash, c := range of {
			if now.Sub(c.at) >= countsAge {
				delete(of, hash)
			}
		}
		if len(of) == 0 {
			delete(l.told, sender)
		}
	}
	if len(l.told) == 0 {
		clear(l.fresh)
	}
}

// copies returns how many ingesters have each stream.
func copies(v *ring.View) int {
	return max(1, min(v.Config().ReplicationFactor, len(v.Ingesters())))
}

// HearStreams takes in a message of EncodeCounts from an ingester.
func (s *Service) HearStreams(sender string, message []byte) { s.streams.hear(sender, message) }

// admit lets a stream of a tenant through, or says why not.
func (s *Service) admit(id string, c *canonical, check *checker) *refusal {
	if c.noted.Load() == check.noted {
		return nil
	}
	token := check.seed.Token(c.fingerprint)
	if s.streams.active.Touch(id, token) || s.streams.admit(id, token, check.limits.MaxStreams, copies(s.ring.View())) {
		c.noted.Store(check.noted)
		return nil
	}
	return &refusal{pushv1.RejectReason_REJECT_REASON_STREAM_LIMIT, fmt.Sprintf(
		"maximum active stream limit exceeded when trying to create stream %s, reduce the number of active streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit can be increased, user: '%s'", c.text, id)}
}

// recognise finds out, for a tenant that is at its limit, which streams of a request exist
// though this distributor has not seen them: they came through another one, or before it
// was started. The ingesters know; so many streams as may be asked for at once are, part by
// part. Where too few of them answer a stream is let through: existing ones are never refused.
func (s *Service) recognise(ctx context.Context, id string, limit, shard int, streams []*ingestv1.StreamBlock) {
	view := s.ring.View()
	if s.streams.count(id, copies(view))+len(streams) <= limit {
		return
	}
	var unknown []uint64
	seen := map[uint64]bool{}
	for _, in := range streams {
		c := s.labels.get(in.GetLabels())
		if c.refusal != nil {
			continue
		}
		token := ring.Token(id, c.fingerprint)
		if !seen[token] && !s.streams.active.Touch(id, token) {
			seen[token] = true
			unknown = append(unknown, token)
		}
	}
	view = view.Shard(id, shard)
	ctx, cancel := context.WithTimeout(tenant.NewContext(ctx, id), knownWait+knownMore*time.Duration(len(unknown)/maxAsked))
	defer cancel()
	for part := range slices.Chunk(unknown, maxAsked) {
		for i, exists := range s.known(ctx, view, part) {
			if exists {
				s.streams.active.Add(id, part[i])
			}
		}
	}
}

// known asks the replicas of streams whether they have them. One is taken for known if
// any has it, or if so few answered that a quorum may have it all the same.
func (s *Service) known(ctx context.Context, view *ring.View, tokens []uint64) []bool {
	var split ring.Split
	view.Split(tokens, &split)
	type answer struct {
		index []uint32
		known []bool
	}
	answers := make(chan answer, len(split.Targets))
	for _, t := range split.Targets {
		req := &ingestv1.KnownRequest{}
		for _, i := range t.Index {
			req.Tokens = append(req.Tokens, tokens[i])
		}
		index := append([]uint32(nil), t.Index...)
		s.writes.Go(func() {
			c, err := s.ingesters.Ingester(t.Member)
			var resp *ingestv1.KnownResponse
			if err == nil {
				resp, err = c.Known(ctx, req)
			}
			if err != nil || len(resp.GetKnown()) != len(index) {
				answers <- answer{}
				return
			}
			answers <- answer{index, resp.GetKnown()}
		})
	}
	out, missing := make([]bool, len(tokens)), make([]int, len(tokens))
	open := len(tokens)
	for i := range missing {
		missing[i] = max(1, view.Config().ReplicationFactor-view.Quorum()+1)
	}
	for range split.Targets {
		a := <-answers
		for k, i := range a.index {
			decided := out[i] || missing[i] == 0
			out[i] = out[i] || a.known[k]
			missing[i] = max(0, missing[i]-1)
			if !decided && (out[i] || missing[i] == 0) {
				open--
			}
		}
		if open == 0 {
			break
		}
	}
	for i, n := range missing {
		switch {
		case out[i]:
			s.metrics.lookups.WithLabelValues("known").Inc()
		case n > 0:
			s.metrics.lookups.WithLabelValues("unanswered").Inc()
		default:
			s.metrics.lookups.WithLabelValues("new").Inc()
		}
		out[i] = out[i] || n > 0
	}
	return out
}
