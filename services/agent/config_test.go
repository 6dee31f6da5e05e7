package agent

import (
	"fmt"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/agent/config"
)

// Config is a configuration of files in Weir's spelling, for tests that run agents
// and for those that start them as processes.
type Config struct {
	// Server is where to push to.
	Server ServerConfig `yaml:"server"`
	// ExternalLabels are added to every stream; labels of the same name from
	// elsewhere win.
	ExternalLabels map[string]string `yaml:"external_labels"`
	// FilenameLabel is the label that gets the file's path. Empty: none.
	FilenameLabel string `yaml:"filename_label"`
	// Positions is where to remember how far files were acknowledged.
	Positions PositionsConfig `yaml:"positions"`
	// Files are the files to follow.
	Files []FilesConfig `yaml:"files"`
	// Batch is how lines are collected.
	Batch BatchConfig `yaml:"batch"`
	// Read is how files are read.
	Read ReadConfig `yaml:"read"`
	// Listen is where /metrics and /ready are served. Empty: nowhere.
	Listen string `yaml:"listen"`
	// ShutdownTimeout is how long the end may take for sending what was read.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// ServerConfig is where to push to.
type ServerConfig struct {
	// Address is the server's gRPC address, host:port.
	Address string `yaml:"address"`
	// Tenant is who the logs belong to. Empty: the server's default.
	Tenant string `yaml:"tenant"`
	// Insecure does without TLS, which off the loopback interface is the default.
	Insecure bool `yaml:"insecure"`
	// TLS changes how TLS is done.
	TLS TLSConfig `yaml:"tls"`
	// Timeout is how long one attempt may take.
	Timeout time.Duration `yaml:"timeout"`
	// MinBackoff and MaxBackoff are the shortest and longest wait between
	// attempts.
	MinBackoff time.Duration `yaml:"min_backoff"`
	MaxBackoff time.Duration `yaml:"max_backoff"`
}

// TLSConfig is files in PEM.
type TLSConfig struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

// PositionsConfig is where to remember how far files were acknowledged.
type PositionsConfig struct {
	// File is the positions file. Beside it lie FILE.old, FILE.lock and the
	// folder FILE.journal. Empty: nothing is remembered.
	File string `yaml:"file"`
	// SaveInterval is how often it is written. A crash does not lose what was
	// acknowledged since: the journal has it.
	SaveInterval time.Duration `yaml:"save_interval"`
}

// FilesConfig is files that are treated alike.
type FilesConfig struct {
	// Paths are patterns: * ? [] {a,b}, and ** for any folders.
	Paths []string `yaml:"paths"`
	// Exclude are patterns of paths to leave out.
	Exclude []string `yaml:"exclude"`
	// Labels are the labels of their streams.
	Labels map[string]string `yaml:"labels"`
	// Start is where to begin with files that are there when the agent starts
	// and have no position: beginning (default) or end.
	Start string `yaml:"start"`
}

// BatchConfig is how lines are collected.
type BatchConfig struct {
	// MaxBytes is when a batch is full.
	MaxBytes conf.ByteSize `yaml:"max_bytes"`
	// MaxWait is how old a batch may get.
	MaxWait time.Duration `yaml:"max_wait"`
	// MaxPending is how many batches may wait for their acknowledgement before
	// reading stops.
	MaxPending int `yaml:"max_pending"`
}

// ReadConfig is how files are read.
type ReadConfig struct {
	// MaxLine is the longest line; longer ones are cut.
	MaxLine conf.ByteSize `yaml:"max_line"`
	// PollInterval is how often a growing file is looked at.
	PollInterval time.Duration `yaml:"poll_interval"`
	// ScanInterval is how often new files are looked for beside what the file
	// system's events tell.
	ScanInterval time.Duration `yaml:"scan_interval"`
	// RotateGrace is how long a renamed or deleted file is kept open.
	RotateGrace time.Duration `yaml:"rotate_grace"`
	// PartialWait is how long an unfinished line is waited for.
	PartialWait time.Duration `yaml:"partial_wait"`
	// NoEvents does without the file system's events.
	NoEvents bool `yaml:"no_events"`
}

// DefaultConfig has no files and no place for positions.
func DefaultConfig() Config {
	return Config{
		Server: ServerConfig{
			Address: "127.0.0.1:9095", Timeout: 15 * time.Second,
			MinBackoff: 100 * time.Millisecond, MaxBackoff: 30 * time.Second,
		},
		FilenameLabel: "filename",
		Positions:     PositionsConfig{SaveInterval: 10 * time.Second},
		Batch:         BatchConfig{MaxBytes: 1 << 20, MaxWait: time.Second, MaxPending: 8},
		Read: ReadConfig{
			MaxLine: 256 << 10, PollInterval: 100 * time.Millisecond, ScanInterval: 5 * time.Second,
			RotateGrace: 5 * time.Second, PartialWait: 5 * time.Second,
		},
		Listen:          "127.0.0.1:9080",
		ShutdownTimeout: 10 * time.Second,
	}
}

// Full gives the same in the form that the agent runs.
func (c Config) Full() *config.Config {
	out := &config.Config{
		Server: config.Server{Listen: c.Listen},
		Clients: []config.Client{{
			Name: "weir", Address: c.Server.Address, Tenant: c.Server.Tenant, Insecure: c.Server.Insecure, Timeout: c.Server.Timeout,
			Backoff: config.Backoff{Min: c.Server.MinBackoff, Max: c.Server.MaxBackoff},
			HTTP: config.HTTPClient{TLS: config.TLS{
				CAFile: c.Server.TLS.CAFile, CertFile: c.Server.TLS.CertFile, KeyFile: c.Server.TLS.KeyFile, ServerName: c.Server.TLS.ServerName,
			}},
		}},
		Positions: config.Positions{File: c.Positions.File, SaveInterval: c.Positions.SaveInterval},
		Batch:     config.Batch{MaxBytes: c.Batch.MaxBytes, MaxWait: c.Batch.MaxWait, MaxPending: c.Batch.MaxPending},
		Read: config.Read{
			MaxLine: c.Read.MaxLine, PollInterval: c.Read.PollInterval, ScanInterval: c.Read.ScanInterval,
			RotateGrace: c.Read.RotateGrace, PartialWait: c.Read.PartialWait, NoEvents: c.Read.NoEvents,
		},
		ExternalLabels: c.ExternalLabels, ShutdownTimeout: c.ShutdownTimeout,
	}
	for i, f := range c.Files {
		out.Jobs = append(out.Jobs, config.Job{
			Name: fmt.Sprintf("files-%d", i), FilenameLabel: c.FilenameLabel, Start: f.Start,
			Static: []config.Group{{Labels: f.Labels, Paths: f.Paths, Excludes: f.Exclude}},
		})
	}
	return out
}
