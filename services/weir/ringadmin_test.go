package weir

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/weir-logs/weir/libs/ring"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// deadMember is a cluster in which members are away and others vote.
type deadMember struct {
	*sick
	away      map[string]bool
	votes     int
	forgotten string
	forced    bool
}

func (d *deadMember) View() *ring.View {
	healthy := map[string]bool{}
	for m := range d.table.All() {
		healthy[m.Name] = !d.away[m.Name]
	}
	return ring.NewView(d.table, healthy, d.cfg)
}
func (d *deadMember) Agree(context.Context, string) (int, int) { return d.votes, 2 }
func (d *deadMember) Forget(name string) error                 { d.forgotten = name; return nil }
func (d *deadMember) GiveUp(name string) error                 { d.forgotten, d.forced = name, true; return nil }

func TestForgetGuards(t *testing.T) {
	for _, c := range []struct {
		what    string
		rf      int
		away    string
		wiped   string
		flushed string
		votes   int
		force   bool
		want    rpcerr.Reason
	}{
		{"most agree and the others have flushed", 3, "c", "", "ab", 2, false, ""},
		{"it is alive", 3, "", "", "ab", 2, false, rpcerr.Conflict},
		{"cut off from the others", 3, "c", "", "ab", 1, false, rpcerr.Unavailable},
		{"one has not flushed", 3, "c", "", "a", 2, false, rpcerr.Unavailable},
		{"another has a gap", 3, "c", "b", "ab", 2, false, rpcerr.Conflict},
		{"nobody else has a copy", 1, "c", "", "ab", 2, false, rpcerr.Conflict},
		{"by force", 1, "c", "", "", 0, true, ""},
	} {
		d := &deadMember{sick: newSick(t, "a", c.rf, "abc", c.wiped), away: map[string]bool{}, votes: c.votes}
		for _, n := range c.away {
			d.away[string(n)] = true
		}
		err := forget(t.Context(), d, "c", c.force, func(context.Context, *ring.View) map[string]bool {
			out := map[string]bool{}
			for _, n := range c.flushed {
				m, _ := d.table.Get(string(n))
				out[m.Incarnation] = true
			}
			return out
		})
		if got := rpcerr.ReasonOf(err); got != c.want || (d.forgotten == "c") != (c.want == "") || d.forced != c.force {
			t.Errorf("%s: %v, forgotten %q by force %v", c.what, err, d.forgotten, d.forced)
		}
	}
	d := &deadMember{sick: newSick(t, "a", 3, "abc", "")}
	if err := forget(t.Context(), d, "nobody", false, nil); !rpcerr.Is(err, rpcerr.NotFound) {
		t.Error(err)
	}
}

func TestPostRing(t *testing.T) {
	p := &Process{}
	for _, c := range []struct {
		from, form string
		code       int
		by         string // header of a proxy
	}{
		{"10.0.0.1:1", "action=forget&name=x", http.StatusForbidden, ""},
		{"127.0.0.1:1", "action=drop&name=x", http.StatusBadRequest, ""},
		{"127.0.0.1:1", "action=forget&name=x", http.StatusServiceUnavailable, ""}, // not a member yet
		{"127.0.0.1:1", "action=forget&name=x", http.StatusForbidden, "X-Forwarded-For"},
		{"127.0.0.1:1", "action=forget&name=x", http.StatusForbidden, "X-Real-IP"},
		{"127.0.0.1:1", "action=forget&name=x", http.StatusForbidden, "Forwarded"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/ring", strings.NewReader(c.form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = c.from
		if c.by != "" {
			r.Header.Set(c.by, "127.0.0.1")
		}
		w := httptest.NewRecorder()
		p.postRing(w, r)
		if w.Code != c.code {
			t.Errorf("%s from %s: %d %s", c.form, c.from, w.Code, w.Body)
		}
	}
}

func TestRingPages(t *testing.T) {
	p := startProcess(t, t.TempDir(), nil)
	for _, path := range []string{"/ring", "/distributor/ring", "/memberlist"} {
		for accept, kind := range map[string]string{"": "application/json", "text/html,*/*": "text/html; charset=utf-8"} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.HTTPAddr()+path, nil)
			r.Header.Set("Accept", accept)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != kind {
				t.Errorf("%s as %q: %s %s", path, accept, resp.Status, resp.Header.Get("Content-Type"))
			}
		}
	}
	resp, err := http.PostForm("http://"+p.HTTPAddr()+"/ring", url.Values{"action": {"acknowledge"}, "name": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status, err)
	}
}
