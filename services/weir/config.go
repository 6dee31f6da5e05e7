// Package weir puts a process together: which modules there are, what they depend
// on and what each is made of. Tests start what production starts.
package weir

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/obs"
	"github.com/weir-logs/weir/libs/serve"
	"github.com/weir-logs/weir/services/compactor"
	"github.com/weir-logs/weir/services/distributor"
	"github.com/weir-logs/weir/services/gateway"
	"github.com/weir-logs/weir/services/ingester"
	"github.com/weir-logs/weir/services/querier"
)

// Config is the configuration of a process.
type Config struct {
	Target  []string `help:"Services to run in this process: all, or some of gateway, distributor, ingester, querier, compactor."`
	DataDir string   `help:"Directory of all local data."`

	Server      serve.Config
	Log         obs.LogConfig
	Tracing     obs.TracingConfig
	Cluster     ClusterConfig
	Memory      MemoryConfig
	Storage     objstore.Config
	Limits      limits.Config
	Gateway     gateway.Config
	Distributor distributor.Config
	Ingester    ingester.Config
	Querier     querier.Config
	Compactor   compactor.Config
}

// DefaultConfig returns the defaults: all services on loopback, without a cluster.
func DefaultConfig() Config {
	return Config{
		Target:      []string{"all"},
		DataDir:     "data",
		Server:      serve.DefaultConfig(),
		Log:         obs.DefaultLogConfig(),
		Tracing:     obs.DefaultTracingConfig(),
		Cluster:     DefaultClusterConfig(),
		Storage:     objstore.DefaultConfig(),
		Limits:      limits.DefaultConfig(),
		Gateway:     gateway.DefaultConfig(),
		Distributor: distributor.DefaultConfig(),
		Ingester:    ingester.DefaultConfig(),
		Querier:     querier.DefaultConfig(),
		Compactor:   compactor.DefaultConfig(),
	}
}

// Validate returns the problems that concern several sections.
func (c *Config) Validate() error {
	var errs []error
	if len(c.Target) == 0 {
		errs = append(errs, errors.New("target is empty: want all, or some of gateway, distributor, ingester, querier, compactor"))
	}
	known := true
	for _, t := range c.Target {
		if t != "all" && !slices.Contains(roleModules, t) {
			errs = append(errs, fmt.Errorf("unknown target %q: want all, or some of %s", t, strings.Join(roleModules, ", ")))
			known = false
		}
	}
	if known && !c.runs("all") && len(c.Cluster.Join) == 0 {
		for _, m := range roleModules {
			if !c.runs(m) {
				errs = append(errs, fmt.Errorf("target %s needs --join, to find the services that this process does not run (%s and others)", strings.Join(c.Target, ","), m))
				break
			}
		}
	}
	if c.Server.MaxMessageSize < minMessage {
		errs = append(errs, fmt.Errorf("server.max_message_size is %s, services need %s to speak to each other", c.Server.MaxMessageSize, conf.ByteSize(minMessage)))
	}
	if len(c.Cluster.Join) > 0 && (c.runs("distributor") || c.runs("ingester") || c.runs("querier") || c.runs("compactor")) && c.Storage.Type == objstore.TypeFilesystem && !c.Storage.Shared {
		errs = append(errs, errors.New("storage.type is filesystem, which members of a cluster share only if they see the same directory: set storage.directory, and storage.shared to say so, or use an object store"))
	}
	if len(c.Cluster.Join) > 0 && !c.Server.MembersKnown() {
		errs = append(errs, fmt.Errorf("server.grpc_listen: %s is reachable from other machines, and members of a cluster speak to each other there: set server.tls_client_ca_file, so that nobody else can", c.Server.GRPCListen))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir is empty"))
	}
	return errors.Join(errs...)
}

// minMessage is above the largest message between services (8 MiB) with its headers.
const minMessage = 9 << 20

// runs reports whether the process runs a module.
func (c *Config) runs(module string) bool {
	return slices.Contains(c.Target, module) || slices.Contains(c.Target, "all")
}

// roleModules are the modules that other processes may look for.
var roleModules = []string{"gateway", "distributor", "ingester", "querier", "compactor"}

// Settings returns the configuration with its keys, flags and help.
func Settings(cfg *Config) (*conf.Set, error) {
	return conf.New(cfg, conf.Options{
		Name: "weir",
		About: "Weir is a log database: push, query and tail logs over gRPC, REST and the Loki API.\n\n" +
			"weir healthcheck [--url=http://127.0.0.1:3100/ready] asks a process whether it is ready.",
		EnvPrefix: "WEIR",
		Aliases: map[string]string{
			"listen":           "server.listen",
			"grpc-listen":      "server.grpc_listen",
			"debug-listen":     "server.debug_listen",
			"insecure-network": "server.insecure_network",
			"join":             "cluster.join",
			"gossip-listen":    "cluster.gossip_listen",
		},
		// Variables of the command-line tools.
		IgnoreEnv: []string{"WEIR_ADDR", "WEIR_TENANT", "WEIR_STORE"},
	})
}
