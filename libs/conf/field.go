package conf

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// part tells the two names of a Secret apart: its text, and the file that holds it.
type part int

const (
	partValue part = iota
	partFile
)

const fileSuffix = "_file"

// maxSecretFile bounds a secret's file in bytes.
const maxSecretFile = 64 << 10

// field is one key.
type field struct {
	path     string // "server.listen"
	section  string // "server", empty at the top
	key      string // "listen"
	env      string
	help     string
	enum     []string
	value    reflect.Value
	initial  string // the default as text
	yamlOnly bool
}

var (
	typeDuration    = reflect.TypeFor[time.Duration]()
	typeSecret      = reflect.TypeFor[Secret]()
	typeByteSize    = reflect.TypeFor[ByteSize]()
	typeRaw         = reflect.TypeFor[Raw]()
	typeUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isSection reports whether t is a struct of further keys.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != typeRaw && !reflect.PointerTo(t).Implements(typeUnmarshaler)
}

// isSections reports whether t is a list of structs of further keys.
func isSections(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && isSection(t.Elem())
}

// fieldKey returns the key of a struct field, false if it has none.
func fieldKey(sf reflect.StructField) (string, bool) {
	tag, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
	if !sf.IsExported() || tag == "-" {
		return "", false
	}
	if tag != "" {
		return tag, true
	}
	return snake(sf.Name), true
}

// snake turns GRPCListen into grpc_listen.
func snake(name string) string {
	r := []rune(name)
	var b strings.Builder
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 {
			startsWord := !unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])
			if startsWord {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// collect appends the fields of the struct v, whose keys begin with path. section is the first
// key of path.
func (s *Set) collect(v reflect.Value, path, section string) error {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, ok := fieldKey(sf)
		if !ok {
			continue
		}
		if isSection(sf.Type) {
			sub, subSection := join(path, key), section
			if sf.Anonymous {
				sub = path
			} else if section == "" {
				subSection = key
			}
			if err := s.collect(v.Field(i), sub, subSection); err != nil {
				return err
			}
			continue
		}
		f := &field{
			path: join(path, key), section: section, key: key, value: v.Field(i),
			help: sf.Tag.Get("help"), yamlOnly: sf.Type.Kind() == reflect.Map || isSections(sf.Type),
		}
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, ",")
		}
		if f.env = sf.Tag.Get("env"); f.env == "" {
			f.env = s.opts.EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
		}
		if !supported(sf.Type) {
			return fmt.Errorf("conf: %s has the type %s, which is not supported", f.path, sf.Type)
		}
		if s.byPath[f.path] != nil {
			return fmt.Errorf("conf: two fields have the key %s", f.path)
		}
		f.initial = f.text()
		s.byPath[f.path] = f
		s.fields = append(s.fields, f)
	}
	return nil
}

func supported(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(typeUnmarshaler) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.String || isSections(t)
	case reflect.Map:
		return t.Key().Kind() == reflect.String && (t.Elem() == typeRaw || t.Elem().Kind() == reflect.String)
	}
	return false
}

func (f *field) isBool() bool { return f.value.Kind() == reflect.Bool }

// flagNames are indexed by part.
func (f *field) flagNames() []string {
	name := strings.ReplaceAll(f.path, "_", "-")
	if f.value.Type() == typeSecret {
		return []string{name, name + strings.ReplaceAll(fileSuffix, "_", "-")}
	}
	return []string{name}
}

// envNames are indexed by part.
func (f *field) envNames() []string {
	if f.value.Type() == typeSecret {
		return []string{f.env, f.env + strings.ToUpper(fileSuffix)}
	}
	return []string{f.env}
}

// setText sets the field from a text. more adds to a list in place of replacing it.
func (f *field) setText(text string, p part, more bool) error {
	if p == partFile {
		return setSecretFile(f.value, text)
	}
	var before reflect.Value
	if more && f.value.Kind() == reflect.Slice {
		before = reflect.ValueOf(f.value.Interface())
	}
	if err := setText(f.value, text, f.enum); err != nil {
		return err
	}
	if before.IsValid() {
		f.value.Set(reflect.AppendSlice(before, f.value))
	}
	return nil
}

func setSecretFile(v reflect.Value, name string) error {
	data, err := readLimited(name, maxSecretFile)
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(NewSecret(strings.TrimRight(string(data), "\r\n"))))
	return nil
}

// setText parses text by the type of v.
func setText(v reflect.Value, text string, enum []string) error {
	if v.Type() == typeDuration {
		d, err := parseDuration(text)
		if err != nil {
			return err
		}
		v.SetInt(int64(d))
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	if enum != nil && !slices.Contains(enum, text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(enum, ", "))
	}
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(b)
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return numberError(text, "a whole number", err)
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return numberError(text, "a whole number of at least 0", err)
		}
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil || n != n {
			return numberError(text, "a number", err)
		}
		v.SetFloat(n)
	case reflect.Slice:
		list := reflect.MakeSlice(v.Type(), 0, 1)
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = reflect.Append(list, reflect.ValueOf(item).Convert(v.Type().Elem()))
			}
		}
		v.Set(list)
	default:
		return fmt.Errorf("cannot be set by a text")
	}
	return nil
}

func numberError(text, want string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is out of range", text)
	}
	return fmt.Errorf("%q is not %s", text, want)
}

func parseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: want a number and unit, like 30s, 5m or 1h30m", text)
	}
	return d, nil
}

// text is the field's value as a flag would take it.
func (f *field) text() string {
	v := f.value
	if f.yamlOnly {
		return ""
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = v.Index(i).String()
		}
		return strings.Join(items, ",")
	}
	if v.Type() == typeDuration {
		return durationText(time.Duration(v.Int()))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}

// durationText is Duration.String without its zero minutes and seconds: 5m, not 5m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// typeName is the type as the reference names it.
func (f *field) typeName() string {
	switch t := f.value.Type(); {
	case t == typeDuration:
		return "duration"
	case t == typeByteSize:
		return "size"
	case t == typeSecret:
		return "secret"
	case f.enum != nil:
		return strings.Join(f.enum, " or ")
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Map:
		return "map"
	case reflect.PointerTo(t).Implements(typeUnmarshaler):
		return strings.ToLower(t.Name())
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "number"
	default:
		return "integer"
	}
}
