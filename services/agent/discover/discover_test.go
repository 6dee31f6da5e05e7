package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-logs/weir/services/agent/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a Discoverer; wait waits until its newest targets are as ok wants them.
func run(t *testing.T, d Discoverer) (wait func(what string, ok func([]map[string]string) bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	updates, done := make(chan []map[string]string, 100), make(chan struct{})
	go func() { defer close(done); d.Run(ctx, func(u []map[string]string) { updates <- u }) }()
	t.Cleanup(func() { cancel(); <-done })
	return func(what string, ok func([]map[string]string) bool) {
		t.Helper()
		for {
			select {
			case u := <-updates:
				if ok(u) {
					return
				}
			case <-time.After(time.Minute):
				t.Fatal("never: ", what)
			}
		}
	}
}

func podJSON(name, ip, version string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"shop","uid":"u-%s","resourceVersion":%q,"labels":{"app.kubernetes.io/name":"web"},
"ownerReferences":[{"kind":"ReplicaSet","name":"rs","controller":true}]},
"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","ports":[{"name":"http","containerPort":80,"protocol":"TCP"}]}],"initContainers":[{"name":"init"}]},
"status":{"phase":"Running","podIP":%q,"hostIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"name":"c","containerID":"containerd://1"}]}}`, name, name, version, ip)
}

func TestKubernetes(t *testing.T) {
	events := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer secret" || q.Get("fieldSelector") != "spec.nodeName=n1" || r.URL.Path != "/api/v1/namespaces/shop/pods" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		if q.Get("watch") == "" {
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"5"},"items":[%s,%s]}`, podJSON("a", "10.1.0.1", "1"), podJSON("pending", "", "2"))
			return
		}
		for {
			select {
			case e := <-events:
				if e == "" {
					return // as servers do now and then
				}
				fmt.Fprintln(w, e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer srv.Close()
	var cfg config.KubernetesSD
	cfg.Role, cfg.APIServer, cfg.Namespaces.Names = "pod", srv.URL, []string{"shop"}
	cfg.HTTP.BearerToken = "secret"
	k, err := NewKubernetes(&cfg, "n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.http.CloseIdleConnections()
	wait := run(t, k)
	wait("the listed pod", func(u []map[string]string) bool {
		if len(u) != 2 {
			return false
		}
		for name, want := range map[string]string{
			"__address__": "10.1.0.1:80", "__meta_kubernetes_pod_name": "a", "__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_uid": "u-a",
			"__meta_kubernetes_pod_label_app_kubernetes_io_name": "web", "__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name": "true",
			"__meta_kubernetes_pod_container_name": "c", "__meta_kubernetes_pod_container_id": "containerd://1", "__meta_kubernetes_pod_ready": "true",
			"__meta_kubernetes_pod_controller_kind": "ReplicaSet", "__meta_kubernetes_pod_container_init": "false", "__meta_kubernetes_pod_node_name": "n1",
		} {
			if u[0][name] != want {
				t.Errorf("%s is %q, want %q", name, u[0][name], want)
			}
		}
		return true
	})
	event := func(kind, pod string) string {
		b, _ := json.Marshal(map[string]any{"type": kind, "object": json.RawMessage(pod)})
		return string(b)
	}
	events <- event("MODIFIED", podJSON("pending", "10.1.0.2", "6"))
	wait("the pending pod", func(u []map[string]string) bool { return len(u) == 4 })
	events <- "" // the watch ends, and goes on
	events <- event("DELETED", podJSON("a", "10.1.0.1", "7"))
	wait("one pod", func(u []map[string]string) bool {
		return len(u) == 2 && u[0]["__meta_kubernetes_pod_name"] == "pending"
	})
	events <- `{"type":"ERROR","object":{"code":410}}` // listed again
	wait("the list", func(u []map[string]string) bool { return len(u) == 2 && u[0]["__meta_kubernetes_pod_name"] == "a" })
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) { // at once: what is empty for a moment has no targets
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "- targets: [x, y]\n  labels: {a: b}\n")
	write("b.json", `[{"labels":{"__path__":"/p"}}]`)
	wait := run(t, NewFiles([]string{dir + "/*.yaml", dir + "/*.json"}, 5*time.Millisecond, nil))
	wait("three targets", func(u []map[string]string) bool {
		return len(u) == 3 && u[0]["__address__"] == "x" && u[1]["a"] == "b" && u[2]["__path__"] == "/p" && u[2]["__meta_filepath"] == filepath.Join(dir, "b.json")
	})
	write("a.yaml", "- targets: [x, y")    // half written: what was there stays
	write("c.json", `[{"targets":["z"]}]`) // and a new file is noticed
	wait("four targets", func(u []map[string]string) bool { return len(u) == 4 })
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	wait("two targets", func(u []map[string]string) bool { return len(u) == 2 })
}
