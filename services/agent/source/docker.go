package source

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-logs/weir/libs/client"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/lines"
)

// Docker follows the logs of a daemon's containers by its API, with the drivers
// that can read back (json-file, local, journald).
type Docker struct {
	h       *Hub
	cfg     *config.DockerSD
	api     *dockerAPI
	maxLine int
	// OnFound is told of the containers and what became of them. May be nil.
	OnFound func(discovered, labels map[string]string, dropped string)
	started time.Time

	mu      sync.Mutex
	running map[string]bool
	ended   map[string]string // of containers that were read to their end: when they ended
}

// NewDocker makes a Docker; httpClient is for daemons that are reached over the
// network.
func NewDocker(h *Hub, cfg *config.DockerSD, httpClient *http.Client, maxLine int) (*Docker, error) {
	api, err := newDockerAPI(cmp.Or(cfg.Host, "unix:///var/run/docker.sock"), httpClient)
	if err != nil {
		return nil, err
	}
	return &Docker{h: h, cfg: cfg, api: api, maxLine: maxLine, started: time.Now(), running: map[string]bool{}, ended: map[string]string{}}, nil
}

// Run implements Source.
func (d *Docker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer d.api.http.CloseIdleConnections()
	poke := make(chan struct{}, 1)
	wg.Go(func() { d.events(ctx, poke) })
	t := time.NewTicker(min(max(cmp.Or(d.cfg.Refresh, time.Minute), time.Second), time.Minute))
	defer t.Stop()
	reported := false
	for {
		all, networks, err := d.list(ctx)
		if err != nil && ctx.Err() == nil {
			d.h.Count("docker", "list")
			if !reported {
				d.h.log().Error("cannot list the containers; trying again", "err", err)
			}
		}
		reported = err != nil
		for _, c := range all {
			d.consider(ctx, &wg, c, networks)
		}
		if err == nil {
			d.forgetGone(all)
		}
		wait := t.C
		var soon <-chan time.Time
		if err != nil {
			soon = time.After(2 * time.Second)
		}
		select {
		case <-wait:
		case <-soon:
		case <-poke:
		case <-ctx.Done():
			return nil
		}
	}
}

// forgetGone forgets containers that were read to their end and removed.
func (d *Docker) forgetGone(all []dockerContainer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.ended {
		if !slices.ContainsFunc(all, func(c dockerContainer) bool { return c.ID == id }) {
			delete(d.ended, id)
			d.h.forget("cursor-" + id)
		}
	}
}

// events pokes whenever a container starts or ends.
func (d *Docker) events(ctx context.Context, poke chan<- struct{}) {
	waits := client.Backoff{Min: time.Second, Max: 30 * time.Second}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		v := url.Values{"filters": {`{"type":["container"],"event":["start","die"]}`}}
		if body, err := d.api.get(ctx, "/events?"+v.Encode()); err == nil {
			dec := json.NewDecoder(body)
			for {
				var e json.RawMessage
				if dec.Decode(&e) != nil {
					break
				}
				attempt = 0
				select {
				case poke <- struct{}{}:
				default:
				}
			}
			_ = body.Close()
		}
		select {
		case <-time.After(waits.Wait(attempt, 0)):
		case <-ctx.Done():
		}
	}
}

// dockerContainer is what a list tells of a container.
type dockerContainer struct {
	ID, State string
	Names     []string
	Created   int64
	Labels    map[string]string
	Ports     []struct {
		IP                      string
		PrivatePort, PublicPort int
		Type                    string
	}
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, NetworkID string }
	}
}

type dockerNetwork struct {
	ID, Name, Scope   string
	Internal, Ingress bool
	Labels            map[string]string
}

func (d *Docker) list(ctx context.Context) (all []dockerContainer, networks map[string]dockerNetwork, err error) {
	filters := map[string][]string{}
	for _, f := range d.cfg.Filters {
		filters[f.Name] = append(filters[f.Name], f.Values...)
	}
	text, _ := json.Marshal(filters)
	if err := d.api.json(ctx, "/containers/json?"+url.Values{"all": {"1"}, "filters": {string(text)}}.Encode(), &all); err != nil {
		return nil, nil, err
	}
	var nets []dockerNetwork
	if err := d.api.json(ctx, "/networks", &nets); err != nil {
		return nil, nil, err
	}
	networks = map[string]dockerNetwork{}
	for _, n := range nets {
		networks[n.ID] = n
	}
	return all, networks, nil
}

// consider follows a container if it is to be followed and is not yet.
func (d *Docker) consider(ctx context.Context, wg *sync.WaitGroup, c dockerContainer, networks map[string]dockerNetwork) {
	d.mu.Lock()
	defer d.mu.Unlock()
	alive := c.State == "running" || c.State == "paused" || c.State == "restarting"
	known := d.h.Cursors["cursor-"+c.ID] != ""
	if d.running[c.ID] || !alive && (d.ended[c.ID] != "" || !known && time.Unix(c.Created, 0).Before(d.started.Add(-time.Minute))) {
		return
	}
	labels := d.labels(c, networks)
	sets := map[byte]*entry.Set{}
	kept := false
	for stream, name := range map[byte]string{1: "stdout", 2: "stderr"} {
		m := maps.Clone(labels)
		m["__meta_docker_container_log_stream"] = name
		set, ok := d.h.Relabel.Set(m)
		if ok && len(set.Labels()) == 0 {
			set = entry.SetOf(map[string]string{"container": strings.TrimPrefix(labels["__meta_docker_container_name"], "/")})
		}
		if ok {
			sets[stream], kept = set, true
		}
	}
	if d.OnFound != nil {
		if kept {
			for _, s := range sets {
				d.OnFound(labels, s.Labels().Map(), "")
				break
			}
		} else {
			d.OnFound(labels, nil, "dropped by relabelling")
		}
	}
	if !kept {
		return
	}
	delete(d.ended, c.ID)
	d.running[c.ID] = true
	wg.Go(func() {
		ended := d.follow(ctx, c, sets)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.running, c.ID)
		if ended {
			d.ended[c.ID] = "ended"
		}
	})
}

var oddCharacter = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// labels gives a container's meta labels; of its networks and ports the first.
func (d *Docker) labels(c dockerContainer, networks map[string]dockerNetwork) map[string]string {
	const meta = "__meta_docker_"
	m := map[string]string{meta + "container_id": c.ID, meta + "container_network_mode": c.HostConfig.NetworkMode}
	if len(c.Names) > 0 {
		m[meta+"container_name"] = c.Names[0]
	}
	for n, v := range c.Labels {
		m[meta+"container_label_"+oddCharacter.ReplaceAllString(n, "_")] = v
	}
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		s := c.NetworkSettings.Networks[name]
		n := networks[s.NetworkID]
		m[meta+"network_id"], m[meta+"network_name"], m[meta+"network_scope"] = s.NetworkID, cmp.Or(n.Name, name), n.Scope
		m[meta+"network_internal"], m[meta+"network_ingress"] = strconv.FormatBool(n.Internal), strconv.FormatBool(n.Ingress)
		m[meta+"network_ip"] = s.IPAddress
		for k, v := range n.Labels {
			m[meta+"network_label_"+oddCharacter.ReplaceAllString(k, "_")] = v
		}
		m["__address__"] = net.JoinHostPort(s.IPAddress, strconv.Itoa(cmp.Or(d.cfg.Port, 80)))
		for _, p := range c.Ports {
			if p.Type != "tcp" {
				continue
			}
			m[meta+"port_private"] = strconv.Itoa(p.PrivatePort)
			if p.PublicPort > 0 {
				m[meta+"port_public"], m[meta+"port_public_ip"] = strconv.Itoa(p.PublicPort), p.IP
			}
			m["__address__"] = net.JoinHostPort(s.IPAddress, strconv.Itoa(p.PrivatePort))
			break
		}
		break
	}
	if c.HostConfig.NetworkMode == "host" {
		m["__address__"] = net.JoinHostPort(cmp.Or(d.cfg.HostNetworkHost, "localhost"), strconv.Itoa(cmp.Or(d.cfg.Port, 80)))
	}
	return m
}

// place is how far one stream of a container's log was read: up to the time of a
// line, and how many lines of that very time.
type place struct {
	at    int64
	count int
}

// places are the places of a log's streams, by number: 1 is stdout, 2 stderr. Within
// a stream times ascend; the log as a whole may have a line behind a later one of the
// other stream.
type places [3]place

// parsePlaces reads what String made, or one place for both streams, as Promtail
// saves it: in seconds.
func parsePlaces(s string) places {
	out, err, both := strings.Cut(s, ";")
	if !both {
		err = out
	}
	return places{1: parsePlace(out), 2: parsePlace(err)}
}

func parsePlace(s string) place {
	at, count, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n < 0 {
		return place{}
	}
	if n > 0 && n < 1e12 {
		return place{at: n * 1e9}
	}
	k, _ := strconv.Atoi(count)
	return place{n, max(k, 0)}
}

func (p places) String() string {
	return fmt.Sprintf("%d/%d;%d/%d", p[1].at, p[1].count, p[2].at, p[2].count)
}

// silent is how much earlier than the last line of one stream the first of the other
// may be that comes behind it: they take their times while they wait for each other.
const silent = int64(10 * time.Second)

// since returns the time to read on from; 0: from the beginning.
func (p places) since() int64 {
	first, last := min(p[1].at, p[2].at), max(p[1].at, p[2].at)
	if first == 0 {
		first = max(last-silent, 0)
	}
	return first
}

// follow reads a container's log until it has ended (true) or ctx has.
func (d *Docker) follow(ctx context.Context, c dockerContainer, sets map[byte]*entry.Set) (ended bool) {
	name := strings.TrimPrefix(cmp.Or(append(c.Names, c.ID)[0]), "/")
	p := d.h.Open("docker", name, "cursor-"+c.ID)
	defer d.h.Done(p)
	for _, s := range sets {
		p.Stat().Labels.Store(s)
	}
	at := parsePlaces(p.Cursor())
	log := d.h.log().With("container", name)
	log.Info("following a container", "id", c.ID[:min(12, len(c.ID))])
	waits := client.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		var info struct {
			State  struct{ Running bool }
			Config struct{ Tty bool }
		}
		err := d.api.json(ctx, "/containers/"+c.ID+"/json", &info)
		if errors.Is(err, errNotFound) {
			return true
		}
		before := at
		if err == nil {
			err = d.stream(ctx, p, c.ID, info.State.Running, info.Config.Tty, &at, sets)
			if err == nil && !info.State.Running {
				log.Info("a container has ended")
				return true
			}
		}
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			d.h.Count("docker", "logs")
			p.Stat().Fail(err)
			log.Warn("a container's log has broken off; going on where it was", "err", err)
		}
		if at != before {
			attempt = 0
		}
		select {
		case <-time.After(waits.Wait(attempt, 0)):
		case <-ctx.Done():
		}
	}
	return false
}

// stream reads one answer of the logs endpoint.
func (d *Docker) stream(ctx context.Context, p *Port, id string, follow, tty bool, at *places, sets map[byte]*entry.Set) error {
	v := url.Values{"stdout": {"1"}, "stderr": {"1"}, "timestamps": {"1"}, "follow": {strconv.FormatBool(follow)}}
	if since := at.since(); since > 0 {
		v.Set("since", fmt.Sprintf("%d.%09d", since/1e9, since%1e9))
	}
	body, err := d.api.get(ctx, "/containers/"+id+"/logs?"+v.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	p.Stat().Fail(nil)
	r := &dockerReader{
		br: bufio.NewReaderSize(body, 64<<10), tty: tty, ended: !follow, maxLine: max(d.maxLine, lines.MinLimit),
		at: at, skip: *at, sets: sets,
		put: func(ents []entry.Entry) error { return p.Put(ctx, ents, at.String()) },
	}
	return r.run()
}
