// Package bench measures what no benchmark of a package can: whole clusters.
package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/tests/harness"
)

// factors are the replication factors that are compared.
var factors = []int{1, 3}

// TestReplication measures what replication costs, on one machine with three ingesters, a
// front (gateway, distributor, querier) and a compactor, each a process: the same logs at
// replication factor 1 and 3, one after the other and again, in WEIR_BENCH_REPLICATION
// rounds. It judges nothing: figures of a busy machine say nothing.
//
// WEIR_BENCH_MB is the size of the lines (200 MB), WEIR_BENCH_LOGS a directory of files to
// take them from, over and over, instead of the generator's.
func TestReplication(t *testing.T) {
	rounds, size := number(t, "WEIR_BENCH_REPLICATION", 0), number(t, "WEIR_BENCH_MB", 200)*1_000_000
	if rounds == 0 {
		t.Skip("make bench-replication measures")
	}
	logs, err := read(os.Getenv("WEIR_BENCH_LOGS"), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d lines, %.0f MB, in %d streams", logs.name, logs.lines, float64(logs.bytes)/1e6, logs.streams)
	got := map[int][]figures{}
	for round := range rounds {
		order := slices.Clone(factors)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, rf := range order {
			t.Run(fmt.Sprintf("round=%d,rf=%d", round+1, rf), func(t *testing.T) {
				got[rf] = append(got[rf], measure(t, rf, logs))
			})
			if t.Failed() {
				return
			}
		}
	}
	fmt.Print(table(got))
}

// number is the environment's number, or n.
func number(t *testing.T, name string, n int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return n
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// figures are what one cluster was measured to need.
type figures struct {
	acked   time.Duration // until all was acknowledged
	flushed time.Duration // and in the store
	bytes   float64       // of lines
	cpu     map[string]float64
	cpuAck  float64 // of cpu, what was used until all was acknowledged
	merge   float64 // processor seconds of compaction
	stored  [2]int64
	queries [2]map[string]cost // before and after compaction
}

// cost is of one query: medians.
type cost struct{ wall, cpu float64 } // milliseconds

// measure pushes logs into a new cluster, and asks it.
func measure(t *testing.T, rf int, logs *logs) figures {
	c := harness.NewCluster(t, 3)
	config, err := filepath.Abs("weir.yaml")
	if err != nil {
		t.Fatal(err)
	}
	nodes := append(slices.Clone(c.Ingesters), c.Front)
	args := []string{"--config=" + config, fmt.Sprint("--cluster.replication-factor=", rf), "--log.level=warn"}
	var join []string
	for _, n := range nodes {
		n.Args = append(n.Args, args...)
		join = append(join, n.Gossip)
	}
	c.Start()
	compactor := harness.New(t, "compactor", "")
	compactor.Args = append(slices.Clone(args), "--target=compactor", "--cluster.name=compactor", "--join="+strings.Join(join, ","), "--storage.shared")
	for _, a := range c.Front.Args {
		if strings.HasPrefix(a, "--storage.directory=") {
			compactor.Args = append(compactor.Args, a)
		}
	}
	compactor.Start()
	compactor.AwaitReady()
	nodes = append(nodes, compactor)
	cl, ctx := c.Client(), t.Context()
	admin := cl.Admin()
	directory := strings.TrimPrefix(compactor.Args[len(compactor.Args)-1], "--storage.directory=")

	f := figures{bytes: float64(logs.bytes)}
	before, began := used(t, nodes), time.Now()
	push(t, cl, logs)
	f.acked = time.Since(began)
	f.cpuAck = total(minus(used(t, nodes), before))
	if _, err := admin.Flush(ctx, &adminv1.FlushRequest{}); err != nil {
		t.Fatal(err)
	}
	f.flushed = time.Since(began)
	f.cpu = minus(used(t, nodes), before)
	t.Logf("acknowledged after %s and flushed after %s, with %.1f processor seconds", f.acked.Round(time.Millisecond), f.flushed.Round(time.Millisecond), total(f.cpu))
	f.stored[0] = sizeOf(t, directory)
	f.queries[0] = ask(t, cl, nodes, logs)

	before = used(t, nodes)
	compact, err := client.Dial(compactor.GRPC, client.WithInsecure(), client.WithTimeout(harness.Patience))
	if err != nil {
		t.Fatal(err)
	}
	defer compact.Close()
	for _, a := range []adminv1.AdminServiceClient{admin, compact.Admin()} {
		if _, err := a.Compact(ctx, &adminv1.CompactRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	f.merge = total(minus(used(t, nodes), before))
	f.stored[1] = sizeOf(t, directory)
	f.queries[1] = ask(t, cl, nodes, logs)
	return f
}

// push pushes logs with some senders.
func push(t *testing.T, c *client.Client, logs *logs) {
	t.Helper()
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs error
	)
	p := c.NewPusher(client.PusherOptions{})
	for range 4 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(logs.bodies) {
					return
				}
				resp, _, err := p.PushEncoded(t.Context(), logs.bodies[i])
				if err == nil && resp.GetRejectedEntries() > 0 {
					err = fmt.Errorf("%d entries are refused: %v", resp.GetRejectedEntries(), resp.GetRejections()[0])
				}
				if err != nil {
					mu.Lock()
					errs = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	if errs != nil {
		t.Fatal(errs)
	}
}

// question is a query that is asked. %s stands for the range of all logs.
type question struct {
	name, query string
	step        time.Duration
	limit       uint32
}

var questions = []question{
	{"newest 100 lines", `{env="prod"}`, 0, 100},
	{"a word that is not there", `{env="prod"} |= "zq00absent00needle00"`, 0, 100},
	{"a common word, newest 100", `{env="prod"} |= "error"`, 0, 100},
	{"count of all", `sum(count_over_time({env="prod"}[%s]))`, 0, 0},
	{"count of a word", `sum(count_over_time({env="prod"} |= "error" [%s]))`, 0, 0},
	{"count of a regular expression", `sum(count_over_time({env="prod"} |~ "[0-9]+ms" [%s]))`, 0, 0},
	{"rate by level, 5 min", `sum by (detected_level) (rate({env="prod"}[5m]))`, 5 * time.Minute, 0},
}

// repeats is how often each question is asked.
const repeats = 3

// ask asks all questions and checks that the count of all is right.
func ask(t *testing.T, c *client.Client, nodes []*harness.Node, logs *logs) map[string]cost {
	t.Helper()
	out := map[string]cost{}
	shift := time.Duration(0)
	for _, q := range questions {
		var wall, cpu []float64
		for range repeats {
			shift += time.Millisecond // no answer is one that was kept
			start, end := logs.first.Add(-time.Minute-shift), logs.last.Add(time.Minute)
			text := strings.ReplaceAll(q.query, "%s", fmt.Sprint(end.Sub(start).Milliseconds(), "ms"))
			before, began := total(used(t, nodes)), time.Now()
			count, err := run(t.Context(), c, q, text, start, end)
			wall = append(wall, float64(time.Since(began).Microseconds())/1e3)
			cpu = append(cpu, 1e3*(total(used(t, nodes))-before))
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if q.name == "count of all" && count != float64(logs.lines) {
				t.Fatalf("%v of %d lines are there", count, logs.lines)
			}
		}
		out[q.name] = cost{median(wall), median(cpu)}
		t.Logf("%s: %.0f ms, of processors %.0f ms", q.name, median(wall), median(cpu))
	}
	return out
}

func run(ctx context.Context, c *client.Client, q question, text string, start, end time.Time) (float64, error) {
	if strings.HasPrefix(text, "sum(") {
		resp, err := c.Query(ctx, &queryv1.QueryRequest{Query: text, Time: timestamppb.New(end)})
		if err != nil {
			return 0, err
		}
		sum := 0.0
		for _, s := range resp.GetVector().GetSamples() {
			sum += s.GetSample().GetValue()
		}
		return sum, nil
	}
	req := &queryv1.QueryRangeRequest{Query: text, Start: timestamppb.New(start), End: timestamppb.New(end), Limit: q.limit}
	if q.step > 0 {
		req.Step = durationpb.New(q.step)
	}
	_, err := c.QueryRange(ctx, req)
	return 0, err
}

// used returns the processor seconds that each kind of process has used.
func used(t *testing.T, nodes []*harness.Node) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, n := range nodes {
		kind, _, _ := strings.Cut(n.Name, "-")
		out[kind] += cpuSeconds(t, n.PID())
	}
	return out
}

// cpuSeconds is what a process has used, to the nanosecond where no thread has ended.
func cpuSeconds(t *testing.T, pid int) float64 {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d: no schedstat: %v", pid, err)
	}
	var sum int64
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		v, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return float64(sum) / 1e9
}

func minus(a, b map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for k, v := range a {
		out[k] = v - b[k]
	}
	return out
}

func total(m map[string]float64) float64 {
	sum := 0.0
	for _, v := range m {
		sum += v
	}
	return sum
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// sizeOf is the size of all files of a directory.
func sizeOf(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
