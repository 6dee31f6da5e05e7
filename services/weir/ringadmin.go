package weir

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	adminv1 "github.com/weir-logs/weir/gen/go/weir/admin/v1"
	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/ring/gossip"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/serve"
)

// Forget implements adminv1.AdminServiceServer.
func (a *admin) Forget(ctx context.Context, req *adminv1.ForgetRequest) (*adminv1.ForgetResponse, error) {
	if err := a.operator(ctx); err != nil {
		return nil, err
	}
	return &adminv1.ForgetResponse{}, a.p.forget(ctx, req.GetName(), req.GetForce())
}

// AcknowledgeLoss implements adminv1.AdminServiceServer.
func (a *admin) AcknowledgeLoss(ctx context.Context, req *adminv1.AcknowledgeLossRequest) (*adminv1.AcknowledgeLossResponse, error) {
	if err := a.operator(ctx); err != nil {
		return nil, err
	}
	n, err := a.p.acknowledge(req.GetName())
	return &adminv1.AcknowledgeLossResponse{Acknowledged: uint32(n)}, err
}

// membership is what forgetting needs of gossip.Membership.
type membership interface {
	View() *ring.View
	Agree(ctx context.Context, name string) (votes, needed int)
	Forget(name string) error
	GiveUp(name string) error
}

// forget gives up a member: an ingester when most others hold it for dead and have put
// into the store what they shared with it.
func (p *Process) forget(ctx context.Context, name string, force bool) error {
	m := p.member.Load()
	if m == nil {
		return rpcerr.New(rpcerr.NotReady, "not a member yet").WithRetry(time.Second)
	}
	return forget(ctx, *m, name, force, func(ctx context.Context, v *ring.View) map[string]bool {
		return flushAll(ctx, v, p.flushMember, p.tel.Log)
	})
}

func forget(ctx context.Context, m membership, name string, force bool, flush func(context.Context, *ring.View) map[string]bool) error {
	view := m.View()
	record, ok := view.Table().Get(name)
	switch {
	case !ok || record.State == ring.Forgotten:
		return rpcerr.New(rpcerr.NotFound, "there is no member %q", name)
	case force:
		return forgetError(m.GiveUp(name))
	case !record.Stores() || record.State == ring.Left:
		return forgetError(m.Forget(name))
	case view.Healthy(name):
		return forgetError(gossip.ErrHealthy)
	}
	if votes, needed := m.Agree(ctx, name); votes < needed {
		return rpcerr.New(rpcerr.Unavailable, "%d ingesters hold %s for dead, %d must", votes, name, needed).WithRetry(10 * time.Second)
	}
	view = m.View()
	absent := func(flushed map[string]bool) (bool, []*ring.Member) {
		return view.CompleteAnywhere(func(o *ring.Member) bool { return o.Name != name && (flushed == nil || flushed[o.Incarnation]) })
	}
	if possible, _ := absent(nil); !possible {
		return rpcerr.New(rpcerr.Conflict, "%s may hold entries that are nowhere else: forgetting it by force records that they are lost", name)
	}
	if ok, missing := absent(flush(ctx, view)); !ok {
		var names []string
		for _, o := range missing {
			if o.Name != name {
				names = append(names, o.Name)
			}
		}
		return rpcerr.New(rpcerr.Unavailable, "%s have not put into the store what they share with %s", strings.Join(names, ", "), name).WithRetry(10 * time.Second)
	}
	return forgetError(m.Forget(name))
}

func forgetError(err error) error {
	switch {
	case errors.Is(err, gossip.ErrHealthy):
		return rpcerr.Wrap(err, rpcerr.Conflict, "the member is alive: stop it, or let it leave, first")
	case errors.Is(err, ring.ErrUnknownMember):
		return rpcerr.Wrap(err, rpcerr.NotFound, "%v", err)
	}
	return err
}

// acknowledge ends the warnings about what a member has lost, and returns how many
// losses there were.
func (p *Process) acknowledge(name string) (int, error) {
	m := p.member.Load()
	if m == nil {
		return 0, rpcerr.New(rpcerr.NotReady, "not a member yet").WithRetry(time.Second)
	}
	n := 0
	for _, l := range (*m).View().Losses() {
		if l.Name != name {
			continue
		}
		if err := (*m).Settle(l.Name, l.Incarnation, ring.Forgotten); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, rpcerr.New(rpcerr.NotFound, "member %q has no recorded loss", name)
	}
	return n, nil
}

//go:embed ring.html
var ringHTML string

var ringPages = template.Must(template.New("").Funcs(template.FuncMap{
	"percent": func(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) },
	"time":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).Parse(ringHTML))

// registerRing registers the pages of the ring: HTML for browsers, JSON for others.
func (p *Process) registerRing() {
	get := func(path, page string, status func(gossip.Membership) any) {
		p.server.Ops().HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			m := p.member.Load()
			if m == nil {
				rpcerr.WriteHTTP(w, r, rpcerr.New(rpcerr.NotReady, "not a member yet"))
				return
			}
			w.Header().Set("Vary", "Accept")
			if !strings.Contains(r.Header.Get("Accept"), "text/html") {
				serve.WriteJSON(w, status(*m))
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
			_ = ringPages.ExecuteTemplate(w, page, status(*m)) // the client is gone
		})
	}
	// All services share the one ring, which Loki has a page of for each.
	for _, path := range []string{"/ring", "/distributor/ring", "/ingester/ring", "/compactor/ring"} {
		get(path, "ring", func(m gossip.Membership) any { return m.RingStatus() })
	}
	get("/memberlist", "memberlist", func(m gossip.Membership) any { return m.GossipStatus() })
	// A page of another site must not do it in the operator's browser.
	p.server.Ops().Handle("POST /ring", http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.postRing)))
}

// postRing does what the buttons of the page ask for: action=forget or acknowledge,
// name, and force=true.
func (p *Process) postRing(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	to, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if err != nil || !from.Addr().Unmap().IsLoopback() && (to == nil || !sameHost(from, to.String())) || serve.ByProxy(r) {
		rpcerr.WriteHTTP(w, r, rpcerr.New(rpcerr.PermissionDenied, "only callers on this machine may do this, not %s", r.RemoteAddr))
		return
	}
	if err := p.operators().Check(r.Header.Get("Authorization")); err != nil {
		rpcerr.WriteHTTP(w, r, err)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	name := r.FormValue("name")
	switch action := r.FormValue("action"); action {
	case "forget":
		err = p.forget(r.Context(), name, r.FormValue("force") == "true")
	case "acknowledge":
		_, err = p.acknowledge(name)
	default:
		err = rpcerr.New(rpcerr.InvalidArgument, "action is %q, must be forget or acknowledge", action)
	}
	if err != nil {
		rpcerr.WriteHTTP(w, r, err)
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/ring", http.StatusSeeOther)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
