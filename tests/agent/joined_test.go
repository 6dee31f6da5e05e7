package agent

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledJoining: the agent is killed while it holds pieces of lines (CRI) of two
// streams and the lines of blocks (multiline), which are read again: each block is
// there once, whole and in order.
func TestKilledJoining(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(filepath.Join(r.dir, "app.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
server: {http_listen_address: 127.0.0.1, http_listen_port: %s}
clients: [{address: "%s", batchwait: 50ms, backoff_config: {min_period: 20ms, max_period: 500ms}}]
positions: {filename: "%s"}
scrape_configs:
  - job_name: cri
    static_configs: [{labels: {app: numbers, __path__: "%s/app.log"}}]
    pipeline_stages:
      - cri: {}
      - multiline: {firstline: '^\d+ ', max_wait_time: 30s}
`, r.listen[strings.LastIndexByte(r.listen, ':')+1:], r.server.GRPC, r.positions(), r.dir)
	r.raw = config
	r.start()
	f, err := os.OpenFile(filepath.Join(r.dir, "app.log"), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop, done := make(chan struct{}), make(chan int)
	began := time.Now()
	go func() {
		n := 0
		for tick := 0; ; tick++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			// Lines of both streams go between each other; pieces end anywhere.
			for range 4 {
				stamp := began.Add(time.Duration(n) * time.Microsecond).UTC().Format("2006-01-02T15:04:05.000000000Z")
				out := []string{"stdout F " + fmt.Sprint(n) + " first", "stdout P part ", "stderr P err ", "stdout F of " + fmt.Sprint(n), "stderr F " + fmt.Sprint(n), "stdout F last"}
				for i, l := range out {
					if _, err := fmt.Fprintf(f, "%s %s\n", stamp, l); err != nil {
						t.Error(err)
					}
					if i == tick%6 {
						time.Sleep(time.Millisecond)
					}
				}
				n++
			}
		}
	}()
	for range env(t, "WEIR_AGENT_KILLS", 10) {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		r.agent.Kill()
		r.start()
	}
	close(stop)
	n := <-done
	// The last block of each stream is ended by the next first line.
	stamp := began.Add(time.Hour / 2).UTC().Format("2006-01-02T15:04:05.000000000Z")
	fmt.Fprintf(f, "%s stdout F 999999999 end\n", stamp)
	r.await(2 * n) // those of stderr have no first line and pass alone
	want := map[string]int{}
	var order []int
	got := 0
	r.read(func(l string) {
		var i int
		if strings.HasPrefix(l, "err") {
			return
		}
		if _, err := fmt.Sscanf(l, "%d first", &i); err != nil {
			if !strings.HasPrefix(l, "999999999") {
				t.Errorf("not a block: %q", l)
			}
			return
		}
		if exp := fmt.Sprintf("%d first\npart of %d\nlast", i, i); l != exp {
			t.Errorf("block %d is %q", i, l)
		}
		want[l]++
		got++
		order = append(order, i)
	})
	for i, v := range order {
		if i > 0 && v != order[i-1]+1 {
			t.Errorf("block %d comes after %d", v, order[i-1])
			break
		}
	}
	t.Logf("%d blocks written, %d there", n, got)
	if got != n {
		t.Errorf("%d blocks, want %d", got, n)
	}
	r.agent.Terminate()
}
