package source

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/entry"
)

// Metrics are those of all sources together.
type Metrics struct {
	// Errors counts what could not be read or understood, by kind and reason.
	Errors *prometheus.CounterVec
	lines  *prometheus.CounterVec
	bytes  *prometheus.CounterVec
}

// NewMetrics registers them with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	with := promauto.With(reg)
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		Errors: vec("weir_agent_source_errors_total", "Messages that could not be understood, and failures of sources.", "kind", "reason"),
		lines:  vec("weir_agent_source_lines_total", "Lines read from other sources than files.", "kind"),
		bytes:  vec("weir_agent_source_bytes_total", "Bytes of lines read from other sources than files.", "kind"),
	}
}

// Stat counts what a source reads.
type Stat struct {
	Kind, Name string
	Labels     atomic.Pointer[entry.Set]
	Lines      atomic.Uint64
	Bytes      atomic.Uint64
	Last       atomic.Int64 // when something came, in ns
	Waiting    atomic.Bool
	Error      atomic.Pointer[string]

	lines, bytes prometheus.Counter
}

func (s *Stat) add(lines, bytes int) {
	s.Lines.Add(uint64(lines))
	s.Bytes.Add(uint64(bytes))
	s.Last.Store(time.Now().UnixNano())
	if s.lines != nil {
		s.lines.Add(float64(lines))
		s.bytes.Add(float64(bytes))
	}
}

func (s *Stat) setWaiting(w bool) {
	if s.Waiting.Load() != w {
		s.Waiting.Store(w)
	}
}

// Fail notes what is wrong with the source; nil: nothing.
func (s *Stat) Fail(err error) {
	if err == nil {
		s.Error.Store(nil)
		return
	}
	t := err.Error()
	s.Error.Store(&t)
}

// Hub is what the sources of one job share.
type Hub struct {
	Job       string
	Sink      Sink
	NewRunner func() entry.Runner
	Relabel   *Labeler
	// Cursors are those that were remembered.
	Cursors map[string]string
	Log     *slog.Logger
	Metrics *Metrics
	// Forget is told of cursors that are of no use any more. May be nil.
	Forget func(key string)

	mu    sync.Mutex
	stats map[*Stat]bool
	now   map[string]string // cursors of Ports that were closed
}

// Open makes a Port for a source. key names its cursor and is empty where there is
// none.
func (h *Hub) Open(kind, name, key string) *Port {
	st := &Stat{Kind: kind, Name: name}
	if h.Metrics != nil {
		st.lines, st.bytes = h.Metrics.lines.WithLabelValues(kind), h.Metrics.bytes.WithLabelValues(kind)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stats == nil {
		h.stats, h.now = map[*Stat]bool{}, map[string]string{}
	}
	h.stats[st] = true
	at, ok := h.now[key]
	if !ok {
		at = h.Cursors[key]
	}
	return NewPort(Options{Sink: h.Sink, Runner: h.NewRunner(), Key: key, At: at, Stat: st})
}

// Done closes a Port; one opened again under the same key goes on where it was.
func (h *Hub) Done(p *Port) {
	p.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.stats, p.o.Stat)
	if p.o.Key != "" && p.at != "" {
		h.now[p.o.Key] = p.at
	}
}

// forget drops the cursor of a source that will not come again.
func (h *Hub) forget(key string) {
	h.mu.Lock()
	delete(h.now, key)
	h.mu.Unlock()
	if h.Forget != nil {
		h.Forget(key)
	}
}

// Stats gives those of the open Ports.
func (h *Hub) Stats() []*Stat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Keys(h.stats), func(a, b *Stat) int {
		return strings.Compare(a.Kind+a.Name, b.Kind+b.Name)
	})
}

// Count counts an error.
func (h *Hub) Count(kind, reason string) {
	if h.Metrics != nil {
		h.Metrics.Errors.WithLabelValues(kind, reason).Inc()
	}
}

// Source is something that runs until ctx ends.
type Source interface {
	Run(ctx context.Context) error
}

// Labeler relabels, and remembers what came out. Safe for concurrent use.
type Labeler struct {
	rules []relabel.Rule

	mu    sync.Mutex
	cache map[string]*entry.Set // nil: dropped
	key   []byte
	names []string
}

// NewLabeler makes a Labeler; it keeps rules.
func NewLabeler(rules []relabel.Rule) *Labeler {
	return &Labeler{rules: rules, cache: map[string]*entry.Set{}}
}

// Set gives the label set of what has these labels, or false if a rule drops it.
// Labels whose names begin with __ are taken away in the end.
func (l *Labeler) Set(labels map[string]string) (*entry.Set, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = l.names[:0]
	for n := range labels {
		l.names = append(l.names, n)
	}
	slices.Sort(l.names)
	l.key = l.key[:0]
	for _, n := range l.names {
		l.key = append(append(l.key, n...), 0xff)
		l.key = append(append(l.key, labels[n]...), 0xff)
	}
	if s, ok := l.cache[string(l.key)]; ok {
		return s, s != nil
	}
	m := maps.Clone(labels)
	if m == nil {
		m = map[string]string{}
	}
	var set *entry.Set
	if relabel.Apply(l.rules, m) {
		for n := range m {
			if strings.HasPrefix(n, "__") {
				delete(m, n)
			}
		}
		set = entry.SetOf(m)
	}
	if len(l.cache) >= 10_000 {
		clear(l.cache)
	}
	l.cache[string(l.key)] = set
	return set, set != nil
}

// log never is nil.
func (h *Hub) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}
