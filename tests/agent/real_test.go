package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// configured gives the agent a configuration of one job beside what is common.
func (r *rig) configured(job string) {
	r.raw = fmt.Sprintf(`
server: {http_listen_address: 127.0.0.1, http_listen_port: %s}
clients: [{address: "%s", batchwait: 50ms, backoff_config: {min_period: 20ms, max_period: 500ms}}]
positions: {filename: "%s", sync_period: 500ms}
scrape_configs:
%s
`, r.listen[strings.LastIndexByte(r.listen, ':')+1:], r.server.GRPC, r.positions(), job)
}

// numbers checks that lines begin with 0 to n-1, each once, and says how many came
// after a greater one.
func (r *rig) numbers(n int) (disorder int) {
	r.t.Helper()
	seen := make([]int, n)
	prev := -1
	r.read(func(l string) {
		num, _, _ := strings.Cut(l, " ")
		i, err := strconv.Atoi(num)
		if err != nil || i >= n {
			r.t.Fatalf("not a line that was written: %.100q", l)
		}
		if seen[i]++; i < prev {
			disorder++
		}
		prev = i
	})
	lost, doubled := 0, 0
	for _, k := range seen {
		switch {
		case k == 0:
			lost++
		case k > 1:
			doubled++
		}
	}
	r.t.Logf("%d lines: %d lost, %d doubled, %d out of order", n, lost, doubled, disorder)
	if lost+doubled > 0 {
		r.t.Errorf("%d lost, %d doubled", lost, doubled)
	}
	return disorder
}

// TestRealJournal: a journald of its own namespace; the agent is killed twice.
func TestRealJournal(t *testing.T) {
	journald := "/lib/systemd/systemd-journald"
	if _, err := os.Stat(journald); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and systemd-journald")
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		t.Skip(err)
	}
	name := fmt.Sprintf("weir%d", os.Getpid())
	dir := "/var/log/journal/" + strings.TrimSpace(string(id)) + "." + name
	if err := os.MkdirAll("/var/log/journal", 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		_ = os.RemoveAll("/run/systemd/journal." + name)
	})
	p := harness.NewProcess(t, "journald")
	p.Start(journald, name)
	var c net.Conn
	for range 200 {
		if c, err = net.Dial("unixgram", "/run/systemd/journal."+name+"/socket"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if c == nil {
		t.Skip("this machine's journald does not start: ", err)
	}
	defer c.Close()
	r := newRig(t)
	r.configured(fmt.Sprintf(`
  - job_name: journal
    journal: {path: "%s", matches: "SYSLOG_IDENTIFIER=weir-test", labels: {app: numbers}}
    relabel_configs: [{source_labels: [__journal_priority_keyword], target_label: level}]
`, dir))
	r.start()
	const n = 3000
	for i := range n {
		if _, err := fmt.Fprintf(c, "MESSAGE=%d text\nPRIORITY=5\nSYSLOG_IDENTIFIER=weir-test\n", i); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		if i == 1000 || i == 2000 {
			r.agent.Kill()
			r.start()
		}
	}
	r.await(n)
	if d := r.numbers(n); d > 0 {
		t.Errorf("%d out of order", d)
	}
	r.agent.Terminate()
}

// TestRealRsyslog: a real rsyslogd sends over TCP.
func TestRealRsyslog(t *testing.T) {
	path, err := exec.LookPath("rsyslogd")
	if err != nil {
		t.Skip("there is no rsyslogd")
	}
	for framing, format := range map[string]string{"octet-counted": "RSYSLOG_SyslogProtocol23Format", "traditional": "RSYSLOG_TraditionalForwardFormat"} {
		t.Run(framing, func(t *testing.T) {
			r := newRig(t)
			addr := harness.FreeAddr(t)
			r.configured(fmt.Sprintf(`
  - job_name: syslog
    syslog: {listen_address: "%s", labels: {app: numbers}}
    relabel_configs: [{source_labels: [__syslog_message_app_name], target_label: prog}]
`, addr))
			r.start()
			in := filepath.Join(r.dir, "in.log")
			const n = 3000
			var b strings.Builder
			for i := range n {
				b.WriteString(line(i) + "\n")
			}
			if err := os.WriteFile(in, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			harness.Until(t, func() error {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					_ = c.Close()
				}
				return err
			})
			host, port, _ := net.SplitHostPort(addr)
			conf := fmt.Sprintf(`
global(workDirectory="%s")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" file="%s" tag="weir:")
action(type="omfwd" target="%s" port="%s" protocol="tcp" TCP_Framing="%s" template="%s")
`, r.state, in, host, port, framing, format)
			file := filepath.Join(r.state, "rsyslog.conf")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			p := harness.NewProcess(t, "rsyslogd")
			p.Start(path, "-n", "-f", file, "-i", filepath.Join(r.state, "pid"))
			r.await(n)
			if d := r.numbers(n); d > 0 {
				t.Errorf("%d out of order", d)
			}
			p.Kill()
			r.agent.Terminate()
		})
	}
}

// TestRealDocker: containers of a real daemon, with both drivers that can be read
// back on any machine, with a terminal and without; the agent is killed meanwhile.
func TestRealDocker(t *testing.T) {
	docker := func(args ...string) (string, error) {
		out, err := exec.Command("docker", args...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("docker %v: %w: %s", args, err, out)
		}
		return strings.TrimSpace(string(out)), err
	}
	if _, err := docker("info"); err != nil {
		t.Skip("there is no Docker daemon")
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "numbers"), "./testdata/numbers")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("tar", "-C", dir, "-cf", filepath.Join(dir, "image.tar"), "numbers").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	image := fmt.Sprintf("weir-numbers:%d", os.Getpid())
	if _, err := docker("import", filepath.Join(dir, "image.tar"), image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = docker("rmi", "-f", image) })
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	for name, args := range map[string][]string{
		"json-file": {"--log-driver=json-file"}, "local": {"--log-driver=local"}, "terminal": {"--log-driver=json-file", "-t"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			label := fmt.Sprintf("weir=%d-%s", os.Getpid(), name)
			r.configured(fmt.Sprintf(`
  - job_name: docker
    docker_sd_configs: [{host: "%s", refresh_interval: 1s, filters: [{name: label, values: ["%s"]}]}]
    relabel_configs:
      - {target_label: app, replacement: numbers}
`, host, label))
			r.start()
			const n = 3000
			id, err := docker(append(append([]string{"run", "-d", "--network=none", "--label", label}, args...), image, "/numbers", strconv.Itoa(n))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = docker("rm", "-f", id) })
			harness.Until(t, func() error {
				if got, err := r.count(); err != nil || got == 0 {
					return errors.New("nothing has come")
				}
				return nil
			})
			r.agent.Kill()
			r.start()
			r.await(n)
			d := r.numbers(n)
			t.Logf("%d lines of two outputs in another order", d)
			r.agent.Terminate()
		})
	}
}
