package node

import (
	"fmt"
	"reflect"
	"sort"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
)

// Encode writes the struct v as a mapping of what differs from the struct def,
// which is of the same type, by the tags that Decode reads.
func Encode(v, def any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	a, b := fields(reflect.ValueOf(v), nil), fields(reflect.ValueOf(def), nil)
	for i := range a {
		if reflect.DeepEqual(a[i].value.Interface(), b[i].value.Interface()) {
			continue
		}
		m.Content = append(m.Content, Text(a[i].name), encode(a[i].value))
	}
	return m
}

// Text is a scalar node; it is quoted where it has to be.
func Text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// Put appends a pair to a mapping.
func Put(m *yaml.Node, key string, v any) {
	n, ok := v.(*yaml.Node)
	if !ok {
		n = encode(reflect.ValueOf(v))
	}
	m.Content = append(m.Content, Text(key), n)
}

func encode(v reflect.Value) *yaml.Node {
	if n, ok := v.Interface().(*yaml.Node); ok && n != nil {
		return n
	}
	switch v.Type() {
	case typeDuration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: FormatDuration(time.Duration(v.Int()))}
	case typeBytes:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: conf.ByteSize(v.Int()).String()}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
		}
		return encode(v.Elem())
	case reflect.Struct:
		return Encode(v.Interface(), reflect.Zero(v.Type()).Interface())
	case reflect.String:
		return Text(v.String())
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		flow := v.Type().Elem().Kind() == reflect.String
		if flow {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, encode(v.Index(i)))
		}
		if v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case reflect.Map:
		n := &yaml.Node{Kind: yaml.MappingNode}
		keys := v.MapKeys()
		sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
		for _, k := range keys {
			n.Content = append(n.Content, Text(k.String()), encode(v.MapIndex(k)))
		}
		return n
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v.Interface())}
}

// FormatDuration writes a duration without needless zeros: 5m, 1h30m.
func FormatDuration(d time.Duration) string {
	s := d.String()
	for _, cut := range []string{"m0s", "h0m"} {
		if len(s) > len(cut) && s[len(s)-len(cut):] == cut {
			s = s[:len(s)-2]
		}
	}
	return s
}
