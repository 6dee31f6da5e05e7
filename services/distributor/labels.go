package distributor

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	pushv1 "github.com/weir-logs/weir/gen/go/weir/push/v1"
	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// canonical is a label set as a client wrote it, brought into canonical form.
type canonical struct {
	labels      model.Labels
	text        string
	fingerprint uint64
	found       bool // service_name was derived
	plain       bool // labels share the memory of a text
	level       level
	// longestName and longestValue are the bytes of the longest of labels.
	longestName, longestValue int32
	// noted is the generation of the active streams of a tenant that the stream was noted
	// in last.
	noted   atomic.Uint64
	refusal *refusal
	// unusual is why the text is refused where names must be plain; nil: they are.
	unusual *refusal
}

// labelCache remembers the canonical form of label texts. Two generations of a
// bounded size: what is not asked for while one fills is forgotten.
type labelCache struct {
	mu       sync.Mutex // guards what follows
	new, old map[string]*canonical
	bytes    int // of new, roughly
	limit    int
}

// labelCacheBytes bounds a generation, whose entries may be long.
const labelCacheBytes = 32 << 20

// cost is what an entry takes, roughly.
func (v *canonical) cost(text string) int {
	n := 248 + len(text) + len(v.text) + 32*len(v.labels)
	for _, l := range v.labels {
		if !v.plain {
			n += len(l.Name) + len(l.Value)
		}
	}
	for _, r := range []*refusal{v.refusal, v.unusual} {
		if r != nil {
			n += len(r.message)
		}
	}
	return n
}

func newLabelCache(limit int) *labelCache {
	return &labelCache{new: map[string]*canonical{}, limit: limit}
}

// ahead is how many streams of a request are looked up at once.
const ahead = 64

// find looks up the canonical form of up to ahead streams' labels; those that are not
// remembered are nil.
func (c *labelCache) find(into *[ahead]*canonical, streams []*ingestv1.StreamBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, in := range streams {
		into[i] = c.new[in.GetLabels()]
	}
}

func (c *labelCache) get(text string) *canonical {
	c.mu.Lock()
	v := c.new[text]
	if v == nil {
		if v = c.old[text]; v != nil {
			c.put(strings.Clone(text), v) // it may be a part of a request, here too
		}
	}
	c.mu.Unlock()
	if v != nil {
		return v
	}
	text = strings.Clone(text) // it may be a part of a request
	v = canonicalise(text)
	if len(text) > 4096 {
		return v // not worth its memory
	}
	c.mu.Lock()
	c.put(text, v)
	c.mu.Unlock()
	return v
}

func (c *labelCache) put(text string, v *canonical) {
	if len(c.new) >= c.limit || c.bytes >= labelCacheBytes {
		c.old, c.new, c.bytes = c.new, map[string]*canonical{}, 0
	}
	if _, there := c.new[text]; !there {
		c.bytes += v.cost(text)
	}
	c.new[text] = v
}

func canonicalise(text string) *canonical {
	if ls, ok := model.PlainLabels(text); ok {
		c := &canonical{plain: true}
		c.of(ls, text)
		return c
	}
	pairs, err := syntax.ParseAnyLabels(text)
	_, strict := syntax.ParseLabels(text)
	if err != nil {
		err = strict // what is not allowed in quotes either is an error as it always was
		return &canonical{refusal: &refusal{pushv1.RejectReason_REJECT_REASON_INVALID_LABELS, fmt.Sprintf("couldn't parse labels: %v", err)}}
	}
	seen := make(map[string]bool, len(pairs))
	set := make([]model.Label, 0, len(pairs)+1)
	for _, p := range pairs {
		if seen[p.Name] {
			return &canonical{refusal: &refusal{pushv1.RejectReason_REJECT_REASON_DUPLICATE_LABEL_NAME, fmt.Sprintf("stream '%s' has duplicate label name: '%s'", text, p.Name)}}
		}
		seen[p.Name] = true
		if !utf8.ValidString(p.Value) {
			return &canonical{refusal: &refusal{pushv1.RejectReason_REJECT_REASON_INVALID_LABELS, fmt.Sprintf("couldn't parse labels: the value of label '%s' is not valid UTF-8", p.Name)}}
		}
		set = append(set, model.Label{Name: p.Name, Value: p.Value})
	}
	ls := model.NewLabels(set)
	if len(ls) == 0 {
		return &canonical{refusal: &refusal{pushv1.RejectReason_REJECT_REASON_MISSING_LABELS, "error at least one label pair is required per stream"}}
	}
	c := &canonical{}
	if strict != nil {
		c.unusual = &refusal{pushv1.RejectReason_REJECT_REASON_INVALID_LABELS, fmt.Sprintf("couldn't parse labels: %v", strict)}
	}
	c.of(ls, "")
	return c
}

// of makes the canonical form of a set, whose text is given if it is known.
func (c *canonical) of(ls model.Labels, text string) {
	if ls.Get(discover.ServiceNameName) == "" {
		c.found = true
		all := append(make([]model.Label, 0, len(ls)+1), ls...)
		ls = model.NewLabels(append(all, model.Label{Name: discover.ServiceNameName, Value: discover.ServiceName(ls)}))
		text = ""
	}
	if text == "" {
		text = ls.String()
	}
	c.labels, c.text, c.fingerprint = ls, text, ls.Fingerprint()
	c.level = labelLevel(ls)
	for _, l := range ls {
		c.longestName, c.longestValue = max(c.longestName, int32(len(l.Name))), max(c.longestValue, int32(len(l.Value)))
	}
}
