package deploy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/weir-logs/weir/tests/harness"
)

// secretKeys are the keys of the secret that docs/operations/kubernetes.md has
// operators create, with values that the programs take.
var secretKeys = map[string]string{
	"gossip_key": strings.Repeat("0a", 32), "access_key": "id", "secret_key": "hush",
}

// workload is what makes pods.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	template corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	// governing is the service that gives a StatefulSet's pods their names.
	governing string
	replicas  int32
}

// manifests are the objects of a layout.
type manifests struct {
	namespaces  map[string]bool
	workloads   []workload
	services    []corev1.Service
	configMaps  map[string]corev1.ConfigMap
	accounts    map[string]bool
	roles       map[string]bool
	bindings    []rbacv1.ClusterRoleBinding
	budgets     []policyv1.PodDisruptionBudget
	policies    []networkingv1.NetworkPolicy
	podMonitors []podMonitor
}

// podMonitor is what we use of the Prometheus operator's type.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel            string               `json:"jobLabel"`
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// render builds a directory of deploy/kubernetes as kubectl apply -k does, and reads
// the objects strictly: an unknown or doubled field is an error.
func render(t *testing.T, dir string) *manifests {
	t.Helper()
	res, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(harness.Root(), "deploy/kubernetes", dir))
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{namespaces: map[string]bool{}, configMaps: map[string]corev1.ConfigMap{}, accounts: map[string]bool{}, roles: map[string]bool{}}
	for _, r := range res.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.add(text); err != nil {
			t.Errorf("%s: %v", r.CurId(), err)
		}
	}
	return m
}

func strict[T any](text []byte) (T, error) {
	var v T
	return v, yaml.UnmarshalStrict(text, &v, yaml.DisallowUnknownFields)
}

func (m *manifests) add(text []byte) error {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(text, &meta); err != nil {
		return err
	}
	switch meta.APIVersion + " " + meta.Kind {
	case "v1 Namespace":
		o, err := strict[corev1.Namespace](text)
		m.namespaces[o.Name] = true
		return err
	case "v1 ServiceAccount":
		o, err := strict[corev1.ServiceAccount](text)
		m.accounts[o.Name] = true
		return err
	case "v1 ConfigMap":
		o, err := strict[corev1.ConfigMap](text)
		m.configMaps[o.Name] = o
		return err
	case "v1 Service":
		o, err := strict[corev1.Service](text)
		m.services = append(m.services, o)
		return err
	case "apps/v1 StatefulSet":
		o, err := strict[appsv1.StatefulSet](text)
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template, o.Spec.VolumeClaimTemplates, o.Spec.ServiceName, *o.Spec.Replicas})
		return err
	case "apps/v1 Deployment":
		o, err := strict[appsv1.Deployment](text)
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template, nil, "", *o.Spec.Replicas})
		return err
	case "apps/v1 DaemonSet":
		o, err := strict[appsv1.DaemonSet](text)
		m.workloads = append(m.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template, nil, "", 1})
		return err
	case "rbac.authorization.k8s.io/v1 ClusterRole":
		o, err := strict[rbacv1.ClusterRole](text)
		m.roles[o.Name] = true
		return err
	case "rbac.authorization.k8s.io/v1 ClusterRoleBinding":
		o, err := strict[rbacv1.ClusterRoleBinding](text)
		m.bindings = append(m.bindings, o)
		return err
	case "policy/v1 PodDisruptionBudget":
		o, err := strict[policyv1.PodDisruptionBudget](text)
		m.budgets = append(m.budgets, o)
		return err
	case "networking.k8s.io/v1 NetworkPolicy":
		o, err := strict[networkingv1.NetworkPolicy](text)
		m.policies = append(m.policies, o)
		return err
	case "monitoring.coreos.com/v1 PodMonitor":
		o, err := strict[podMonitor](text)
		m.podMonitors = append(m.podMonitors, o)
		return err
	}
	return fmt.Errorf("%s %s is no type that this test knows", meta.APIVersion, meta.Kind)
}

// selected returns the workloads whose pods a selector means.
func (m *manifests) selected(sel *metav1.LabelSelector) ([]workload, error) {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return nil, err
	}
	var found []workload
	for _, w := range m.workloads {
		if s.Matches(labels.Set(w.template.Labels)) {
			found = append(found, w)
		}
	}
	if len(found) == 0 {
		err = fmt.Errorf("selector %s matches no pod", s)
	}
	return found, err
}

// hasPort tells whether a pod has a port of a name, or of a number.
func hasPort(w workload, p intstr.IntOrString, protocol corev1.Protocol) bool {
	for _, c := range w.template.Spec.Containers {
		for _, cp := range c.Ports {
			same := cmp.Or(cp.Protocol, corev1.ProtocolTCP) == cmp.Or(protocol, corev1.ProtocolTCP)
			if same && (p.Type == intstr.String && cp.Name == p.StrVal || p.Type == intstr.Int && cp.ContainerPort == p.IntVal) {
				return true
			}
		}
	}
	return false
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	layouts := map[string]*manifests{}
	for _, dir := range []string{"overlays/single", "overlays/cluster", "agent"} {
		m := render(t, dir)
		layouts[dir] = m
		t.Run(dir, func(t *testing.T) { check(t, m) })
	}
	cluster := layouts["overlays/cluster"]
	t.Run("roles", func(t *testing.T) {
		var targets []string
		for _, w := range cluster.workloads {
			targets = append(targets, strings.TrimPrefix(w.template.Spec.Containers[0].Args[0], "--target="))
		}
		slices.Sort(targets)
		if want := []string{"compactor", "distributor", "gateway", "ingester", "querier"}; !slices.Equal(targets, want) {
			t.Errorf("the cluster runs %v, want %v", targets, want)
		}
		for _, w := range cluster.workloads {
			_, err := cluster.budgetsOf(w)
			if w.replicas > 1 && err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		}
	})
	t.Run("monitoring", func(t *testing.T) {
		m := render(t, "monitoring")
		m.workloads = append(slices.Clone(cluster.workloads), layouts["agent"].workloads...)
		if len(m.podMonitors) != 2 {
			t.Errorf("%d monitors", len(m.podMonitors))
		}
		for _, p := range m.podMonitors {
			found, err := m.selected(&p.Spec.Selector)
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
			for _, w := range found {
				for _, e := range p.Spec.PodMetricsEndpoints {
					if !hasPort(w, intstr.FromString(e.Port), corev1.ProtocolTCP) {
						t.Errorf("%s: %s has no port %s", p.Name, w.name, e.Port)
					}
				}
			}
		}
	})
}

func (m *manifests) budgetsOf(w workload) (policyv1.PodDisruptionBudget, error) {
	for _, b := range m.budgets {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && s.Matches(labels.Set(w.template.Labels)) {
			return b, nil
		}
	}
	return policyv1.PodDisruptionBudget{}, errors.New("no disruption budget")
}

// check checks that what objects refer to is there.
func check(t *testing.T, m *manifests) {
	if len(m.workloads) == 0 {
		t.Fatal("no workload")
	}
	for _, s := range m.services {
		found, err := m.selected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		if err != nil {
			t.Errorf("service %s: %v", s.Name, err)
		}
		for _, w := range found {
			for _, p := range s.Spec.Ports {
				if !hasPort(w, p.TargetPort, p.Protocol) {
					t.Errorf("service %s: %s has no port %s", s.Name, w.name, p.TargetPort.String())
				}
			}
		}
	}
	for _, b := range m.budgets {
		if _, err := m.selected(b.Spec.Selector); err != nil {
			t.Errorf("budget %s: %v", b.Name, err)
		}
	}
	for _, p := range m.policies {
		found, err := m.selected(&p.Spec.PodSelector)
		if err != nil {
			t.Errorf("policy %s: %v", p.Name, err)
		}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				for _, w := range found {
					if !hasPort(w, *port.Port, *port.Protocol) {
						t.Errorf("policy %s: %s has no port %s", p.Name, w.name, port.Port.String())
					}
				}
			}
		}
	}
	for _, b := range m.bindings {
		if !m.roles[b.RoleRef.Name] {
			t.Errorf("binding %s: no role %s", b.Name, b.RoleRef.Name)
		}
		for _, s := range b.Subjects {
			if !m.accounts[s.Name] || !m.namespaces[s.Namespace] {
				t.Errorf("binding %s: no account %s/%s", b.Name, s.Namespace, s.Name)
			}
		}
	}
	for _, w := range m.workloads {
		t.Run(w.name, func(t *testing.T) { m.checkPods(t, w) })
	}
}

func (m *manifests) checkPods(t *testing.T, w workload) {
	sel, err := metav1.LabelSelectorAsSelector(w.selector)
	if err != nil || !sel.Matches(labels.Set(w.template.Labels)) {
		t.Errorf("its selector %s does not match its pods (%v)", sel, err)
	}
	if w.governing != "" && !slices.ContainsFunc(m.services, func(s corev1.Service) bool { return s.Name == w.governing }) {
		t.Errorf("no service %s", w.governing)
	}
	spec := w.template.Spec
	if !m.accounts[spec.ServiceAccountName] {
		t.Errorf("no account %q", spec.ServiceAccountName)
	}
	if terms := spec.Affinity; terms != nil {
		for _, term := range terms.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			own, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
			if err != nil || !own.Matches(labels.Set(w.template.Labels)) {
				t.Errorf("it does not keep away from its own kind: %s (%v)", own, err)
			}
		}
	}
	for _, c := range spec.TopologySpreadConstraints {
		own, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil || !own.Matches(labels.Set(w.template.Labels)) {
			t.Errorf("it does not spread its own kind: %s (%v)", own, err)
		}
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && m.configMaps[v.ConfigMap.Name].Data == nil {
			t.Errorf("volume %s: no config map %s", v.Name, v.ConfigMap.Name)
		}
	}
	for _, c := range w.claims {
		volumes[c.Name] = true
	}
	if len(spec.Containers) != 1 {
		t.Fatalf("%d containers", len(spec.Containers))
	}
	c := spec.Containers[0]
	for _, v := range c.VolumeMounts {
		if !volumes[v.Name] {
			t.Errorf("no volume %s", v.Name)
		}
		delete(volumes, v.Name)
	}
	for v := range volumes {
		t.Errorf("volume %s is not mounted", v)
	}
	for what, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if p == nil && (what == "readiness" || c.Name == "weir") {
			t.Errorf("no probe of %s", what)
		} else if p != nil && !hasPort(w, p.HTTPGet.Port, corev1.ProtocolTCP) {
			t.Errorf("probe of %s: no port %s", what, p.HTTPGet.Port.String())
		}
	}
	s := c.SecurityContext
	if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) == 0 {
		t.Error("it may do more than it has to")
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		t.Error("no limit of memory or no request of processors")
	}
	if c.Name == "weir" {
		m.checkServer(t, c, spec)
	}
}

// checkServer lets the server read its configuration, environment and flags.
func (m *manifests) checkServer(t *testing.T, c corev1.Container, spec corev1.PodSpec) {
	if spec.TerminationGracePeriodSeconds == nil || *spec.TerminationGracePeriodSeconds < 40 {
		t.Error("it has no time to stop")
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Error("variables of services begin with WEIR_ and are none of its settings")
	}
	dir := t.TempDir()
	for _, v := range spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		for name, text := range m.configMaps[v.ConfigMap.Name].Data {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, e := range c.Env {
		value := e.Value
		switch from := e.ValueFrom; {
		case from == nil:
			value = strings.ReplaceAll(value, "$(POD_IP)", "10.1.2.3")
			value = strings.ReplaceAll(value, "/etc/weir", dir)
		case from.SecretKeyRef != nil:
			v, ok := secretKeys[from.SecretKeyRef.Key]
			if !ok || from.SecretKeyRef.Name != "weir" {
				t.Errorf("%s: no secret %s, %s", e.Name, from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			}
			value = v
		case from.FieldRef != nil:
			value = map[string]string{"status.podIP": "10.1.2.3", "metadata.name": "weir-0"}[from.FieldRef.FieldPath]
		}
		env = append(env, e.Name+"="+value)
	}
	cmd := exec.Command(harness.Binary(t), append(slices.Clone(c.Args), "--print-config")...)
	cmd.Env, cmd.Dir = env, dir
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, want := range []string{"0.0.0.0:3100", "0.0.0.0:9095", "data_dir: /data"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the configuration has no %q:\n%s", want, out.String())
		}
	}
	for _, secret := range secretKeys {
		if len(secret) > 3 && strings.Contains(out.String(), secret) {
			t.Error("the configuration shows a secret")
		}
	}
}

// TestProbes: the pages that probes ask for are there, and the one for liveness
// before the process is ready.
func TestProbes(t *testing.T) {
	t.Parallel()
	m := render(t, "overlays/cluster")
	n := harness.Start(t)
	c := m.workloads[0].template.Spec.Containers[0]
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if code, body, err := n.Get(p.HTTPGet.Path); err != nil || code != 200 {
			t.Errorf("%s: %d %q, %v", p.HTTPGet.Path, code, body, err)
		}
	}
	// Who joins nobody that answers is never ready, and alive.
	away := harness.New(t, "away", "", "--target=gateway", "--join="+harness.FreeAddr(t))
	away.Start()
	harness.Until(t, func() error {
		code, _, err := away.Get(c.LivenessProbe.HTTPGet.Path)
		if err == nil && code != 200 {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
}

var inPod = regexp.MustCompile(`kubectl -n weir exec (\S+) -- /weirctl (.*?)(?: +#.*)?\n`)

// TestCommandsAreDocumented: weirctl knows what the documentation has operators run in pods, these
// are pods that there are, and an ingester leaves before the number of them is made smaller.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(harness.Root(), "docs/operations/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	weirctl := harness.Program(t, "services/cmd/weirctl")
	commands := inPod.FindAllStringSubmatch(text, -1)
	if len(commands) < 3 {
		t.Fatalf("%d commands: %q", len(commands), commands)
	}
	names := map[string]bool{}
	for _, w := range render(t, "overlays/cluster").workloads {
		names[w.name] = true
	}
	for _, c := range commands {
		if i := strings.LastIndexByte(c[1], '-'); !names[c[1][:i]] {
			t.Errorf("there is no %s", c[1])
		}
		// Nobody answers, which is another status than that of a wrong command line.
		cmd := exec.Command(weirctl, strings.Fields(c[2])...)
		cmd.Env = append(os.Environ(), "WEIR_ADDR="+harness.FreeAddr(t))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("cannot reach")) {
			t.Errorf("weirctl %s: %v %s", c[2], err, out)
		}
	}
	leave, scale := strings.Index(text, "/weirctl ring leave"), strings.Index(text, "kubectl -n weir scale")
	if leave < 0 || scale < leave {
		t.Error("the number of ingesters is made smaller before one has left")
	}
}

// TestSecretIsDocumented: the documentation names all keys of the secret.
func TestSecretIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "docs/operations/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	for key := range secretKeys {
		if !bytes.Contains(text, []byte("--from-literal="+key+"=")) {
			t.Errorf("it does not say how to create %s", key)
		}
	}
}
