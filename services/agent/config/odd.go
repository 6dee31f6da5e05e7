package config

import (
	"net"
	"slices"

	"github.com/bmatcuk/doublestar/v4"
)

// odd warns of what can be run and is hardly meant.
func (k *checker) odd() {
	for i := range k.c.Jobs {
		j := &k.c.Jobs[i]
		k.noLabels(j)
		k.open(j)
		for l := range i {
			if p := overlap(&k.c.Jobs[l], j); p != "" {
				k.warn(j.Line, "job "+j.Name, "%s is read by job %s too (line %d), so its lines are sent twice; exclude it from one of them", p, k.c.Jobs[l].Name, k.c.Jobs[l].Line)
				break
			}
		}
	}
}

// noLabels warns of stages that remove every label: servers refuse such lines.
func (k *checker) noLabels(j *Job) {
	if j.Stages == nil || len(j.Relabel) > 0 || len(j.FileSD)+len(j.Kubernetes) > 0 || !j.IsFiles() {
		return // which labels there are is not known here
	}
	external := len(k.c.ExternalLabels) > 0
	for _, c := range k.c.Clients {
		external = external || len(c.ExternalLabels) > 0
	}
	if external {
		return
	}
	for _, g := range j.Static {
		var names []string
		for n := range g.Labels {
			if len(n) < 2 || n[:2] != "__" {
				names = append(names, n)
			}
		}
		if j.FilenameLabel != "" {
			names = append(names, j.FilenameLabel)
		}
		if len(names) > 0 && len(j.Stages.Leaves(names)) == 0 {
			k.warn(j.Line, "job "+j.Name, "its stages leave no label, and servers refuse lines without labels; keep one, or set one with static_labels")
			return
		}
	}
}

// open warns of receivers that anyone on the network may push to.
func (k *checker) open(j *Job) {
	var addrs []string
	switch {
	case j.Push != nil:
		if t := j.Push.Server.TLS; t.ClientCA == "" && t.CAFile == "" {
			addrs = []string{j.Push.Listen}
		}
	case j.OTLP != nil:
		addrs = []string{j.OTLP.Listen, j.OTLP.GRPCListen}
	case j.GELF != nil:
		addrs = []string{j.GELF.Listen}
	}
	for _, a := range addrs {
		host, _, err := net.SplitHostPort(a)
		if err == nil && host == "" {
			k.warn(j.Line, "job "+j.Name, "listens on %s, which is every network, and takes lines from anyone; name an address, as 127.0.0.1 or 0.0.0.0", a)
		}
	}
}

// overlap gives a pattern of b whose files, or the most of them, a reads too.
func overlap(a, b *Job) string {
	if !a.IsFiles() || !b.IsFiles() {
		return ""
	}
	for _, ga := range a.Static {
		for _, gb := range b.Static {
			if ga.Labels["__host__"] != gb.Labels["__host__"] {
				continue
			}
			for _, pb := range gb.patterns() {
				if covers(ga.excludes(), pb) {
					continue
				}
				for _, pa := range ga.patterns() {
					if covers([]string{pa}, pb) || covers([]string{pb}, pa) && !covers(gb.excludes(), pa) {
						return pb
					}
				}
			}
		}
	}
	return ""
}

func (g *Group) patterns() []string { return withLabel(g.Paths, g.Labels["__path__"]) }
func (g *Group) excludes() []string { return withLabel(g.Excludes, g.Labels["__path_exclude__"]) }

func withLabel(list []string, more string) []string {
	if more == "" {
		return list
	}
	return append(slices.Clone(list), more)
}

// covers says whether patterns name a path, or what a pattern names as far as that
// shows by its text.
func covers(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := doublestar.PathMatch(p, path)
		return ok || p == path
	})
}
