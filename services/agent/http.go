package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-logs/weir/services/agent/status"
)

// Handler serves /metrics, /ready, /targets, /service-discovery, the status as
// JSON, and /reload where it is enabled.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	srv := a.cfg.Server
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := a.Ready(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "not ready: %v\n", err)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET "+status.Path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.Status())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, srv.PathPrefix+"/targets", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /targets", func(w http.ResponseWriter, _ *http.Request) { page(w, targetsPage, a.Status()) })
	mux.HandleFunc("GET /service-discovery", func(w http.ResponseWriter, r *http.Request) {
		all := a.discovered()
		if r.Header.Get("Accept") == "application/json" || r.URL.Query().Get("format") == "json" {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(all)
			return
		}
		page(w, discoveryPage, all)
	})
	reload := func(w http.ResponseWriter, r *http.Request) {
		if !srv.EnableReload && r.Method != http.MethodPost {
			http.Error(w, "reload by POST, or set enable_runtime_reload", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 50*time.Second)
		defer cancel()
		if err := a.Reload(ctx); err != nil {
			http.Error(w, "failed to reload config: "+err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "reloaded")
	}
	mux.HandleFunc("/reload", reload)
	if srv.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	}
	if srv.PathPrefix == "" {
		return mux
	}
	outer := http.NewServeMux()
	outer.Handle(srv.PathPrefix+"/", http.StripPrefix(srv.PathPrefix, mux))
	outer.Handle("GET /ready", mux)
	return outer
}

// Status says what the agent does.
func (a *Agent) Status() status.Status {
	out := status.Status{Time: time.Now(), Started: a.started, Version: a.d.Version, Targets: []status.Target{}, Clients: []status.Client{}}
	if err := a.Ready(); err != nil {
		out.Trouble = err.Error()
	} else {
		out.Ready = true
	}
	s := a.current()
	if s == nil {
		return out
	}
	for _, j := range s.jobs {
		if j.follower != nil {
			for _, f := range j.follower.Status() {
				t := status.Target{
					Job: j.cfg.Name, Kind: "file", Name: f.Path, Labels: f.Labels.Labels().Map(), State: "idle",
					Lines: f.Lines, Bytes: f.Bytes, LinesPerSecond: f.LinesPerSec, BytesPerSecond: f.BytesPerSec,
					Size: f.Size, Read: f.Read, Acked: s.delivery.Acked(f.Key),
				}
				t.LagBytes = max(0, t.Size-min(t.Acked, t.Read))
				if f.Read < f.Size {
					t.State = "reading"
				}
				if f.Waiting {
					t.State = "waiting"
				}
				if t.LagBytes > 0 {
					t.LagSeconds = max(0, out.Time.Sub(f.BehindSince).Seconds())
				}
				out.Targets = append(out.Targets, t)
			}
		}
		for _, st := range j.hub.Stats() {
			t := status.Target{
				Job: j.cfg.Name, Kind: st.Kind, Name: st.Name, Labels: st.Labels.Load().Labels().Map(), State: "idle",
				Lines: st.Lines.Load(), Bytes: st.Bytes.Load(), Size: -1, Read: -1, Acked: -1,
			}
			if last := st.Last.Load(); last > 0 && out.Time.Sub(time.Unix(0, last)) < 5*time.Second {
				t.State = "reading"
			}
			if st.Waiting.Load() {
				t.State = "waiting"
			}
			if e := st.Error.Load(); e != nil {
				t.State, t.Error = "failed", *e
			}
			out.Targets = append(out.Targets, t)
		}
	}
	out.Clients = s.delivery.Clients()
	return out
}

// jobFound is what a job has discovered.
type jobFound struct {
	Job     string  `json:"job"`
	Targets []found `json:"targets"`
}

func (a *Agent) discovered() (out []jobFound) {
	s := a.current()
	if s == nil {
		return nil
	}
	for _, j := range s.jobs {
		f := jobFound{Job: j.cfg.Name}
		if p := j.found.Load(); p != nil {
			f.Targets = *p
		}
		out = append(out, f)
	}
	return out
}

// targetCollector gives metrics for each target.
type targetCollector struct{ a *Agent }

var (
	lagBytes    = prometheus.NewDesc("weir_agent_target_lag_bytes", "Bytes of a file that not every server has acknowledged.", []string{"job", "target"}, nil)
	lagSeconds  = prometheus.NewDesc("weir_agent_target_lag_seconds", "How long a file has been behind.", []string{"job", "target"}, nil)
	targetLines = prometheus.NewDesc("weir_agent_target_lines_total", "Lines read from a target.", []string{"job", "target"}, nil)
	targetBytes = prometheus.NewDesc("weir_agent_target_bytes_total", "Bytes read from a target.", []string{"job", "target"}, nil)
)

// Describe implements prometheus.Collector.
func (targetCollector) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagBytes, lagSeconds, targetLines, targetBytes} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (t targetCollector) Collect(c chan<- prometheus.Metric) {
	type id struct{ job, name string }
	all := map[id]status.Target{}
	for _, s := range t.a.Status().Targets {
		k := id{s.Job, s.Name}
		sum := all[k] // files that bore one name are one target
		sum.LagBytes += s.LagBytes
		sum.LagSeconds = max(sum.LagSeconds, s.LagSeconds)
		sum.Lines += s.Lines
		sum.Bytes += s.Bytes
		sum.Size = max(sum.Size, s.Size)
		all[k] = sum
	}
	for k, s := range all {
		c <- prometheus.MustNewConstMetric(lagBytes, prometheus.GaugeValue, float64(s.LagBytes), k.job, k.name)
		c <- prometheus.MustNewConstMetric(lagSeconds, prometheus.GaugeValue, s.LagSeconds, k.job, k.name)
		c <- prometheus.MustNewConstMetric(targetLines, prometheus.CounterValue, float64(s.Lines), k.job, k.name)
		c <- prometheus.MustNewConstMetric(targetBytes, prometheus.CounterValue, float64(s.Bytes), k.job, k.name)
	}
}

func page(w http.ResponseWriter, t *template.Template, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = t.Execute(w, data)
}

const head = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Weir agent</title>
<style>body{font:14px sans-serif;margin:1.5em}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00}code{font-size:12px}</style>
<p><a href="targets">Targets</a> · <a href="service-discovery">Service discovery</a> · <a href="metrics">Metrics</a> · <a href="ready">Ready</a></p>
`

func labelText(m map[string]string) string {
	out := "{"
	for i, n := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%s=%q", n, m[n])
	}
	return out + "}"
}

var functions = template.FuncMap{"labels": labelText}

var targetsPage = template.Must(template.New("targets").Funcs(functions).Parse(head + `<h1>Targets</h1>
{{if .Trouble}}<p class="bad">{{.Trouble}}</p>{{end}}
<table><tr><th>Client<th>URL<th>State<th>Queue (bytes)<th>Limit<th>Sent<th>Refused<th>Dropped</tr>
{{range .Clients}}<tr><td>{{.Name}}<td>{{.URL}}<td>{{.State}} <span class="bad">{{.Error}}</span><td class="n">{{.QueueBytes}}<td class="n">{{.QueueLimit}}<td class="n">{{.Sent}}<td class="n">{{.Refused}}<td class="n">{{.Dropped}}</tr>{{end}}
</table>
<table><tr><th>Job<th>Kind<th>Target<th>Labels<th>State<th>Lines<th>Bytes/s<th>Read<th>Acknowledged<th>Size<th>Lag (bytes)<th>Lag (s)</tr>
{{range .Targets}}<tr><td>{{.Job}}<td>{{.Kind}}<td>{{.Name}}<td><code>{{labels .Labels}}</code><td>{{.State}} <span class="bad">{{.Error}}</span><td class="n">{{.Lines}}<td class="n">{{printf "%.0f" .BytesPerSecond}}<td class="n">{{.Read}}<td class="n">{{.Acked}}<td class="n">{{.Size}}<td class="n">{{.LagBytes}}<td class="n">{{printf "%.1f" .LagSeconds}}</tr>{{end}}
</table></html>`))

var discoveryPage = template.Must(template.New("discovery").Funcs(functions).Parse(head + `<h1>Service discovery</h1>
{{range .}}<h2>{{.Job}}</h2><table><tr><th>Discovered labels<th>Labels</tr>
{{range .Targets}}<tr><td><code>{{labels .Discovered}}</code><td>{{if .Dropped}}<span class="bad">{{.Dropped}}</span>{{else}}<code>{{labels .Labels}}</code>{{end}}</tr>{{end}}
</table>{{end}}</html>`))

// Healthcheck asks the agent that listens at addr whether it is ready.
func Healthcheck(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/ready", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("the agent is not ready: " + resp.Status)
	}
	return nil
}
