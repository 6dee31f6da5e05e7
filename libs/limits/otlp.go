package limits

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// OTLPConfig says what becomes of OpenTelemetry's attributes.
type OTLPConfig struct {
	ResourceAttributes  OTLPResource
	ScopeAttributes     []OTLPRule `help:"What becomes of the attributes of scopes; as resource_attributes.attributes_config. Those that no rule names become structured metadata."`
	LogAttributes       []OTLPRule `help:"What becomes of the attributes of log records; likewise. One that becomes a label splits a resource's records into streams."`
	SeverityTextAsLabel bool       `help:"Make severity_text of OpenTelemetry's records a label, in place of structured metadata."`
	// KeepNames tells that names stay as they are sent: it is UTF8Names of the limits.
	KeepNames bool `yaml:"-"`
}

// OTLPResource says what becomes of the attributes of resources.
type OTLPResource struct {
	IgnoreDefaults   bool       `help:"Make no resource attributes labels but those that attributes_config names."`
	AttributesConfig []OTLPRule `help:"What becomes of OpenTelemetry's resource attributes: a list of {action, attributes, regex}. The action is index_label, structured_metadata or drop; of an attribute's name the first rule that lists or matches it decides, then the defaults."`
}

// OTLPRule is what becomes of some attributes.
type OTLPRule struct {
	Action     OTLPAction
	Attributes []string // names as senders give them, with dots
	Regex      Regexp   // of the whole name
}

// OTLPAction is what becomes of an attribute.
type OTLPAction uint8

// What becomes of attributes.
const (
	OTLPUnset OTLPAction = iota
	OTLPIndexLabel
	OTLPStructuredMetadata
	OTLPDrop
)

var otlpActions = [...]string{OTLPUnset: "", OTLPIndexLabel: "index_label", OTLPStructuredMetadata: "structured_metadata", OTLPDrop: "drop"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *OTLPAction) UnmarshalText(text []byte) error {
	i := slices.Index(otlpActions[:], string(text))
	if i <= 0 {
		return fmt.Errorf("%q is not one of index_label, structured_metadata, drop", text)
	}
	*a = OTLPAction(i)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (a OTLPAction) MarshalText() ([]byte, error) { return []byte(otlpActions[a]), nil }

// Regexp is a regular expression that matches whole texts; the zero value matches
// none.
type Regexp struct {
	text string
	re   *regexp.Regexp
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Regexp) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Regexp{}
		return nil
	}
	re, err := regexp.Compile("^(?s:" + string(text) + ")$")
	if err != nil {
		return err
	}
	*r = Regexp{string(text), re}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (r Regexp) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// Matches reports whether all of s matches.
func (r Regexp) Matches(s string) bool { return r.re != nil && r.re.MatchString(s) }

// OTLPActionOf returns the action of the first rule that names an attribute,
// OTLPUnset if none does.
func OTLPActionOf(rules []OTLPRule, attribute string) OTLPAction {
	for i := range rules {
		if r := &rules[i]; slices.Contains(r.Attributes, attribute) || r.Regex.Matches(attribute) {
			return r.Action
		}
	}
	return OTLPUnset
}

// SplitsRecords reports whether records of a resource may be of several streams.
func (c *OTLPConfig) SplitsRecords() bool {
	label := func(r OTLPRule) bool { return r.Action == OTLPIndexLabel }
	return c.SeverityTextAsLabel || slices.ContainsFunc(c.ScopeAttributes, label) || slices.ContainsFunc(c.LogAttributes, label)
}

func (c *OTLPConfig) validate() error {
	var problems []error
	rules := func(key string, list []OTLPRule) {
		for i, r := range list {
			at := fmt.Sprintf("otlp_config.%s[%d]", key, i)
			if r.Action == OTLPUnset {
				problems = append(problems, fmt.Errorf("%s.action is missing: want index_label, structured_metadata or drop", at))
			}
			if len(r.Attributes) == 0 && r.Regex.re == nil {
				problems = append(problems, fmt.Errorf("%s has neither attributes nor regex", at))
			}
			if slices.Contains(r.Attributes, "") {
				problems = append(problems, fmt.Errorf("%s.attributes has an empty name", at))
			}
		}
	}
	rules("resource_attributes.attributes_config", c.ResourceAttributes.AttributesConfig)
	rules("scope_attributes", c.ScopeAttributes)
	rules("log_attributes", c.LogAttributes)
	return errors.Join(problems...)
}
