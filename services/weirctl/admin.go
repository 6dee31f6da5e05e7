package weirctl

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/client"
)

// serverStatus is what the status command shows; the JSON names are its contract.
type serverStatus struct {
	Address           string          `json:"address"`
	Version           string          `json:"version"`
	Revision          string          `json:"revision"`
	BuildDate         string          `json:"build_date"`
	GoVersion         string          `json:"go_version"`
	Services          []serviceStatus `json:"services"`
	Degraded          []string        `json:"degraded,omitempty"`
	ReplicationFactor uint32          `json:"replication_factor"`
	Members           []memberStatus  `json:"members"`
}

type serviceStatus struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

type memberStatus struct {
	Name    string    `json:"name"`
	Roles   []string  `json:"roles"`
	Address string    `json:"grpc_address"`
	Zone    string    `json:"zone,omitempty"`
	State   string    `json:"state"`
	Healthy bool      `json:"healthy"`
	Changed time.Time `json:"changed,omitzero"`
}

func statusCommand(env *Env) *command {
	var (
		srv server
		out output
	)
	fs := pflag.NewFlagSet("status", pflag.ContinueOnError)
	out.register(fs, false)
	srv.register(fs, env, 10*time.Second, "how long to wait for the answers")
	return &command{
		name: "status", nargs: [2]int{0, 0}, flags: fs,
		short: "show a server's services, members and build",
		long: `Show the services of the server process and their states, what is wrong with it
though it serves requests, the members of the cluster as it knows them, and its
build. The exit code is 0 only if all services run and all members are healthy.`,
		examples: []string{
			"The server on this machine\nstatus",
			"One of a cluster, for a program\nstatus --addr ingester-2:9095 -o json",
		},
		run: func(ctx context.Context, _ []string) error {
			if err := out.open(env); err != nil {
				return err
			}
			s := serverStatus{Address: srv.addr, Services: []serviceStatus{}, Members: []memberStatus{}}
			if err := srv.call(ctx, "", func(ctx context.Context, c *client.Client) error { return s.ask(ctx, c) }); err != nil {
				return err
			}
			if err := out.status(&s); err != nil {
				return err
			}
			if !s.well() {
				return errReported
			}
			return nil
		},
	}
}

func (s *serverStatus) ask(ctx context.Context, c *client.Client) error {
	build, err := c.Admin().BuildInfo(ctx, &adminv1.BuildInfoRequest{})
	if err != nil {
		return err
	}
	s.Version, s.Revision, s.BuildDate, s.GoVersion = build.GetVersion(), build.GetRevision(), build.GetBuildDate(), build.GetGoVersion()
	services, err := c.Admin().Services(ctx, &adminv1.ServicesRequest{})
	if err != nil {
		return err
	}
	s.Degraded = services.GetDegraded()
	for _, v := range services.GetServices() {
		state := strings.ToLower(strings.TrimPrefix(v.GetState().String(), "SERVICE_STATE_"))
		s.Services = append(s.Services, serviceStatus{v.GetName(), state, v.GetError()})
	}
	members, err := c.Admin().Members(ctx, &adminv1.MembersRequest{})
	if err != nil {
		return err
	}
	s.ReplicationFactor = members.GetReplicationFactor()
	for _, m := range members.GetMembers() {
		v := memberStatus{Name: m.GetName(), Roles: m.GetRoles(), Address: m.GetGrpcAddress(), Zone: m.GetZone(), State: m.GetState(), Healthy: m.GetHealthy()}
		if m.GetChanged() != nil {
			v.Changed = m.GetChanged().AsTime()
		}
		s.Members = append(s.Members, v)
	}
	return nil
}

func (s *serverStatus) well() bool {
	for _, v := range s.Services {
		if v.State != "running" {
			return false
		}
	}
	for _, m := range s.Members {
		if !m.Healthy {
			return false
		}
	}
	return true
}

func (o *output) status(s *serverStatus) error {
	if o.format == "json" {
		if err := o.json(s); err != nil {
			return err
		}
		if err := o.end(); err != nil {
			return err
		}
		return o.flush()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "weir %s at %s\n", s.Version, s.Address)
	build := []string{}
	for _, f := range []struct{ name, value string }{{"revision", s.Revision}, {"built", s.BuildDate}, {"with", s.GoVersion}} {
		if f.value != "" {
			build = append(build, f.name+" "+f.value)
		}
	}
	if len(build) > 0 {
		fmt.Fprintln(&b, strings.Join(build, ", "))
	}
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprint(tw, "\nSERVICE\tSTATE\t\n")
	for _, v := range s.Services {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Name, v.State, v.Error)
	}
	if len(s.Degraded) > 0 {
		tw.Flush() //nolint:errcheck // a strings.Builder takes all
		fmt.Fprint(&b, "\nDegraded\n\n")
		for _, what := range s.Degraded {
			fmt.Fprintf(&b, "  %s\n", appendSafe(nil, []byte(what), `\n`))
		}
	}
	if len(s.Members) > 0 {
		tw.Flush() //nolint:errcheck // a strings.Builder takes all
		fmt.Fprintf(&b, "\nReplication factor %d\n\n", s.ReplicationFactor)
		fmt.Fprint(tw, "MEMBER\tSTATE\tHEALTHY\tZONE\tADDRESS\tROLES\n")
		for _, m := range s.Members {
			healthy := "yes"
			if !m.Healthy {
				healthy = "no"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, strings.ToLower(m.State), healthy, m.Zone, m.Address, strings.Join(m.Roles, ","))
		}
	}
	tw.Flush() //nolint:errcheck // a strings.Builder takes all
	for line := range strings.Lines(b.String()) {
		o.text([]byte(strings.TrimRight(line, " \n")))
		if err := o.end(); err != nil {
			return err
		}
	}
	return o.flush()
}

func flushCommand(env *Env) *command {
	var (
		srv     server
		compact bool
	)
	fs := pflag.NewFlagSet("flush", pflag.ContinueOnError)
	fs.BoolVar(&compact, "compact", false, "merge what was flushed to the layout that it rests in, too")
	srv.register(fs, env, 10*time.Minute, "how long to wait")
	return &command{
		name: "flush", nargs: [2]int{0, 0}, flags: fs,
		short: "bring all that is stored into its final form",
		long: `Make the server bring all that it has acknowledged so far into its final form,
and wait until it has. Only callers on the server's machine may, with
WEIR_OPERATOR_TOKEN where the server has server.operator_token.`,
		examples: []string{
			"Before a backup\nflush",
			"Before a measurement\nflush --compact",
		},
		run: func(ctx context.Context, _ []string) error {
			return srv.call(ctx, "", func(ctx context.Context, c *client.Client) error {
				if _, err := c.Admin().Flush(ctx, &adminv1.FlushRequest{}); err != nil || !compact {
					return err
				}
				_, err := c.Admin().Compact(ctx, &adminv1.CompactRequest{})
				return err
			})
		},
	}
}
