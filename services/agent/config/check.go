package config

import (
	"maps"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"
	"golang.org/x/text/encoding/ianaindex"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/services/agent/config/node"
	"github.com/weir-logs/weir/services/agent/config/relabel"
)

// minLine is the shortest longest line that may be asked for.
const minLine = 16

// checker reports what is wrong in a whole configuration.
type checker struct {
	c  *Config
	ps *node.Problems
}

func check(c *Config, promtail bool, o Options, ps *node.Problems) {
	k := checker{c, ps}
	if len(c.Clients) == 0 && !o.NoClient {
		k.bad(0, "clients", "is missing: where to push to, as [{url: http://HOST:3100/loki/api/v1/push}], or {address: HOST:9095} for a Weir server")
	}
	k.clients()
	if c.Positions.File == "" && !o.NoPositions {
		k.bad(0, "positions.file", "missing; without it nothing would be remembered over a restart")
	}
	k.labels(0, "external_labels", c.ExternalLabels)
	if c.FilenameLabel != "" && !syntax.IsLabelName(c.FilenameLabel) {
		k.bad(0, "filename_label", "%q is not a label name", c.FilenameLabel)
	}
	if len(c.Jobs) == 0 && !c.Target.Stdin {
		if promtail {
			k.bad(0, "scrape_configs", "nothing to read")
		} else {
			k.bad(0, "files", "nothing to follow")
		}
	}
	names := map[string]int{}
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if first, twice := names[j.Name]; twice && j.Name != "" {
			k.bad(j.Line, "job "+j.Name, "there are two jobs of this name, the first in line %d", first)
		}
		names[j.Name] = j.Line
		k.job(j)
	}
	k.odd()
	k.values()
}

func (k *checker) bad(line int, path, format string, args ...any) {
	k.ps.Fail(&yaml.Node{Line: line}, path, format, args...)
}

func (k *checker) warn(line int, path, format string, args ...any) {
	k.ps.Warn(&yaml.Node{Line: line}, path, format, args...)
}

func (k *checker) labels(line int, where string, m map[string]string) {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		switch v := m[n]; {
		case !syntax.IsLabelName(n):
			k.bad(line, where, "%q is not a label name", n)
		case !utf8.ValidString(v):
			k.bad(line, where, "label %s: the value is not UTF-8", n)
		case v == "" && !strings.HasPrefix(n, "__"):
			k.bad(line, where, "label %s has no value", n)
		}
	}
}

func (k *checker) clients() {
	names := map[string]int{}
	for i := range k.c.Clients {
		c := &k.c.Clients[i]
		at := node.Index("clients", i)
		switch {
		case c.URL != "" && c.Address != "":
			k.bad(c.Line, at, "url and address exclude each other: the one is Loki's push API, the other a Weir server's gRPC")
		case c.URL == "" && c.Address == "":
			k.bad(c.Line, node.Join(at, "url"), "is missing: the whole push URL, as http://HOST:3100/loki/api/v1/push")
		case c.URL != "":
			u, err := url.Parse(c.URL)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				k.bad(c.Line, node.Join(at, "url"), "%q is no http:// or https:// URL", redactURL(c.URL))
			} else if u.Path == "" || u.Path == "/" {
				k.warn(c.Line, node.Join(at, "url"), "has no path; Loki's is /loki/api/v1/push")
			}
		default:
			if _, _, err := net.SplitHostPort(c.Address); err != nil && !strings.Contains(c.Address, ":/") {
				k.bad(c.Line, node.Join(at, "address"), "%q is not host:port", c.Address)
			}
			if c.Insecure && c.HTTP.TLS != (TLS{}) {
				k.bad(c.Line, at, "insecure and tls exclude each other")
			}
		}
		if c.Name == "" {
			c.Name = clientName(c)
			if _, twice := names[c.Name]; twice {
				k.bad(c.Line, node.Join(at, "name"), "two clients have the same server and tenant; give each a name, which its queue on disk is found by")
			}
		} else if first, twice := names[c.Name]; twice {
			k.bad(c.Line, node.Join(at, "name"), "%q is also the name of the client in line %d", c.Name, first)
		}
		names[c.Name] = c.Line
		if c.BatchSize < 1024 || c.BatchSize > 64<<20 {
			k.bad(c.Line, node.Join(at, "batchsize"), "%d bytes are not between 1 KiB and 64 MiB", c.BatchSize)
		}
		for _, d := range []struct {
			name string
			d    time.Duration
		}{{"batchwait", c.BatchWait}, {"timeout", c.Timeout}, {"backoff_config.min_period", c.Backoff.Min}, {"backoff_config.max_period", c.Backoff.Max}} {
			if d.d <= 0 {
				k.bad(c.Line, node.Join(at, d.name), "must be more than 0")
			}
		}
		if c.Backoff.Max < c.Backoff.Min {
			k.bad(c.Line, node.Join(at, "backoff_config"), "max_period is less than min_period")
		}
		if c.DropRateLimited {
			k.warn(c.Line, node.Join(at, "drop_rate_limited_batches"), "is ignored: what the server is too busy for waits in the queue and is sent later")
		}
		k.labels(c.Line, node.Join(at, "external_labels"), c.ExternalLabels)
		if c.Queue != nil {
			k.queue(c.Line, node.Join(at, "queue"), *c.Queue)
			if c.Queue.Dir != "" {
				k.bad(c.Line, node.Join(at, "queue.dir"), "is for all clients: set queue.dir")
			}
		}
		k.http(c.Line, at, &c.HTTP)
	}
}

func redactURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return s
}

func clientName(c *Client) string {
	name := c.Address
	if c.URL != "" {
		name = c.URL
		if u, err := url.Parse(c.URL); err == nil {
			name = u.Host + u.Path
		}
	}
	if c.Tenant != "" {
		name += "-" + c.Tenant
	}
	return strings.Trim(strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name), "_.")
}

func (k *checker) http(line int, at string, h *HTTPClient) {
	var kinds []string
	if h.BasicAuth != nil {
		kinds = append(kinds, "basic_auth")
		k.either(line, at+".basic_auth", "username", h.BasicAuth.Username, h.BasicAuth.UsernameFile)
		k.either(line, at+".basic_auth", "password", h.BasicAuth.Password, h.BasicAuth.PasswordFile)
	}
	if a := h.Authorization; a != nil {
		kinds = append(kinds, "authorization")
		k.either(line, at+".authorization", "credentials", a.Credentials, a.CredentialsFile)
		if strings.EqualFold(a.Type, "basic") {
			k.bad(line, at+".authorization.type", "Basic is written as basic_auth")
		}
	}
	if o := h.OAuth2; o != nil {
		kinds = append(kinds, "oauth2")
		k.either(line, at+".oauth2", "client_secret", o.ClientSecret, o.ClientSecretFile)
		if o.ClientID == "" {
			k.bad(line, at+".oauth2.client_id", "is missing")
		}
		if o.TokenURL == "" {
			k.bad(line, at+".oauth2.token_url", "is missing")
		}
		k.tls(line, at+".oauth2.tls_config", o.TLS)
	}
	if h.BearerToken != "" || h.BearerTokenFile != "" {
		kinds = append(kinds, "bearer_token")
		k.either(line, at, "bearer_token", h.BearerToken, h.BearerTokenFile)
	}
	if len(kinds) > 1 {
		k.bad(line, at, "%s exclude each other", strings.Join(kinds, " and "))
	}
	k.tls(line, at+".tls_config", h.TLS)
	if h.ProxyURL != "" {
		if u, err := url.Parse(h.ProxyURL); err != nil || u.Host == "" {
			k.bad(line, at+".proxy_url", "is no URL")
		}
		if h.ProxyFromEnv {
			k.bad(line, at+".proxy_url", "excludes proxy_from_environment")
		}
	}
}

func (k *checker) either(line int, at, name, value, file string) {
	if value != "" && file != "" {
		k.bad(line, node.Join(at, name), "excludes %s_file", name)
	}
}

func (k *checker) tls(line int, at string, t TLS) {
	k.either(line, at, "ca", t.CA, t.CAFile)
	k.either(line, at, "cert", t.Cert, t.CertFile)
	k.either(line, at, "key", t.Key, t.KeyFile)
	if (t.Cert+t.CertFile == "") != (t.Key+t.KeyFile == "") {
		k.bad(line, at, "cert_file and key_file belong together")
	}
	for _, v := range []string{t.MinVersion, t.MaxVersion} {
		if v != "" && !slices.Contains([]string{"TLS10", "TLS11", "TLS12", "TLS13"}, v) {
			k.bad(line, at, "%q is none of TLS10, TLS11, TLS12, TLS13", v)
		}
	}
}

func (k *checker) job(j *Job) {
	at := "job " + j.Name
	if j.Encoding != "" {
		if enc, err := ianaindex.IANA.Encoding(j.Encoding); err != nil || enc == nil {
			k.bad(j.Line, at+".encoding", "%q is not supported; use an IANA name like UTF-16LE, ISO-8859-1, windows-1252, Shift_JIS", j.Encoding)
		}
	}
	if d := j.Decompression; d != nil && d.Enabled {
		if !slices.Contains([]string{"gz", "z", "bz2", "zst"}, d.Format) {
			k.bad(j.Line, at+".decompression.format", "%q is none of gz, z, bz2, zst", d.Format)
		}
		if !j.IsFiles() {
			k.warn(j.Line, at+".decompression", "means nothing here: only files can be compressed")
		}
	}
	if j.Start != "beginning" && j.Start != "end" {
		k.bad(j.Line, at+".start", "%q is neither beginning nor end", j.Start)
	}
	makesPath := slices.ContainsFunc(j.Relabel, func(r relabel.Rule) bool { return r.TargetLabel == "__path__" || r.Action == relabel.LabelMap })
	for _, g := range j.Static {
		k.labels(g.Line, at+".labels", g.Labels)
		paths := g.Paths
		if p := g.Labels["__path__"]; p != "" {
			paths = append(slices.Clone(paths), p)
		}
		if len(paths) == 0 && !makesPath && !k.c.Target.Stdin {
			if j.short {
				k.bad(g.Line, at+".paths", "is missing: which files, as [/var/log/*.log]")
			} else {
				k.warn(g.Line, at, "has no __path__ among its labels, so nothing is read")
			}
		}
		for _, p := range append(append(slices.Clone(paths), g.Excludes...), g.Labels["__path_exclude__"]) {
			if p != "" && !doublestar.ValidatePathPattern(p) {
				k.bad(g.Line, at, "%q is not a pattern: * ? [] {a,b} and **", p)
			}
		}
		if j.FilenameLabel == "" && visible(g.Labels)+len(k.c.ExternalLabels) == 0 && len(j.Relabel) == 0 {
			k.bad(g.Line, at, "its streams would have no labels")
		}
	}
	for _, f := range j.FileSD {
		if len(f.Files) == 0 {
			k.bad(j.Line, at+".file_sd_configs", "files is missing")
		}
		for _, p := range f.Files {
			base := p[strings.LastIndexByte(p, '/')+1:]
			dir := p[:len(p)-len(base)]
			if !slices.ContainsFunc([]string{".json", ".yml", ".yaml"}, func(x string) bool { return strings.HasSuffix(p, x) }) ||
				strings.Contains(dir, "*") || strings.Count(base, "*") > 1 {
				k.bad(j.Line, at+".file_sd_configs", "%q: must end in .json, .yml or .yaml, with one * at most, in its last part", p)
			}
		}
		k.positive(j.Line, at+".file_sd_configs.refresh_interval", f.Refresh)
	}
	for i := range j.Kubernetes {
		k.kubernetes(j, &j.Kubernetes[i], at+".kubernetes_sd_configs")
	}
	for _, d := range j.Docker {
		if u, err := url.Parse(d.Host); d.Host == "" {
			k.bad(j.Line, at+".docker_sd_configs.host", "is missing, as unix:///var/run/docker.sock")
		} else if err != nil || !slices.Contains([]string{"unix", "tcp", "http", "https"}, u.Scheme) {
			k.bad(j.Line, at+".docker_sd_configs.host", "%q is none of unix:///path, tcp://host:port, http(s)://host:port", d.Host)
		}
		k.positive(j.Line, at+".docker_sd_configs.refresh_interval", d.Refresh)
		k.http(j.Line, at+".docker_sd_configs", &d.HTTP)
	}
	k.receivers(j, at)
}

func visible(labels map[string]string) int {
	n := 0
	for name := range labels {
		if !strings.HasPrefix(name, "__") {
			n++
		}
	}
	return n
}

func (k *checker) kubernetes(j *Job, s *KubernetesSD, at string) {
	roles := []string{"pod", "node", "service", "endpoints", "endpointslice", "ingress"}
	switch {
	case s.Role == "":
		k.bad(j.Line, at+".role", "is missing; for logs it is pod")
	case !slices.Contains(roles, s.Role):
		k.bad(j.Line, at+".role", "%q is unknown%s", s.Role, node.DidYouMean(s.Role, roles))
	case s.Role != "pod":
		k.bad(j.Line, at+".role", "%s is not supported: only pods have log files", s.Role)
	}
	if (s.APIServer != "" && s.Kubeconfig != "") || s.Namespaces.Own && (s.APIServer != "" || s.Kubeconfig != "") {
		k.bad(j.Line, at, "api_server, kubeconfig_file and namespaces.own_namespace exclude each other")
	}
	roles = nil
	for _, sel := range s.Selectors {
		if slices.Contains(roles, sel.Role) {
			k.bad(j.Line, at+".selectors", "two selectors for role %s", sel.Role)
		}
		roles = append(roles, sel.Role)
	}
	k.http(j.Line, at, &s.HTTP)
}

func (k *checker) receivers(j *Job, at string) {
	listen := func(key, addr string) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			k.bad(j.Line, at+"."+key, "%q is not host:port", addr)
		}
	}
	if y := j.Syslog; y != nil {
		listen("syslog.listen_address", y.Listen)
		if y.Protocol != "tcp" && y.Protocol != "udp" {
			k.bad(j.Line, at+".syslog.listen_protocol", "%q is neither tcp nor udp", y.Protocol)
		}
		if y.Format != "rfc5424" && y.Format != "rfc3164" {
			k.bad(j.Line, at+".syslog.syslog_format", "%q is neither rfc5424 nor rfc3164", y.Format)
		}
		if y.Protocol == "udp" && y.TLS != (ServerTLS{}) {
			k.bad(j.Line, at+".syslog.tls_config", "is for TCP")
		}
		if (y.TLS.CertFile == "") != (y.TLS.KeyFile == "") {
			k.bad(j.Line, at+".syslog.tls_config", "cert_file and key_file belong together")
		}
		if y.MaxMessage < 480 || y.MaxMessage > 16<<20 {
			k.bad(j.Line, at+".syslog.max_message_length", "%d bytes are not between 480 and 16 MiB", y.MaxMessage)
		}
		k.positive(j.Line, at+".syslog.idle_timeout", y.IdleTimeout)
		k.labels(j.Line, at+".syslog.labels", y.Labels)
	}
	if p := j.Push; p != nil {
		listen("push.listen", p.Listen)
		k.labels(j.Line, at+".labels", p.Labels)
	}
	if o := j.OTLP; o != nil {
		if o.Listen == "" && o.GRPCListen == "" {
			k.bad(j.Line, at+".otlp.listen", "is missing, as 127.0.0.1:4318; or grpc_listen")
		}
		for _, addr := range []string{o.Listen, o.GRPCListen} {
			if addr != "" {
				listen("otlp.listen", addr)
			}
		}
		k.labels(j.Line, at+".labels", o.Labels)
	}
	if g := j.GELF; g != nil {
		listen("gelf.listen_address", g.Listen)
		k.labels(j.Line, at+".gelf.labels", g.Labels)
	}
	if jr := j.Journal; jr != nil {
		for _, m := range strings.Fields(jr.Matches) {
			if name, _, ok := strings.Cut(m, "="); !ok || name == "" || name == "+" {
				k.bad(j.Line, at+".journal.matches", "%q is not FIELD=value", m)
			}
		}
		k.positive(j.Line, at+".journal.max_age", jr.MaxAge)
		k.labels(j.Line, at+".journal.labels", jr.Labels)
	}
}

func (k *checker) positive(line int, path string, d time.Duration) {
	if d <= 0 {
		k.bad(line, path, "must be more than 0")
	}
}

func (k *checker) queue(line int, at string, q Queue) {
	if q.MaxBytes < 1<<20 {
		k.bad(line, node.Join(at, "max_bytes"), "must be 1MiB or more")
	}
	if q.MaxAge < 0 {
		k.bad(line, node.Join(at, "max_age"), "must not be less than 0")
	}
	if q.WhenFull != "block" && q.WhenFull != "drop_oldest" {
		k.bad(line, node.Join(at, "when_full"), "%q is neither block, which stops reading, nor drop_oldest", q.WhenFull)
	}
}

// values checks the numbers that stand by themselves.
func (k *checker) values() {
	c := k.c
	if c.Batch.MaxBytes < 1024 || c.Batch.MaxBytes > 4<<20 {
		k.bad(0, "batch.max_bytes", "%v is not between 1KiB and 4MiB", c.Batch.MaxBytes)
	}
	if c.Batch.MaxPending < 1 || c.Batch.MaxPending > 1000 {
		k.bad(0, "batch.max_pending", "%d is not between 1 and 1000", c.Batch.MaxPending)
	}
	if c.Read.MaxLine < minLine || c.Read.MaxLine > 3<<20 {
		k.bad(0, "read.max_line", "%v is not between %d and 3MiB", c.Read.MaxLine, minLine)
	}
	if c.Read.MaxOpenFiles < 0 {
		k.bad(0, "read.max_open_files", "must not be less than 0")
	}
	k.queue(0, "queue", c.Queue)
	for name, d := range map[string]time.Duration{
		"positions.sync_period": c.Positions.SaveInterval, "batch.max_wait": c.Batch.MaxWait, "read.poll_interval": c.Read.PollInterval,
		"read.scan_interval": c.Read.ScanInterval, "read.rotate_grace": c.Read.RotateGrace, "read.partial_wait": c.Read.PartialWait,
		"shutdown_timeout": c.ShutdownTimeout, "target_config.sync_period": c.Target.SyncPeriod,
		"global.file_watch_config.min_poll_frequency": c.Watch.MinPoll,
	} {
		k.positive(0, name, d)
	}
	if c.Watch.MaxPoll < c.Watch.MinPoll {
		k.bad(0, "global.file_watch_config", "max_poll_frequency is less than min_poll_frequency")
	}
	if r := c.Limits.ReadRate; c.Limits.ReadRateDeclared && (!(r > 0) || math.IsInf(r, 0) || c.Limits.ReadBurst <= 0) {
		k.bad(0, "limits_config", "readline_rate and readline_burst must be numbers of more than 0")
	}
	if c.Limits.MaxStreams < 0 {
		k.bad(0, "limits_config.max_streams", "must not be less than 0")
	}
	if c.Server.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Server.Listen); err != nil {
			k.bad(0, "listen", "%q is not host:port", c.Server.Listen)
		}
	}
}
