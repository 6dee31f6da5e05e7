package weir

import (
	"context"
	"log/slog"
	"sync"
	"time"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/ring"
)

const (
	// healEvery is how often gaps are looked for and, where there are some, tried to
	// be healed.
	healEvery = 2 * time.Second
	// awayWait is how long an ingester may be away, as it is when it restarts, before
	// the others put what they share with it into the store.
	awayWait = 20 * time.Second
	// flushWait is how long an ingester may take to flush for others' sake.
	flushWait = time.Minute
)

// healer makes up for what members have lost: it notes what the own data directory
// misses in the member table, has the other ingesters flush what they hold, and
// settles the gap when enough of them have. What cannot heal becomes a recorded loss.
type healer struct {
	log    *slog.Logger
	self   func() ring.Member
	view   func() *ring.View
	own    func() []string // what the own data directory misses
	note   func(what string) error
	settle func(name, incarnation string, s ring.State) error
	flush  func(ctx context.Context, m *ring.Member) error
	now    func() time.Time

	away map[string]*absence // ingesters that are, by name
}

// absence is an ingester that is away.
type absence struct {
	since time.Time
	done  bool // the others have flushed
}

func (p *Process) newHealer() *healer {
	m := *p.member.Load()
	return &healer{
		log: p.tel.Log, self: m.Self, view: m.View, note: m.NoteGap, settle: m.Settle,
		own: p.ingester.Missing, flush: p.flushMember, now: p.now,
	}
}

// flushMember returns when a member has in the store all that it acknowledged.
func (p *Process) flushMember(ctx context.Context, m *ring.Member) error {
	c, err := p.clients.Ingester(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	_, err = c.Flush(ctx, &ingestv1.FlushRequest{})
	return err
}

// run heals until ctx ends.
func (h *healer) run(ctx context.Context) {
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	for {
		h.pass(ctx)
		h.standIn(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// begin notes the own gaps and settles what nobody can make up for, before others ask.
func (h *healer) begin() {
	h.noteOwn()
	h.giveUp(h.view())
}

// known reports whether the record of this process' name is its own. While it joins it may be
// that of the data directory before, and its own one of the past, as of something lost: then
// it heals nothing, or it would give itself up.
func (h *healer) known(v *ring.View) bool {
	self := h.self()
	m, ok := v.Table().Get(self.Name)
	return ok && m.Incarnation == self.Incarnation
}

func (h *healer) noteOwn() {
	if !h.known(h.view()) {
		return
	}
	for _, what := range h.own() {
		if err := h.note(what); err != nil {
			h.log.Error("a gap cannot be noted in the member table", "gap", what, "err", err)
		}
	}
}

// pass looks for gaps once.
func (h *healer) pass(ctx context.Context) {
	h.noteOwn()
	v := h.view()
	if len(v.Gaps()) == 0 || !h.leads(v) || h.giveUp(v) {
		return
	}
	// What was acknowledged before the gaps were known is in the store when this is
	// done, and what came later has no part in them.
	flushed := flushAll(ctx, v, h.flush, h.log)
	if healed, _ := v.Healed(func(m *ring.Member) bool { return flushed[m.Incarnation] }); healed {
		h.settleAll(v.Gaps(), ring.Forgotten, "a gap has healed: the other ingesters have flushed")
	}
}

// standIn has the ingesters flush once when one is away for long: what it holds beside
// them is then in the store, should it not come back.
func (h *healer) standIn(ctx context.Context) {
	v, now := h.view(), h.now()
	away, due := map[string]*absence{}, false
	for _, m := range v.Ingesters() {
		if v.Healthy(m.Name) || m.State == ring.Joining {
			continue
		}
		a := h.away[m.Name]
		if a == nil {
			a = &absence{since: now}
		}
		away[m.Name] = a
		due = due || !a.done && now.Sub(a.since) >= awayWait
	}
	h.away = away
	if !due || !h.leads(v) {
		return
	}
	flushed := flushAll(ctx, v, h.flush, h.log)
	for _, m := range v.Ingesters() {
		if v.Healthy(m.Name) && !flushed[m.Incarnation] {
			return // another time
		}
	}
	for _, a := range away {
		a.done = a.done || now.Sub(a.since) >= awayWait
	}
	h.log.Warn("ingesters are away; the others have put into the store what they share with them", "away", len(away))
}

// leads reports whether it is this process that heals: the first healthy ingester.
func (h *healer) leads(v *ring.View) bool {
	for _, m := range v.Ingesters() {
		if m.State == ring.Active && v.Healthy(m.Name) {
			return m.Name == h.self().Name && h.known(v)
		}
	}
	return false
}

// giveUp records the loss of what cannot heal, and reports whether there was any.
func (h *healer) giveUp(v *ring.View) bool {
	gaps := v.Gaps()
	if len(gaps) == 0 || !h.known(v) {
		return false
	}
	if _, hopeless := v.Healed(func(*ring.Member) bool { return true }); !hopeless {
		return false
	}
	_, names := v.CompleteAnywhere(func(*ring.Member) bool { return true })
	guilty := map[string]bool{}
	for _, m := range names {
		guilty[m.Name] = true
	}
	var lost []*ring.Member
	for _, g := range gaps {
		if guilty[g.Name] {
			lost = append(lost, g)
		}
	}
	h.settleAll(lost, ring.Lost, "entries are lost that too few ingesters still had: answers that may miss them say so until it is acknowledged")
	return true
}

func (h *healer) settleAll(gaps []*ring.Member, s ring.State, what string) {
	for _, g := range gaps {
		if err := h.settle(g.Name, g.Incarnation, s); err != nil {
			h.log.Error("a gap cannot be settled", "member", g.Name, "incarnation", g.Incarnation, "err", err)
			continue
		}
		h.log.Warn(what, "member", g.Name, "incarnation", g.Incarnation)
	}
}

// flushAll has all healthy ingesters flush, and returns the incarnations that have.
func flushAll(ctx context.Context, v *ring.View, flush func(context.Context, *ring.Member) error, log *slog.Logger) map[string]bool {
	var (
		mu      sync.Mutex
		flushed = map[string]bool{}
		wg      sync.WaitGroup
	)
	for _, m := range v.Ingesters() {
		if !v.Healthy(m.Name) {
			continue
		}
		wg.Go(func() {
			err := flush(ctx, m)
			if err != nil {
				log.Warn("an ingester cannot flush for what another has lost", "member", m.Name, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			flushed[m.Incarnation] = true
		})
	}
	wg.Wait()
	return flushed
}

// settled reports whether a gap of the own data directory has healed, or is a recorded
// loss, of which answers tell without it.
func (p *Process) settled(gap string) bool {
	m := p.member.Load()
	if m == nil {
		return false
	}
	self := (*m).Self()
	r, ok := (*m).View().Table().Incarnation(self.Name, ring.GapID(self.Incarnation, gap))
	return ok && (r.State == ring.Lost || r.State == ring.Forgotten)
}
