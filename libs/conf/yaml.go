package conf

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DecodeYAML writes the YAML document data over what into, a pointer to a struct, holds already,
// by the rules of this package. The error joins all problems, each with its line. Sections are
// not validated.
func DecodeYAML(data []byte, into any) error {
	return errors.Join(decodeInto(data, structOf(into))...)
}

func structOf(into any) reflect.Value {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("conf: want a pointer to a struct, not %T", into))
	}
	return v.Elem()
}

func decodeInto(data []byte, v reflect.Value) []error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // nothing but comments
			return nil
		}
		return []error{yamlError(err)}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return []error{errors.New("more than one YAML document")}
	}
	if len(doc.Content) != 1 {
		return nil
	}
	return decodeNode(doc.Content[0], v)
}

func yamlError(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
}

// EncodeYAML returns v, a struct, as YAML that DecodeYAML reads, but for secrets, which are
// redacted.
func EncodeYAML(v any) ([]byte, error) {
	n, err := node(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// Plain returns v, a struct, as maps, lists and scalars, as EncodeYAML has it.
func Plain(v any) (out map[string]any, err error) {
	n, err := node(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	return out, n.Decode(&out)
}

// decodeNode writes the mapping n over the struct v.
func decodeNode(n *yaml.Node, v reflect.Value) []error {
	d := decoder{}
	d.section(n, v, "")
	return d.problems
}

type decoder struct{ problems []error }

func (d *decoder) fail(n *yaml.Node, path string, err error) {
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	d.problems = append(d.problems, fmt.Errorf("line %d: %w", n.Line, err))
}

// target is where a key of a mapping goes.
type target struct {
	value reflect.Value
	enum  []string
	part  part
}

// targets lists the keys of a struct.
func targets(v reflect.Value, into map[string]target) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, ok := fieldKey(sf)
		if !ok {
			continue
		}
		if sf.Anonymous && isSection(sf.Type) {
			targets(v.Field(i), into)
			continue
		}
		t := target{value: v.Field(i)}
		if e := sf.Tag.Get("enum"); e != "" {
			t.enum = strings.Split(e, ",")
		}
		into[key] = t
		if sf.Type == typeSecret {
			t.part = partFile
			into[key+fileSuffix] = t
		}
	}
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// pairs calls each for the keys of a mapping, once a key.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node)) {
	n = resolve(n)
	if isNull(n) { // "server:" with nothing below it
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, errors.New("want a mapping of keys to values"))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, errors.New("a key must be a plain text"))
			continue
		}
		if line, dup := seen[key.Value]; dup {
			d.fail(key, join(path, key.Value), fmt.Errorf("given twice, first in line %d", line))
			continue
		}
		seen[key.Value] = key.Line
		each(key, resolve(n.Content[i+1]))
	}
}

func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	keys := map[string]target{}
	targets(v, keys)
	d.pairs(n, path, func(key, value *yaml.Node) {
		t, ok := keys[key.Value]
		if !ok {
			names := make([]string, 0, len(keys))
			for k := range keys {
				names = append(names, k)
			}
			sort.Strings(names)
			d.fail(key, "", fmt.Errorf("unknown key %q%s", join(path, key.Value), didYouMean(key.Value, names, "")))
			return
		}
		d.value(value, t, join(path, key.Value))
	})
}

func (d *decoder) value(n *yaml.Node, t target, path string) {
	v := t.value
	switch {
	case isNull(n): // no value keeps the default
	case v.Type() == typeRaw:
		v.Set(reflect.ValueOf(Raw{node: n}))
	case isSection(v.Type()):
		d.section(n, v, path)
	case v.Kind() == reflect.Map:
		m := reflect.MakeMap(v.Type())
		d.pairs(n, path, func(key, value *yaml.Node) {
			elem := reflect.New(v.Type().Elem()).Elem()
			d.value(value, target{value: elem}, join(path, key.Value))
			m.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), elem)
		})
		v.Set(m)
	case isSections(v.Type()):
		if n.Kind != yaml.SequenceNode {
			d.fail(n, path, errors.New("want a list"))
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.section(resolve(item), list.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(list)
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
		for _, item := range n.Content {
			if item = resolve(item); item.Kind != yaml.ScalarNode {
				d.fail(item, path, errors.New("want a list of texts"))
				return
			}
			list = reflect.Append(list, reflect.ValueOf(item.Value).Convert(v.Type().Elem()))
		}
		v.Set(list)
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, errors.New("want a single value"))
	case t.part == partFile:
		if err := setSecretFile(v, n.Value); err != nil {
			d.fail(n, path, err)
		}
	default:
		if err := setText(v, n.Value, t.enum); err != nil {
			d.fail(n, path, err)
		}
	}
}

// node returns the struct v as YAML, secrets redacted.
func node(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	err := appendNode(n, v)
	return n, err
}

func appendNode(n *yaml.Node, v reflect.Value) error {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		key, ok := fieldKey(sf)
		if !ok {
			continue
		}
		if sf.Anonymous && isSection(sf.Type) {
			if err := appendNode(n, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		value, err := valueNode(v.Field(i))
		if err != nil {
			return err
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	}
	return nil
}

func valueNode(v reflect.Value) (*yaml.Node, error) {
	if isSection(v.Type()) {
		return node(v)
	}
	if isSections(v.Type()) {
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			item, err := node(v.Index(i))
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
		if v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		return n, nil
	}
	var out any = v.Interface()
	if v.Type() == typeDuration {
		out = (&field{value: v}).text()
	} else if m, ok := out.(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil, err
		}
		out = string(text)
	}
	n := new(yaml.Node)
	if err := n.Encode(out); err != nil {
		return nil, err
	}
	if v.Kind() == reflect.Slice {
		n.Style = yaml.FlowStyle
	}
	return n, nil
}
