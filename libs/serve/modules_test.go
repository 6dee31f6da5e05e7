package serve

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// journal notes what happens, for several goroutines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) index(line string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Index(j.lines, line)
}

// module is a module that notes its start and stop.
func (j *journal) module(name string, deps ...string) Module {
	return Module{Name: name, DependsOn: deps, Init: func() (Service, error) {
		j.note("init " + name)
		return NewService(
			func(context.Context) error { j.note("start " + name); return nil },
			func(ctx context.Context) error { <-ctx.Done(); return nil },
			func(error) error { j.note("stop " + name); return nil },
		), nil
	}}
}

func stopped(t *testing.T, m *Modules) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.Stop(ctx)
}

func TestModulesInOrder(t *testing.T) {
	var j journal
	m := NewModules(quiet)
	hidden := j.module("store")
	hidden.Visibility = Hidden
	m.Add(
		j.module("querier", "ring", "store"),
		j.module("ingester", "wal"),
		j.module("unused"),
		hidden,
		Module{Name: "wal", DependsOn: []string{"store"}, Visibility: Hidden, Init: func() (Service, error) { j.note("init wal"); return nil, nil }},
		Module{Name: "ring", DependsOn: []string{"store"}, Visibility: HiddenTarget},
		Module{Name: "all", DependsOn: []string{"querier", "ingester"}},
	)
	changes := map[string][]State{}
	var mu sync.Mutex
	ends := make(chan string, 10)
	m.Listen(func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		changes[c.Module] = append(changes[c.Module], c.To)
		if c.To == StateTerminated {
			ends <- c.Module
		}
	})
	if got := m.Targets(); !slices.Equal(got, []string{"all", "ingester", "querier", "unused"}) {
		t.Error(got)
	}
	if err := m.Init("all"); err != nil {
		t.Fatal(err)
	}
	if j.index("start store") >= 0 || m.Healthy() {
		t.Error("started by Init")
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !m.Healthy() {
		t.Error("not healthy")
	}
	for _, s := range m.States() {
		if s.State != StateRunning {
			t.Error(s)
		}
	}
	if err := stopped(t, m); err != nil || m.Err() != nil {
		t.Error(err, m.Err())
	}
	// A module without a service passes the order on.
	for _, order := range [][]string{
		{"init store", "init wal", "init ingester", "start store", "start ingester", "stop ingester", "stop store"},
		{"init querier", "start store", "start querier", "stop querier", "stop store"},
	} {
		for i := range order[1:] {
			if a, b := j.index(order[i]), j.index(order[i+1]); a < 0 || a > b {
				t.Errorf("%s should come before %s: %v", order[i], order[i+1], j.lines)
			}
		}
	}
	if j.index("init unused") >= 0 {
		t.Error("a module that nobody asked for was built")
	}
	for range 3 { // listeners are told a little later
		<-ends
	}
	mu.Lock()
	defer mu.Unlock()
	want := []State{StateStarting, StateRunning, StateStopping, StateTerminated}
	for _, name := range []string{"store", "ingester", "querier"} {
		if !slices.Equal(changes[name], want) {
			t.Errorf("%s: %v", name, changes[name])
		}
	}
}

func TestModulesRefused(t *testing.T) {
	var j journal
	hidden := j.module("hidden")
	hidden.Visibility = Hidden
	for name, c := range map[string]struct {
		mods    []Module
		targets []string
		want    string
	}{
		"unknown target":     {[]Module{j.module("a")}, []string{"b"}, `unknown target "b": want one of a`},
		"hidden target":      {[]Module{j.module("a"), hidden}, []string{"hidden"}, "unknown target"},
		"no target":          {[]Module{j.module("a")}, nil, "no target: want one of a"},
		"twice":              {[]Module{j.module("a"), j.module("a")}, []string{"a"}, "added twice"},
		"itself":             {[]Module{j.module("a", "a")}, []string{"a"}, "depends on itself"},
		"circle":             {[]Module{j.module("a", "b"), j.module("b", "c"), j.module("c", "a")}, []string{"a"}, "circular"},
		"unknown dependency": {[]Module{j.module("a", "b")}, []string{"a"}, "no such module: b"},
		"init":               {[]Module{{Name: "a", Init: func() (Service, error) { return nil, errors.New("no luck") }}}, []string{"a"}, "no luck"},
		"nothing to run":     {[]Module{{Name: "a"}}, []string{"a"}, "nothing to run"},
	} {
		m := NewModules(quiet)
		m.Add(c.mods...)
		if err := m.Init(c.targets...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		// Whatever was built can be stopped.
		if err := stopped(t, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func failing(name string, start, run, stop error, deps ...string) Module {
	return Module{Name: name, DependsOn: deps, Init: func() (Service, error) {
		return NewService(
			func(context.Context) error { return start },
			func(ctx context.Context) error {
				if run == nil {
					<-ctx.Done()
				}
				return run
			},
			func(error) error { return stop },
		), nil
	}}
}

var errBroken = errors.New("broken")

func TestModuleFailsToStart(t *testing.T) {
	m := NewModules(quiet)
	m.Add(failing("store", errBroken, nil, nil), failing("ingester", nil, nil, nil, "store"), failing("other", nil, nil, nil))
	if err := m.Init("ingester", "other"); err != nil {
		t.Fatal(err)
	}
	err := m.Start(t.Context())
	if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "module store: ") || strings.Contains(err.Error(), "ingester") {
		t.Errorf("want the root cause alone: %v", err)
	}
	<-m.Ended()
	if err := stopped(t, m); err != nil {
		t.Error("the failure was told already:", err)
	}
}

func TestModuleFailsWhileRunning(t *testing.T) {
	fail := make(chan error, 1)
	m := NewModules(quiet)
	m.Add(failing("store", nil, nil, nil), Module{Name: "ingester", DependsOn: []string{"store"}, Init: func() (Service, error) {
		return NewService(nil, func(ctx context.Context) error {
			select {
			case err := <-fail:
				return err
			case <-ctx.Done():
				return nil
			}
		}, nil), nil
	}})
	if err := errors.Join(m.Init("ingester"), m.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	fail <- errBroken
	<-m.Ended()
	if !errors.Is(m.Err(), errBroken) || m.Healthy() {
		t.Error(m.Err())
	}
	if err := stopped(t, m); err != nil {
		t.Error(err)
	}
}

func TestModuleEndsByItself(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"without a word": {func(context.Context) error { return nil }, "module job ended without being asked to"},
		"asking to stop": {func(context.Context) error { return ErrStop }, ""},
	} {
		m := NewModules(quiet)
		started := make(chan struct{})
		m.Add(Module{Name: "job", Init: func() (Service, error) {
			return NewService(nil, func(ctx context.Context) error { <-started; return c.run(ctx) }, nil), nil
		}})
		if err := errors.Join(m.Init("job"), m.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		close(started)
		<-m.Ended()
		got := ""
		if err := m.Err(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if err := stopped(t, m); err != nil {
			t.Error(err)
		}
	}
}

func TestModuleDoesNotStop(t *testing.T) {
	release := make(chan struct{})
	m := NewModules(quiet)
	m.Add(Module{Name: "stubborn", Init: func() (Service, error) {
		return NewService(nil, func(context.Context) error { <-release; return nil }, nil), nil
	}})
	if err := errors.Join(m.Init("stubborn"), m.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Stop(ctx); err == nil || err.Error() != "modules that have not stopped in time: stubborn" {
		t.Error(err)
	}
	close(release)
	if err := stopped(t, m); err != nil {
		t.Error(err)
	}
}

func TestModuleFailsToStop(t *testing.T) {
	m := NewModules(quiet)
	m.Add(failing("a", nil, nil, errBroken))
	if err := errors.Join(m.Init("a"), m.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := stopped(t, m); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}
