// Package conf loads a program's configuration into one Go struct, made of one struct per module.
//
// The struct holds the defaults when [New] gets it; a YAML file, then the environment, then flags
// write over them. A field's key is its name in snake_case (or its yaml tag), its path the keys of
// the structs around it:
//
//	type Config struct {
//		DataDir string       `help:"Directory of all local data."`
//		Server  serve.Config // a module
//	}
//
//	data_dir: /var/lib/weir    WEIR_DATA_DIR              --data-dir
//	server:
//	  listen: 127.0.0.1:3100   WEIR_SERVER_LISTEN         --server.listen, or an alias: --listen
//
// Tags: yaml (another key, or "-" to leave a field out), help, env (another variable), enum (the
// allowed values of a string, comma separated). The fields of an embedded struct belong to the
// struct around it.
//
// Types: bool, integers, floats, string, []string (comma separated in flags and environment),
// [time.Duration] ("5m"), [ByteSize] ("64MiB"), [Secret] (and "<key>_file", a file to read it
// from), anything with UnmarshalText, and in YAML only map[string]string and map[string][Raw].
//
// Mistakes are collected, not answered one at a time: unknown keys (with the nearest known one),
// values that do not parse, what the sections' Validate() error methods say. The loader reads
// files and nothing else; it has no global state.
package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// MaxFileSize is the largest configuration file in bytes.
const MaxFileSize = 4 << 20

// Validator is a section that can check itself. Validate returns all problems (errors.Join) and
// changes nothing.
type Validator interface {
	Validate() error
}

// Options say what a program is called and how its command line looks.
type Options struct {
	// Name is the program's name in texts.
	Name string
	// About is one line for the top of the help text.
	About string
	// EnvPrefix begins every environment variable, without the underscore: "WEIR".
	EnvPrefix string
	// Aliases are further flag names for keys, without dashes: "listen" → "server.listen".
	Aliases map[string]string
	// IgnoreEnv are variables with the prefix that are not configuration.
	IgnoreEnv []string
}

// Action is what the command line asks for.
type Action int

// The actions of the flags that every program has.
const (
	Run         Action = iota // nothing special
	Help                      // --help, -h
	Version                   // --version
	PrintConfig               // --print-config
)

// Set is a configuration struct with its keys. It is not safe for concurrent use while Load runs;
// afterwards Print, Usage and Reference may be called concurrently as long as nobody changes the struct.
type Set struct {
	opts    Options
	root    reflect.Value
	fields  []*field
	byPath  map[string]*field
	aliases map[string][]string // path → alias flags, sorted
}

// New returns the Set of cfg, a pointer to a struct that holds the defaults. An error is a mistake
// in the struct or the options, such as two fields with one environment variable.
func New(cfg any, opts Options) (*Set, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("conf: want a pointer to a struct, not %T", cfg)
	}
	s := &Set{opts: opts, root: v.Elem(), byPath: map[string]*field{}, aliases: map[string][]string{}}
	if err := s.collect(v.Elem(), "", ""); err != nil {
		return nil, err
	}
	env, flags := map[string]string{}, map[string]string{}
	for _, f := range s.fields {
		if f.yamlOnly {
			continue
		}
		for _, name := range f.envNames() {
			if other, dup := env[name]; dup {
				return nil, fmt.Errorf("conf: %s and %s share the variable %s", other, f.path, name)
			}
			env[name] = f.path
		}
		for _, name := range f.flagNames() {
			flags[name] = f.path
		}
	}
	for alias, path := range opts.Aliases {
		if s.byPath[path] == nil || s.byPath[path].yamlOnly {
			return nil, fmt.Errorf("conf: flag --%s is an alias of the unknown key %q", alias, path)
		}
		if _, dup := flags[alias]; dup || reservedFlag(alias) {
			return nil, fmt.Errorf("conf: alias --%s hides another flag", alias)
		}
		s.aliases[path] = append(s.aliases[path], alias)
	}
	for _, a := range s.aliases {
		sort.Strings(a)
	}
	for name, path := range flags {
		if reservedFlag(name) {
			return nil, fmt.Errorf("conf: key %s hides the flag --%s", path, name)
		}
	}
	return s, nil
}

func reservedFlag(name string) bool {
	switch name {
	case "help", "h", "version", "print-config", "config":
		return true
	}
	return false
}

// Load fills the struct: file, environment (as from os.Environ), then args (without the program's
// name). The file is the one of --config or of the variable PREFIX_CONFIG; without one there is no file.
//
// With Help or Version nothing is loaded and the error concerns only args that make no sense.
// Otherwise the error joins everything that is wrong and the struct is not to be used.
func (s *Set) Load(args, environ []string) (Action, error) {
	cl := parseArgs(args, s.isBool)
	if cl.action == Help || cl.action == Version {
		return cl.action, nil
	}
	env := s.readEnv(environ)
	var problems []error
	file := env.config
	if cl.config != "" {
		file = cl.config
	}
	if file != "" {
		problems = append(problems, s.loadFile(file)...)
	}
	problems = append(problems, env.problems...)
	problems = append(problems, s.apply(env.settings)...)
	problems = append(problems, cl.problems...)
	problems = append(problems, s.apply(s.resolveFlags(cl, &problems))...)
	if len(problems) == 0 { // a value that did not parse would be reported twice
		problems = append(problems, s.Validate())
	}
	return cl.action, errors.Join(problems...)
}

// Validate calls Validate of the root and of every section, and joins what they say, each line
// with its section's path before it.
func (s *Set) Validate() error {
	var problems []error
	validate(s.root, "", &problems)
	return errors.Join(problems...)
}

func validate(v reflect.Value, path string, problems *[]error) {
	if val, ok := v.Addr().Interface().(Validator); ok {
		for _, err := range flatten(val.Validate()) {
			if path != "" {
				err = fmt.Errorf("%s: %w", path, err)
			}
			*problems = append(*problems, err)
		}
	}
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, ok := fieldKey(sf)
		if !ok || !isSection(sf.Type) {
			continue
		}
		if sf.Anonymous && !promotesValidate(v.Type(), sf.Type) {
			validate(v.Field(i), path, problems)
		} else if !sf.Anonymous {
			validate(v.Field(i), join(path, key), problems)
		}
	}
}

// promotesValidate reports whether outer's Validate is that of (or calls that of) its embedded
// struct: then calling both would say everything twice.
func promotesValidate(outer, embedded reflect.Type) bool {
	want := reflect.TypeFor[Validator]()
	return reflect.PointerTo(outer).Implements(want) && reflect.PointerTo(embedded).Implements(want)
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // only a join at the top is taken apart
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

func (s *Set) loadFile(name string) []error {
	data, err := readLimited(name, MaxFileSize)
	if err != nil {
		return []error{fmt.Errorf("configuration file: %w", err)}
	}
	problems := decodeInto(data, s.root)
	for i, err := range problems {
		problems[i] = fmt.Errorf("%s: %w", name, err)
	}
	return problems
}

func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", name, ByteSize(limit))
	}
	return data, nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (s *Set) isBool(flag string) bool {
	f, part := s.lookupFlag(flag)
	return f != nil && part == partValue && f.isBool()
}

// lookupFlag finds the field of a flag or alias.
func (s *Set) lookupFlag(name string) (*field, part) {
	if path, ok := s.opts.Aliases[name]; ok {
		return s.byPath[path], partValue
	}
	for _, f := range s.fields {
		if f.yamlOnly {
			continue
		}
		for i, n := range f.flagNames() {
			if n == name {
				return f, part(i)
			}
		}
	}
	return nil, partValue
}

func (s *Set) allFlags() []string {
	names := []string{"help", "version", "print-config", "config"}
	for _, f := range s.fields {
		if !f.yamlOnly {
			names = append(names, f.flagNames()...)
		}
	}
	for a := range s.opts.Aliases {
		names = append(names, a)
	}
	return names
}

func (s *Set) resolveFlags(cl commandLine, problems *[]error) []setting {
	var out []setting
	seen := map[*field]bool{}
	for _, fl := range cl.flags {
		f, p := s.lookupFlag(fl.name)
		if f == nil {
			*problems = append(*problems, fmt.Errorf("unknown flag --%s%s", fl.name, didYouMean(fl.name, s.allFlags(), "--")))
			continue
		}
		if fl.bare {
			*problems = append(*problems, errBare(fl.name))
			continue
		}
		out = append(out, setting{field: f, part: p, text: fl.value, source: "flag --" + fl.name, more: seen[f]})
		seen[f] = true
	}
	return out
}

// setting is a text for a field from the environment or a flag.
type setting struct {
	field  *field
	part   part
	text   string
	source string
	more   bool // add to the list that an earlier setting of the same layer began
}

func (s *Set) apply(settings []setting) []error {
	var problems []error
	for _, st := range settings {
		if err := st.field.setText(st.text, st.part, st.more); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", st.source, err))
		}
	}
	return problems
}

type environment struct {
	config   string
	settings []setting
	problems []error
}

func (s *Set) readEnv(environ []string) environment {
	var env environment
	type target struct {
		f *field
		p part
	}
	known := map[string]target{}
	names := []string{s.opts.EnvPrefix + "_CONFIG"}
	for _, f := range s.fields {
		if f.yamlOnly {
			continue
		}
		for i, n := range f.envNames() {
			known[n] = target{f, part(i)}
			names = append(names, n)
		}
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if t, ok := known[name]; ok {
			env.settings = append(env.settings, setting{field: t.f, part: t.p, text: value, source: "environment " + name})
			continue
		}
		switch {
		case s.opts.EnvPrefix == "" || !strings.HasPrefix(name, s.opts.EnvPrefix+"_"):
		case name == s.opts.EnvPrefix+"_CONFIG":
			env.config = value
		case slices.Contains(s.opts.IgnoreEnv, name), serviceLink(name):
		default:
			env.problems = append(env.problems, fmt.Errorf("environment %s: no such key%s", name, didYouMean(name, names, "")))
		}
	}
	return env
}

// serviceLink reports whether Kubernetes or Docker made the variable for a service of our name:
// those must not keep a process from starting.
func serviceLink(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_TCP") || strings.Contains(name, "_UDP")
}
