// Package pipeline runs the stages of a job over its entries: what Promtail
// calls pipeline_stages.
//
// Compile turns the YAML of the stages into a Pipeline, a flat program: what
// stages nest in others (match) stands behind them, and is jumped over. A
// Pipeline is shared by all sources of a job and holds what is counted over all
// of them (limit, sampling, metrics). NewRunner gives a source its own state, so
// that lines are joined within one source and one label set only.
//
// A stage that fails on a line counts that and passes the line on as it is. The
// usual line costs no allocation: values alias it, and label sets are looked up.
package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/entry"
)

// Pipeline is compiled stages. It is safe for concurrent use.
type Pipeline struct {
	ops    []op
	slots  []string       // names of extracted values that stages read or set
	slotOf map[string]int // the reverse
	deps   Deps
	m      *Metrics
	pool   sync.Pool // of *scratch
}

// Deps is what a Pipeline is given.
type Deps struct {
	// Metrics counts what happens to lines. nil: nothing is counted.
	Metrics *Metrics
	// Custom holds the series of metrics stages, over all jobs and reloads. nil:
	// metrics stages do nothing.
	Custom *Custom
	// Rand gives numbers from 0 up to 1, for sampling, and is safe for concurrent
	// use. nil: math/rand.
	Rand func() float64
	// Trace is told of every step of every Runner, if it is set; see Runner.Trace.
	// It is called by many goroutines.
	Trace func(Step)
	// MaxJoined is how long a line may get that is joined of several. 0: 256 KiB.
	MaxJoined int
}

const defaultMaxJoined = 256 << 10

// verdict is what becomes of a line behind a stage.
type verdict uint8

const (
	keep verdict = iota
	drop         // and counted by the stage
	hold         // kept back, to be joined
	jump         // on at op.to
)

// op is a stage in its place.
type op struct {
	stage stage
	name  string
	to    int // match: behind the nested stages
	line  int // in the configuration
}

// stage is one stage's work. It is shared by runners: what it keeps of a source
// is in the runner, under the number of its op.
type stage interface {
	run(r *Runner, s *state, at int) verdict
}

// joiner is a stage that holds lines back.
type joiner interface {
	stage
	joins()
}

// Len is the number of stages, nested ones included.
func (p *Pipeline) Len() int { return len(p.ops) }

// Joins reports whether there are stages that hold lines back.
func (p *Pipeline) Joins() bool {
	for _, o := range p.ops {
		if _, ok := o.stage.(joiner); ok {
			return true
		}
	}
	return false
}

// Runner is a Pipeline's state for one source. One goroutine at a time uses it.
type Runner struct {
	p     *Pipeline
	ctx   context.Context
	now   time.Time
	err   error // of a stage that waits; nothing is run any more
	trace func(Step)

	*scratch                // nil between Release and the next call
	joins    map[int]*joins // by op

	base    *entry.Set // whose labels initial is made of
	initial []value
	sets    map[string]*entry.Set
	tenants map[*entry.Set]tenantOf
	last    *entry.Set // the newest of sets
	key     []byte
	own     []any // by op: what a stage keeps for a source
}

// scratch is what is used during a call and holds what came out of it. Thousands
// of runners share a few.
type scratch struct {
	free    []*state
	out     []entry.Entry
	arena   []byte
	results []jsonValue
}

type tenantOf struct {
	set    *entry.Set
	tenant string
}

var _ entry.Runner = (*Runner)(nil)

// NewRunner gives the state for one more source.
func (p *Pipeline) NewRunner() *Runner {
	return &Runner{
		p: p, sets: map[string]*entry.Set{}, tenants: map[*entry.Set]tenantOf{},
		joins: map[int]*joins{}, own: make([]any, len(p.ops)), trace: p.deps.Trace,
	}
}

// maxSets bounds what is remembered of the label sets of a source.
const maxSets = 1000

// Run implements entry.Runner.
func (r *Runner) Run(ctx context.Context, in []entry.Entry, now time.Time) ([]entry.Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.begin(ctx, now)
	for i := range in {
		s := r.get()
		s.load(r, &in[i])
		r.from(0, s)
		r.put(s)
		if r.err != nil {
			return r.out, r.err
		}
	}
	return r.out, nil
}

func (r *Runner) begin(ctx context.Context, now time.Time) {
	r.ctx, r.now = ctx, now
	if r.scratch == nil {
		if r.scratch, _ = r.p.pool.Get().(*scratch); r.scratch == nil {
			r.scratch = &scratch{}
		}
	}
	r.out = r.out[:0]
	r.arena = r.arena[:0]
}

// Release implements entry.Runner.
func (r *Runner) Release() {
	if r.scratch != nil {
		r.p.pool.Put(r.scratch)
		r.scratch = nil
	}
}

// from runs the ops from at on, and gives out what is left at their end.
func (r *Runner) from(at int, s *state) {
	ops := r.p.ops
	for at < len(ops) {
		o := &ops[at]
		var before snapshot
		if r.trace != nil {
			before = s.snapshot(r)
		}
		v := o.stage.run(r, s, at)
		if r.trace != nil {
			r.trace(before.step(r, s, o, v))
		}
		switch v {
		case drop, hold:
			return
		case jump:
			at = o.to
		default:
			at++
		}
		if r.err != nil {
			return
		}
	}
	r.emit(s)
}

// emit gives a line out.
func (r *Runner) emit(s *state) {
	set, tenant := r.setOf(s)
	r.out = append(r.out, entry.Entry{
		Labels: set, Time: s.time, OwnTime: s.ownTime, Line: s.line, Metadata: s.meta,
		Tenant: tenant, Span: s.span,
	})
}

// setOf gives the label set of a line, without the tenant.
func (r *Runner) setOf(s *state) (*entry.Set, string) {
	set := s.base
	if s.labelsChanged {
		r.key = entry.AppendKey(r.key[:0], s.labels)
		if r.last != nil && r.last.Key() == string(r.key) {
			set = r.last
		} else if set = r.sets[string(r.key)]; set == nil {
			if len(r.sets) >= maxSets {
				clear(r.sets)
				clear(r.tenants)
			}
			set = entry.NewSet(cloneLabels(s.labels))
			r.sets[set.Key()] = set
		}
		r.last = set
	}
	if _, has := set.Labels().Lookup(entry.TenantLabel); !has {
		return set, s.tenant
	}
	t, ok := r.tenants[set]
	if !ok {
		if len(r.tenants) >= maxSets {
			clear(r.tenants)
		}
		var rest model.Labels
		for _, l := range set.Labels() {
			if l.Name == entry.TenantLabel {
				t.tenant = l.Value
			} else {
				rest = append(rest, l)
			}
		}
		t.set = entry.NewSet(rest)
		r.tenants[set] = t
	}
	if t.tenant == "" {
		return t.set, s.tenant
	}
	return t.set, t.tenant
}

func cloneLabels(in []model.Label) model.Labels {
	n := 0
	for _, l := range in {
		n += len(l.Name) + len(l.Value)
	}
	slab := make([]byte, 0, n)
	for _, l := range in {
		slab = append(append(slab, l.Name...), l.Value...)
	}
	text := str(slab)
	out := make(model.Labels, len(in))
	for i, l := range in {
		a, b := len(l.Name), len(l.Value)
		out[i] = model.Label{Name: text[:a], Value: text[a : a+b]}
		text = text[a+b:]
	}
	return out
}

// fail counts a failure of a stage and keeps the line.
func (r *Runner) fail(at int) verdict {
	r.p.m.failed(r.p.ops[at].name)
	return keep
}

// reject counts a dropped line.
func (r *Runner) reject(reason string, s *state) verdict {
	r.p.m.dropped(reason, len(s.line))
	return drop
}

// room gives an empty slice at the arena's end, to append to; then kept is to be
// called with it.
func (r *Runner) room() []byte {
	if cap(r.arena)-len(r.arena) < 256 {
		// What is in the old one stays there. The next is larger, so that in the
		// end one does for a batch.
		r.arena = make([]byte, 0, min(max(4096, 2*cap(r.arena)), 1<<20))
	}
	return r.arena[len(r.arena):]
}

// kept takes what was appended to room over.
func (r *Runner) kept(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	if cap(r.arena)-len(r.arena) >= len(b) && &r.arena[:len(r.arena)+1][len(r.arena)] == &b[0] {
		r.arena = r.arena[:len(r.arena)+len(b)]
		return b[:len(b):len(b)]
	}
	return b[:len(b):len(b)] // it outgrew the arena and lies in an array of its own
}
