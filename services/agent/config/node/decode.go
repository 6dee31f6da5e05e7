package node

import (
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
)

// Decoder is a type that reads itself. It reports its problems and leaves what it
// cannot read.
type Decoder interface {
	DecodeNode(n *yaml.Node, path string, ps *Problems)
}

// Defaulter is a type that sets its defaults, before anything is read into it.
type Defaulter interface{ SetDefaults() }

// Options change how Decode reads.
type Options struct {
	// Loose takes keys in any case, and unknown keys are warnings. Numbers and
	// bools may be quoted.
	Loose bool
	// Refuse names keys that are known and not supported, by the path of the
	// struct's type name and key ("Job.kafka"), with what to say.
	Refuse map[string]string
}

// Decode writes n over what into, a pointer, holds already. Fields are named by
// their yaml tags; `yaml:"-"` is left out, `yaml:",inline"` is part of the struct
// around it.
func Decode(n *yaml.Node, path string, into any, o Options, ps *Problems) {
	d := decoder{o, ps}
	d.value(n, path, reflect.ValueOf(into).Elem())
}

type decoder struct {
	o  Options
	ps *Problems
}

type keyed struct {
	name  string
	value reflect.Value
}

func fields(v reflect.Value, out []keyed) []keyed {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case opts == "inline":
			out = fields(reflect.Indirect(v.Field(i)), out)
		case name != "":
			out = append(out, keyed{name, v.Field(i)})
		}
	}
	return out
}

var (
	typeDuration = reflect.TypeFor[time.Duration]()
	typeBytes    = reflect.TypeFor[conf.ByteSize]()
	typeNode     = reflect.TypeFor[*yaml.Node]()
)

func (d *decoder) value(n *yaml.Node, path string, v reflect.Value) {
	n = Resolve(n)
	if v.Type() == typeNode {
		v.Set(reflect.ValueOf(n))
		return
	}
	if v.CanAddr() {
		if self, ok := v.Addr().Interface().(Decoder); ok {
			self.DecodeNode(n, path, d.ps)
			return
		}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			if IsNull(n) && v.Type().Elem().Kind() != reflect.Struct {
				return
			}
			v.Set(reflect.New(v.Type().Elem()))
			if def, ok := v.Interface().(Defaulter); ok {
				def.SetDefaults()
			}
		}
		d.value(n, path, v.Elem())
		return
	}
	if IsNull(n) { // "key:" leaves the default
		return
	}
	switch {
	case v.Type() == typeDuration:
		if s, ok := d.scalar(n, path, "a duration like 5s"); ok {
			t, err := ParseDuration(s)
			if err != nil {
				d.ps.Fail(n, path, "%v", err)
				return
			}
			v.SetInt(int64(t))
		}
		return
	case v.Type() == typeBytes:
		if s, ok := d.scalar(n, path, "a size like 256KiB"); ok {
			b, err := ParseBytes(s)
			if err != nil {
				d.ps.Fail(n, path, "%v", err)
				return
			}
			v.SetInt(int64(b))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, path, v)
	case reflect.Slice:
		d.slice(n, path, v)
	case reflect.Map:
		d.mapping(n, path, v)
	case reflect.Interface:
		var any any
		if err := n.Decode(&any); err != nil {
			d.ps.Fail(n, path, "%v", err)
			return
		}
		v.Set(reflect.ValueOf(any))
	default:
		d.plain(n, path, v)
	}
}

func (d *decoder) structure(n *yaml.Node, path string, v reflect.Value) {
	pairs, ok := Pairs(n, path, d.ps)
	if !ok {
		return
	}
	known := fields(v, nil)
	for _, p := range pairs {
		found := false
		for _, f := range known {
			if f.name == p.Key.Value || d.o.Loose && strings.EqualFold(f.name, p.Key.Value) {
				d.value(p.Value, Join(path, p.Key.Value), f.value)
				found = true
				break
			}
		}
		if found {
			continue
		}
		at := Join(path, p.Key.Value)
		if why, refused := d.o.Refuse[v.Type().Name()+"."+p.Key.Value]; refused {
			d.ps.Fail(p.Key, at, "%s", why)
			continue
		}
		names := make([]string, len(known))
		for i, f := range known {
			names[i] = f.name
		}
		sort.Strings(names)
		text := "unknown key" + DidYouMean(p.Key.Value, names)
		if d.o.Loose {
			d.ps.Warn(p.Key, at, "%s; it is ignored", text)
		} else {
			d.ps.Fail(p.Key, at, "%s", text)
		}
	}
}

func (d *decoder) slice(n *yaml.Node, path string, v reflect.Value) {
	// One text where a list of them is wanted is that one.
	if n.Kind == yaml.ScalarNode && v.Type().Elem().Kind() == reflect.String {
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		d.value(n, path, v.Index(0))
		return
	}
	items, ok := Items(n, path, d.ps)
	if !ok {
		return
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if def, ok := out.Index(i).Addr().Interface().(Defaulter); ok {
			def.SetDefaults()
		}
		d.value(item, Index(path, i), out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) mapping(n *yaml.Node, path string, v reflect.Value) {
	pairs, ok := Pairs(n, path, d.ps)
	if !ok {
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(pairs))
	for _, p := range pairs {
		elem := reflect.New(v.Type().Elem()).Elem()
		if def, ok := elem.Addr().Interface().(Defaulter); ok {
			def.SetDefaults()
		}
		d.value(p.Value, Join(path, p.Key.Value), elem)
		out.SetMapIndex(reflect.ValueOf(p.Key.Value).Convert(v.Type().Key()), elem)
	}
	v.Set(out)
}

func (d *decoder) scalar(n *yaml.Node, path, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.ps.Fail(n, path, "must be %s, not %s", want, Kind(n))
		return "", false
	}
	return n.Value, true
}

func (d *decoder) plain(n *yaml.Node, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := d.scalar(n, path, "a text"); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		s, ok := d.scalar(n, path, "true or false")
		if !ok {
			return
		}
		// YAML 1.1, in which older configurations are written, has more words.
		switch strings.ToLower(s) {
		case "true", "yes", "on", "y":
			v.SetBool(true)
		case "false", "no", "off", "n":
			v.SetBool(false)
		case "1", "0":
			if d.o.Loose {
				v.SetBool(s == "1")
				return
			}
			fallthrough
		default:
			d.ps.Fail(n, path, "must be true or false, not %q", clip(s))
		}
	case reflect.Int, reflect.Int64, reflect.Int32:
		s, ok := d.scalar(n, path, "a whole number")
		if !ok {
			return
		}
		i, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, 64)
		if f, ferr := strconv.ParseFloat(s, 64); err != nil && ferr == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			i, err = int64(f), nil
		}
		if err != nil || v.OverflowInt(i) {
			d.ps.Fail(n, path, "must be a whole number, not %q", clip(s))
			return
		}
		v.SetInt(i)
	case reflect.Float64:
		s, ok := d.scalar(n, path, "a number")
		if !ok {
			return
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) {
			d.ps.Fail(n, path, "must be a number, not %q", clip(s))
			return
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("node: cannot decode into %s", v.Type()))
	}
}

// ParseDuration reads Go's durations (1m30s, 1.5h) and Prometheus' (7d, 1w, 1y),
// also in one: 1d12h.
func ParseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	bad := fmt.Errorf("%q is not a duration: want something like 500ms, 30s, 5m or 7d", clip(s))
	rest, sum := s, time.Duration(0)
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, bad
		}
		j := i
		for j < len(rest) && (rest[j] < '0' || rest[j] > '9') {
			j++
		}
		n, err := strconv.ParseInt(rest[:i], 10, 64)
		if err != nil {
			return 0, bad
		}
		day := 24 * time.Hour
		unit := map[string]time.Duration{
			"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
			"d": day, "w": 7 * day, "y": 365 * day,
		}[rest[i:j]]
		if unit == 0 || n > int64(math.MaxInt64/unit) || sum > math.MaxInt64-time.Duration(n)*unit {
			return 0, bad
		}
		sum += time.Duration(n) * unit
		rest = rest[j:]
	}
	if s == "" {
		return 0, bad
	}
	return sum, nil
}

// ParseBytes reads a size as Promtail does, where kb means 1024, and KiB too.
func ParseBytes(s string) (conf.ByteSize, error) {
	t := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	for _, u := range []string{"kb", "mb", "gb", "k", "m", "g"} {
		if num, ok := strings.CutSuffix(t, u); ok {
			t = num + u[:1] + "ib"
			break
		}
	}
	return conf.ParseByteSize(t)
}
