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

func ringCommand(env *Env) *command {
	var (
		srv   server
		force bool
	)
	fs := pflag.NewFlagSet("ring", pflag.ContinueOnError)
	fs.BoolVar(&force, "force", false, "forget without asking the other ingesters; what only that one held is recorded as lost")
	srv.register(fs, env, 2*time.Minute, "how long to wait")
	return &command{
		name: "ring", args: "[leave | forget NAME | acknowledge NAME]", nargs: [2]int{0, 2}, flags: fs,
		short: "show the members of a cluster, take one out, give one up, acknowledge a loss",
		long: `Show the members of a cluster, and what some of them have lost. With leave, take the
member that is asked out of the cluster for good: an ingester hands over what it has,
and may be stopped when that is done. With forget, give up a member that is away for
good: an ingester when most others hold it for dead and have put into the store what
they shared with it. With acknowledge, end the warnings about entries that a member
has lost and nobody else had. Only callers on the server's machine may change anything,
with WEIR_OPERATOR_TOKEN where the server has server.operator_token.`,
		examples: []string{
			"Who is there\nring",
			"One that is not needed any more\nring leave --addr=127.0.0.1:9095 --timeout=15m",
			"A machine that does not come back\nring forget ingester-2",
			"A loss that is known\nring acknowledge ingester-2",
		},
		run: func(ctx context.Context, args []string) error {
			return srv.call(ctx, "", func(ctx context.Context, c *client.Client) error { return ringCall(ctx, env, c, args, force) })
		},
	}
}

func ringCall(ctx context.Context, env *Env, c *client.Client, args []string, force bool) error {
	switch {
	case len(args) == 0:
		members, err := c.Admin().Members(ctx, &adminv1.MembersRequest{})
		if err != nil {
			return err
		}
		return showRing(env, members)
	case len(args) == 1 && args[0] == "leave":
		_, err := c.Admin().Leave(ctx, &adminv1.LeaveRequest{})
		return err
	case len(args) == 2 && args[0] == "forget":
		_, err := c.Admin().Forget(ctx, &adminv1.ForgetRequest{Name: args[1], Force: force})
		return err
	case len(args) == 2 && args[0] == "acknowledge":
		_, err := c.Admin().AcknowledgeLoss(ctx, &adminv1.AcknowledgeLossRequest{Name: args[1]})
		return err
	}
	return usagef("ring %s: want nothing, leave, forget NAME or acknowledge NAME", strings.Join(args, " "))
}

func showRing(env *Env, r *adminv1.MembersResponse) error {
	tw := tabwriter.NewWriter(env.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(tw, "replication factor %d\n\nMEMBER\tSTATE\tHEALTHY\tZONE\tADDRESS\tROLES\tDATA DIRECTORY\n", r.GetReplicationFactor())
	for _, m := range r.GetMembers() {
		healthy := "no"
		if m.GetHealthy() {
			healthy = "yes"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.GetName(), m.GetState(), healthy, m.GetZone(), m.GetGrpcAddress(), strings.Join(m.GetRoles(), ","), m.GetIncarnation())
	}
	if len(r.GetMissing()) > 0 {
		fmt.Fprint(tw, "\nMISSING FROM\tSTATE\tSINCE\tDATA DIRECTORY\n")
		for _, m := range r.GetMissing() {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", m.GetName(), m.GetState(), m.GetChanged().AsTime().UTC().Format(time.RFC3339), m.GetIncarnation())
		}
	}
	return tw.Flush()
}
