package pipeline

import (
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a container may have no zones of its own

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/entry"
)

// timestampStage takes the line's time from an extracted value.
type timestampStage struct {
	slot    int
	formats []timeFormat
	skip    bool // on failure the time stays, else it follows the one before
}

type timeFormat struct {
	unit   int64 // of Unix times in ns; 0: a layout
	layout string
	noYear bool
	loc    *time.Location
	quick  bool // RFC 3339
}

// layouts are the names of layouts.
var layouts = map[string]string{
	"ANSIC": time.ANSIC, "UnixDate": time.UnixDate, "RubyDate": time.RubyDate, "RFC822": time.RFC822, "RFC822Z": time.RFC822Z,
	"RFC850": time.RFC850, "RFC1123": time.RFC1123, "RFC1123Z": time.RFC1123Z, "RFC3339": time.RFC3339, "RFC3339Nano": time.RFC3339Nano,
}

var units = map[string]int64{"Unix": 1e9, "UnixMs": 1e6, "UnixUs": 1e3, "UnixNs": 1}

func buildTimestamp(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Source   string   `yaml:"source"`
		Format   string   `yaml:"format"`
		Fallback []string `yaml:"fallback_formats"`
		Location string   `yaml:"location"`
		OnFail   string   `yaml:"action_on_failure"`
	}{OnFail: "fudge"}
	c.decode(body, path, &cfg)
	ok := true
	bad := func(key, format string, args ...any) {
		c.ps.Fail(body, node.Join(path, key), format, args...)
		ok = false
	}
	if cfg.Source == "" {
		bad("source", "is missing: which extracted value is the time")
	}
	if cfg.Format == "" {
		bad("format", "is missing: RFC3339, Unix, UnixMs, another name, or a layout like 2006-01-02 15:04:05")
	}
	if cfg.OnFail != "fudge" && cfg.OnFail != "skip" {
		bad("action_on_failure", "%q is neither fudge nor skip", cfg.OnFail)
	}
	loc := time.UTC
	if cfg.Location != "" {
		var err error
		if loc, err = time.LoadLocation(cfg.Location); err != nil {
			bad("location", "%q is no time zone, as Europe/Berlin is", cfg.Location)
		}
	}
	if !ok {
		return
	}
	t := &timestampStage{slot: c.slot(cfg.Source), skip: cfg.OnFail == "skip"}
	for i, f := range append([]string{cfg.Format}, cfg.Fallback...) {
		tf := newTimeFormat(f, loc)
		if tf.unit == 0 && !plausible(tf.layout) {
			key := "format"
			if i > 0 {
				key = node.Index("fallback_formats", i-1)
			}
			c.ps.Warn(body, node.Join(path, key), "%q has no part of a date: a layout shows how Mon Jan 2 15:04:05 2006 is written", f)
		}
		t.formats = append(t.formats, tf)
	}
	c.add(t)
}

func newTimeFormat(name string, loc *time.Location) timeFormat {
	if u := units[name]; u != 0 {
		return timeFormat{unit: u}
	}
	layout := layouts[name]
	if layout == "" {
		layout = name
	}
	return timeFormat{
		layout: layout, loc: loc, quick: layout == time.RFC3339 || layout == time.RFC3339Nano,
		noYear: !strings.Contains(layout, "2006") && !strings.Contains(layout, "06"),
	}
}

// plausible reports whether a layout has a reference to a time in it.
func plausible(layout string) bool {
	t := time.Date(2199, 11, 28, 23, 47, 58, 0, time.UTC)
	return t.Format(layout) != layout
}

func (t *timestampStage) run(r *Runner, s *state, at int) verdict {
	if v, ok := s.text(t.slot); ok {
		for i := range t.formats {
			if ns, ok := t.formats[i].parse(v, r.now); ok {
				s.time, s.ownTime = ns, true
				if !t.skip {
					t.remember(r, s, at, ns)
				}
				return keep
			}
		}
	}
	r.fail(at)
	if t.skip {
		return keep
	}
	last, _ := r.own[at].(map[string]int64)
	r.key = entry.AppendKey(r.key[:0], s.labels)
	if ns, ok := last[string(r.key)]; ok {
		s.time, s.ownTime = ns+1, true
		last[string(r.key)] = ns + 1
	}
	return keep
}

func (t *timestampStage) remember(r *Runner, s *state, at int, ns int64) {
	last, _ := r.own[at].(map[string]int64)
	if last == nil {
		last = map[string]int64{}
		r.own[at] = last
	}
	r.key = entry.AppendKey(r.key[:0], s.labels)
	if _, there := last[string(r.key)]; !there && len(last) >= maxSets {
		clear(last)
	}
	last[string(r.key)] = ns
}

// parse reads a time. now decides the year where there is none.
func (f *timeFormat) parse(v string, now time.Time) (int64, bool) {
	if f.unit != 0 {
		return parseUnix(v, f.unit)
	}
	if f.quick {
		if ns, ok := parseRFC3339(raw(v)); ok {
			return ns, true
		}
	}
	t, err := time.ParseInLocation(f.layout, v, f.loc)
	if err != nil {
		return 0, false
	}
	if f.noYear && t.Year() == 0 {
		year := now.In(f.loc).Year()
		switch {
		case now.In(f.loc).Month() == time.January && t.Month() == time.December:
			year--
		case now.In(f.loc).Month() == time.December && t.Month() == time.January:
			year++
		}
		if t.Month() == time.February && t.Day() == 29 && daysIn(year, 2) == 28 {
			return 0, false
		}
		t = time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	}
	if y := t.Year(); y < 1678 || y > 2261 {
		return 0, false
	}
	return t.UnixNano(), true
}

// parseUnix reads a number of units since 1970, with a fraction.
func parseUnix(v string, unit int64) (int64, bool) {
	whole, frac, _ := strings.Cut(v, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n >= math.MaxInt64/unit || n <= math.MinInt64/unit {
		return 0, false
	}
	n *= unit
	negative := strings.HasPrefix(whole, "-")
	for _, c := range []byte(frac) {
		if c < '0' || c > '9' {
			return 0, false
		}
		unit /= 10
		if negative {
			n -= int64(c-'0') * unit
		} else {
			n += int64(c-'0') * unit
		}
	}
	return n, true
}
