package pipeline

import "slices"

// Leaves gives the labels that lines which begin with the given ones may have
// behind the stages: what some lines may have counts as there. Structured metadata
// and the tenant are no labels.
func (p *Pipeline) Leaves(labels []string) []string {
	out := slices.Clone(labels)
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	nested := 0 // up to which op stages are run for some lines only
	for i, o := range p.ops {
		switch s := o.stage.(type) {
		case *labelsStage:
			for _, l := range s.labels {
				add(l.name)
			}
		case *staticLabels:
			add(s.names...)
		case *labelSelect:
			if i >= nested {
				out = slices.DeleteFunc(out, func(n string) bool { return s.names[n] != s.keep })
			}
		case *metadataStage:
			if i >= nested {
				out = slices.DeleteFunc(out, func(n string) bool { return slices.Contains(s.names, n) })
			}
		}
		if o.name == "cri" || o.name == "docker" {
			add("stream")
		}
		nested = max(nested, o.to)
	}
	return out
}
