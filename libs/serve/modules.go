package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/grafana/dskit/modules"
	"github.com/grafana/dskit/services"
)

// Service is a part of a process that starts, runs and stops. Its states are New, Starting,
// Running, Stopping, Terminated and Failed.
type Service = services.Service

// State is the state of a Service.
type State = services.State

// The states of a service.
const (
	StateNew        = services.New
	StateStarting   = services.Starting
	StateRunning    = services.Running
	StateStopping   = services.Stopping
	StateTerminated = services.Terminated
	StateFailed     = services.Failed
)

// ErrStop, returned by a service's run function, stops the process without being a failure.
var ErrStop = modules.ErrStopProcess

// NewService returns a Service of three functions, each of which may be nil.
//
// start returns once the service works; its context ends when the service is asked to stop. run
// returns when its context is done, or with an error, which stops the process. stop releases what
// start acquired; it gets run's error and is called whenever start succeeded.
func NewService(start, run func(ctx context.Context) error, stop func(failure error) error) Service {
	return services.NewBasicService(start, run, stop)
}

// Visibility says who sees a module.
type Visibility int

// The visibilities of a module.
const (
	// Visible modules are shown to users and may be targets.
	Visible Visibility = iota
	// Hidden modules are there because others depend on them.
	Hidden
	// HiddenTarget modules are not shown, but may be targets.
	HiddenTarget
)

// Module is a part of a process that can be chosen by name.
type Module struct {
	Name string
	// DependsOn names the modules that start before this one and stop after it.
	DependsOn []string
	// Init builds the module. It is called once, after the Init of all its dependencies and before
	// anything starts; it opens nothing and starts nothing. It may be nil, or return no service:
	// such a module only groups others or registers something.
	Init       func() (Service, error)
	Visibility Visibility
}

// ModuleState is a module that has a service, with its state.
type ModuleState struct {
	Name  string
	State State
	// Err is why the module failed, nil unless State is StateFailed.
	Err error
}

// Change is a change of a module's state.
type Change struct {
	Module   string
	From, To State
	Err      error // of a module that failed
}

// Modules starts and stops modules in the order of their dependencies. Add, Listen and Init are
// called from one goroutine before Start; States and Healthy at any time.
type Modules struct {
	log       *slog.Logger
	modules   []Module
	listeners []func(Change)

	mu       sync.Mutex // guards what follows
	registry *modules.Manager
	services map[string]Service // each with its wait for dependencies around it
	built    map[string]Service // as Init of each module built them
	manager  *services.Manager
	stopping bool

	ended chan struct{} // closed when a module has failed, or ended without being asked
	once  sync.Once     // closes ended
}

// NewModules returns an empty set of modules.
func NewModules(log *slog.Logger) *Modules {
	return &Modules{log: log, built: map[string]Service{}, ended: make(chan struct{})}
}

// Add adds modules. What is wrong with them is reported by Init.
func (m *Modules) Add(mods ...Module) { m.modules = append(m.modules, mods...) }

// Listen calls f for every change of a module's state. Calls for one module are in order and one
// at a time; those for different modules may overlap, and a call may come a little after the change.
// f must not block.
func (m *Modules) Listen(f func(Change)) { m.listeners = append(m.listeners, f) }

// Targets returns the names of the visible modules, sorted.
func (m *Modules) Targets() []string {
	var names []string
	for _, mod := range m.modules {
		if mod.Visibility == Visible {
			names = append(names, mod.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Init builds the targets and all that they depend on.
func (m *Modules) Init(targets ...string) error {
	registry, err := m.register()
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("no target: want one of " + strings.Join(m.Targets(), ", "))
	}
	for _, t := range targets {
		if !registry.IsModuleRegistered(t) || !registry.IsTargetableModule(t) {
			return fmt.Errorf("unknown target %q: want one of %s", t, strings.Join(m.Targets(), ", "))
		}
	}
	built, err := registry.InitModuleServices(targets...)
	if err != nil {
		return err
	}
	if len(built) == 0 {
		return fmt.Errorf("the targets %s have nothing to run", strings.Join(targets, ", "))
	}
	for name, s := range built {
		s.AddListener(m.listener(name))
	}
	all := make([]Service, 0, len(built))
	for _, s := range built {
		all = append(all, s)
	}
	manager, err := services.NewManager(all...)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registry, m.services, m.manager = registry, built, manager
	return nil
}

func (m *Modules) register() (*modules.Manager, error) {
	registry := modules.NewManager(logAdapter{m.log})
	for _, mod := range m.modules {
		if registry.IsModuleRegistered(mod.Name) {
			return nil, fmt.Errorf("module %q was added twice", mod.Name)
		}
		init := mod.Init
		if init != nil {
			init = func() (Service, error) {
				s, err := mod.Init()
				if s != nil {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.built[mod.Name] = s
				}
				return s, err
			}
		}
		switch mod.Visibility {
		case Hidden:
			registry.RegisterModule(mod.Name, init, modules.UserInvisibleModule)
		case HiddenTarget:
			registry.RegisterModule(mod.Name, init, modules.UserInvisibleTargetableModule)
		default:
			registry.RegisterModule(mod.Name, init)
		}
	}
	for _, mod := range m.modules {
		if slices.Contains(mod.DependsOn, mod.Name) {
			return nil, fmt.Errorf("module %q depends on itself", mod.Name)
		}
		if err := registry.AddDependency(mod.Name, mod.DependsOn...); err != nil {
			return nil, fmt.Errorf("module %q: %w", mod.Name, err)
		}
	}
	return registry, nil
}

func (m *Modules) listener(name string) services.Listener {
	tell := func(from, to State, err error) {
		for _, f := range m.listeners {
			f(Change{Module: name, From: from, To: to, Err: err})
		}
		if to == StateFailed || to == StateTerminated {
			m.mu.Lock()
			asked := m.stopping
			m.mu.Unlock()
			if to == StateFailed || !asked {
				m.once.Do(func() { close(m.ended) })
			}
		}
	}
	return services.NewListener(
		func() { tell(StateNew, StateStarting, nil) },
		func() { tell(StateStarting, StateRunning, nil) },
		func(from State) { tell(from, StateStopping, nil) },
		func(from State) { tell(from, StateTerminated, nil) },
		func(from State, _ error) {
			m.mu.Lock()
			err := m.failure(name)
			m.mu.Unlock()
			tell(from, StateFailed, err)
		},
	)
}

// failure returns why a module failed, nil if it has not. What waits around it has words of its own
// for that, or says only that it does not run: its own failure is what tells. The caller holds mu.
func (m *Modules) failure(name string) error {
	err := m.services[name].FailureCase()
	if s := m.built[name]; err != nil && s != nil {
		if own := s.FailureCase(); own != nil {
			return own
		}
	}
	return err
}

// follows reports whether a module failed because of another.
func (m *Modules) follows(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dependencyFailed(name)
}

// Start starts all modules and returns when every one is running, or with the failure that keeps
// them from it, or with ErrStop if one asked to stop already. Call Stop in any case. ctx bounds the
// start alone.
func (m *Modules) Start(ctx context.Context) error {
	if m.manager == nil {
		return errors.New("modules were not initialised")
	}
	if err := m.manager.StartAsync(context.Background()); err != nil {
		return err
	}
	if err := m.manager.AwaitHealthy(ctx); err != nil {
		if failure := m.Err(); failure != nil {
			return failure
		}
		if m.askedToStop() {
			return ErrStop
		}
		return err
	}
	return nil
}

// askedToStop reports whether a module ended with ErrStop.
func (m *Modules) askedToStop() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.services {
		if errors.Is(m.failure(name), ErrStop) {
			return true
		}
	}
	return false
}

// Ended is closed when a module has failed or has ended without being asked to: then the process
// is to stop. Err says why.
func (m *Modules) Ended() <-chan struct{} { return m.ended }

// Err returns why modules failed, those left out that failed because of another; nil if none
// failed, and for ErrStop.
func (m *Modules) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var problems []error
	for _, name := range m.names() {
		err := m.failure(name)
		if err == nil || errors.Is(err, ErrStop) || m.dependencyFailed(name) {
			continue
		}
		if m.stopping && errors.Is(err, context.Canceled) { // it was stopped while it started
			continue
		}
		problems = append(problems, fmt.Errorf("module %s: %w", name, err))
	}
	if problems == nil && !m.stopping {
		for _, name := range m.names() {
			if m.services[name].State() == StateTerminated {
				problems = append(problems, fmt.Errorf("module %s ended without being asked to", name))
			}
		}
	}
	return errors.Join(problems...)
}

func (m *Modules) dependencyFailed(name string) bool {
	for _, dep := range m.registry.DependenciesForModule(name) {
		if s := m.services[dep]; s != nil && s.FailureCase() != nil {
			return true
		}
	}
	return false
}

// Stop stops all modules, each after those that depend on it, and returns when all have stopped or
// ctx is done. Its error is what went wrong while they stopped.
func (m *Modules) Stop(ctx context.Context) error {
	before := m.Err()
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	if m.manager == nil { // Init did not succeed: nothing was started
		return nil
	}
	m.manager.StopAsync()
	if err := m.manager.AwaitStopped(ctx); err != nil {
		var left []string
		for _, s := range m.States() {
			if s.State != StateTerminated && s.State != StateFailed {
				left = append(left, s.Name)
			}
		}
		return fmt.Errorf("modules that have not stopped in time: %s", strings.Join(left, ", "))
	}
	if before != nil {
		return nil // told already
	}
	return m.Err()
}

// Healthy reports whether every module is running.
func (m *Modules) Healthy() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The manager knows too, but is told of changes a little later.
	for _, s := range m.services {
		if s.State() != StateRunning {
			return false
		}
	}
	return m.manager != nil
}

// States returns the modules that have a service, sorted by name.
func (m *Modules) States() []ModuleState {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := make([]ModuleState, 0, len(m.services))
	for _, name := range m.names() {
		states = append(states, ModuleState{Name: name, State: m.services[name].State(), Err: m.failure(name)})
	}
	return states
}

// names of the services, sorted. The caller holds mu.
func (m *Modules) names() []string {
	names := make([]string, 0, len(m.services))
	for n := range m.services {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
