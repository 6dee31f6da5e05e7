package pipeline

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
	logql "github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/services/agent/config/node"
)

// decolorizeStage removes terminal control sequences.
type decolorizeStage struct{ p *logql.Pipeline }

var decolorizeProgram = func() *logql.Pipeline {
	q, err := syntax.ParseLogQuery(`{_="_"} | decolorize`)
	if err != nil {
		panic(err)
	}
	p, err := logql.Compile(q.Stages, logql.Hints{})
	if err != nil {
		panic(err)
	}
	return p
}()

func buildDecolorize(c *compiler, body *yaml.Node, path string) {
	var none struct{}
	c.decode(body, path, &none)
	c.add(&decolorizeStage{decolorizeProgram})
}

func (d *decolorizeStage) run(r *Runner, s *state, at int) verdict {
	st, _ := r.own[at].(*logql.Stream)
	if st == nil {
		st = d.p.ForStream(nil)
		r.own[at] = st
	}
	if bytes.IndexByte(s.line, 0x1b) < 0 && !bytes.Contains(s.line, []byte("\u009b")) {
		return keep
	}
	if out, _, ok := st.Process(s.time, s.line, nil); ok {
		s.line = r.kept(append(r.room(), out...))
	}
	return keep
}

// edit is where a stage reads and writes a text: the line, an extracted value, a
// label or structured metadata.
type edit struct {
	slot  int // -1: not an extracted value
	label string
	meta  string
}

// edits reads source and source_type.
func (c *compiler) edit(body *yaml.Node, path, source, kind string) (e edit, ok bool) {
	e.slot = -1
	switch {
	case kind == "" && source == "", kind == "line":
	case source == "" && kind != "":
		c.ps.Fail(body, node.Join(path, "source"), "is missing: which %s", kind)
		return e, false
	case kind == "" || kind == "extracted":
		e.slot = c.slot(source)
	case kind == "label":
		e.label = source
	case kind == "structured_metadata":
		e.meta = source
	default:
		c.ps.Fail(body, node.Join(path, "source_type"), "%q is none of line, extracted, label, structured_metadata", kind)
		return e, false
	}
	return e, true
}

func (e edit) get(s *state) ([]byte, bool) {
	switch {
	case e.slot >= 0:
		v, ok := s.text(e.slot)
		return raw(v), ok
	case e.label != "":
		v, ok := s.label(e.label)
		return raw(v), ok
	case e.meta != "":
		for _, m := range s.meta {
			if m.Name == e.meta {
				return raw(m.Value), true
			}
		}
		return nil, false
	}
	return s.line, true
}

func (e edit) set(s *state, b []byte) {
	switch {
	case e.slot >= 0:
		s.setText(e.slot, str(b))
	case e.label != "":
		s.setLabel(e.label, str(b))
	case e.meta != "":
		s.setMeta(e.meta, str(b))
	default:
		s.line = b
	}
}

// truncateStage bounds the length of a text.
type truncateStage struct {
	rules []truncateRule
}

type truncateRule struct {
	edit
	limit  int
	suffix string
}

func buildTruncate(c *compiler, body *yaml.Node, path string) {
	type rule struct {
		Limit  conf.ByteSize `yaml:"limit"`
		Suffix string        `yaml:"suffix"`
		Source string        `yaml:"source"`
		Kind   string        `yaml:"source_type"`
	}
	var f struct {
		Limit  conf.ByteSize `yaml:"limit"`
		Suffix string        `yaml:"suffix"`
		Source string        `yaml:"source"`
		Kind   string        `yaml:"source_type"`
		Rules  []rule        `yaml:"rules"`
	}
	if isText(body) {
		node.Decode(body, path, &f.Limit, node.Options{Loose: true}, c.ps)
	} else {
		c.decode(body, path, &f)
	}
	if f.Limit != 0 || len(f.Rules) == 0 {
		f.Rules = append(f.Rules, rule{f.Limit, f.Suffix, f.Source, f.Kind})
	}
	st := &truncateStage{}
	for _, r := range f.Rules {
		e, ok := c.edit(body, path, r.Source, r.Kind)
		switch {
		case r.Limit <= 0:
			c.ps.Fail(body, node.Join(path, "limit"), "must be more than 0 bytes")
			ok = false
		case int(r.Limit) < len(r.Suffix):
			c.ps.Fail(body, node.Join(path, "suffix"), "is longer than the limit")
			ok = false
		}
		if ok {
			st.rules = append(st.rules, truncateRule{e, int(r.Limit), r.Suffix})
		}
	}
	c.add(st)
}

func (t *truncateStage) run(r *Runner, s *state, at int) verdict {
	for _, rule := range t.rules {
		in, ok := rule.get(s)
		if !ok || len(in) <= rule.limit {
			continue
		}
		in = in[:cutAt(in, rule.limit-len(rule.suffix))]
		if rule.suffix != "" {
			in = r.kept(append(append(r.room(), in...), rule.suffix...))
		}
		rule.set(s, in)
		r.p.m.wasCut(r.p.ops[at].name)
	}
	return keep
}

// luhnStage hides numbers that pass the Luhn test, as those of cards do.
type luhnStage struct {
	edit
	with       string
	minLength  int
	delimiters string
}

func buildLuhn(c *compiler, body *yaml.Node, path string) {
	cfg := struct {
		Source     string `yaml:"source"`
		Kind       string `yaml:"source_type"`
		With       string `yaml:"replacement"`
		MinLength  int    `yaml:"min_length"`
		Delimiters string `yaml:"delimiters"`
	}{With: "**REDACTED**", MinLength: 13}
	c.decode(body, path, &cfg)
	e, ok := c.edit(body, path, cfg.Source, cfg.Kind)
	if cfg.MinLength < 2 {
		c.ps.Fail(body, node.Join(path, "min_length"), "must be 2 or more")
		ok = false
	}
	if strings.ContainsAny(cfg.Delimiters, "0123456789") {
		c.ps.Fail(body, node.Join(path, "delimiters"), "must not have digits")
		ok = false
	}
	if ok {
		c.add(&luhnStage{e, cfg.With, cfg.MinLength, cfg.Delimiters})
	}
}

func (l *luhnStage) run(r *Runner, s *state, _ int) verdict {
	in, ok := l.get(s)
	if !ok {
		return keep
	}
	if out, changed := hideLuhn(r.room(), in, l.with, l.minLength, 0, l.delimiters); changed {
		l.set(s, r.kept(out))
	}
	return keep
}

// hideLuhn replaces runs of minLength digits or more, single delimiters among
// them, that pass the Luhn test. A maxLength of 0 is none.
func hideLuhn(dst, in []byte, with string, minLength, maxLength int, delimiters string) ([]byte, bool) {
	done, changed := 0, false
	for i := 0; i < len(in); {
		if in[i] < '0' || in[i] > '9' {
			i++
			continue
		}
		from, end, digits := i, i, 0
		for i < len(in) {
			c := in[i]
			if c >= '0' && c <= '9' {
				digits++
				i++
				end = i
				continue
			}
			if i == end && strings.IndexByte(delimiters, c) >= 0 {
				i++
				continue
			}
			break
		}
		i = end
		if digits < minLength || maxLength > 0 && digits > maxLength || !luhn(in[from:end]) {
			continue
		}
		dst = append(append(dst, in[done:from]...), with...)
		done, changed = end, true
	}
	if !changed {
		return dst, false
	}
	return append(dst, in[done:]...), true
}

// luhn tests the digits in b.
func luhn(b []byte) bool {
	sum, double, zero := 0, false, true
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < '0' || b[i] > '9' {
			continue
		}
		d := int(b[i] - '0')
		zero = zero && d == 0
		if double {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		double = !double
	}
	return sum%10 == 0 && !zero
}

// secret is something that redact finds.
type secret struct {
	name string
	// hints are texts of which a line has one at least, if it has the secret:
	// most lines are done with them. Empty: no such text.
	hints []string
	re    *regexp.Regexp // the first group is hidden, or all if it has none
}

// secrets are the named patterns of redact. cards are found by hideLuhn.
var secrets = map[string][]secret{
	"mails": {{"mail", []string{"@"}, regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}`)}},
	"tokens": {
		{"token", []string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4,}\.[A-Za-z0-9_\-]*`)},
		{"token", []string{"earer ", "EARER ", "asic "}, regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/\-]{8,}=*)`)},
		{"token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})`)},
		{"token", []string{"glpat-"}, regexp.MustCompile(`\bglpat-[A-Za-z0-9_\-]{20,}`)},
		{"token", []string{"xox"}, regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9\-]{10,}`)},
		{"token", []string{"sk_live_", "rk_live_", "sk_test_"}, regexp.MustCompile(`\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}`)},
		{"token", []string{"npm_"}, regexp.MustCompile(`\bnpm_[A-Za-z0-9]{36,}`)},
	},
	"keys": {
		{"key", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`)},
		{"key", []string{"AIza"}, regexp.MustCompile(`\bAIza[A-Za-z0-9_\-]{35}`)},
		{"key", []string{"ws_secret", "WS_SECRET", "wsSecret"}, regexp.MustCompile(`(?i)aws_?secret_?(?:access_?)?key["']?\s*[=:]\s*["']?([A-Za-z0-9/+=]{40})`)},
		{"key", []string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)},
	},
}

// redactStage hides secrets.
type redactStage struct {
	edit
	cards   string // what stands for a card's number; "": cards are left
	assigns string // what stands for the value of password=, token: and the like
	secrets []secret
	with    []string // for secrets
}

func buildRedact(c *compiler, body *yaml.Node, path string) {
	known := []string{"cards", "mails", "tokens", "keys"}
	cfg := struct {
		Patterns    []string          `yaml:"patterns"`
		Expressions map[string]string `yaml:"expressions"`
		With        string            `yaml:"replacement"`
		Source      string            `yaml:"source"`
		Kind        string            `yaml:"source_type"`
	}{With: "<redacted:{name}>"}
	switch {
	case isList(body), isText(body):
		node.Decode(body, path, &cfg.Patterns, node.Options{Loose: true}, c.ps)
	default:
		c.decode(body, path, &cfg)
	}
	if len(cfg.Patterns) == 0 && len(cfg.Expressions) == 0 {
		cfg.Patterns = known
	}
	e, ok := c.edit(body, path, cfg.Source, cfg.Kind)
	if !ok {
		return
	}
	st := &redactStage{edit: e}
	with := func(name string) string { return strings.ReplaceAll(cfg.With, "{name}", name) }
	for _, p := range cfg.Patterns {
		if p == "cards" {
			st.cards = with("card")
			continue
		}
		if p == "tokens" {
			st.assigns = with("token")
		}
		list, there := secrets[p]
		if !there {
			c.ps.Fail(body, node.Join(path, "patterns"), "unknown pattern %q%s; there are %s", p, node.DidYouMean(p, known), joinNames(known))
			continue
		}
		for _, s := range list {
			st.secrets, st.with = append(st.secrets, s), append(st.with, with(s.name))
		}
	}
	names := make([]string, 0, len(cfg.Expressions))
	for n := range cfg.Expressions {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if re := c.regex(body, node.Join(path, "expressions."+n), cfg.Expressions[n]); re != nil {
			st.secrets, st.with = append(st.secrets, secret{name: n, re: re}), append(st.with, with(n))
		}
	}
	c.add(st)
}

func (st *redactStage) run(r *Runner, s *state, _ int) verdict {
	in, ok := st.get(s)
	if !ok {
		return keep
	}
	changed := false
	for i := range st.secrets {
		if out, hit := st.secrets[i].hide(r.room(), in, st.with[i]); hit {
			in, changed = r.kept(out), true
		}
	}
	if st.assigns != "" {
		if out, hit := hideAssigned(r.room(), in, st.assigns); hit {
			in, changed = r.kept(out), true
		}
	}
	if st.cards != "" {
		if out, hit := hideLuhn(r.room(), in, st.cards, 13, 19, " -"); hit {
			in, changed = r.kept(out), true
		}
	}
	if changed {
		st.set(s, in)
	}
	return keep
}

func (x *secret) hide(dst, in []byte, with string) ([]byte, bool) {
	if len(x.hints) > 0 && !slices.ContainsFunc(x.hints, func(h string) bool { return bytes.Contains(in, raw(h)) }) {
		return dst, false
	}
	matches := x.re.FindAllSubmatchIndex(in, -1)
	if matches == nil {
		return dst, false
	}
	done, changed := 0, false
	for _, m := range matches {
		from, to := m[0], m[1]
		if len(m) > 2 {
			if from, to = m[2], m[3]; from < 0 {
				continue
			}
		}
		if from == to || bytes.HasPrefix(in[from:], []byte("<redacted:")) {
			continue // nothing, or hidden already
		}
		dst = append(append(dst, in[done:from]...), with...)
		done, changed = to, true
	}
	return append(dst, in[done:]...), changed
}

// words are names of secrets, at whose = or : the value is hidden.
var words = []string{"password", "passwd", "secret", "token", "apikey", "api_key", "api-key"}

// hideAssigned replaces the values of words: password=x, "token": "x", secret: x.
// Names may end in a word (client_secret).
func hideAssigned(dst, in []byte, with string) ([]byte, bool) {
	done, changed := 0, false
	for i := 1; i < len(in); i++ {
		// From the sign back to the word: there are fewer signs than letters.
		n := bytes.IndexByte(in[i:], '=')
		if m := bytes.IndexByte(in[i:], ':'); m >= 0 && (n < 0 || m < n) {
			n = m
		}
		if n < 0 {
			break
		}
		i += n
		end := i
		for end > 0 && in[end-1] == ' ' {
			end--
		}
		if end > 0 && (in[end-1] == '"' || in[end-1] == '\'') {
			end--
		}
		if !endsInWord(in[:end]) {
			continue
		}
		from := i + 1
		for from < len(in) && in[from] == ' ' {
			from++
		}
		if from < len(in) && (in[from] == '"' || in[from] == '\'') {
			from++
		}
		to := from
		for to < len(in) && in[to] > ' ' && bytes.IndexByte([]byte("\"'&,;{}"), in[to]) < 0 {
			to++
		}
		if to-from < 4 || bytes.HasPrefix(in[from:], []byte("<redacted:")) {
			continue
		}
		dst = append(append(dst, in[done:from]...), with...)
		done, changed = to, true
		i = to - 1
	}
	if !changed {
		return dst, false
	}
	return append(dst, in[done:]...), true
}

func endsInWord(b []byte) bool {
	if len(b) < 5 || b[len(b)-1]|0x20 < 'd' || b[len(b)-1]|0x20 > 'y' {
		return false
	}
	for _, w := range words {
		if n := len(b) - len(w); n >= 0 && strings.EqualFold(str(b[n:]), w) {
			return true
		}
	}
	return false
}
