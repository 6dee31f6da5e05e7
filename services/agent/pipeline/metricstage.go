package pipeline

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

// metricsStage updates metrics by values of the lines.
type metricsStage struct{ metrics []lineMetric }

// lineMetric is one metric of a stage.
type lineMetric struct {
	m          *customMetric
	slot       int // -1: of every line
	onlyValue  *string
	action     string
	countBytes bool
}

type metricConfig struct {
	Type        string        `yaml:"type"`
	Description string        `yaml:"description"`
	Prefix      string        `yaml:"prefix"`
	Source      string        `yaml:"source"`
	MaxIdle     time.Duration `yaml:"max_idle_duration"`
	Config      struct {
		Value      *string   `yaml:"value"`
		Action     string    `yaml:"action"`
		MatchAll   bool      `yaml:"match_all"`
		CountBytes bool      `yaml:"count_entry_bytes"`
		Buckets    []float64 `yaml:"buckets"`
	} `yaml:"config"`
}

var metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

func buildMetrics(c *compiler, body *yaml.Node, path string) {
	pairs, ok := node.Pairs(body, path, c.ps)
	if !ok {
		return
	}
	if len(pairs) == 0 {
		c.ps.Fail(body, path, "is empty: which metrics, as {name: {type: counter, ...}}")
		return
	}
	st := &metricsStage{}
	for _, p := range pairs {
		if lm, ok := c.metric(p.Key, p.Value, node.Join(path, p.Key.Value)); ok {
			st.metrics = append(st.metrics, lm)
		}
	}
	c.add(st)
}

func (c *compiler) metric(key, body *yaml.Node, path string) (lm lineMetric, ok bool) {
	cfg := metricConfig{Prefix: "promtail_custom_", Source: key.Value, MaxIdle: 5 * time.Minute}
	c.decode(body, path, &cfg)
	ok = true
	bad := func(at, format string, args ...any) {
		c.ps.Fail(body, node.Join(path, at), format, args...)
		ok = false
	}
	kind, action := strings.ToLower(cfg.Type), strings.ToLower(cfg.Config.Action)
	if kind == "histogram" {
		if action != "" {
			c.ps.Warn(body, node.Join(path, "config.action"), "means nothing for a histogram")
		}
		action = "observe"
	}
	actions := map[string][]string{"counter": {"inc", "add"}, "gauge": {"set", "inc", "dec", "add", "sub"}, "histogram": {"observe"}}[kind]
	switch {
	case actions == nil:
		bad("type", "%q is none of counter, gauge, histogram", cfg.Type)
	case !slices.Contains(actions, action):
		bad("config.action", "%q is none of %s", cfg.Config.Action, joinNames(actions))
	}
	name := cfg.Prefix + key.Value
	if !metricName.MatchString(name) {
		bad("", "%q is not a metric's name", name)
	}
	for _, own := range []string{"weir_agent_", "go_", "process_", "promhttp_"} {
		if strings.HasPrefix(name, own) {
			bad("prefix", "metrics that begin with %s are the agent's own", own)
		}
	}
	if cfg.MaxIdle < time.Second {
		bad("max_idle_duration", "must be 1s or more")
	}
	cc := cfg.Config
	if kind != "counter" && (cc.MatchAll || cc.CountBytes) {
		bad("config", "match_all and count_entry_bytes are for counters")
	}
	if cc.MatchAll && cc.Value != nil {
		bad("config.value", "excludes match_all")
	}
	if cc.CountBytes && (!cc.MatchAll || action != "add") {
		bad("config.count_entry_bytes", "needs match_all: true and action: add")
	}
	if cfg.Source == "" {
		bad("source", "must not be empty")
	}
	if kind == "histogram" {
		if len(cc.Buckets) == 0 {
			cc.Buckets = prometheus.DefBuckets
		}
		if !slices.IsSorted(cc.Buckets) || len(slices.Compact(slices.Clone(cc.Buckets))) != len(cc.Buckets) {
			bad("config.buckets", "must ascend")
		}
	} else if len(cc.Buckets) > 0 {
		bad("config.buckets", "are for histograms")
	}
	if !ok || c.p.deps.Custom == nil {
		return lm, false
	}
	m, err := c.p.deps.Custom.define(&customMetric{name: name, help: cfg.Description, kind: kind, buckets: cc.Buckets, idle: cfg.MaxIdle})
	if err != nil {
		bad("", "%v", err)
		return lm, false
	}
	lm = lineMetric{m: m, slot: -1, onlyValue: cc.Value, action: action, countBytes: cc.CountBytes}
	if !cc.MatchAll {
		lm.slot = c.slot(cfg.Source)
	}
	return lm, true
}

func (st *metricsStage) run(r *Runner, s *state, at int) verdict {
	v := keep
	for i := range st.metrics {
		if !st.metrics[i].update(r, s) {
			v = r.fail(at)
		}
	}
	return v
}

func (lm *lineMetric) update(r *Runner, s *state) bool {
	n := 0.0
	switch {
	case lm.countBytes:
		n = float64(len(s.line))
	case lm.slot < 0 && lm.action == "inc":
	default:
		if lm.slot < 0 {
			// Every line, but by a value: there is none.
			return false
		}
		t, ok := s.text(lm.slot)
		if !ok {
			return true
		}
		if lm.onlyValue != nil && t != *lm.onlyValue {
			return true
		}
		if lm.action == "inc" || lm.action == "dec" {
			break
		}
		if n, ok = metricValue(t); !ok {
			return false
		}
	}
	ok := true
	err := r.p.deps.Custom.update(lm.m, s.labels, &r.key, func(cs *customSeries) { ok = cs.change(lm.m, lm.action, n) })
	return ok && err == nil
}

// metricValue reads a number, a duration in seconds, or a bool.
func metricValue(t string) (float64, bool) {
	if f, err := strconv.ParseFloat(t, 64); err == nil {
		return f, true
	}
	if d, err := time.ParseDuration(t); err == nil {
		return d.Seconds(), true
	}
	switch t {
	case "true":
		return 1, true
	case "false":
		return 0, true
	}
	return 0, false
}
