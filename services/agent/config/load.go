package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

// Options are how Load reads.
type Options struct {
	// ExpandEnv replaces ${NAME}; Getenv is os.Getenv. nil: nothing is set.
	ExpandEnv bool
	Getenv    func(string) string
	// Deps are what the pipelines get.
	Deps pipeline.Deps
	// Override changes what was read before it is checked, as flags do. It may be
	// nil.
	Override func(*Config)
	// NoClient allows a configuration without clients, to check or explain one.
	NoClient bool
	// NoPositions allows one without a positions file: nothing is remembered.
	NoPositions bool
}

// Load reads a configuration. The Config is as complete as can be even if there
// are errors; those and the warnings are the Problems, by line.
func Load(data []byte, o Options) (*Config, node.Problems) {
	var ps node.Problems
	c := &Config{}
	if o.ExpandEnv {
		getenv := o.Getenv
		if getenv == nil {
			getenv = func(string) string { return "" }
		}
		text, err := Expand(string(data), getenv)
		if err != nil {
			return c, node.Problems{{Text: "-config.expand-env: " + err.Error()}}
		}
		data = []byte(text)
	}
	c.Raw = data
	root := node.Parse(data, &ps)
	if len(ps) > 0 {
		return c, ps
	}
	if o.Deps.Custom != nil {
		o.Deps.Custom.Begin()
	}
	f := newFile()
	if root != nil {
		node.Decode(root, "", f, node.Options{}, &ps)
	}
	l := loader{f: f, c: c, o: o, ps: &ps}
	l.load()
	if o.Override != nil {
		o.Override(c)
	}
	if c.Target.Stdin {
		c.onlyStdin()
	}
	if len(c.Clients) == 0 && len(f.ScrapeConfigs) == 0 && !o.NoClient {
		c.Clients = []Client{l.weir(defaultServer)}
	}
	check(c, l.promtail, o, &ps)
	ps.Sort()
	c.Warnings = ps.Warnings()
	return c, ps
}

// onlyStdin leaves one job: the first, whose stages and labels the lines of the
// standard input get.
func (c *Config) onlyStdin() {
	if len(c.Jobs) == 0 {
		c.Jobs = []Job{{Name: "stdin", Start: "beginning"}}
	}
	c.Jobs = c.Jobs[:1]
}

type loader struct {
	f        *file
	c        *Config
	o        Options
	ps       *node.Problems
	promtail bool // spelt as Promtail's
}

func (l *loader) load() {
	f, c := l.f, l.c
	l.promtail = len(f.ScrapeConfigs) > 0 || f.Target.Stdin
	c.ExternalLabels, c.FilenameLabel, c.ShutdownTimeout = f.ExternalLabels, f.FilenameLabel, f.ShutdownTimeout
	c.Batch, c.Read, c.Queue = f.Batch, f.Read, f.Queue
	c.Watch = Watch{f.Global.Watch.Min, f.Global.Watch.Max}
	c.Target = Target{f.Target.SyncPeriod, f.Target.Stdin}
	// Promtail's names of what Weir's read block has too.
	def := newFile()
	if c.Watch != (Watch{def.Global.Watch.Min, def.Global.Watch.Max}) && c.Read.PollInterval == def.Read.PollInterval {
		c.Read.PollInterval = c.Watch.MinPoll
	}
	if c.Target.SyncPeriod != def.Target.SyncPeriod && c.Read.ScanInterval == def.Read.ScanInterval {
		c.Read.ScanInterval = c.Target.SyncPeriod
	}
	c.Limits = Limits{
		ReadBurst: f.Limits.Burst, ReadRateDrop: f.Limits.Drop, MaxStreams: f.Limits.Streams, MaxLine: f.Limits.Line,
		MaxLineTruncate: f.Limits.Truncate, ReadRateDeclared: f.Limits.Enabled,
	}
	if f.Limits.Enabled {
		c.Limits.ReadRate = f.Limits.Rate
	}
	if !node.IsNull(f.WAL) {
		l.ps.Warn(f.WAL, "wal", "is ignored: the agent has a queue on disk for each client, always")
	}
	l.server()
	l.clients()
	p := f.Positions
	c.Positions = Positions{File: p.File, SaveInterval: p.SyncPeriod, IgnoreInvalid: p.IgnoreInvalid}
	if p.Filename != "" {
		c.Positions.File = p.Filename
	}
	if p.SaveInterval != 0 {
		c.Positions.SaveInterval = p.SaveInterval
	}
	if c.Positions.File == "" && l.promtail {
		c.Positions.File = "/var/log/positions.yaml"
	}
	for i := range f.ScrapeConfigs {
		l.scrape(&f.ScrapeConfigs[i], node.Index("scrape_configs", i))
	}
	l.short()
}

func (l *loader) server() {
	s := &l.f.Server
	l.c.Server = s.listener("server", l.ps)
	if !l.promtail && !s.has("http_listen_address", "http_listen_port", "disable") {
		l.c.Server.Listen = "127.0.0.1:9080"
	}
	if l.f.Listen != nil {
		l.c.Server.Listen = *l.f.Listen
	}
}

func (l *loader) clients() {
	c := l.c
	c.Clients = l.f.Clients
	if l.f.Client != nil {
		c.Clients = append(c.Clients, *l.f.Client)
	}
	w := l.f.Server.Weir
	if w.Target == "" && l.f.Server.has(weirServerKeys...) && len(c.Clients) == 0 {
		w.Target = defaultServer
	}
	if w.Target == "" {
		return
	}
	c.Clients = append([]Client{l.weir(w.Target)}, c.Clients...)
}

// defaultServer is a Weir server on the same host.
const defaultServer = "127.0.0.1:9095"

// weir is the client of Weir's server block.
func (l *loader) weir(address string) Client {
	w := l.f.Server.Weir
	own := Client{}
	own.SetDefaults()
	own.Address, own.Tenant, own.Insecure, own.Timeout = address, w.Tenant, w.Insecure, w.Timeout
	own.BatchWait, own.BatchSize = l.f.Batch.MaxWait, int(l.f.Batch.MaxBytes)
	own.Backoff = Backoff{Min: w.MinBackoff, Max: w.MaxBackoff}
	own.HTTP.TLS, own.Line = w.TLS, l.f.Server.line
	return own
}

func (l *loader) job(j Job, stages *yaml.Node, at string) {
	if !node.IsNull(stages) {
		j.StagesNode = stages
		j.Stages = pipeline.Compile(stages, at, l.o.Deps, l.ps)
	}
	l.c.Jobs = append(l.c.Jobs, j)
}

func (l *loader) scrape(s *scrape, path string) {
	at := &yaml.Node{Line: s.line}
	j := Job{
		Name: s.Name, Line: s.line, Relabel: s.C.Relabel, Encoding: s.C.Encoding, Decompression: s.C.Decompression,
		FilenameLabel: "filename", Start: "beginning",
	}
	if j.Name == "" {
		l.ps.Fail(at, node.Join(path, "job_name"), "is missing")
	}
	// The first of these is the job's source; Promtail leaves the others out
	// without a word.
	kinds := []struct {
		name  string
		there bool
		take  func()
	}{
		{"static_configs, file_sd_configs or kubernetes_sd_configs", len(s.Static)+len(s.FileSD)+len(s.Kubernetes) > 0, func() {
			for _, g := range s.Static {
				j.Static = append(j.Static, Group{Labels: maps.Clone(g.Labels), Line: g.line})
			}
			j.FileSD, j.Kubernetes = s.FileSD, s.Kubernetes
		}},
		{"journal", s.Journal != nil, func() { j.Journal = s.Journal }},
		{"syslog", s.Syslog != nil, func() { j.Syslog = s.Syslog }},
		{"loki_push_api", s.Push != nil, func() {
			p := s.Push
			server := p.Server.listener(path+".loki_push_api.server", l.ps)
			j.Push = &Push{Listen: server.Listen, Labels: p.Labels, IncomingTime: p.IncomingTime, MaxBytes: p.MaxBytes, Server: server}
		}},
		{"gelf", s.GELF != nil, func() { j.GELF = s.GELF }},
		{"docker_sd_configs", len(s.Docker) > 0, func() { j.Docker = s.Docker }},
	}
	first := ""
	for _, k := range kinds {
		switch {
		case !k.there:
		case first == "":
			first = k.name
			k.take()
		default:
			l.ps.Warn(at, node.Join(path, k.name), "is ignored, as in Promtail: the job reads %s; make it a job of its own", first)
		}
	}
	if first == "" && !l.c.Target.Stdin && !l.failedAt(path) {
		l.ps.Fail(at, path, "has no source: static_configs, file_sd_configs, kubernetes_sd_configs, docker_sd_configs, journal, syslog, loki_push_api or gelf")
	}
	l.job(j, s.C.Stages, node.Join(path, "pipeline_stages"))
}

// failedAt reports whether something below path is a problem already, so that
// what follows of it need not be told.
func (l *loader) failedAt(path string) bool {
	return slices.ContainsFunc(*l.ps, func(p node.Problem) bool { return !p.Warning && strings.HasPrefix(p.Path, path) })
}

// short reads the jobs of Weir's spelling.
func (l *loader) short() {
	f := l.f
	begin := func(s *short, kind string, i, line int) Job {
		name := s.Job
		if name == "" {
			if name = kind; i > 0 {
				name = fmt.Sprintf("%s-%d", kind, i+1)
			}
		}
		return Job{Name: name, Line: line, Relabel: s.Relabel, FilenameLabel: f.FilenameLabel, Start: "beginning", short: true}
	}
	// fixed adds labels to whatever the source finds.
	fixed := func(j *Job, labels map[string]string) {
		for _, n := range slices.Sorted(maps.Keys(labels)) {
			j.Relabel = append(j.Relabel, setRule(n, labels[n]))
		}
	}
	for i := range f.Files {
		b := &f.Files[i]
		j := begin(&b.S, "files", i, b.line)
		j.Encoding, j.Decompression = b.Encoding, b.Decompression
		if b.Start != "" {
			j.Start = b.Start
		}
		for _, g := range b.Groups {
			j.Static = append(j.Static, Group{Labels: maps.Clone(g.Labels), Paths: g.Paths, Excludes: g.Exclude, Line: b.line})
		}
		if len(b.Paths) > 0 || len(b.Targets)+len(b.Groups) == 0 {
			j.Static = append(j.Static, Group{Labels: maps.Clone(b.Labels), Paths: b.Paths, Excludes: b.Exclude, Line: b.line})
		}
		j.FileSD = b.Targets
		l.job(j, b.S.Stages, node.Index("files", i)+".stages")
	}
	for i := range f.Docker {
		b := &f.Docker[i]
		j := begin(&b.S, "docker", i, b.line)
		j.Docker = []DockerSD{b.D}
		if j.Relabel == nil {
			j.Relabel = dockerRules()
		}
		fixed(&j, b.Labels)
		l.job(j, b.S.Stages, node.Index("docker", i)+".stages")
	}
	for i := range f.Kubernetes {
		b := &f.Kubernetes[i]
		j := begin(&b.S, "kubernetes", i, b.line)
		j.Kubernetes = []KubernetesSD{b.K}
		if j.Relabel == nil {
			j.Relabel = kubernetesRules()
		}
		fixed(&j, b.Labels)
		if b.S.Stages == nil {
			b.S.Stages = &yaml.Node{Kind: yaml.SequenceNode, Line: b.line, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "cri", Line: b.line}}}
		}
		l.job(j, b.S.Stages, node.Index("kubernetes", i)+".stages")
	}
	for i := range f.Journal {
		b := &f.Journal[i]
		j := begin(&b.S, "journal", i, b.line)
		j.Journal = &b.J
		if j.Relabel == nil {
			j.Relabel = journalRules()
		}
		l.job(j, b.S.Stages, node.Index("journal", i)+".stages")
	}
	for i := range f.Syslog {
		b := &f.Syslog[i]
		j := begin(&b.S, "syslog", i, b.line)
		j.Syslog = &b.Y
		if j.Relabel == nil {
			j.Relabel = syslogRules()
		}
		l.job(j, b.S.Stages, node.Index("syslog", i)+".stages")
	}
	for i := range f.Push {
		b := &f.Push[i]
		j := begin(&b.S, "push", i, b.line)
		j.Push = &b.P
		j.Push.Server.Listen = b.P.Listen
		l.job(j, b.S.Stages, node.Index("push", i)+".stages")
	}
	for i := range f.OTLP {
		b := &f.OTLP[i]
		j := begin(&b.S, "otlp", i, b.line)
		j.OTLP = &b.O
		l.job(j, b.S.Stages, node.Index("otlp", i)+".stages")
	}
	for i := range f.GELF {
		b := &f.GELF[i]
		j := begin(&b.S, "gelf", i, b.line)
		j.GELF = &b.G
		if j.Relabel == nil {
			j.Relabel = gelfRules()
		}
		l.job(j, b.S.Stages, node.Index("gelf", i)+".stages")
	}
}

// The rules that jobs of Weir's spelling have where none are written.

func rule(target, replacement string, sources ...string) relabel.Rule {
	r := relabel.Default()
	r.SourceLabels, r.TargetLabel, r.Replacement = sources, target, replacement
	if err := r.Compile(); err != nil {
		panic(err)
	}
	return r
}

// setRule sets a label to a fixed value.
func setRule(name, value string) relabel.Rule {
	r := relabel.Default()
	r.TargetLabel, r.Replacement = name, strings.ReplaceAll(value, "$", "$$")
	_ = r.Compile() // a bad name is told by check
	return r
}

func dockerRules() []relabel.Rule {
	name := rule("container", "$1", "__meta_docker_container_name")
	name.Regex = "/?(.*)"
	if err := name.Compile(); err != nil {
		panic(err)
	}
	return []relabel.Rule{
		name,
		rule("stream", "$1", "__meta_docker_container_log_stream"),
		rule("service", "$1", "__meta_docker_container_label_com_docker_compose_service"),
		rule("project", "$1", "__meta_docker_container_label_com_docker_compose_project"),
	}
}

func kubernetesRules() []relabel.Rule {
	path := rule("__path__", "/var/log/pods/*$1/*.log", "__meta_kubernetes_pod_uid", "__meta_kubernetes_pod_container_name")
	path.Separator = "/"
	return []relabel.Rule{
		rule("namespace", "$1", "__meta_kubernetes_namespace"),
		rule("pod", "$1", "__meta_kubernetes_pod_name"),
		rule("container", "$1", "__meta_kubernetes_pod_container_name"),
		rule("node", "$1", "__meta_kubernetes_pod_node_name"),
		rule("app", "$1", "__meta_kubernetes_pod_label_app"),
		appName(),
		path,
	}
}

// appName prefers the recommended label to the old one, where there is one.
func appName() relabel.Rule {
	r := rule("app", "$1", "__meta_kubernetes_pod_label_app_kubernetes_io_name")
	r.Regex = "(.+)"
	if err := r.Compile(); err != nil {
		panic(err)
	}
	return r
}

func journalRules() []relabel.Rule {
	return []relabel.Rule{
		rule("unit", "$1", "__journal__systemd_unit"),
		rule("host", "$1", "__journal__hostname"),
		rule("level", "$1", "__journal_priority_keyword"),
	}
}

func syslogRules() []relabel.Rule {
	return []relabel.Rule{
		rule("host", "$1", "__syslog_message_hostname"),
		rule("app", "$1", "__syslog_message_app_name"),
		rule("level", "$1", "__syslog_message_severity"),
		rule("facility", "$1", "__syslog_message_facility"),
	}
}

func gelfRules() []relabel.Rule {
	return []relabel.Rule{
		rule("host", "$1", "__gelf_message_host"),
		rule("level", "$1", "__gelf_message_level"),
		rule("facility", "$1", "__gelf_message_facility"),
	}
}
