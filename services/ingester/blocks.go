package ingester

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/block"
	"github.com/weir-logs/weir/libs/block/column"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/services/ingester/local"
)

// localBlock is a block on the ingester's disk.
type localBlock struct {
	*local.Block
	container *local.Container

	mu     sync.Mutex
	reader *block.Reader // once it was needed
}

func (b *localBlock) open(ctx context.Context) (*block.Reader, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reader != nil {
		return b.reader, nil
	}
	r, err := block.Open(ctx, b.container.Section(b.Block), b.Size)
	if err != nil {
		return nil, err
	}
	b.reader = r
	return r, nil
}

// peek is open for work that is done once: a reader holds the index of all streams, and is
// kept for queries only.
func (b *localBlock) peek(ctx context.Context) (*block.Reader, error) {
	b.mu.Lock()
	r := b.reader
	b.mu.Unlock()
	if r != nil {
		return r, nil
	}
	return block.Open(ctx, b.container.Section(b.Block), b.Size)
}

// each calls yield with all rows of the block.
func (b *localBlock) each(ctx context.Context, yield func(model.Labels, *model.Rows) error) error {
	r, err := b.peek(ctx)
	if err != nil {
		return err
	}
	return r.Each(ctx, yield)
}

// blocks are the local blocks of an ingester, and what it knows of their copies in the
// object store. It may be used by several goroutines.
type blocks struct {
	forget func(*block.Reader) // called with readers that are of no use any more

	mu         sync.RWMutex       // guards everything below
	containers []*local.Container // oldest first
	byTenant   map[string][]*localBlock
	state      state
	uploaded   map[catalog.ID]*upload // of state: the upload that a block is in
	bad        map[catalog.ID]string  // of state: what is wrong with a block
	checked    map[string]bool        // keys of uploads that were looked for when they were old
	lost       []local.Damage         // containers that were set aside
	alone      map[catalog.ID]bool    // blocks that are merged no more: there was a panic
}

func newBlocks() *blocks {
	return &blocks{byTenant: map[string][]*localBlock{}, uploaded: map[catalog.ID]*upload{}, bad: map[catalog.ID]string{}, checked: map[string]bool{}, alone: map[catalog.ID]bool{}}
}

// load takes over what was found at the start.
func (bs *blocks) load(list []*local.Container, lost []local.Damage, st state) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.lost = lost
	bs.setState(st)
	for _, c := range list {
		bs.add(c)
	}
}

// setState is called with mu held.
func (bs *blocks) setState(st state) {
	bs.state = st
	clear(bs.uploaded)
	was := bs.checked
	bs.checked = map[string]bool{}
	for i := range st.Uploads {
		if key := st.Uploads[i].Key; was[key] {
			bs.checked[key] = true
		}
		for _, id := range st.Uploads[i].Of {
			bs.uploaded[id] = &st.Uploads[i]
		}
	}
	clear(bs.bad)
	for _, d := range st.Damaged {
		bs.bad[d.ID] = d.What
	}
}

// publish takes in a container in place of others, which go when nobody reads them
// any more; also, if not nil, is done in the same moment.
func (bs *blocks) publish(c *local.Container, instead []*local.Container, also func()) {
	bs.mu.Lock()
	if c != nil {
		bs.add(c)
	}
	var gone []*localBlock
	for _, o := range instead {
		gone = bs.remove(gone, o)
	}
	if also != nil {
		also()
	}
	bs.mu.Unlock()
	for _, b := range gone {
		b.mu.Lock()
		if b.reader != nil {
			bs.forget(b.reader)
		}
		b.mu.Unlock()
	}
}

// maxAlone is how many blocks are kept in mind that are merged no more.
const maxAlone = 10_000

// leaveAlone notes blocks that are merged no more.
func (bs *blocks) leaveAlone(list []*localBlock) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if len(bs.alone) > maxAlone {
		clear(bs.alone)
	}
	for _, b := range list {
		bs.alone[b.ID] = true
	}
}

func (bs *blocks) add(c *local.Container) {
	bs.containers = append(bs.containers, c)
	for i := range c.Blocks {
		b := &localBlock{Block: &c.Blocks[i], container: c}
		list := append(bs.byTenant[b.Tenant], b)
		slices.SortStableFunc(list, func(a, b *localBlock) int { return cmp.Compare(a.MinTime, b.MinTime) })
		bs.byTenant[b.Tenant] = list
	}
}

// remove drops a container, and appends its blocks to gone.
func (bs *blocks) remove(gone []*localBlock, c *local.Container) []*localBlock {
	bs.containers = slices.DeleteFunc(bs.containers, func(o *local.Container) bool { return o == c })
	for i := range c.Blocks {
		t := c.Blocks[i].Tenant
		bs.byTenant[t] = slices.DeleteFunc(bs.byTenant[t], func(b *localBlock) bool {
			if b.container != c {
				return false
			}
			gone = append(gone, b)
			return true
		})
		if len(bs.byTenant[t]) == 0 {
			delete(bs.byTenant, t)
		}
	}
	c.Drop()
	return gone
}

// held is blocks whose containers stay until release.
type held struct {
	blocks   []*localBlock
	uploaded []string // keys, see remote.Uploader
	gaps     []string
	holds    []*local.Container
}

func (h *held) release() {
	for _, c := range h.holds {
		c.Release()
	}
	h.holds = nil
}

// hold is called with mu held.
func (bs *blocks) hold(h *held, b *localBlock) {
	h.blocks = append(h.blocks, b)
	if !slices.Contains(h.holds, b.container) {
		b.container.Hold()
		h.holds = append(h.holds, b.container)
	}
}

// view returns a tenant's blocks that may hold rows with start <= time < end; also is
// called in the same moment.
func (bs *blocks) view(tenant string, start, end int64, now time.Time, also func()) *held {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	h := &held{}
	for _, d := range bs.lost {
		h.gaps = append(h.gaps, d.String())
	}
	for _, b := range bs.byTenant[tenant] {
		if b.MinTime >= end {
			break
		}
		if !b.Overlaps(start, end) {
			continue
		}
		if what, is := bs.bad[b.ID]; is {
			if _, up := bs.uploaded[b.ID]; !up {
				h.gaps = append(h.gaps, what)
			}
			continue
		}
		bs.hold(h, b)
	}
	for i := range bs.state.Uploads {
		u := &bs.state.Uploads[i]
		if u.Tenant == tenant && u.MinTime < end && u.MaxTime >= start && now.Sub(u.At) < named {
			h.uploaded = append(h.uploaded, u.Key)
		}
	}
	also()
	return h
}

// all returns the blocks that pick wants.
func (bs *blocks) all(pick func(*localBlock) bool) *held {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	h := &held{}
	for _, list := range bs.byTenant {
		for _, b := range list {
			if pick(b) {
				bs.hold(h, b)
			}
		}
	}
	return h
}

// count returns how many containers and blocks there are, and their bytes.
func (bs *blocks) count() (containers, blocks int, bytes int64) {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	for _, c := range bs.containers {
		blocks += len(c.Blocks)
		bytes += c.Size()
	}
	return len(bs.containers), blocks, bytes
}

// close closes all containers.
func (bs *blocks) close() error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	var errs []error
	for _, c := range bs.containers {
		errs = append(errs, c.Close())
	}
	bs.containers, bs.byTenant = nil, map[string][]*localBlock{}
	return errors.Join(errs...)
}

// blockSource is a local block as a source that is opened when it is asked. Damage in it
// makes the query fail, and is a gap from then on.
func (s *Service) blockSource(b *localBlock) engine.Source { return blockSource{s, b} }

type blockSource struct {
	service *Service
	block   *localBlock
}

func (b blockSource) Name() string { return "local block " + string(b.block.ID) }

func (b blockSource) Open(ctx context.Context, matchers []*syntax.Matcher, start, end int64) (engine.Session, error) {
	r, err := b.block.open(ctx)
	if err != nil {
		return nil, b.judge(err)
	}
	in, err := engine.Local(b.service.blockStore(r), b.Name()).Open(ctx, matchers, start, end)
	if err != nil {
		return nil, b.judge(err)
	}
	return blockSession{in, b}, nil
}

// judge notes damage.
func (b blockSource) judge(err error) error {
	if !isDamage(err) {
		return err
	}
	b.service.damaged(b.block, err)
	return rpcerr.Wrap(err, rpcerr.DataLoss, "a local block of %s is damaged: %v", b.service.incarnation[:8], err)
}

func isDamage(err error) bool {
	return errors.Is(err, column.ErrCorrupt) || errors.Is(err, local.ErrDamaged)
}

type blockSession struct {
	engine.Session
	from blockSource
}

func (b blockSession) Scan(ctx context.Context, req engine.ScanRequest, yield func(*engine.ScanRows) error) (engine.ScanStats, error) {
	stats, err := b.Session.Scan(ctx, req, yield)
	if err != nil {
		err = b.from.judge(err)
	}
	return stats, err
}

func (b blockSession) Aggregate(ctx context.Context, req engine.AggregateRequest) ([]engine.PartialSeries, engine.ScanStats, error) {
	out, stats, err := b.Session.Aggregate(ctx, req)
	if err != nil {
		err = b.from.judge(err)
	}
	return out, stats, err
}

func (b blockSession) Patterns(ctx context.Context, req engine.PatternsRequest) ([]engine.PatternCount, engine.ScanStats, error) {
	out, stats, err := b.Session.Patterns(ctx, req)
	if err != nil {
		err = b.from.judge(err)
	}
	return out, stats, err
}

// damaged gives up a block: it is not served any more, and what it held is a gap.
func (s *Service) damaged(b *localBlock, err error) {
	what := fmt.Sprintf("local block %s of %s, times %s to %s: damaged", b.ID, s.incarnation[:8],
		time.Unix(0, b.MinTime).UTC().Format(time.RFC3339), time.Unix(0, b.MaxTime).UTC().Format(time.RFC3339))
	s.metrics.damagedBlocks.Inc()
	s.logger.Error("a local block is damaged and is not served any more", "block", string(b.ID), "container", b.container.Path(), "err", err)
	if err := s.changeState(func(st *state) bool {
		if slices.ContainsFunc(st.Damaged, func(d damagedBlock) bool { return d.ID == b.ID }) {
			return false
		}
		st.Damaged = append(st.Damaged, damagedBlock{b.ID, what})
		return true
	}); err != nil {
		s.logger.Error("cannot note that a local block is damaged; a restart will find it again", "err", err)
	}
}
