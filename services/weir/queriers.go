package weir

import (
	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/services/querier"
)

// queriers are the members that answer queries, for one of them.
type queriers struct{ p *Process }

// Self implements querier.Peers.
func (q queriers) Self() string {
	if name := q.p.clients.self.Load(); name != nil {
		return *name
	}
	return ""
}

// Queriers implements querier.Peers.
func (q queriers) Queriers() (others []querier.Peer, silent []string) {
	v, self := q.p.View(), q.Self()
	for m := range v.Table().All() {
		if !m.Roles.Has(ring.Querier) || m.State.Gone() || m.Name == self {
			continue
		}
		conn, err := q.p.clients.conn(m)
		if err != nil || !v.Healthy(m.Name) {
			silent = append(silent, m.Name)
			continue
		}
		others = append(others, querier.Peer{Name: m.Name, Client: queryv1.NewQueryServiceClient(conn)})
	}
	return others, silent
}
