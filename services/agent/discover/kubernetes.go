package discover

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/config"
)

// Kubernetes lists and watches the pods of this node by the API server. Of a pod
// comes a target for each port of each container, or one if it has none.
type Kubernetes struct {
	base       string
	namespaces []string // empty: all
	labels     string   // selectors
	fields     string
	http       *http.Client
	token      func() (string, error)
	basic      *config.BasicAuth
	log        *slog.Logger
	backoff    client.Backoff

	pods map[string][]map[string]string // by namespace/name
}

// inCluster is where pods find their credentials.
const inCluster = "/var/run/secrets/kubernetes.io/serviceaccount"

// NewKubernetes makes a Kubernetes for pods of the node host.
func NewKubernetes(cfg *config.KubernetesSD, host string, log *slog.Logger) (*Kubernetes, error) {
	if cfg.Role != "pod" {
		return nil, fmt.Errorf("kubernetes_sd_configs: role %q is not supported, only pod", cfg.Role)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Kubernetes{
		log: log, namespaces: cfg.Namespaces.Names, pods: map[string][]map[string]string{},
		fields: "spec.nodeName=" + host, backoff: client.Backoff{Min: time.Second, Max: 30 * time.Second},
		token: func() (string, error) { return "", nil },
	}
	if cfg.Namespaces.Own {
		ns, err := os.ReadFile(inCluster + "/namespace")
		if err != nil {
			return nil, err
		}
		k.namespaces = []string{strings.TrimSpace(string(ns))}
	}
	for _, s := range cfg.Selectors {
		if s.Role == "pod" {
			k.labels = s.Label
			if s.Field != "" {
				k.fields += "," + s.Field
			}
		}
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case cfg.Kubeconfig != "":
		if err := k.kubeconfig(cfg.Kubeconfig, tc); err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.Kubeconfig, err)
		}
	case cfg.APIServer != "":
		k.base = strings.TrimSuffix(cfg.APIServer, "/")
		h := cfg.HTTP
		if err := fill(tc, h.TLS.CA, h.TLS.CAFile, h.TLS.Cert, h.TLS.CertFile, h.TLS.Key, h.TLS.KeyFile); err != nil {
			return nil, err
		}
		tc.ServerName, tc.InsecureSkipVerify = h.TLS.ServerName, h.TLS.Insecure
		text, file := h.BearerToken, h.BearerTokenFile
		if z := h.Authorization; z != nil {
			text, file = z.Credentials, z.CredentialsFile
		}
		k.token = tokenOf(text, file)
		k.basic = h.BasicAuth
	default:
		addr, port := os.Getenv("KUBERNETES_SERVICE_HOST"), cmp.Or(os.Getenv("KUBERNETES_SERVICE_PORT"), "443")
		if addr == "" {
			return nil, errors.New("kubernetes_sd_configs: not in a cluster, and no api_server is named")
		}
		if strings.Contains(addr, ":") {
			addr = "[" + addr + "]"
		}
		k.base = "https://" + addr + ":" + port
		if err := fill(tc, "", inCluster+"/ca.crt", "", "", "", ""); err != nil {
			return nil, err
		}
		k.token = tokenOf("", inCluster+"/token")
	}
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	t.TLSClientConfig = tc
	t.ResponseHeaderTimeout = 30 * time.Second
	k.http = &http.Client{Transport: t}
	return k, nil
}

// Run implements Discoverer.
func (k *Kubernetes) Run(ctx context.Context, update func([]map[string]string)) {
	namespaces := k.namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	changes := make(chan func(), 64)
	done := make(chan struct{})
	for _, ns := range namespaces {
		go func() {
			defer func() { done <- struct{}{} }()
			k.follow(ctx, ns, changes)
		}()
	}
	ended := 0
	for ended < len(namespaces) {
		select {
		case c := <-changes:
			c()
			for more := true; more; { // together, as many as there are
				select {
				case c := <-changes:
					c()
				default:
					more = false
				}
			}
			var all []map[string]string
			for _, name := range slices.Sorted(maps.Keys(k.pods)) {
				all = append(all, k.pods[name]...)
			}
			update(all)
		case <-done:
			ended++
		}
	}
}

type pod struct {
	Metadata struct {
		Name, Namespace, UID string
		ResourceVersion      string `json:"resourceVersion"`
		Labels, Annotations  map[string]string
		OwnerReferences      []struct {
			Kind, Name string
			Controller bool
		} `json:"ownerReferences"`
	}
	Spec struct {
		NodeName                   string
		Containers, InitContainers []container
	}
	Status struct {
		Phase, PodIP, HostIP                     string
		Conditions                               []struct{ Type, Status string }
		ContainerStatuses, InitContainerStatuses []struct {
			Name        string
			ContainerID string
		}
	}
}

type container struct {
	Name, Image string
	Ports       []struct {
		Name          string
		ContainerPort int
		Protocol      string
	}
}

// follow lists the pods of a namespace and watches them.
func (k *Kubernetes) follow(ctx context.Context, ns string, changes chan<- func()) {
	send := func(f func()) bool {
		select {
		case changes <- f:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		version, err := k.list(ctx, ns, send)
		if err == nil {
			attempt = 0
			for err == nil && ctx.Err() == nil {
				version, err = k.watch(ctx, ns, version, send)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errGone) {
			k.log.Warn("cannot follow the pods; trying again", "err", err)
		}
		t := time.NewTimer(k.backoff.Wait(attempt, 0))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

var errGone = errors.New("the list is too old")

func (k *Kubernetes) get(ctx context.Context, ns string, more url.Values) (*http.Response, error) {
	path := "/api/v1/pods"
	if ns != "" {
		path = "/api/v1/namespaces/" + url.PathEscape(ns) + "/pods"
	}
	more.Set("fieldSelector", k.fields)
	if k.labels != "" {
		more.Set("labelSelector", k.labels)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.base+path+"?"+more.Encode(), nil)
	if err != nil {
		return nil, err
	}
	token, err := k.token()
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	} else if b := k.basic; b != nil {
		req.SetBasicAuth(b.Username, b.Password)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusGone {
		return nil, errGone
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	return nil, fmt.Errorf("the API server answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
}

func (k *Kubernetes) list(ctx context.Context, ns string, send func(func()) bool) (version string, err error) {
	all := map[string][]map[string]string{}
	for next := ""; ; {
		v := url.Values{"limit": {"500"}}
		if next != "" {
			v.Set("continue", next)
		}
		resp, err := k.get(ctx, ns, v)
		if err != nil {
			return "", err
		}
		var l struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
				Continue        string
			}
			Items []pod
		}
		err = json.NewDecoder(io.LimitReader(resp.Body, maxFile)).Decode(&l)
		_ = resp.Body.Close()
		if err != nil {
			return "", err
		}
		for i := range l.Items {
			p := &l.Items[i]
			all[p.Metadata.Namespace+"/"+p.Metadata.Name] = podTargets(p)
		}
		version, next = l.Metadata.ResourceVersion, l.Metadata.Continue
		if next == "" {
			break
		}
	}
	send(func() {
		maps.DeleteFunc(k.pods, func(name string, _ []map[string]string) bool {
			return ns == "" || strings.HasPrefix(name, ns+"/")
		})
		maps.Copy(k.pods, all)
	})
	return version, nil
}

// watch tells of changes since a version. A nil error: the server has ended the
// watch, which it does now and then.
func (k *Kubernetes) watch(ctx context.Context, ns, version string, send func(func()) bool) (string, error) {
	resp, err := k.get(ctx, ns, url.Values{
		"watch": {"1"}, "resourceVersion": {version}, "allowWatchBookmarks": {"true"}, "timeoutSeconds": {"300"},
	})
	if err != nil {
		return version, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	began := time.Now()
	for n := 0; ; n++ {
		var e struct {
			Type   string
			Object json.RawMessage
		}
		if err := dec.Decode(&e); err != nil {
			if errors.Is(err, io.EOF) && (n > 0 || time.Since(began) > time.Second) {
				return version, nil
			}
			return version, err
		}
		if e.Type == "ERROR" {
			return version, errGone
		}
		var p pod
		if err := json.Unmarshal(e.Object, &p); err != nil {
			return version, err
		}
		version = p.Metadata.ResourceVersion
		name := p.Metadata.Namespace + "/" + p.Metadata.Name
		switch e.Type {
		case "ADDED", "MODIFIED":
			targets := podTargets(&p)
			send(func() { k.pods[name] = targets })
		case "DELETED":
			send(func() { delete(k.pods, name) })
		}
	}
}

var oddCharacter = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func labelPart(s string) string { return oddCharacter.ReplaceAllString(s, "_") }

// podTargets gives a pod's targets: none until it has an address.
func podTargets(p *pod) (out []map[string]string) {
	if p.Status.PodIP == "" {
		return nil
	}
	const meta = "__meta_kubernetes_"
	m := map[string]string{
		meta + "namespace": p.Metadata.Namespace, meta + "pod_name": p.Metadata.Name, meta + "pod_ip": p.Status.PodIP,
		meta + "pod_phase": p.Status.Phase, meta + "pod_node_name": p.Spec.NodeName, meta + "pod_host_ip": p.Status.HostIP,
		meta + "pod_uid": p.Metadata.UID, meta + "pod_ready": "unknown",
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			m[meta+"pod_ready"] = strings.ToLower(c.Status)
		}
	}
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller {
			m[meta+"pod_controller_kind"], m[meta+"pod_controller_name"] = o.Kind, o.Name
		}
	}
	for n, v := range p.Metadata.Labels {
		m[meta+"pod_label_"+labelPart(n)], m[meta+"pod_labelpresent_"+labelPart(n)] = v, "true"
	}
	for n, v := range p.Metadata.Annotations {
		m[meta+"pod_annotation_"+labelPart(n)], m[meta+"pod_annotationpresent_"+labelPart(n)] = v, "true"
	}
	ids := map[string]string{}
	for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		ids[s.Name] = s.ContainerID
	}
	add := func(list []container, init bool) {
		for _, c := range list {
			base := maps.Clone(m)
			base[meta+"pod_container_name"], base[meta+"pod_container_image"] = c.Name, c.Image
			base[meta+"pod_container_id"] = ids[c.Name]
			base[meta+"pod_container_init"] = strconv.FormatBool(init)
			if len(c.Ports) == 0 {
				base["__address__"] = p.Status.PodIP
				out = append(out, base)
				continue
			}
			for _, port := range c.Ports {
				t := maps.Clone(base)
				number := strconv.Itoa(port.ContainerPort)
				t["__address__"] = p.Status.PodIP + ":" + number
				t[meta+"pod_container_port_name"], t[meta+"pod_container_port_number"] = port.Name, number
				t[meta+"pod_container_port_protocol"] = port.Protocol
				out = append(out, t)
			}
		}
	}
	add(p.Spec.Containers, false)
	add(p.Spec.InitContainers, true)
	return out
}
