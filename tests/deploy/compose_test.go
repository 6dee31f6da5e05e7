package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/tests/harness"
)

// service is what we look at of a service of a compose file.
type service struct {
	Image       string
	User        string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	MemLimit    string   `yaml:"mem_limit"`
	StopGrace   string   `yaml:"stop_grace_period"`
	Entrypoint  []string
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Profiles    []string
}

type composeFile struct {
	Services map[string]service
	Volumes  map[string]any
}

var variable = regexp.MustCompile(`\$\{[A-Z0-9_]+:-([^}]*)\}`)

// readCompose reads a compose file of deploy/compose as it is without variables.
func readCompose(t *testing.T, name string) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "deploy/compose", name))
	if err != nil {
		t.Fatal(err)
	}
	var f composeFile
	if err := yaml.Unmarshal(variable.ReplaceAll(text, []byte("$1")), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func (s service) isServer() bool { return strings.HasPrefix(s.Image, "weir:") && s.Entrypoint == nil }

// TestCompose: the server takes each service's environment and flags; volumes and
// files are there; nobody may do more than it has to; ports are on loopback.
func TestCompose(t *testing.T) {
	t.Parallel()
	targets := map[string][]string{
		"docker-compose.yaml": {"compactor", "distributor", "distributor", "gateway", "ingester", "ingester", "ingester", "querier", "querier"},
		"one-node.yaml":       {"all"}, "three-node.yaml": {"all", "all", "all"},
	}
	for name, want := range targets {
		f := readCompose(t, name)
		t.Run(name, func(t *testing.T) {
			var got []string
			for sn, s := range f.Services {
				for _, problem := range f.problems(s) {
					t.Errorf("%s: %s", sn, problem)
				}
				if !s.isServer() {
					continue
				}
				target := "all"
				for _, a := range s.Command {
					target = strings.TrimPrefix(a, "--target=")
				}
				got = append(got, target)
				cmd := exec.Command(harness.Binary(t), append(slices.Clone(s.Command), "--print-config")...)
				for k, v := range s.Environment {
					cmd.Env = append(cmd.Env, k+"="+v)
				}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", sn, err, out)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("it runs %v, want %v", got, want)
			}
		})
	}
}

func (f composeFile) problems(s service) (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.MemLimit == "" || s.User == "" {
		add("it may do more than it has to")
	}
	if strings.HasPrefix(s.Image, "weir") && (!s.ReadOnly || s.User != "65532:65532" || s.StopGrace != "35s") {
		add("its root can be written, it is somebody, or it has no time to stop")
	}
	for _, p := range s.Ports {
		if !strings.HasPrefix(p, "127.0.0.1:") {
			add("port %s is open to all", p)
		}
	}
	for _, v := range s.Volumes {
		source, _, _ := strings.Cut(v, ":")
		switch _, named := f.Volumes[source]; {
		case strings.HasPrefix(source, "."):
			if _, err := os.Stat(filepath.Join(harness.Root(), "deploy/compose", source)); err != nil {
				add("%v", err)
			}
		case !strings.HasPrefix(source, "/") && !named:
			add("no volume %s", source)
		}
	}
	return all
}

// TestScrapeConfig: Prometheus asks all processes of the cluster, and nobody else.
func TestScrapeConfig(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "deploy/compose/prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Jobs []struct {
			Name   string                       `yaml:"job_name"`
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, j := range c.Jobs {
		for _, s := range j.Static {
			got[j.Name] = append(got[j.Name], s.Targets...)
		}
	}
	want := map[string][]string{"weir-agent": {"agent:9080"}}
	for name, s := range readCompose(t, "docker-compose.yaml").Services {
		if s.isServer() {
			want["weir"] = append(want["weir"], name+":3100")
		}
	}
	for job := range want {
		slices.Sort(want[job])
		slices.Sort(got[job])
		if !slices.Equal(got[job], want[job]) {
			t.Errorf("job %s asks %v, want %v", job, got[job], want[job])
		}
	}
}
