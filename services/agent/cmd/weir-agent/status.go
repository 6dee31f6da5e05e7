package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/services/agent"
	"github.com/weir-logs/weir/services/agent/status"
)

const statusUsage = `weir-agent status shows what a running agent reads, at which rate, how far its
servers have acknowledged it, and what waits.

Usage:
  weir-agent status [flags]

Flags:
`

const healthUsage = `weir-agent healthcheck exits with 0 if a running agent is ready, else with 1.

Usage:
  weir-agent healthcheck [--addr ADDR]

Flags:
`

const defaultAddr = "127.0.0.1:9080"

func (p *program) addrFlag() string {
	if a := p.getenv("WEIR_AGENT_ADDR"); a != "" {
		return a
	}
	return defaultAddr
}

func healthcheck(ctx context.Context, p *program, args []string) error {
	fs, help := newFlags(p.out, healthUsage)
	addr := fs.String("addr", p.addrFlag(), "the agent's listener `ADDR`; also from WEIR_AGENT_ADDR")
	if err := fs.Parse(args); err != nil {
		return parseError(fs, err, help)
	}
	return agent.Healthcheck(ctx, *addr)
}

func showStatus(ctx context.Context, p *program, args []string) error {
	fs, help := newFlags(p.out, statusUsage)
	addr := fs.String("addr", p.addrFlag(), "the agent's listener `ADDR`, or its URL; also from WEIR_AGENT_ADDR")
	asJSON := fs.Bool("json", false, "print it as JSON")
	watch := fs.Duration("watch", 0, "show it again every `INTERVAL`, until interrupted")
	all := fs.Bool("all", false, "also targets that are idle and have nothing outstanding, beyond the first 50")
	if err := fs.Parse(args); err != nil {
		return parseError(fs, err, help)
	}
	if fs.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	}
	if *watch < 0 {
		return usageError{fmt.Errorf("--watch %s: must not be less than 0", *watch)}
	}
	for {
		s, body, err := fetchStatus(ctx, *addr)
		if err != nil {
			return err
		}
		if *asJSON {
			_, err = p.out.Write(append(body, '\n'))
		} else {
			if *watch > 0 {
				fmt.Fprint(p.out, "\x1b[H\x1b[2J") // home, clear
			}
			err = writeStatus(p.out, s, *all)
		}
		if err != nil || *watch <= 0 {
			return err
		}
		t := time.NewTimer(*watch)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// maxStatus bounds what an agent may answer.
const maxStatus = 64 << 20

func fetchStatus(ctx context.Context, addr string) (*status.Status, []byte, error) {
	url := addr
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+status.Path, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("no agent answers at %s: %w", addr, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answers %s: is it an agent?", addr, resp.Status)
	}
	s := &status.Status{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, nil, fmt.Errorf("%s does not answer as an agent does: %w", addr, err)
	}
	return s, body, nil
}

func writeStatus(w io.Writer, s *status.Status, all bool) error {
	ready := "ready"
	if !s.Ready {
		ready = "not ready"
	}
	fmt.Fprintf(w, "weir-agent %s, up %s, %s\n", s.Version, s.Time.Sub(s.Started).Round(time.Second), ready)
	if s.Trouble != "" {
		fmt.Fprintln(w, s.Trouble)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nCLIENT\tSTATE\tQUEUE\tLIMIT\tOLDEST\tSENT\tREFUSED\tDROPPED\t")
	for _, c := range s.Clients {
		limit := "-"
		if c.QueueLimit > 0 {
			limit = size(c.QueueLimit)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", c.Name, c.State, size(c.QueueBytes), limit, age(c.OldestSeconds), c.Sent, c.Refused, c.Dropped, c.Error)
	}
	targets := slices.Clone(s.Targets)
	slices.SortStableFunc(targets, func(a, b status.Target) int {
		return cmp.Or(cmp.Compare(b.LagBytes, a.LagBytes), cmp.Compare(b.BytesPerSecond, a.BytesPerSecond), cmp.Compare(a.Job, b.Job), cmp.Compare(a.Name, b.Name))
	})
	const most = 50
	left := 0
	if !all && len(targets) > most {
		n := most
		for n < len(targets) && (targets[n].LagBytes > 0 || targets[n].Error != "") {
			n++
		}
		left, targets = len(targets)-n, targets[:n]
	}
	fmt.Fprintln(tw, "\nJOB\tTARGET\tSTATE\tLINES/S\tBYTES/S\tREAD\tACKED\tLAG\tBEHIND\t")
	for _, t := range targets {
		read, acked, lag := "-", "-", "-"
		if t.Read >= 0 {
			read = fmt.Sprint(t.Read)
		}
		if t.Acked >= 0 {
			acked = fmt.Sprint(t.Acked)
		}
		if t.Size >= 0 {
			lag = size(t.LagBytes)
		}
		name := t.Name
		if t.Kind != "file" {
			name = t.Kind + " " + name
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Job, name, t.State, t.LinesPerSecond, size(int64(t.BytesPerSecond)), read, acked, lag, age(t.LagSeconds), t.Error)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(w, "... and %s without anything outstanding (--all)\n", count(left, "target"))
	}
	return nil
}

// size writes bytes for people: 1.5 MiB.
func size(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < int64(conf.MiB):
		return fmt.Sprintf("%.0f KiB", float64(n)/float64(conf.KiB))
	case n < int64(conf.GiB):
		return fmt.Sprintf("%.1f MiB", float64(n)/float64(conf.MiB))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/float64(conf.GiB))
}

func age(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
