// Package relabel rewrites label sets by Prometheus' relabelling rules. It is
// pure.
package relabel

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

// Rule is one rule. Make it with New, or by reading YAML.
type Rule struct {
	SourceLabels []string `yaml:"source_labels"`
	Separator    string   `yaml:"separator"`
	Regex        string   `yaml:"regex"`
	Modulus      uint64   `yaml:"-"`
	TargetLabel  string   `yaml:"target_label"`
	Replacement  string   `yaml:"replacement"`
	Action       string   `yaml:"action"`

	re *regexp.Regexp
	// plain: the replacement has no reference to a group.
	plain bool
}

// The actions.
const (
	Replace   = "replace"
	Keep      = "keep"
	Drop      = "drop"
	KeepEqual = "keepequal"
	DropEqual = "dropequal"
	HashMod   = "hashmod"
	LabelMap  = "labelmap"
	LabelDrop = "labeldrop"
	LabelKeep = "labelkeep"
	Lowercase = "lowercase"
	Uppercase = "uppercase"
)

var actions = []string{Replace, Keep, Drop, KeepEqual, DropEqual, HashMod, LabelMap, LabelDrop, LabelKeep, Lowercase, Uppercase}

const defaultRegex = "(.*)"

// Default is the rule that an empty mapping stands for.
func Default() Rule {
	return Rule{Separator: ";", Regex: defaultRegex, Replacement: "$1", Action: Replace}
}

type spelled struct {
	SourceLabels []string `yaml:"source_labels"`
	Separator    string   `yaml:"separator"`
	Regex        string   `yaml:"regex"`
	Modulus      int64    `yaml:"modulus"`
	TargetLabel  string   `yaml:"target_label"`
	Replacement  string   `yaml:"replacement"`
	Action       string   `yaml:"action"`
}

// DecodeNode reads a rule and checks it.
func (r *Rule) DecodeNode(n *yaml.Node, path string, ps *node.Problems) {
	d := Default()
	s := spelled{d.SourceLabels, d.Separator, d.Regex, 0, "", d.Replacement, d.Action}
	before := len(*ps)
	node.Decode(n, path, &s, node.Options{}, ps)
	if len(*ps) > before {
		return
	}
	*r = Rule{SourceLabels: s.SourceLabels, Separator: s.Separator, Regex: s.Regex, TargetLabel: s.TargetLabel,
		Replacement: s.Replacement, Action: strings.ToLower(s.Action)}
	if s.Modulus > 0 {
		r.Modulus = uint64(s.Modulus)
	}
	if err := r.Compile(); err != nil {
		ps.Fail(n, path, "%v", err)
	}
}

var (
	labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	groupRef  = regexp.MustCompile(`\$(?:\{\w+\}|\w+)`)
)

// makesName reports whether text is a label name once its references to groups,
// ${1} or $name, are replaced by something that may stand in one.
func makesName(text string) bool { return labelName.MatchString(groupRef.ReplaceAllString(text, "_")) }

// Compile checks the rule and readies it for use.
func (r *Rule) Compile() error {
	if !slices.Contains(actions, r.Action) {
		return fmt.Errorf("unknown action %q%s", r.Action, node.DidYouMean(r.Action, actions))
	}
	re, err := regexp.Compile("^(?s:" + r.Regex + ")$")
	if err != nil {
		return fmt.Errorf("regex %q: %w", r.Regex, err)
	}
	r.re, r.plain = re, !strings.Contains(r.Replacement, "$")
	for _, n := range r.SourceLabels {
		if !labelName.MatchString(n) {
			return fmt.Errorf("source_labels: %q is not a label name", n)
		}
	}
	needsTarget := r.Action == Replace || r.Action == HashMod || r.Action == Lowercase || r.Action == Uppercase ||
		r.Action == KeepEqual || r.Action == DropEqual
	switch {
	case needsTarget && r.TargetLabel == "":
		return fmt.Errorf("action %s needs target_label", r.Action)
	case r.Action == Replace && !makesName(r.TargetLabel),
		r.Action != Replace && r.TargetLabel != "" && !labelName.MatchString(r.TargetLabel):
		return fmt.Errorf("target_label: %q is not a label name", r.TargetLabel)
	case r.Action == HashMod && r.Modulus == 0:
		return fmt.Errorf("action hashmod needs a modulus above 0")
	case r.Action == LabelMap && !makesName(r.Replacement):
		return fmt.Errorf("replacement: %q makes no label name", r.Replacement)
	}
	d := Default()
	switch r.Action {
	case LabelDrop, LabelKeep:
		if len(r.SourceLabels) > 0 || r.TargetLabel != "" || r.Modulus != 0 || r.Separator != d.Separator || r.Replacement != d.Replacement {
			return fmt.Errorf("action %s takes only regex", r.Action)
		}
	case KeepEqual, DropEqual:
		if r.Regex != d.Regex || r.Modulus != 0 || r.Separator != d.Separator || r.Replacement != d.Replacement {
			return fmt.Errorf("action %s takes only source_labels and target_label", r.Action)
		}
	}
	return nil
}

// Apply runs rules over labels, which it changes. false: a rule drops the target.
// A label without a value is one that is not there.
func Apply(rules []Rule, labels map[string]string) bool {
	for i := range rules {
		if !rules[i].apply(labels) {
			return false
		}
	}
	return true
}

func (r *Rule) apply(labels map[string]string) bool {
	var value string
	switch len(r.SourceLabels) {
	case 0:
	case 1:
		value = labels[r.SourceLabels[0]]
	default:
		values := make([]string, len(r.SourceLabels))
		for i, n := range r.SourceLabels {
			values[i] = labels[n]
		}
		value = strings.Join(values, r.Separator)
	}
	switch r.Action {
	case Keep:
		return r.re.MatchString(value)
	case Drop:
		return !r.re.MatchString(value)
	case KeepEqual:
		return labels[r.TargetLabel] == value
	case DropEqual:
		return labels[r.TargetLabel] != value
	case Replace:
		r.replace(labels, value)
	case Lowercase:
		set(labels, r.TargetLabel, strings.ToLower(value))
	case Uppercase:
		set(labels, r.TargetLabel, strings.ToUpper(value))
	case HashMod:
		sum := md5.Sum([]byte(value))
		set(labels, r.TargetLabel, strconv.FormatUint(binary.BigEndian.Uint64(sum[8:])%r.Modulus, 10))
	case LabelMap:
		type pair struct{ name, value string }
		var add []pair
		for n, v := range labels {
			if r.re.MatchString(n) {
				add = append(add, pair{r.re.ReplaceAllString(n, r.Replacement), v})
			}
		}
		// Of several that map to one name, always the same wins.
		slices.SortFunc(add, func(a, b pair) int {
			if c := strings.Compare(a.name, b.name); c != 0 {
				return c
			}
			return strings.Compare(a.value, b.value)
		})
		for _, p := range add {
			set(labels, p.name, p.value)
		}
	case LabelDrop, LabelKeep:
		for n := range labels {
			if r.re.MatchString(n) == (r.Action == LabelDrop) {
				delete(labels, n)
			}
		}
	}
	return true
}

func (r *Rule) replace(labels map[string]string, value string) {
	at := r.re.FindStringSubmatchIndex(value)
	if at == nil {
		return
	}
	target := r.TargetLabel
	if strings.Contains(target, "$") {
		target = string(r.re.ExpandString(nil, target, value, at))
	}
	if !labelName.MatchString(target) {
		return
	}
	result := r.Replacement
	if !r.plain {
		result = string(r.re.ExpandString(nil, r.Replacement, value, at))
	}
	set(labels, target, result)
}

func set(labels map[string]string, name, value string) {
	if value == "" {
		delete(labels, name)
		return
	}
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	labels[name] = value
}
