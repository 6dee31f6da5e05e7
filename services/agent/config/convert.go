package config

import (
	"bytes"
	"maps"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/config/relabel"
)

// Convert writes a configuration in Weir's spelling. Comments are lost, and what
// is as by default is left out. Passwords are in it as they are in c.
func Convert(c *Config) ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	def := newFile()
	node.Put(root, "listen", c.Server.Listen)
	if s := convertServer(&c.Server); len(s.Content) > 0 {
		node.Put(root, "server", s)
	}
	clients := &yaml.Node{Kind: yaml.SequenceNode}
	for _, cl := range c.Clients {
		d := Client{}
		d.SetDefaults()
		if cl.Name == clientName(&cl) {
			cl.Name = ""
		}
		clients.Content = append(clients.Content, node.Encode(cl, d))
	}
	if len(clients.Content) > 0 {
		node.Put(root, "clients", clients)
	}
	positions := &yaml.Node{Kind: yaml.MappingNode}
	node.Put(positions, "file", c.Positions.File)
	if c.Positions.SaveInterval != 10*time.Second {
		node.Put(positions, "save_interval", c.Positions.SaveInterval)
	}
	if c.Positions.IgnoreInvalid {
		node.Put(positions, "ignore_invalid_yaml", true)
	}
	node.Put(root, "positions", positions)
	if len(c.ExternalLabels) > 0 {
		node.Put(root, "external_labels", c.ExternalLabels)
	}
	if c.FilenameLabel != def.FilenameLabel {
		node.Put(root, "filename_label", c.FilenameLabel)
	}
	block := func(name string, n *yaml.Node) {
		if len(n.Content) > 0 {
			node.Put(root, name, n)
		}
	}
	block("batch", node.Encode(c.Batch, def.Batch))
	block("read", node.Encode(c.Read, def.Read))
	block("queue", node.Encode(c.Queue, def.Queue))
	if c.ShutdownTimeout != def.ShutdownTimeout {
		node.Put(root, "shutdown_timeout", c.ShutdownTimeout)
	}
	convertLimits(c, block)
	convertJobs(c, block)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

func convertServer(s *Server) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	d := serverBlock{}
	d.SetDefaults()
	put := func(there bool, key string, v any) {
		if there {
			node.Put(m, key, v)
		}
	}
	put(s.PathPrefix != "", "http_path_prefix", s.PathPrefix)
	put(s.ExternalURL != "", "external_url", s.ExternalURL)
	put(s.EnableReload, "enable_runtime_reload", true)
	put(s.Profiling, "profiling_enabled", true)
	put(s.LogLevel != d.LogLevel, "log_level", s.LogLevel)
	put(s.LogFormat != d.LogFormat, "log_format", s.LogFormat)
	put(s.Graceful != d.Graceful, "graceful_shutdown_timeout", s.Graceful)
	put(s.ReadTimeout != d.ReadTimeout, "http_server_read_timeout", s.ReadTimeout)
	put(s.WriteTimeout != d.WriteTimeout, "http_server_write_timeout", s.WriteTimeout)
	put(s.IdleTimeout != d.IdleTimeout, "http_server_idle_timeout", s.IdleTimeout)
	put(s.TLS != ServerTLS{}, "http_tls_config", node.Encode(s.TLS, ServerTLS{}))
	return m
}

// convertLimits writes what has the same names in both spellings.
func convertLimits(c *Config, block func(string, *yaml.Node)) {
	m := &yaml.Node{Kind: yaml.MappingNode}
	l := c.Limits
	if l.ReadRateDeclared {
		node.Put(m, "readline_rate_enabled", true)
		node.Put(m, "readline_rate", l.ReadRate)
		node.Put(m, "readline_burst", l.ReadBurst)
		if !l.ReadRateDrop {
			node.Put(m, "readline_rate_drop", false)
		}
	}
	if l.MaxStreams != 0 {
		node.Put(m, "max_streams", l.MaxStreams)
	}
	if l.MaxLine != 0 {
		node.Put(m, "max_line_size", l.MaxLine)
	}
	if l.MaxLineTruncate {
		node.Put(m, "max_line_size_truncate", true)
	}
	block("limits_config", m)
	m = &yaml.Node{Kind: yaml.MappingNode}
	if c.Target.SyncPeriod != 10*time.Second {
		node.Put(m, "sync_period", c.Target.SyncPeriod)
	}
	if c.Target.Stdin {
		node.Put(m, "stdin", true)
	}
	block("target_config", m)
	if c.Watch != (Watch{250 * time.Millisecond, 250 * time.Millisecond}) {
		w, g := &yaml.Node{Kind: yaml.MappingNode}, &yaml.Node{Kind: yaml.MappingNode}
		node.Put(w, "min_poll_frequency", c.Watch.MinPoll)
		node.Put(w, "max_poll_frequency", c.Watch.MaxPoll)
		node.Put(g, "file_watch_config", w)
		block("global", g)
	}
}

func convertJobs(c *Config, block func(string, *yaml.Node)) {
	lists := map[string]*yaml.Node{}
	add := func(kind string, n *yaml.Node) {
		if lists[kind] == nil {
			lists[kind] = &yaml.Node{Kind: yaml.SequenceNode}
		}
		lists[kind].Content = append(lists[kind].Content, n)
	}
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if len(j.Static)+len(j.FileSD) > 0 || j.source() == "" {
			n := begin(j.Name, nil)
			convertFiles(j, n)
			add("files", j.finish(n, false))
		}
		for k, s := range j.Kubernetes {
			add("kubernetes", j.finish(begin(nth(j.Name, k), node.Encode(s, KubernetesSD{Role: "pod"})), true))
		}
		for k, s := range j.Docker {
			d := DockerSD{}
			d.SetDefaults()
			d.Host = "unix:///var/run/docker.sock"
			add("docker", j.finish(begin(nth(j.Name, k), node.Encode(s, d)), true))
		}
		if s := j.Journal; s != nil {
			d := Journal{}
			d.SetDefaults()
			add("journal", j.finish(begin(j.Name, node.Encode(*s, d)), true))
		}
		if s := j.Syslog; s != nil {
			d := Syslog{}
			d.SetDefaults()
			add("syslog", j.finish(begin(j.Name, node.Encode(*s, d)), true))
		}
		if s := j.Push; s != nil {
			n := begin(j.Name, node.Encode(*s, Push{MaxBytes: 100 << 20, IncomingTime: true}))
			add("push", j.finish(n, false))
		}
		if s := j.OTLP; s != nil {
			add("otlp", j.finish(begin(j.Name, node.Encode(*s, OTLP{MaxBytes: 16 << 20})), false))
		}
		if s := j.GELF; s != nil {
			d := GELF{Listen: "127.0.0.1:12201"}
			add("gelf", j.finish(begin(j.Name, node.Encode(*s, d)), true))
		}
	}
	for _, kind := range []string{"files", "kubernetes", "docker", "journal", "syslog", "push", "otlp", "gelf"} {
		if lists[kind] != nil {
			block(kind, lists[kind])
		}
	}
}

// source names the job's kind of source; "": none, or files by patterns alone.
func (j *Job) source() string {
	switch {
	case len(j.Kubernetes) > 0:
		return "kubernetes"
	case len(j.Docker) > 0:
		return "docker"
	case j.Journal != nil:
		return "journal"
	case j.Syslog != nil:
		return "syslog"
	case j.Push != nil:
		return "push"
	case j.OTLP != nil:
		return "otlp"
	case j.GELF != nil:
		return "gelf"
	}
	return ""
}

func nth(name string, k int) string {
	if k == 0 {
		return name
	}
	return name + "-" + string(rune('1'+k))
}

func begin(name string, rest *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	node.Put(n, "job", name)
	if rest != nil {
		n.Content = append(n.Content, rest.Content...)
	}
	return n
}

func convertFiles(j *Job, n *yaml.Node) {
	var groups []*yaml.Node
	for _, g := range j.Static {
		m := &yaml.Node{Kind: yaml.MappingNode}
		labels := maps.Clone(g.Labels)
		paths, excludes := g.Paths, g.Excludes
		if p := labels["__path__"]; p != "" {
			paths = append([]string{p}, paths...)
		}
		if p := labels["__path_exclude__"]; p != "" {
			excludes = append([]string{p}, excludes...)
		}
		delete(labels, "__path__")
		delete(labels, "__path_exclude__")
		if len(paths) > 0 {
			node.Put(m, "paths", paths)
		}
		if len(excludes) > 0 {
			node.Put(m, "exclude", excludes)
		}
		if len(labels) > 0 {
			node.Put(m, "labels", labels)
		}
		groups = append(groups, m)
	}
	switch len(groups) {
	case 0:
	case 1:
		n.Content = append(n.Content, groups[0].Content...)
	default:
		node.Put(n, "groups", &yaml.Node{Kind: yaml.SequenceNode, Content: groups})
	}
	if len(j.FileSD) > 0 {
		targets := &yaml.Node{Kind: yaml.SequenceNode}
		for _, f := range j.FileSD {
			targets.Content = append(targets.Content, node.Encode(f, FileSD{Refresh: 5 * time.Minute}))
		}
		node.Put(n, "targets", targets)
	}
	if j.Encoding != "" {
		node.Put(n, "encoding", j.Encoding)
	}
	if j.Decompression != nil {
		node.Put(n, "decompression", node.Encode(*j.Decompression, Decompression{}))
	}
	if j.Start != "beginning" {
		node.Put(n, "start", j.Start)
	}
}

// finish adds what all jobs have. Where Weir's spelling has rules and stages by
// default, that there are none is written.
func (j *Job) finish(n *yaml.Node, byDefault bool) *yaml.Node {
	if len(j.Relabel) > 0 || byDefault {
		rules := &yaml.Node{Kind: yaml.SequenceNode}
		for _, r := range j.Relabel {
			rules.Content = append(rules.Content, encodeRule(r))
		}
		if len(rules.Content) == 0 {
			rules.Style = yaml.FlowStyle
		}
		node.Put(n, "relabel", rules)
	}
	switch {
	case j.StagesNode != nil:
		node.Put(n, "stages", shortStages(j.StagesNode))
	case len(j.Kubernetes) > 0:
		node.Put(n, "stages", &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle})
	}
	return n
}

func encodeRule(r relabel.Rule) *yaml.Node {
	d := relabel.Default()
	m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	if len(r.SourceLabels) > 0 {
		node.Put(m, "source_labels", r.SourceLabels)
	}
	for _, f := range []struct{ key, v, def string }{
		{"separator", r.Separator, d.Separator}, {"regex", r.Regex, d.Regex}, {"target_label", r.TargetLabel, ""},
		{"replacement", r.Replacement, d.Replacement}, {"action", r.Action, d.Action},
	} {
		if f.v != f.def {
			node.Put(m, f.key, f.v)
		}
	}
	if r.Modulus != 0 {
		node.Put(m, "modulus", int(r.Modulus))
	}
	return m
}

// shortStages writes stages in their short forms.
func shortStages(list *yaml.Node) *yaml.Node {
	out := &yaml.Node{Kind: yaml.SequenceNode}
	for _, item := range node.Resolve(list).Content {
		item = node.Resolve(item)
		if item.Kind != yaml.MappingNode || len(item.Content) != 2 {
			out.Content = append(out.Content, item)
			continue
		}
		name, body := item.Content[0].Value, node.Resolve(item.Content[1])
		if empty(body) {
			out.Content = append(out.Content, node.Text(name))
			continue
		}
		m := &yaml.Node{Kind: yaml.MappingNode}
		node.Put(m, name, shortBody(name, body))
		out.Content = append(out.Content, m)
	}
	return out
}

func empty(n *yaml.Node) bool {
	return node.IsNull(n) || n.Kind == yaml.MappingNode && len(n.Content) == 0
}

// shortKeys are the stages that may be their one option alone.
var shortKeys = map[string]string{
	"json": "expressions", "logfmt": "mapping", "regex": "expression", "output": "source", "pattern": "pattern",
	"sampling": "rate", "multiline": "firstline", "tenant": "value", "pack": "labels",
}

func shortBody(name string, body *yaml.Node) *yaml.Node {
	if body.Kind != yaml.MappingNode {
		return body
	}
	switch name {
	case "labels", "structured_metadata":
		return shortNames(body)
	case "match", "pipeline":
		m := *body
		m.Content = nil
		for i := 0; i+1 < len(body.Content); i += 2 {
			v := body.Content[i+1]
			if body.Content[i].Value == "stages" {
				v = shortStages(v)
			}
			m.Content = append(m.Content, body.Content[i], v)
		}
		return &m
	}
	if key := shortKeys[name]; key != "" && len(body.Content) == 2 && body.Content[0].Value == key {
		v := node.Resolve(body.Content[1])
		if name == "json" || name == "logfmt" {
			return shortNames(v)
		}
		return v
	}
	return body
}

// shortNames writes {a: , b: b, c: d} as [a, b, {c: d}].
func shortNames(m *yaml.Node) *yaml.Node {
	if m.Kind != yaml.MappingNode {
		return m
	}
	out := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], node.Resolve(m.Content[i+1])
		if k.Tag == "!!merge" {
			return m
		}
		if node.IsNull(v) || v.Value == "" || v.Value == k.Value {
			out.Content = append(out.Content, node.Text(k.Value))
			continue
		}
		p := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		node.Put(p, k.Value, node.Text(v.Value))
		out.Content = append(out.Content, p)
	}
	return out
}
