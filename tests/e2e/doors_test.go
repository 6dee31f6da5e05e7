package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/weir-logs/weir/tests/harness"
)

// TestDoors: what weir-agent tail sends comes out of weirctl tail at once, of
// weirctl query, REST and Loki's API, and gRPC says what there is to call.
func TestDoors(t *testing.T) {
	server := harness.Start(t)
	// What Grafana asks to see whether a data source works, before there is anything.
	code, body, err := server.Get("/loki/api/v1/query?direction=backward&query=vector%281%29%2Bvector%281%29&time=4000000000")
	if err != nil || code != http.StatusOK || !strings.Contains(body, `"result":[{"metric":{},"value":[4000000000,"2"]}]`) {
		t.Errorf("Grafana's health query: %d %v %s", code, err, body)
	}
	path := filepath.Join(t.TempDir(), "app.txt")
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("what was there before\n")
	agent := harness.NewProcess(t, "agent")
	agent.Start(harness.Program(t, "services/agent/cmd/weir-agent"), "tail", path, "--label", "app=x", "--server", server.GRPC)
	contains := func(p *harness.Process, text string) {
		t.Helper()
		harness.Until(t, func() error {
			if !strings.Contains(p.Log(), text) {
				return fmt.Errorf("%s does not put out %q", p.Name, text)
			}
			return nil
		})
	}
	contains(agent, " path="+path)

	weirctl := harness.Program(t, "services/cmd/weirctl")
	tail := harness.NewProcess(t, "tail")
	tail.Start(weirctl, "tail", `{app="x"}`, "--addr", server.GRPC, "--since", "1h", "-o", "raw")
	lines := []string{}
	for i := range 4 {
		line := fmt.Sprintf(`{"n":%d,"text":"日本語 \\ <&> \"quoted\""}`, i)
		lines = append(lines, line)
		write(line + "\n")
		contains(tail, line+"\n") // the next is written when this one has come through
	}
	if got := strings.Split(strings.TrimSpace(tail.Log()), "\n"); !slices.Equal(got, lines) {
		t.Errorf("weirctl tail puts out %q, want %q", got, lines)
	}
	tail.Interrupt()
	if code := tail.AwaitExit(); code != 0 {
		t.Errorf("weirctl tail exits with status %d when interrupted", code)
	}

	query := harness.NewProcess(t, "query")
	query.Start(weirctl, "query", `{app="x"}`, "--addr", server.GRPC, "--forward", "-o", "raw")
	if code := query.AwaitExit(); code != 0 || query.Log() != strings.Join(lines, "\n")+"\n" {
		t.Errorf("weirctl query exits with %d: %q", code, query.Log())
	}

	get := func(path string, into any) {
		t.Helper()
		code, body, err := server.Get(path + "?" + url.Values{"query": {`{app="x"}`}, "limit": {"100"}}.Encode())
		if err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d %v %s", path, code, err, body)
		}
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatalf("%s: %v in %s", path, err, body)
		}
	}
	same := func(door string, newestFirst []string) {
		t.Helper()
		slices.Reverse(newestFirst)
		if !slices.Equal(newestFirst, lines) {
			t.Errorf("%s gives %q, want %q", door, newestFirst, lines)
		}
	}
	var rest struct {
		Streams struct {
			Streams []struct {
				Labels  map[string]string
				Entries []struct{ Text string }
			}
		}
	}
	get("/api/v1/query_range", &rest)
	var got []string
	for _, s := range rest.Streams.Streams {
		if s.Labels["app"] != "x" || s.Labels["filename"] != path {
			t.Errorf("labels over REST: %v", s.Labels)
		}
		for _, e := range s.Entries {
			got = append(got, e.Text)
		}
	}
	same("REST", got)

	var loki struct {
		Status string
		Data   struct {
			ResultType string
			Result     []struct {
				Stream map[string]string
				Values [][2]string
			}
		}
	}
	get("/loki/api/v1/query_range", &loki)
	if loki.Status != "success" || loki.Data.ResultType != "streams" {
		t.Errorf("over Loki's API: %s, %s", loki.Status, loki.Data.ResultType)
	}
	got = nil
	for _, s := range loki.Data.Result {
		if s.Stream["app"] != "x" || s.Stream["filename"] != path {
			t.Errorf("labels over Loki's API: %v", s.Stream)
		}
		for _, v := range s.Values {
			got = append(got, v[1])
		}
	}
	same("Loki's API", got)

	// On both ports.
	for _, addr := range []string{server.GRPC, server.HTTP} {
		services := reflect(t, addr)
		for _, want := range []string{
			"weir.push.v1.PushService", "weir.query.v1.QueryService", "weir.tail.v1.TailService", "weir.admin.v1.AdminService",
			"opentelemetry.proto.collector.logs.v1.LogsService",
			"grpc.health.v1.Health",
		} {
			if !slices.Contains(services, want) {
				t.Errorf("reflection on %s names %q, not %s", addr, services, want)
			}
		}
	}
	agent.Terminate()
	server.Terminate()
}

// reflect lists the services that a gRPC server says it has.
func reflect(t *testing.T, addr string) (names []string) {
	t.Helper()
	conn, err := grpc.NewClient(addr, harness.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(harness.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	err = call.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := call.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names
}
