// Package config is the agent's configuration: Promtail's YAML as it is, or
// Weir's own shorter spelling of the same, also mixed. Load gives typed values
// with all defaults in place, or every problem of the file with its line. It does
// no I/O but what Load is asked to read.
package config

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/pipeline"
)

// Config is a whole configuration, checked, defaults included.
type Config struct {
	Server    Server
	Clients   []Client // at least one
	Positions Positions
	Jobs      []Job
	Limits    Limits
	Target    Target
	Watch     Watch
	Batch     Batch
	Read      Read
	Queue     Queue
	// ExternalLabels are added to every stream for every client, where it has no
	// label of that name. Those of a client are in Client.ExternalLabels, which
	// win.
	ExternalLabels map[string]string
	// FilenameLabel is the label that gets the path of jobs of Weir's spelling.
	// Promtail's have "filename" always; see Job.FilenameLabel.
	FilenameLabel string
	// ShutdownTimeout is how long the end may take for sending what was read.
	ShutdownTimeout time.Duration
	// Warnings are what was read and is not quite what may be meant.
	Warnings node.Problems
	// Raw is the file's text, environment expanded.
	Raw []byte
}

// Server is the agent's own HTTP listener.
type Server struct {
	// Listen is host:port. Empty: none.
	Listen string
	// PathPrefix stands before all paths, as /agent; empty or begins with "/".
	PathPrefix string
	// ExternalURL is where users reach the listener.
	ExternalURL string
	// EnableReload serves /reload.
	EnableReload bool
	Profiling    bool
	TLS          ServerTLS
	LogLevel     string
	LogFormat    string
	ReadTimeout  time.Duration
	WriteTimeout time.Duration
	IdleTimeout  time.Duration
	Graceful     time.Duration
}

// ServerTLS is the TLS of a listener.
type ServerTLS struct {
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ClientAuth string `yaml:"client_auth_type"`
	ClientCA   string `yaml:"client_ca_file"`
	CAFile     string `yaml:"ca_file"` // demands client certificates
	MinVersion string `yaml:"min_version"`
}

// Client is a server that gets all lines.
type Client struct {
	// Name is unique; made from the address if none is given.
	Name string `yaml:"name"`
	// URL is a Loki push URL, or empty; Address the gRPC address of a Weir server.
	// Exactly one is set.
	URL     string `yaml:"url"`
	Address string `yaml:"address"`
	// Tenant is for entries that name none.
	Tenant string `yaml:"tenant_id"`
	// Insecure does without TLS to Address.
	Insecure  bool          `yaml:"insecure"`
	BatchWait time.Duration `yaml:"batchwait"`
	BatchSize int           `yaml:"batchsize"`
	Timeout   time.Duration `yaml:"timeout"`
	// Headers are sent with each request to URL.
	Headers         map[string]string `yaml:"headers"`
	ExternalLabels  map[string]string `yaml:"external_labels"`
	DropRateLimited bool              `yaml:"drop_rate_limited_batches"`
	Backoff         Backoff           `yaml:"backoff_config"`
	Queue           *Queue            `yaml:"queue"` // nil: Config.Queue
	HTTP            HTTPClient        `yaml:",inline"`
	// Line is where it stands in the file.
	Line int `yaml:"-"`
}

// Backoff is how failed requests are repeated. Weir's agent repeats for ever,
// whatever MaxRetries says: it is read, and warned of.
type Backoff struct {
	Min        time.Duration `yaml:"min_period"`
	Max        time.Duration `yaml:"max_period"`
	MaxRetries int           `yaml:"max_retries"`
}

// HTTPClient is Prometheus' configuration of HTTP clients.
type HTTPClient struct {
	BasicAuth       *BasicAuth          `yaml:"basic_auth"`
	Authorization   *Authorization      `yaml:"authorization"`
	OAuth2          *OAuth2             `yaml:"oauth2"`
	BearerToken     string              `yaml:"bearer_token"`
	BearerTokenFile string              `yaml:"bearer_token_file"`
	TLS             TLS                 `yaml:"tls_config"`
	ProxyURL        string              `yaml:"proxy_url"`
	NoProxy         string              `yaml:"no_proxy"`
	ProxyFromEnv    bool                `yaml:"proxy_from_environment"`
	ProxyHeader     map[string][]string `yaml:"proxy_connect_header"`
	FollowRedirects *bool               `yaml:"follow_redirects"` // nil: true
	HTTP2           *bool               `yaml:"enable_http2"`
	HTTPHeaders     *yaml.Node          `yaml:"http_headers"`
}

// BasicAuth is a name and a password, each as text or in a file.
type BasicAuth struct {
	Username     string `yaml:"username"`
	UsernameFile string `yaml:"username_file"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

// Authorization is any Authorization header.
type Authorization struct {
	Type            string `yaml:"type"` // default: Bearer
	Credentials     string `yaml:"credentials"`
	CredentialsFile string `yaml:"credentials_file"`
}

// OAuth2 is the client credentials flow.
type OAuth2 struct {
	ClientID         string            `yaml:"client_id"`
	ClientSecret     string            `yaml:"client_secret"`
	ClientSecretFile string            `yaml:"client_secret_file"`
	TokenURL         string            `yaml:"token_url"`
	Scopes           []string          `yaml:"scopes"`
	EndpointParams   map[string]string `yaml:"endpoint_params"`
	TLS              TLS               `yaml:"tls_config"`
	ProxyURL         string            `yaml:"proxy_url"`
}

// TLS is how a client does TLS; CA, Cert and Key are PEM.
type TLS struct {
	CA         string `yaml:"ca"`
	Cert       string `yaml:"cert"`
	Key        string `yaml:"key"`
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
	Insecure   bool   `yaml:"insecure_skip_verify"`
	MinVersion string `yaml:"min_version"` // TLS10 .. TLS13
	MaxVersion string `yaml:"max_version"`
}

// Positions is where to remember how far sources were acknowledged.
type Positions struct {
	File          string
	SaveInterval  time.Duration
	IgnoreInvalid bool
}

// Limits is limits_config.
type Limits struct {
	ReadRate         float64       // lines/s over all jobs, behind the pipeline; 0: none
	ReadBurst        int           //
	ReadRateDrop     bool          // drop beyond it; false: wait
	MaxStreams       int           // 0: no limit
	MaxLine          conf.ByteSize // 0: Read.MaxLine alone counts
	MaxLineTruncate  bool          // cut longer lines; false: drop them
	ReadRateDeclared bool          // readline_rate_enabled
}

// Target is target_config.
type Target struct {
	SyncPeriod time.Duration
	Stdin      bool
}

// Watch is global.file_watch_config.
type Watch struct{ MinPoll, MaxPoll time.Duration }

// Batch is how lines are collected where a client does not say it.
type Batch struct {
	MaxBytes   conf.ByteSize `yaml:"max_bytes"`
	MaxWait    time.Duration `yaml:"max_wait"`
	MaxPending int           `yaml:"max_pending"`
}

// Queue bounds what waits on disk for a client.
type Queue struct {
	// Dir is the folder of all queues. Empty: Positions.File + ".queue".
	Dir string `yaml:"dir"`
	// MaxBytes and MaxAge bound it; an age of 0 is no bound.
	MaxBytes conf.ByteSize `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
	// WhenFull is "block", which stops reading, or "drop_oldest".
	WhenFull string `yaml:"when_full"`
}

// Read is how files are read.
type Read struct {
	MaxLine      conf.ByteSize `yaml:"max_line"`
	PollInterval time.Duration `yaml:"poll_interval"`
	ScanInterval time.Duration `yaml:"scan_interval"`
	RotateGrace  time.Duration `yaml:"rotate_grace"`
	PartialWait  time.Duration `yaml:"partial_wait"`
	NoEvents     bool          `yaml:"no_events"`
	MaxOpenFiles int           `yaml:"max_open_files"` // 0: as many as the system's limit allows
}

// Job is one or more sources with the same treatment.
type Job struct {
	Name string
	Line int
	// Exactly one kind of source is set; the four of files count as one.
	Static     []Group
	FileSD     []FileSD
	Kubernetes []KubernetesSD
	Docker     []DockerSD
	Journal    *Journal
	Syslog     *Syslog
	Push       *Push
	GELF       *GELF
	OTLP       *OTLP

	Relabel       []relabel.Rule
	Encoding      string // IANA name; empty: UTF-8
	Decompression *Decompression
	// Stages is the job's program; nil if there are none. It is compiled once;
	// Runners are made of it.
	Stages *pipeline.Pipeline
	// StagesNode is how they are written.
	StagesNode *yaml.Node
	// FilenameLabel is the label that gets a file's path; empty: none.
	FilenameLabel string
	// Start is where to begin in files that are there and were never read:
	// "beginning" or "end".
	Start string

	short bool // in Weir's spelling
}

// IsFiles reports a job that reads files: its targets have a __path__.
func (j *Job) IsFiles() bool { return len(j.Static)+len(j.FileSD)+len(j.Kubernetes) > 0 }

// Group is targets with common labels. Labels has __path__, __path_exclude__ and
// __host__ where they are given.
type Group struct {
	Labels map[string]string
	// Paths and Excludes are patterns beside those labels, for groups with many.
	Paths, Excludes []string
	Line            int
}

// FileSD is file_sd_configs.
type FileSD struct {
	Files   []string      `yaml:"files"`
	Refresh time.Duration `yaml:"refresh_interval"`
}

// KubernetesSD is kubernetes_sd_configs.
type KubernetesSD struct {
	Role       string `yaml:"role"`
	APIServer  string `yaml:"api_server"`
	Kubeconfig string `yaml:"kubeconfig_file"`
	Namespaces struct {
		Own   bool     `yaml:"own_namespace"`
		Names []string `yaml:"names"`
	} `yaml:"namespaces"`
	Selectors []struct {
		Role  string `yaml:"role"`
		Label string `yaml:"label"`
		Field string `yaml:"field"`
	} `yaml:"selectors"`
	Attach struct {
		Node      bool `yaml:"node"`
		Namespace bool `yaml:"namespace"`
	} `yaml:"attach_metadata"`
	HTTP HTTPClient `yaml:",inline"`
}

// DockerSD is docker_sd_configs.
type DockerSD struct {
	Host    string        `yaml:"host"`
	Refresh time.Duration `yaml:"refresh_interval"`
	Filters []struct {
		Name   string   `yaml:"name"`
		Values []string `yaml:"values"`
	} `yaml:"filters"`
	Port              int        `yaml:"port"`
	HostNetworkHost   string     `yaml:"host_networking_host"`
	MatchFirstNetwork bool       `yaml:"match_first_network"`
	HTTP              HTTPClient `yaml:",inline"`
}

// Journal is systemd's journal.
type Journal struct {
	Path    string            `yaml:"path"`
	MaxAge  time.Duration     `yaml:"max_age"`
	JSON    bool              `yaml:"json"`
	Matches string            `yaml:"matches"`
	Labels  map[string]string `yaml:"labels"`
}

// Syslog is a syslog receiver.
type Syslog struct {
	Listen           string            `yaml:"listen_address"`
	Protocol         string            `yaml:"listen_protocol"`
	IdleTimeout      time.Duration     `yaml:"idle_timeout"`
	MaxMessage       int               `yaml:"max_message_length"`
	StructuredData   bool              `yaml:"label_structured_data"`
	IncomingTime     bool              `yaml:"use_incoming_timestamp"`
	WholeMessage     bool              `yaml:"use_rfc5424_message"`
	Format           string            `yaml:"syslog_format"`
	Labels           map[string]string `yaml:"labels"`
	TLS              ServerTLS         `yaml:"tls_config"`
	MaxConnections   int               `yaml:"max_connections"`
	StructuredPrefix string            `yaml:"-"`
}

// Push is a receiver of Loki's push API with a listener of its own.
type Push struct {
	Listen       string            `yaml:"listen"`
	GRPCListen   string            `yaml:"-"`
	Labels       map[string]string `yaml:"labels"`
	IncomingTime bool              `yaml:"use_incoming_timestamp"`
	MaxBytes     conf.ByteSize     `yaml:"max_send_msg_size"`
	Server       Server            `yaml:"-"`
}

// OTLP is a receiver of OpenTelemetry's logs, over HTTP (/v1/logs) and gRPC. It
// is Weir's own; Promtail has none.
type OTLP struct {
	Listen     string            `yaml:"listen"`      // HTTP
	GRPCListen string            `yaml:"grpc_listen"` // gRPC
	Labels     map[string]string `yaml:"labels"`
	MaxBytes   conf.ByteSize     `yaml:"max_bytes"`
	// LabelAttributes are resource attributes that become labels.
	LabelAttributes []string `yaml:"label_attributes"`
}

// GELF is a receiver of Graylog's messages over UDP.
type GELF struct {
	Listen       string            `yaml:"listen_address"`
	Labels       map[string]string `yaml:"labels"`
	IncomingTime bool              `yaml:"use_incoming_timestamp"`
}

// Decompression says that files are read once and are compressed.
type Decompression struct {
	Enabled      bool          `yaml:"enabled"`
	Format       string        `yaml:"format"` // gz, z, bz2, zst
	InitialDelay time.Duration `yaml:"initial_delay"`
}
