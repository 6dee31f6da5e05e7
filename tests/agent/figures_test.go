package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/tests/harness"
)

// criJSON are the stages whose throughput is measured beside that of none.
const criJSON = "\n    stages: [cri, {json: [level, method, status]}, {labels: [level]}]"

// criLine is a JSON line in the format of Kubernetes' engines.
func criLine(i int) string {
	level := [...]string{"info", "info", "info", "debug", "warn", "error"}[i%6]
	return fmt.Sprintf(`%s stdout F {"level":"%s","method":"GET","path":"/api/v1/items/%d","status":%d,"duration":"%dms","msg":"request handled","trace":"%016x"}`,
		time.Now().UTC().Format(time.RFC3339Nano), level, i%1000, 200+i%5, i%331, i*7919)
}

// follows configures the agent for ten files.
func (r *rig) follows(stages string) {
	r.raw = fmt.Sprintf(`
server: {address: "%s"}
positions: {file: "%s"}
files:
  - paths: ["%s/*.log"]
    labels: {app: numbers}%s
listen: "%s"
`, r.server.GRPC, r.positions(), r.dir, stages, r.listen)
}

// cpu gives the processor time that the agent has used.
func (r *rig) cpu() time.Duration {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.agent.PID()))
	if err != nil {
		r.t.Skip(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// memory gives the resident memory of the agent that is no page of a file.
func (r *rig) memory() float64 {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.agent.PID()))
	if err != nil {
		r.t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kb, _ := strconv.Atoi(f[1])
			return float64(kb) / 1024
		}
	}
	return 0
}

// TestThroughput prints how many MB of logs the agent takes to a server a second of
// processor time: ten files, without stages and with cri, json and labels.
// WEIR_AGENT_BENCH is how many MB the files have together; without it the test is
// skipped.
func TestThroughput(t *testing.T) {
	size := env(t, "WEIR_AGENT_BENCH", 0) << 20
	if size == 0 {
		t.Skip("WEIR_AGENT_BENCH is not set")
	}
	samples, _ := filepath.Glob(filepath.Join(harness.Root(), "..", "shared", "corpus", "samples", "*.log"))
	for _, c := range []struct {
		name, stages string
		lines        func(file int) []byte
	}{
		{"plain", "", func(file int) []byte {
			if len(samples) > 0 {
				b, err := os.ReadFile(samples[file*len(samples)/10])
				if err != nil {
					t.Fatal(err)
				}
				return append(bytes.TrimSpace(b), '\n')
			}
			return []byte(strings.Repeat("2026-01-02 15:04:05 INFO served a request in 12 ms, which is a usual line\n", 1000))
		}},
		{"cri+json+labels", criJSON, func(int) []byte {
			var b bytes.Buffer
			for i := range 10_000 {
				fmt.Fprintln(&b, criLine(i))
			}
			return b.Bytes()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, "--limits.ingestion-rate=1GiB", "--limits.ingestion-burst=1GiB")
			total, n := 0, 0
			for i := range 10 {
				f, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("%d.log", i)))
				if err != nil {
					t.Fatal(err)
				}
				chunk := c.lines(i)
				for k := 0; k < size/10; k += len(chunk) {
					if _, err := f.Write(chunk); err != nil {
						t.Fatal(err)
					}
					total += len(chunk)
					n += bytes.Count(chunk, []byte("\n"))
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r.follows(c.stages)
			began := time.Now()
			r.start()
			deadline := time.Now().Add(5 * time.Minute)
			for r.metric("weir_agent_sent_entries_total")+r.metric("weir_agent_refused_entries_total") < float64(n) {
				if time.Now().After(deadline) {
					t.Fatal(errors.New("it takes too long"))
				}
				time.Sleep(20 * time.Millisecond)
			}
			cpu, wall := r.cpu(), time.Since(began)
			t.Logf("%d MB, %d lines: %.0f MB per CPU second (%.2f s), %.0f MB/s by the clock; %.0f refused; %.0f MB resident",
				total>>20, n, float64(total)/1e6/cpu.Seconds(), cpu.Seconds(), float64(total)/1e6/wall.Seconds(),
				r.metric("weir_agent_refused_entries_total"), r.memory())
			r.agent.Terminate()
		})
	}
}

// TestMemoryFlat follows ten files that are written and renamed all the time, with
// stages, and prints the agent's memory every ten seconds. WEIR_AGENT_SOAK is for how
// long; without it the test is skipped.
func TestMemoryFlat(t *testing.T) {
	soak := envTime(t, "WEIR_AGENT_SOAK", 0)
	if soak == 0 {
		t.Skip("WEIR_AGENT_SOAK is not set")
	}
	r := newRig(t)
	r.follows(criJSON)
	stop, done := make(chan struct{}), make(chan error)
	rate := env(t, "WEIR_AGENT_SOAK_RATE", 5000) // lines a second, of all files
	go func() { done <- r.churn(rate, stop) }()
	r.start()
	began, least, most := time.Now(), 0.0, 0.0
	for time.Since(began) < soak {
		time.Sleep(10 * time.Second)
		mb := r.memory()
		t.Logf("%4.0f s: %5.1f MB resident, %.0f lines sent", time.Since(began).Seconds(), mb, r.metric("weir_agent_sent_entries_total"))
		if time.Since(began) > min(time.Minute, soak/2) {
			if least == 0 {
				least = mb
			}
			least, most = min(least, mb), max(most, mb)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("after the first minute: %.1f to %.1f MB", least, most)
	if most > 1.5*least+10 {
		t.Errorf("the memory grew from %.1f to %.1f MB", least, most)
	}
	r.agent.Terminate()
}

// churn writes to ten files, each of which is renamed every 20,000 lines.
func (r *rig) churn(rate int, stop <-chan struct{}) error {
	var files [10]*os.File
	var err error
	began := time.Now()
	for n := 0; ; {
		select {
		case <-stop:
			for _, f := range files {
				if f != nil {
					_ = f.Close()
				}
			}
			return nil
		case <-time.After(10 * time.Millisecond):
		}
		for due := int(time.Since(began).Seconds() * float64(rate)); n < due; n++ {
			i := n % len(files)
			path := filepath.Join(r.dir, fmt.Sprintf("%d.log", i))
			if files[i] == nil || n/len(files)%20_000 == 19_999 {
				if files[i] != nil {
					_ = files[i].Close()
					if err := os.Rename(path, path+".1"); err != nil {
						return err
					}
				}
				if files[i], err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
					return err
				}
			}
			if _, err := files[i].WriteString(criLine(n) + "\n"); err != nil {
				return err
			}
		}
	}
}
