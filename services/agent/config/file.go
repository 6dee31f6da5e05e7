package config

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/config/relabel"
)

// file is a configuration as it is written: Promtail's keys first, then Weir's.
type file struct {
	Server        serverBlock    `yaml:"server"`
	Client        *Client        `yaml:"client"`
	Clients       []Client       `yaml:"clients"`
	Positions     positionsBlock `yaml:"positions"`
	ScrapeConfigs []scrape       `yaml:"scrape_configs"`
	Global        struct {
		Watch struct {
			Min time.Duration `yaml:"min_poll_frequency"`
			Max time.Duration `yaml:"max_poll_frequency"`
		} `yaml:"file_watch_config"`
	} `yaml:"global"`
	Limits struct {
		Enabled  bool          `yaml:"readline_rate_enabled"`
		Rate     float64       `yaml:"readline_rate"`
		Burst    int           `yaml:"readline_burst"`
		Drop     bool          `yaml:"readline_rate_drop"`
		Streams  int           `yaml:"max_streams"`
		Line     conf.ByteSize `yaml:"max_line_size"`
		Truncate bool          `yaml:"max_line_size_truncate"`
	} `yaml:"limits_config"`
	Target struct {
		SyncPeriod time.Duration `yaml:"sync_period"`
		Stdin      bool          `yaml:"stdin"`
	} `yaml:"target_config"`
	Options *yaml.Node `yaml:"options"`
	Tracing *yaml.Node `yaml:"tracing"`
	WAL     *yaml.Node `yaml:"wal"`

	ExternalLabels  map[string]string `yaml:"external_labels"`
	FilenameLabel   string            `yaml:"filename_label"`
	Files           []filesBlock      `yaml:"files"`
	Docker          []dockerBlock     `yaml:"docker"`
	Kubernetes      []k8sBlock        `yaml:"kubernetes"`
	Journal         []journalBlock    `yaml:"journal"`
	Syslog          []syslogBlock     `yaml:"syslog"`
	Push            []pushBlock       `yaml:"push"`
	OTLP            []otlpBlock       `yaml:"otlp"`
	GELF            []gelfBlock       `yaml:"gelf"`
	Batch           Batch             `yaml:"batch"`
	Read            Read              `yaml:"read"`
	Queue           Queue             `yaml:"queue"`
	Listen          *string           `yaml:"listen"`
	ShutdownTimeout time.Duration     `yaml:"shutdown_timeout"`
}

func newFile() *file {
	f := &file{FilenameLabel: "filename", ShutdownTimeout: 10 * time.Second}
	f.Global.Watch.Min, f.Global.Watch.Max = 250*time.Millisecond, 250*time.Millisecond
	f.Limits.Rate, f.Limits.Burst, f.Limits.Drop = 10_000, 10_000, true
	f.Target.SyncPeriod = 10 * time.Second
	f.Positions.SyncPeriod = 10 * time.Second
	f.Batch = Batch{MaxBytes: 1 << 20, MaxWait: time.Second, MaxPending: 8}
	f.Read = Read{
		MaxLine: 256 << 10, PollInterval: 100 * time.Millisecond, ScanInterval: 5 * time.Second,
		RotateGrace: 5 * time.Second, PartialWait: 5 * time.Second,
	}
	f.Queue = Queue{MaxBytes: 1 << 30, WhenFull: "block"}
	f.Server.SetDefaults()
	return f
}

// common is what all jobs of scrape_configs have.
type common struct {
	Stages        *yaml.Node     `yaml:"pipeline_stages"`
	Relabel       []relabel.Rule `yaml:"relabel_configs"`
	Encoding      string         `yaml:"encoding"`
	Decompression *Decompression `yaml:"decompression"`
}

// scrape is a job in Promtail's spelling.
type scrape struct {
	Name       string         `yaml:"job_name"`
	C          common         `yaml:",inline"`
	Static     []staticBlock  `yaml:"static_configs"`
	FileSD     []FileSD       `yaml:"file_sd_configs"`
	Kubernetes []KubernetesSD `yaml:"kubernetes_sd_configs"`
	Docker     []DockerSD     `yaml:"docker_sd_configs"`
	Journal    *Journal       `yaml:"journal"`
	Syslog     *Syslog        `yaml:"syslog"`
	Push       *pushAPI       `yaml:"loki_push_api"`
	GELF       *GELF          `yaml:"gelf"`
	line       int
}

// DecodeNode notes the line.
func (s *scrape) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain scrape
	p := (*plain)(s)
	node.Decode(n, path, p, node.Options{Refuse: refusedSources}, ps)
	s.line = n.Line
}

// refusedSources are sources of Promtail that this agent has not.
var refusedSources = func() map[string]string {
	m := map[string]string{}
	for _, k := range []string{
		"consul_sd_configs", "consulagent_sd_configs", "dns_sd_configs", "ec2_sd_configs", "gce_sd_configs", "azure_sd_configs",
		"openstack_sd_configs", "digitalocean_sd_configs", "marathon_sd_configs", "triton_sd_configs", "nerve_sd_configs",
		"serverset_sd_configs", "dockerswarm_sd_configs",
	} {
		m["plain."+k] = "this discovery is not supported; have a program write the targets to a file for file_sd_configs"
	}
	for k, instead := range map[string]string{
		"gcplog":           "use a forwarder that speaks Loki's push API to loki_push_api",
		"windows_events":   "the agent does not run on Windows",
		"kafka":            "consume the topics with a program that pushes to loki_push_api",
		"azure_event_hubs": "consume the hub with a program that pushes to loki_push_api",
		"cloudflare":       "let Logpush send to a program that pushes to loki_push_api",
		"heroku_drain":     "drain to a syslog job over TLS instead",
	} {
		m["plain."+k] = "this source is not supported; " + instead
	}
	return m
}()

type staticBlock struct {
	Targets *yaml.Node        `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
	line    int
}

// DecodeNode notes the line.
func (s *staticBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain staticBlock
	node.Decode(n, path, (*plain)(s), node.Options{}, ps)
	s.line = n.Line
}

type pushAPI struct {
	Server       serverBlock       `yaml:"server"`
	Labels       map[string]string `yaml:"labels"`
	IncomingTime bool              `yaml:"use_incoming_timestamp"`
	MaxBytes     conf.ByteSize     `yaml:"max_send_msg_size"`
}

func (p *pushAPI) SetDefaults() { p.MaxBytes = 100 << 20; p.Server.SetDefaults() }

// positionsBlock has Promtail's and Weir's names.
type positionsBlock struct {
	Filename      string        `yaml:"filename"`
	SyncPeriod    time.Duration `yaml:"sync_period"`
	IgnoreInvalid bool          `yaml:"ignore_invalid_yaml"`
	File          string        `yaml:"file"`
	SaveInterval  time.Duration `yaml:"save_interval"`
}

// short is what all jobs of Weir's spelling have.
type short struct {
	Job     string         `yaml:"job"`
	Stages  *yaml.Node     `yaml:"stages"`
	Relabel []relabel.Rule `yaml:"relabel"`
}

type filesBlock struct {
	S             short             `yaml:",inline"`
	Paths         []string          `yaml:"paths"`
	Exclude       []string          `yaml:"exclude"`
	Labels        map[string]string `yaml:"labels"`
	Start         string            `yaml:"start"`
	Encoding      string            `yaml:"encoding"`
	Decompression *Decompression    `yaml:"decompression"`
	Targets       []FileSD          `yaml:"targets"`
	Groups        []struct {
		Paths   []string          `yaml:"paths"`
		Exclude []string          `yaml:"exclude"`
		Labels  map[string]string `yaml:"labels"`
	} `yaml:"groups"`
	line int
}

// DecodeNode notes the line, as those below do.
func (b *filesBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain filesBlock
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type dockerBlock struct {
	S      short             `yaml:",inline"`
	Labels map[string]string `yaml:"labels"`
	D      DockerSD          `yaml:",inline"`
	line   int
}

func (b *dockerBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain dockerBlock
	b.D.SetDefaults()
	b.D.Host = "unix:///var/run/docker.sock"
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type k8sBlock struct {
	S      short             `yaml:",inline"`
	Labels map[string]string `yaml:"labels"`
	K      KubernetesSD      `yaml:",inline"`
	line   int
}

func (b *k8sBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain k8sBlock
	b.K.Role = "pod"
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type journalBlock struct {
	S    short   `yaml:",inline"`
	J    Journal `yaml:",inline"`
	line int
}

func (b *journalBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain journalBlock
	b.J.SetDefaults()
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type syslogBlock struct {
	S      short  `yaml:",inline"`
	Y      Syslog `yaml:",inline"`
	Listen string `yaml:"listen"`
	line   int
}

func (b *syslogBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain syslogBlock
	b.Y.SetDefaults()
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	if b.Listen != "" {
		b.Y.Listen = b.Listen
	}
	b.line = n.Line
}

type pushBlock struct {
	S    short `yaml:",inline"`
	P    Push  `yaml:",inline"`
	line int
}

func (b *pushBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain pushBlock
	b.P.MaxBytes, b.P.IncomingTime = 100<<20, true
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type otlpBlock struct {
	S    short `yaml:",inline"`
	O    OTLP  `yaml:",inline"`
	line int
}

func (b *otlpBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain otlpBlock
	b.O.MaxBytes = 16 << 20
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	b.line = n.Line
}

type gelfBlock struct {
	S      short  `yaml:",inline"`
	G      GELF   `yaml:",inline"`
	Listen string `yaml:"listen"`
	line   int
}

func (b *gelfBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain gelfBlock
	b.G.Listen = "127.0.0.1:12201" // Promtail's is every network
	node.Decode(n, path, (*plain)(b), node.Options{}, ps)
	if b.Listen != "" {
		b.G.Listen = b.Listen
	}
	b.line = n.Line
}

// The defaults of what is read.

func (c *Client) SetDefaults() {
	c.BatchWait, c.BatchSize, c.Timeout = time.Second, 1<<20, 10*time.Second
	c.Backoff = Backoff{Min: 500 * time.Millisecond, Max: 5 * time.Minute, MaxRetries: 10}
}

// DecodeNode notes the line.
func (c *Client) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	type plain Client
	c.SetDefaults()
	b := struct {
		P     *plain `yaml:",inline"`
		Short string `yaml:"tenant"`
		TLS   *TLS   `yaml:"tls"`
	}{P: (*plain)(c)}
	node.Decode(n, path, &b, node.Options{}, ps)
	if b.Short != "" {
		c.Tenant = b.Short
	}
	if b.TLS != nil {
		c.HTTP.TLS = *b.TLS
	}
	c.Line = n.Line
}

func (f *FileSD) SetDefaults() { f.Refresh = 5 * time.Minute }

func (d *DockerSD) SetDefaults() {
	d.Refresh, d.Port, d.HostNetworkHost, d.MatchFirstNetwork = time.Minute, 80, "localhost", true
}

func (j *Journal) SetDefaults() { j.MaxAge = 7 * time.Hour }

func (s *Syslog) SetDefaults() {
	s.Protocol, s.Format, s.IdleTimeout, s.MaxMessage, s.MaxConnections = "tcp", "rfc5424", 120*time.Second, 8192, 1000
}

func (g *GELF) SetDefaults() { g.Listen = ":12201" }

func (q *Queue) SetDefaults() { q.MaxBytes, q.WhenFull = 1<<30, "block" }
