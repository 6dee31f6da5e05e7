package pipeline

import (
	"math/rand/v2"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/services/agent/config/node"
)

// builders make the stages. A builder adds ops, or problems. It is filled by init,
// because match builds stages too.
var builders map[string]func(c *compiler, body *yaml.Node, path string)

// refused are stages that Promtail has and this has not.
var refused = map[string]string{
	"geoip":           "stage geoip is not supported: the database is not free to pass on; look addresses up where they are queried",
	"eventlogmessage": "stage eventlogmessage is not supported: there is no source for Windows events",
}

func init() {
	builders = map[string]func(*compiler, *yaml.Node, string){
		"json": buildJSON, "logfmt": buildLogfmt, "regex": buildRegex, "replace": buildReplace, "pattern": buildPattern,
		"labels": buildLabels, "labeldrop": buildLabelDrop, "labelallow": buildLabelAllow, "static_labels": buildStaticLabels,
		"structured_metadata": buildMetadata, "non_indexed_labels": buildMetadata, "structured_metadata_drop": buildMetadataDrop,
		"timestamp": buildTimestamp, "output": buildOutput, "tenant": buildTenant, "template": buildTemplate, "pack": buildPack,
		"docker": buildDocker, "cri": buildCRI, "match": buildMatch, "pipeline": buildNested, "drop": buildDrop,
		"sampling": buildSampling, "limit": buildLimit, "multiline": buildMultiline, "decolorize": buildDecolorize,
		"metrics": buildMetrics, "truncate": buildTruncate, "luhn": buildLuhn, "redact": buildRedact,
	}
}

// StageNames are the stages there are, in order.
func StageNames() []string {
	var names []string
	for n := range builders {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

const (
	maxOps   = 1000
	maxDepth = 20
)

// compiler makes a Pipeline of YAML.
type compiler struct {
	p     *Pipeline
	ps    *node.Problems
	name  string // of the stage at hand
	line  int
	depth int
}

// Compile reads a list of stages. All that is wrong goes to ps; path is where the
// list stands. An empty list gives nil.
func Compile(list *yaml.Node, path string, d Deps, ps *node.Problems) *Pipeline {
	if d.Rand == nil {
		d.Rand = rand.Float64
	}
	if d.MaxJoined <= 0 {
		d.MaxJoined = defaultMaxJoined
	}
	c := &compiler{p: &Pipeline{slotOf: map[string]int{}, deps: d, m: d.Metrics}, ps: ps}
	c.list(list, path)
	if len(c.p.ops) == 0 {
		return nil
	}
	return c.p
}

func (c *compiler) list(list *yaml.Node, path string) {
	if c.depth++; c.depth > maxDepth {
		c.ps.Fail(list, path, "stages nested more than %d deep", maxDepth)
		return
	}
	defer func() { c.depth-- }()
	items, _ := node.Items(list, path, c.ps)
	for i, item := range items {
		c.item(item, node.Index(path, i))
	}
}

func (c *compiler) item(item *yaml.Node, path string) {
	if len(c.p.ops) >= maxOps {
		c.ps.Fail(item, path, "more than %d stages", maxOps)
		return
	}
	// A stage without options may be its bare name.
	if item.Kind == yaml.ScalarNode && !node.IsNull(item) {
		c.stage(item, item.Value, nil, path)
		return
	}
	pairs, ok := node.Pairs(item, path, c.ps)
	if !ok {
		return
	}
	if len(pairs) != 1 {
		c.ps.Fail(item, path, "must be a mapping with one key, the stage's name; it has %d (is a dash missing, or an indentation wrong?)", len(pairs))
		return
	}
	c.stage(pairs[0].Key, pairs[0].Key.Value, pairs[0].Value, path)
}

func (c *compiler) stage(at *yaml.Node, name string, body *yaml.Node, path string) {
	path = node.Join(path, name)
	if why, no := refused[name]; no {
		c.ps.Fail(at, path, "%s", why)
		return
	}
	build := builders[name]
	if build == nil {
		c.ps.Fail(at, path, "unknown stage%s", node.DidYouMean(name, StageNames()))
		return
	}
	outer, line := c.name, c.line
	c.name, c.line = name, at.Line
	if body == nil {
		body = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: at.Line}
	}
	build(c, body, path)
	c.name, c.line = outer, line
}

// add appends a stage.
func (c *compiler) add(s stage) int {
	c.p.ops = append(c.p.ops, op{stage: s, name: c.name, line: c.line})
	return len(c.p.ops) - 1
}

// slot gives the place of an extracted value.
func (c *compiler) slot(name string) int {
	i, ok := c.p.slotOf[name]
	if !ok {
		i = len(c.p.slots)
		c.p.slots = append(c.p.slots, name)
		c.p.slotOf[name] = i
	}
	return i
}

// source gives the slot of an optional source; -1: the line. A given one must not
// be empty.
func (c *compiler) source(n *yaml.Node, source *string, path string) int {
	switch {
	case source == nil:
		return -1
	case *source == "":
		c.ps.Fail(n, node.Join(path, "source"), "must not be empty; leave it out to read the line")
		return -1
	}
	return c.slot(*source)
}

// decode reads a body, unknown keys and letter case as Promtail does.
func (c *compiler) decode(body *yaml.Node, path string, into any) {
	node.Decode(body, path, into, node.Options{Loose: true}, c.ps)
}

// pair is a name and where it comes from.
type pair struct {
	name, source string
	at           *yaml.Node
}

// names reads {name: source, ...}, where an empty source means the name, or the
// short form [name, ...], also with {name: source} in it.
func (c *compiler) names(n *yaml.Node, path string) []pair {
	n = node.Resolve(n)
	var out []pair
	switch {
	case node.IsNull(n):
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			item = node.Resolve(item)
			if item.Kind == yaml.ScalarNode && !node.IsNull(item) {
				out = append(out, pair{item.Value, item.Value, item})
				continue
			}
			out = append(out, c.names(item, node.Index(path, i))...)
		}
	default:
		pairs, _ := node.Pairs(n, path, c.ps)
		for _, p := range pairs {
			source := p.Key.Value
			switch {
			case node.IsNull(p.Value):
			case p.Value.Kind != yaml.ScalarNode:
				c.ps.Fail(p.Value, node.Join(path, p.Key.Value), "must be a text, not %s", node.Kind(p.Value))
				continue
			case p.Value.Value != "":
				source = p.Value.Value
			}
			out = append(out, pair{p.Key.Value, source, p.Key})
		}
	}
	return out
}

func (c *compiler) labelName(at *yaml.Node, path, name string) bool {
	if !syntax.IsLabelName(name) {
		c.ps.Fail(at, path, "%q is not a label name: letters, digits and _, not beginning with a digit", name)
		return false
	}
	return true
}

// isText reports a body in the short form: one text.
func isText(n *yaml.Node) bool {
	n = node.Resolve(n)
	return n.Kind == yaml.ScalarNode && !node.IsNull(n)
}

func isList(n *yaml.Node) bool { return node.Resolve(n).Kind == yaml.SequenceNode }

// joinNames is for messages.
func joinNames(names []string) string { return strings.Join(names, ", ") }
