package pipeline

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/time/rate"

	"github.com/weir-logs/weir/libs/conf"
	logql "github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/services/agent/config/node"
)

// matchStage runs the stages behind it, up to its op's end, for some lines only,
// or drops those lines.
type matchStage struct {
	matchers []*syntax.Matcher
	lines    *logql.LineMatcher
	drop     string // the reason; "": keep
}

func buildMatch(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Selector string     `yaml:"selector"`
		Stages   *yaml.Node `yaml:"stages"`
		Action   string     `yaml:"action"`
		Reason   string     `yaml:"drop_counter_reason"`
		Name     string     `yaml:"pipeline_name"`
	}{Action: "keep", Reason: "match_stage"}
	c.decode(body, path, &cfg)
	m := &matchStage{}
	var err error
	if cfg.Selector == "" {
		err = errors.New(`is missing: which lines, as {app="shop"} |= "text"`)
	} else {
		m.matchers, m.lines, err = parseSelector(cfg.Selector)
	}
	if err != nil {
		c.ps.Fail(body, node.Join(path, "selector"), "%v", err)
	}
	hasStages := !node.IsNull(cfg.Stages) && len(cfg.Stages.Content) > 0
	switch cfg.Action {
	case "keep":
		if !hasStages {
			c.ps.Fail(body, node.Join(path, "stages"), "is missing: without stages, match with action keep does nothing")
		}
	case "drop":
		m.drop = cfg.Reason
		if hasStages {
			c.ps.Fail(body, node.Join(path, "stages"), "cannot stand with action drop: the lines are gone")
		}
	default:
		c.ps.Fail(body, node.Join(path, "action"), "%q is neither keep nor drop", cfg.Action)
	}
	at := c.add(m)
	if m.drop == "" && hasStages {
		c.list(cfg.Stages, node.Join(path, "stages"))
	}
	c.p.ops[at].to = len(c.p.ops)
}

// parseSelector parses {matchers} and line filters.
func parseSelector(text string) ([]*syntax.Matcher, *logql.LineMatcher, error) {
	text = strings.TrimSpace(text)
	end, quote := -1, byte(0)
	for i := 0; i < len(text) && end < 0; i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		case c == '}':
			end = i + 1
		}
	}
	if end < 0 || text[0] != '{' {
		return nil, nil, errors.New(`must begin with {label="value"}`)
	}
	matchers, err := syntax.ParseSelector(text[:end])
	if err != nil {
		return nil, nil, err
	}
	if len(matchers) == 0 {
		return nil, nil, errors.New("needs a matcher at least")
	}
	// The filters are LogQL's; any selector will do to have them parsed.
	q, err := syntax.ParseLogQuery(`{_="_"}` + text[end:])
	if err != nil {
		return nil, nil, err
	}
	p, err := logql.Compile(q.Stages, logql.Hints{})
	if err != nil {
		return nil, nil, err
	}
	if !p.Pure() {
		return nil, nil, errors.New(`only line filters (|= != |~ !~) may follow the labels; use stages for the rest`)
	}
	return matchers, p.Filter(), nil
}

func (m *matchStage) matches(s *state) bool {
	for _, lm := range m.matchers {
		v, _ := s.label(lm.Name)
		if !lm.Matches(v) {
			return false
		}
	}
	return m.lines.Match(s.line)
}

func (m *matchStage) run(r *Runner, s *state, at int) verdict {
	if !m.matches(s) {
		if m.drop == "" {
			r.passBy(at+1, r.p.ops[at].to, s)
		}
		return jump
	}
	if m.drop != "" {
		return r.reject(m.drop, s)
	}
	s.copyLabels(r.p)
	return keep
}

// buildNested is the stage pipeline: stages in stages, for all lines.
func buildNested(c *compiler, body *yaml.Node, path string) {
	if isList(body) {
		c.list(body, path)
		return
	}
	var cfg struct {
		Stages *yaml.Node `yaml:"stages"`
		Alt    *yaml.Node `yaml:"pipeline_stages"`
		Name   string     `yaml:"name"`
	}
	c.decode(body, path, &cfg)
	if cfg.Stages == nil {
		cfg.Stages = cfg.Alt
	}
	if node.IsNull(cfg.Stages) {
		c.ps.Fail(body, node.Join(path, "stages"), "is missing")
		return
	}
	c.list(cfg.Stages, node.Join(path, "stages"))
}

// dropStage drops the lines that all its conditions hold for.
type dropStage struct {
	reason    string
	slots     []int
	sep       string
	re        *regexp.Regexp
	value     *string
	olderThan time.Duration // 0: any age
	longer    int           // -1: any length
}

func buildDrop(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Source     []string       `yaml:"source"`
		Expression *string        `yaml:"expression"`
		Value      *string        `yaml:"value"`
		Separator  string         `yaml:"separator"`
		OlderThan  *time.Duration `yaml:"older_than"`
		LongerThan *conf.ByteSize `yaml:"longer_than"`
		Reason     string         `yaml:"drop_counter_reason"`
	}{Separator: ";", Reason: "drop_stage"}
	if isText(body) {
		text := node.Resolve(body).Value
		cfg.Expression = &text
	} else {
		c.decode(body, path, &cfg)
	}
	d := &dropStage{reason: cfg.Reason, sep: cfg.Separator, value: cfg.Value, longer: -1}
	if len(cfg.Source) == 0 && cfg.Expression == nil && cfg.OlderThan == nil && cfg.LongerThan == nil {
		c.ps.Fail(body, path, "needs one at least of source, expression, older_than, longer_than")
		return
	}
	if cfg.Value != nil && (len(cfg.Source) == 0 || cfg.Expression != nil) {
		c.ps.Fail(body, node.Join(path, "value"), "needs source, and excludes expression")
	}
	if slices.Contains(cfg.Source, "") {
		c.ps.Fail(body, node.Join(path, "source"), "must not be empty")
		return
	}
	for _, n := range cfg.Source {
		d.slots = append(d.slots, c.slot(n))
	}
	if cfg.Expression != nil {
		if d.re = c.regex(body, node.Join(path, "expression"), *cfg.Expression); d.re == nil {
			return
		}
	}
	if cfg.OlderThan != nil {
		if d.olderThan = *cfg.OlderThan; d.olderThan <= 0 {
			c.ps.Fail(body, node.Join(path, "older_than"), "must be more than 0")
		}
	}
	if cfg.LongerThan != nil {
		d.longer = int(*cfg.LongerThan)
	}
	c.add(d)
}

func (d *dropStage) run(r *Runner, s *state, _ int) verdict {
	if d.longer >= 0 && len(s.line) <= d.longer {
		return keep
	}
	if d.olderThan > 0 && s.time >= r.now.Add(-d.olderThan).UnixNano() {
		return keep
	}
	switch {
	case len(d.slots) == 0:
		if d.re != nil && !d.re.Match(s.line) {
			return keep
		}
	case d.re == nil && d.value == nil:
		for _, slot := range d.slots {
			if s.values[slot].kind == absent {
				return keep
			}
		}
	default:
		joined, n := r.key[:0], 0
		for _, slot := range d.slots {
			if t, ok := s.text(slot); ok {
				if n > 0 {
					joined = append(joined, d.sep...)
				}
				joined = append(joined, t...)
				n++
			}
		}
		r.key = joined
		if d.re != nil && !d.re.Match(joined) || d.value != nil && string(joined) != *d.value {
			return keep
		}
	}
	return r.reject(d.reason, s)
}

// samplingStage keeps a share of the lines.
type samplingStage struct {
	rate   float64
	reason string
}

func buildSampling(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Rate   *float64 `yaml:"rate"`
		Reason string   `yaml:"drop_counter_reason"`
	}{Reason: "sampling_stage"}
	if isText(body) {
		cfg.Rate = new(float64)
		node.Decode(body, path, cfg.Rate, node.Options{Loose: true}, c.ps)
	} else {
		c.decode(body, path, &cfg)
	}
	switch {
	case cfg.Rate == nil:
		c.ps.Fail(body, node.Join(path, "rate"), "is missing: the share of lines to keep, from 0 to 1")
		return
	case *cfg.Rate < 0 || *cfg.Rate > 1:
		c.ps.Fail(body, node.Join(path, "rate"), "must be from 0 to 1, not %v", *cfg.Rate)
		return
	case *cfg.Rate == 0:
		c.ps.Warn(body, node.Join(path, "rate"), "0 drops every line")
	}
	c.add(&samplingStage{*cfg.Rate, cfg.Reason})
}

func (st *samplingStage) run(r *Runner, s *state, _ int) verdict {
	if st.rate < 1 && r.p.deps.Rand() >= st.rate {
		return r.reject(st.reason, s)
	}
	return keep
}

// limitStage bounds the rate of lines, over all sources of the job.
type limitStage struct {
	rate    float64
	burst   int
	drop    bool
	byLabel string
	max     int
	all     *rate.Limiter

	mu      sync.Mutex
	byValue map[string]*rate.Limiter
}

// limitReason is the reason of lines that limit drops.
const limitReason = "ratelimit_drop_stage"

func buildLimit(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Rate    float64 `yaml:"rate"`
		Burst   int     `yaml:"burst"`
		Drop    bool    `yaml:"drop"`
		ByLabel string  `yaml:"by_label_name"`
		Max     int     `yaml:"max_distinct_labels"`
	}{}
	c.decode(body, path, &cfg)
	if cfg.Rate <= 0 {
		c.ps.Fail(body, node.Join(path, "rate"), "must be more than 0 lines a second")
		return
	}
	if cfg.Burst <= 0 {
		c.ps.Fail(body, node.Join(path, "burst"), "must be more than 0 lines")
		return
	}
	if cfg.ByLabel != "" && !cfg.Drop {
		c.ps.Fail(body, node.Join(path, "by_label_name"), "needs drop: true; one label's lines cannot wait without holding up all others")
	}
	c.add(&limitStage{
		rate: cfg.Rate, burst: cfg.Burst, drop: cfg.Drop, byLabel: cfg.ByLabel, max: max(cfg.Max, 10_000),
		all: rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Burst), byValue: map[string]*rate.Limiter{},
	})
}

func (l *limitStage) run(r *Runner, s *state, _ int) verdict {
	lim := l.all
	if l.byLabel != "" {
		v, ok := s.label(l.byLabel)
		if !ok {
			return keep
		}
		lim = l.limiter(v)
	}
	if l.drop {
		if !lim.AllowN(r.now, 1) {
			if l.byLabel != "" {
				v, _ := s.label(l.byLabel)
				r.p.m.droppedByLabel(l.byLabel, v)
			}
			return r.reject(limitReason, s)
		}
		return keep
	}
	ctx := r.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	if err := lim.Wait(ctx); err != nil {
		r.err = err
		if ctx.Err() != nil {
			r.err = ctx.Err()
		}
		return drop
	}
	return keep
}

func (l *limitStage) limiter(v string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	lim := l.byValue[v]
	if lim == nil {
		if len(l.byValue) >= l.max {
			clear(l.byValue) // many values: which of them come again is not known
		}
		lim = rate.NewLimiter(rate.Limit(l.rate), l.burst)
		l.byValue[strings.Clone(v)] = lim
	}
	return lim
}

func buildMultiline(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		First    string        `yaml:"firstline"`
		Wait     time.Duration `yaml:"max_wait_time"`
		MaxLines int           `yaml:"max_lines"`
	}{Wait: 3 * time.Second, MaxLines: 128}
	if isText(body) {
		cfg.First = node.Resolve(body).Value
	} else {
		c.decode(body, path, &cfg)
	}
	re := c.regex(body, node.Join(path, "firstline"), cfg.First)
	if re == nil {
		return
	}
	if cfg.Wait <= 0 {
		c.ps.Fail(body, node.Join(path, "max_wait_time"), "must be more than 0")
		return
	}
	if cfg.MaxLines < 0 {
		c.ps.Fail(body, node.Join(path, "max_lines"), "must not be less than 0")
		return
	}
	c.add(&multiline{first: re, wait: cfg.Wait, maxLines: cfg.MaxLines, maxBytes: c.p.deps.MaxJoined})
}
