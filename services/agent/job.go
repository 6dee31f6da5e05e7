package agent

import (
	"cmp"
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/services/agent/config"
	"github.com/weir-logs/weir/services/agent/config/relabel"
	"github.com/weir-logs/weir/services/agent/discover"
	"github.com/weir-logs/weir/services/agent/entry"
	"github.com/weir-logs/weir/services/agent/follow"
	"github.com/weir-logs/weir/services/agent/lines"
	"github.com/weir-logs/weir/services/agent/positions"
	"github.com/weir-logs/weir/services/agent/source"
)

// job is a scrape configuration that runs.
type job struct {
	a    *Agent
	cfg  *config.Job
	all  *config.Config
	hub  *source.Hub
	enc  *lines.Encoding
	host string

	follower *follow.Follower // of jobs that follow files
	archive  *source.Archive  // of jobs that read compressed files
	other    source.Source    // of all others
	finds    []discover.Discoverer

	found  atomic.Pointer[[]found] // what was discovered
	ending func() bool             // reading was told to end
}

// found is a target before and after relabelling.
type found struct {
	Discovered map[string]string
	Labels     map[string]string
	Dropped    string // why it is not followed; empty: it is
}

// newJob makes a job, which opens nothing yet.
func newJob(a *Agent, all *config.Config, cfg *config.Job, sink source.Sink, resume positions.Snapshot) (*job, error) {
	j := &job{a: a, cfg: cfg, all: all, host: hostname()}
	runner := func() entry.Runner { return entry.Plain{} }
	if cfg.Stages != nil {
		runner = func() entry.Runner { return cfg.Stages.NewRunner() }
	}
	j.hub = &source.Hub{
		Job: cfg.Name, Sink: sink, NewRunner: runner, Relabel: source.NewLabeler(cfg.Relabel),
		Cursors: resume.Cursors, Log: a.log.With("job", cfg.Name), Metrics: a.m.source,
	}
	if k, ok := keeperOf(sink); ok {
		j.hub.Forget = k.ForgetCursor
	}
	var err error
	if j.enc, err = lines.NewEncoding(cfg.Encoding); err != nil {
		return nil, err
	}
	if all.Target.Stdin {
		j.other = source.NewStdin(j.hub, cmp.Or(a.d.Stdin, os.Stdin), stdinLabels(cfg), int(all.Read.MaxLine))
		return j, nil
	}
	switch {
	case cfg.IsFiles():
		return j, j.newFiles(sink, resume)
	default:
		j.other, err = newOther(j)
	}
	return j, err
}

func hostname() string {
	if h := os.Getenv("HOSTNAME"); h != "" {
		return h
	}
	h, _ := os.Hostname()
	return h
}

func stdinLabels(cfg *config.Job) map[string]string {
	labels := map[string]string{}
	for _, g := range cfg.Static {
		maps.Copy(labels, g.Labels)
	}
	maps.DeleteFunc(labels, func(n, _ string) bool { return strings.HasPrefix(n, "__") })
	if len(labels) == 0 {
		labels["job"], labels["hostname"] = "stdin", hostname()
	}
	return labels
}

func (j *job) newFiles(sink source.Sink, resume positions.Snapshot) error {
	r := j.all.Read
	for _, c := range j.cfg.FileSD {
		j.finds = append(j.finds, discover.NewFiles(c.Files, c.Refresh, j.hub.Log))
	}
	for i := range j.cfg.Kubernetes {
		k, err := discover.NewKubernetes(&j.cfg.Kubernetes[i], j.host, j.hub.Log)
		if err != nil {
			return err
		}
		j.finds = append(j.finds, k)
	}
	if d := j.cfg.Decompression; d != nil && d.Enabled {
		var err error
		j.archive, err = source.NewArchive(j.hub, d.Format, d.InitialDelay, int(r.MaxLine), r.ScanInterval, j.cfg.Encoding)
		return err
	}
	fc := follow.Config{
		Job: j.cfg.Name, MaxLine: int(r.MaxLine), Poll: r.PollInterval, Scan: r.ScanInterval,
		Grace: r.RotateGrace, Partial: r.PartialWait, NoEvents: r.NoEvents, Budget: j.a.files,
	}
	fc.Groups = j.groups(j.static(), nil)
	j.follower = follow.New(fc, &fileSink{j: j, sink: sink, due: map[*follow.File]time.Time{}}, ofJob(resume.Files, j.cfg.Name), j.hub.Log, j.a.m.follow)
	return nil
}

// ofJob gives the positions that a job has, and for files of which it has none
// those that are for any job.
func ofJob(all []positions.Position, name string) (out []positions.Position) {
	have := map[positions.ID]bool{}
	for _, p := range all {
		if p.Job == name {
			have[p.ID] = true
			out = append(out, p)
		}
	}
	for _, p := range all {
		if p.Job == "" && !have[p.ID] {
			p.Job = name
			out = append(out, p)
		}
	}
	return out
}

// target is what is known of one before relabelling.
type target struct {
	labels          map[string]string
	paths, excludes []string
}

func (j *job) static() (out []target) {
	for _, g := range j.cfg.Static {
		out = append(out, target{g.Labels, g.Paths, g.Excludes})
	}
	return out
}

// groups relabels targets, and notes what became of them.
func (j *job) groups(static []target, discovered [][]map[string]string) []follow.Group {
	all := slices.Clone(static)
	for _, list := range discovered {
		for _, l := range list {
			all = append(all, target{labels: l})
		}
	}
	var out []follow.Group
	notes := make([]found, 0, len(all))
	seen := map[string]bool{}
	for _, t := range all {
		f := found{Discovered: t.labels}
		m := maps.Clone(t.labels)
		if m == nil {
			m = map[string]string{}
		}
		kept := relabel.Apply(j.cfg.Relabel, m)
		paths, excludes := slices.Clone(t.paths), slices.Clone(t.excludes)
		if p := m["__path__"]; p != "" {
			paths = append(paths, p)
		}
		if p := m["__path_exclude__"]; p != "" {
			excludes = append(excludes, p)
		}
		host := m["__host__"]
		maps.DeleteFunc(m, func(n, v string) bool { return strings.HasPrefix(n, "__") || v == "" })
		labels := model.LabelsFromMap(m)
		id := strings.Join(paths, "\xff") + labels.String()
		switch {
		case !kept:
			f.Dropped = "dropped by relabelling"
		case host != "" && host != j.host:
			f.Dropped = "wrong host"
		case len(paths) == 0:
			f.Dropped = "no path"
		case seen[id]:
			f.Dropped = "exists"
		default:
			seen[id] = true
			f.Labels = m
			out = append(out, follow.Group{
				Paths: paths, Exclude: excludes, FromEnd: j.cfg.Start == "end", Labels: labels,
				FilenameLabel: j.cfg.FilenameLabel, Encoding: j.enc,
			})
		}
		notes = append(notes, f)
	}
	j.found.Store(&notes)
	return out
}

// run reads until ctx ends, or there is no more.
func (j *job) run(ctx context.Context) error {
	if j.other != nil {
		return j.other.Run(ctx)
	}
	set := func(g []follow.Group) { j.follower.SetGroups(g) }
	if j.archive != nil {
		set = j.archive.SetGroups
	}
	if len(j.finds) > 0 {
		// The first answers are waited for, so that files that were read before
		// are known by their targets.
		first := make(chan struct{})
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var mu sync.Mutex
		lists := make([][]map[string]string, len(j.finds))
		missing := len(j.finds)
		for i, d := range j.finds {
			wg.Go(func() {
				d.Run(ctx, func(targets []map[string]string) {
					mu.Lock()
					defer mu.Unlock()
					if lists[i] == nil {
						if missing--; missing == 0 {
							close(first)
						}
					}
					lists[i] = append([]map[string]string{}, targets...)
					set(j.groups(j.static(), lists))
				})
			})
		}
		select {
		case <-first:
		case <-time.After(10 * time.Second):
		case <-ctx.Done():
		}
	}
	if j.archive != nil {
		if len(j.finds) == 0 {
			set(j.groups(j.static(), nil))
		}
		return j.archive.Run(ctx)
	}
	j.ending = func() bool { return ctx.Err() != nil }
	j.follower.Run(ctx)
	return nil
}

// fileSink takes what a follower reads through the pipeline.
type fileSink struct {
	j    *job
	sink source.Sink
	due  map[*follow.File]time.Time // files of which something is held
}

func (s *fileSink) Full() bool             { return s.sink.Full() }
func (s *fileSink) Space() <-chan struct{} { return s.sink.Room() }

func (s *fileSink) runner(f *follow.File) entry.Runner {
	if f.Data == nil {
		f.Data = s.j.hub.NewRunner()
	}
	return f.Data.(entry.Runner) //nolint:forcetypeassert // set above
}

// Lines implements follow.Sink.
func (s *fileSink) Lines(ctx context.Context, f *follow.File, ents []entry.Entry) error {
	now := time.Now()
	nano := now.UnixNano()
	for i := range ents {
		ents[i].Time = nano
	}
	if s.j.cfg.Stages == nil {
		s.add(f, ents)
		return nil
	}
	r := s.runner(f)
	out, err := r.Run(ctx, ents, now)
	if err != nil {
		return err
	}
	s.after(f, r, out)
	return nil
}

// after notes what is held and adds what came out.
func (s *fileSink) after(f *follow.File, r entry.Runner, out []entry.Entry) {
	if due := r.Deadline(); !due.IsZero() {
		s.due[f] = due
	} else {
		delete(s.due, f)
	}
	held := r.Held(nil)
	f.SetHeld(held)
	s.add(f, out)
	r.Release()
	if len(held) > positions.MaxHeld {
		// More than a position can tell of, as when thousands of streams lie in one
		// file: what is held goes out as it is.
		s.after(f, r, r.Flush(time.Now(), true))
	}
}

func (s *fileSink) add(f *follow.File, out []entry.Entry) {
	s.sink.Add(out, []positions.Position{f.Position()}, "", "")
}

// Close implements follow.Sink.
func (s *fileSink) Close(f *follow.File) {
	// At the end of the agent, or of this configuration, what is held is left: its
	// position says so, and it is read again, whole, with what follows.
	s.end(f, s.j.ending() && s.j.all.Positions.File != "")
}

// Anew implements follow.Sink.
func (s *fileSink) Anew(f *follow.File, again bool) { s.end(f, again) }

// end ends the pipeline of what f has had so far. What is held is left, or goes out as
// it is.
func (s *fileSink) end(f *follow.File, left bool) {
	if f.Data == nil {
		return
	}
	if r := s.runner(f); len(r.Held(nil)) > 0 && !left {
		s.after(f, r, r.Flush(time.Now(), true))
	}
	delete(s.due, f)
	f.Data = nil
}

// Tick implements follow.Sink.
func (s *fileSink) Tick(now time.Time) (next time.Time) {
	for f, due := range s.due {
		if !due.After(now) {
			r := s.runner(f)
			s.after(f, r, r.Flush(now, false))
			due = s.due[f]
		}
		if !due.IsZero() && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

// Start implements follow.Sink.
func (s *fileSink) Start(p positions.Position) {
	if d, ok := s.keeper(); ok {
		d.Found(p)
	}
}

// Saved implements follow.Sink.
func (s *fileSink) Saved() {
	if d, ok := s.keeper(); ok {
		d.SaveFound()
	}
}

// Forget implements follow.Sink.
func (s *fileSink) Forget(k positions.Key) {
	if d, ok := s.keeper(); ok {
		d.Forget(k)
	}
}

// keeper is what remembers positions.
type keeper interface {
	Found(p positions.Position)
	SaveFound()
	Forget(k positions.Key)
	ForgetCursor(key string)
}

func (s *fileSink) keeper() (keeper, bool) { return keeperOf(s.sink) }

func keeperOf(sink source.Sink) (keeper, bool) {
	if l, ok := sink.(*limiter); ok {
		sink = l.Sink
	}
	k, ok := sink.(keeper)
	return k, ok
}
