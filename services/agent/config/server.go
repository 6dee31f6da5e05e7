package config

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

// serverBlock is Promtail's server, the agent's listener, and in Weir's spelling
// the server that lines are pushed to.
type serverBlock struct {
	Disable      bool          `yaml:"disable"`
	Address      string        `yaml:"http_listen_address"`
	Port         int           `yaml:"http_listen_port"`
	PathPrefix   string        `yaml:"http_path_prefix"`
	ExternalURL  string        `yaml:"external_url"`
	Reload       bool          `yaml:"enable_runtime_reload"`
	Profiling    bool          `yaml:"profiling_enabled"`
	LogLevel     string        `yaml:"log_level"`
	LogFormat    string        `yaml:"log_format"`
	Graceful     time.Duration `yaml:"graceful_shutdown_timeout"`
	ReadTimeout  time.Duration `yaml:"http_server_read_timeout"`
	WriteTimeout time.Duration `yaml:"http_server_write_timeout"`
	IdleTimeout  time.Duration `yaml:"http_server_idle_timeout"`
	TLS          ServerTLS     `yaml:"http_tls_config"`

	Weir weirServer `yaml:",inline"`
	line int
	// given are the keys that were there.
	given []string
}

// weirServer is Weir's server block.
type weirServer struct {
	Target     string        `yaml:"address"`
	Tenant     string        `yaml:"tenant"`
	Insecure   bool          `yaml:"insecure"`
	TLS        TLS           `yaml:"tls"`
	Timeout    time.Duration `yaml:"timeout"`
	MinBackoff time.Duration `yaml:"min_backoff"`
	MaxBackoff time.Duration `yaml:"max_backoff"`
}

var weirServerKeys = []string{"address", "tenant", "insecure", "tls", "timeout", "min_backoff", "max_backoff"}

func (s *serverBlock) SetDefaults() {
	s.Port, s.LogLevel, s.LogFormat = 80, "info", "logfmt"
	s.Graceful, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = 30*time.Second, 30*time.Second, 30*time.Second, 120*time.Second
	s.Weir.Timeout, s.Weir.MinBackoff, s.Weir.MaxBackoff = 15*time.Second, 100*time.Millisecond, 30*time.Second
}

// idleKeys are keys of Promtail's server that change nothing here: there is no
// gRPC listener, and requests are not logged.
var idleKeys = []string{
	"http_listen_network", "http_listen_conn_limit", "grpc_listen_network", "grpc_listen_address", "grpc_listen_port",
	"grpc_listen_conn_limit", "proxy_protocol_enabled", "tls_cipher_suites", "tls_min_version", "grpc_tls_config",
	"register_instrumentation", "report_grpc_codes_in_instrumentation_label_enabled", "http_server_read_header_timeout",
	"http_log_closed_connections_without_response_enabled", "grpc_server_max_recv_msg_size", "grpc_server_max_send_msg_size",
	"grpc_server_max_concurrent_streams", "grpc_server_max_connection_idle", "grpc_server_max_connection_age",
	"grpc_server_max_connection_age_grace", "grpc_server_keepalive_time", "grpc_server_keepalive_timeout",
	"grpc_server_min_time_between_pings", "grpc_server_ping_without_stream_allowed", "grpc_server_num_workers",
	"grpc_server_stats_tracking_enabled", "grpc_server_recv_buffer_pools_enabled", "log_source_ips_enabled", "log_source_ips_full",
	"log_source_ips_header", "log_source_ips_regex", "log_request_headers", "log_request_at_info_level_enabled",
	"log_request_exclude_headers_list", "health_check_target", "cluster_validation",
}

// DecodeNode reads the block.
func (s *serverBlock) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	s.line = n.Line
	n = node.Resolve(n)
	if n.Kind == yaml.MappingNode {
		kept := *n
		kept.Content = nil
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !slices.Contains(idleKeys, n.Content[i].Value) {
				kept.Content = append(kept.Content, n.Content[i], n.Content[i+1])
				s.given = append(s.given, n.Content[i].Value)
			}
		}
		n = &kept
	}
	type plain serverBlock
	node.Decode(n, path, (*plain)(s), node.Options{}, ps)
}

// has reports whether one of keys was there.
func (s *serverBlock) has(keys ...string) bool {
	return slices.ContainsFunc(s.given, func(k string) bool { return slices.Contains(keys, k) })
}

// listener gives the listener of Promtail's block.
func (s *serverBlock) listener(path string, ps *node.Problems) Server {
	at := &yaml.Node{Line: s.line}
	out := Server{
		PathPrefix: strings.TrimSuffix(s.PathPrefix, "/"), ExternalURL: s.ExternalURL, EnableReload: s.Reload, Profiling: s.Profiling,
		TLS: s.TLS, LogLevel: s.LogLevel, LogFormat: s.LogFormat, ReadTimeout: s.ReadTimeout, WriteTimeout: s.WriteTimeout,
		IdleTimeout: s.IdleTimeout, Graceful: s.Graceful,
	}
	if out.PathPrefix != "" && !strings.HasPrefix(out.PathPrefix, "/") {
		out.PathPrefix = "/" + out.PathPrefix
	}
	if !s.Disable {
		out.Listen = net.JoinHostPort(s.Address, strconv.Itoa(s.Port))
	}
	if s.Port < 0 || s.Port > 65535 {
		ps.Fail(at, node.Join(path, "http_listen_port"), "%d is no port", s.Port)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.LogLevel) {
		ps.Fail(at, node.Join(path, "log_level"), "%q is none of debug, info, warn, error", s.LogLevel)
	}
	if s.LogFormat != "logfmt" && s.LogFormat != "json" {
		ps.Fail(at, node.Join(path, "log_format"), "%q is neither logfmt nor json", s.LogFormat)
	}
	if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
		ps.Fail(at, node.Join(path, "http_tls_config"), "cert_file and key_file belong together")
	}
	return out
}
