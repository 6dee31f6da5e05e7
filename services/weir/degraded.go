package weir

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/ring"
)

// addConditions registers what may be wrong with a process that serves requests all the
// same.
func (p *Process) addConditions() {
	p.server.AddCondition("gossip", p.ofView(unheard))
	p.server.AddCondition("ingesters", p.ofView(fewIngesters))
	p.server.AddCondition("gap", p.ofView(ownGaps))
	p.server.AddCondition("loss", p.ofView(recordedLosses))
	if p.ingester != nil {
		p.server.AddCondition("disk", p.ingester.DiskFull)
	}
}

// ofView has a condition of the member table looked at once the process has joined.
func (p *Process) ofView(look func(v *ring.View, self string) string) func() string {
	return func() string {
		m := p.member.Load()
		if m == nil {
			return ""
		}
		return look((*m).View(), (*m).Self().Name)
	}
}

// away tells of an object store that does not answer. Ingesters keep what they take on their
// disks meanwhile.
func (st *storage) away() string {
	if what := st.bucket.Away(); what != "" {
		return "the object store does not answer: " + what + "; the log says why"
	}
	return ""
}

// damagedDeletes tells of tenants of which nothing is answered and nothing merged, since nobody can
// say what was deleted.
func (st *storage) damagedDeletes() string {
	keys := st.deletes.Damaged()
	if len(keys) == 0 {
		return ""
	}
	return "what was deleted cannot be told, so queries of these tenants fail: damaged are " + tombstone.Names(keys)
}

// unheard tells of a process that hears nobody, though there are others: it goes by the
// members as they were.
func unheard(v *ring.View, self string) string {
	others := 0
	for m := range v.Table().All() {
		switch {
		case m.Name == self || m.State.Gone():
		case v.Healthy(m.Name):
			return ""
		default:
			others++
		}
	}
	if others == 0 {
		return ""
	}
	return fmt.Sprintf("none of %d other members is heard", others)
}

// fewIngesters tells of a process that is on the smaller side of a partition, or in a cluster of
// which too many ingesters are away.
func fewIngesters(v *ring.View, _ string) string {
	healthy, writable := 0, 0
	all := v.Ingesters()
	for _, m := range all {
		if !v.Healthy(m.Name) {
			continue
		}
		healthy++
		if m.State == ring.Active {
			writable++
		}
	}
	switch {
	case writable < v.Quorum():
		return fmt.Sprintf("%d of %d ingesters are healthy and take writes, %d must", writable, len(all), v.Quorum())
	case 2*healthy <= len(all):
		return fmt.Sprintf("%d of %d ingesters are healthy, no more than half", healthy, len(all))
	}
	return ""
}

// ownGaps tells of what this process' data directory has lost until the others have made up
// for it.
func ownGaps(v *ring.View, self string) string {
	n := 0
	for _, m := range v.Gaps() {
		if m.Name == self {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d parts of what this ingester had are missing until the other ingesters have flushed", n)
}

// recordedLosses tells of what nobody has any more, until that is acknowledged.
func recordedLosses(v *ring.View, _ string) string {
	var names []string
	for _, m := range v.Losses() {
		names = append(names, m.Name)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "entries are lost of " + strings.Join(slices.Compact(names), ", ")
}
