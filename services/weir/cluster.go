package weir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/ring/gossip"
)

// ClusterConfig says how a process finds the others and what they know of it.
type ClusterConfig struct {
	Join              []string    `help:"Gossip addresses of other members, host:port; a name may have several addresses. Empty: the process is alone and does not gossip."`
	GossipListen      string      `help:"Address of the gossip port, TCP and UDP."`
	GossipAdvertise   string      `help:"Address, or address and port, at which others reach the gossip port. Empty: the one that it listens on, or the first private address."`
	Advertise         string      `help:"host:port at which others reach the gRPC port. Empty: the one that it listens on, or the first private address."`
	Name              string      `help:"Name of this member, unique in the cluster and the same after a restart. Empty: host name and gRPC port."`
	Zone              string      `help:"Failure domain of this member, such as a rack. Replicas go to distinct zones. Empty: none."`
	Label             string      `help:"Name of the cluster; members of another are not heard."`
	SecretKey         conf.Secret `help:"Key that encrypts gossip: 32, 48 or 64 hexadecimal digits. Needed beyond loopback unless insecure_network is set."`
	ReplicationFactor int         `help:"Ingesters that each stream is written to. 0: 1 without join, else 3. Members use what most ingesters are configured with."`
}

// DefaultClusterConfig returns the defaults.
func DefaultClusterConfig() ClusterConfig {
	return ClusterConfig{GossipListen: "127.0.0.1:7946", Label: "weir"}
}

// Validate returns all problems at once.
func (c ClusterConfig) Validate() error {
	var errs []error
	if c.ReplicationFactor < 0 || c.ReplicationFactor > 15 {
		errs = append(errs, fmt.Errorf("replication_factor is %d, must be from 0 to 15", c.ReplicationFactor))
	}
	if len(c.Join) == 0 && c.ReplicationFactor > 1 {
		errs = append(errs, fmt.Errorf("replication_factor is %d, but without join there is only one ingester", c.ReplicationFactor))
	}
	if _, err := hex.DecodeString(c.SecretKey.Reveal()); err != nil {
		errs = append(errs, errors.New("secret_key is not hexadecimal"))
	}
	return errors.Join(errs...)
}

// ring returns the placement configuration.
func (c ClusterConfig) ring() ring.Config {
	rf := c.ReplicationFactor
	if rf == 0 {
		rf = 3
		if len(c.Join) == 0 {
			rf = 1
		}
	}
	return ring.Config{ReplicationFactor: rf, ZoneAware: true}
}

// self describes this process to the others. grpc is the address of its open gRPC
// port.
func (c *Config) self(grpc net.Addr, incarnation string) (ring.Member, error) {
	var roles ring.Role
	for _, m := range roleModules {
		if c.runs(m) {
			r, err := ring.ParseRole(m)
			if err != nil {
				return ring.Member{}, err
			}
			roles |= r
		}
	}
	address, err := advertised(c.Cluster.Advertise, grpc)
	if err != nil {
		return ring.Member{}, err
	}
	name := c.Cluster.Name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return ring.Member{}, fmt.Errorf("find a member name (set cluster.name): %w", err)
		}
		_, port, _ := net.SplitHostPort(grpc.String())
		name = host + "-" + port
	}
	if incarnation == "" {
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		incarnation = ring.EphemeralPrefix + hex.EncodeToString(id)
	}
	return ring.Member{
		Name: name, Incarnation: incarnation, Roles: roles, GRPCAddr: address, Zone: c.Cluster.Zone,
		State: ring.Active, MinVersion: 1, MaxVersion: 1,
	}, nil
}

// advertised returns the address at which others reach a port.
func advertised(configured string, listening net.Addr) (string, error) {
	if configured != "" {
		return configured, nil
	}
	host, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return "", err
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
				return net.JoinHostPort(n.IP.String(), port), nil
			}
		}
		return "", fmt.Errorf("cannot tell at which address others reach port %s: set cluster.advertise", port)
	}
	return net.JoinHostPort(host, port), nil
}

// newMembership returns the process' membership, not started.
func (c *Config) newMembership(self ring.Member, deps gossip.Deps) (gossip.Membership, error) {
	if len(c.Cluster.Join) == 0 {
		path := ""
		if self.Stores() {
			path = filepath.Join(c.DataDir, "members-alone")
		}
		return gossip.NewStatic(self, c.Cluster.ring(), path, deps)
	}
	g := gossip.DefaultConfig()
	if self.Stores() {
		self.State = ring.Joining // until others have confirmed that they know of it
	}
	g.Self, g.Ring = self, c.Cluster.ring()
	g.Bind, g.Advertise, g.Join, g.Label = c.Cluster.GossipListen, c.Cluster.GossipAdvertise, c.Cluster.Join, c.Cluster.Label
	g.Insecure = c.Server.InsecureNetwork
	if self.Stores() {
		g.TablePath = filepath.Join(c.DataDir, "members")
	}
	key, err := hex.DecodeString(c.Cluster.SecretKey.Reveal())
	if err != nil {
		return nil, err
	}
	if len(key) > 0 {
		g.SecretKey = key
	}
	return gossip.New(g, deps)
}

// learn merges the member table of a member whose answer tells of another version.
func (p *Process) learn(ctx context.Context, member string, version uint64) bool {
	if m := p.member.Load(); m != nil {
		return (*m).Learn(ctx, member, version)
	}
	return false
}

// peers carries messages on a topic over the gossip. The process has joined by the time
// that its distributor runs.
type peers struct {
	p     *Process
	topic gossip.Topic
}

func (p peers) Tell(roles ring.Role, message []byte) {
	(*p.p.member.Load()).Tell(roles, p.topic, message)
}

func (p peers) Hear(f func(sender string, message []byte)) {
	(*p.p.member.Load()).Hear(p.topic, f)
}
