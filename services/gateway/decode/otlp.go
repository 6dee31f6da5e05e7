package decode

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	ingestv1 "github.com/weir-logs/weir/gen/go/weir/ingest/v1"
	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// DoorOTLP names OpenTelemetry's push in WriteRequest.door.
const DoorOTLP = "otlp"

// OTLP decodes an opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest as
// cfg says. A resource with records becomes a stream, or, if cfg makes labels of what
// scopes or records have, several:
//
//   - Resource attributes that say where logs come from ([IndexAttributes]) become
//     its labels, the other ones structured metadata of each of its entries, as do the
//     attributes of scopes and records, and the records' own fields (severity_number,
//     severity_text, trace_id, span_id, flags, event_name, observed_timestamp, …). Of
//     equal names the nearest to the record wins: its own fields, its attributes, the
//     scope, the resource. cfg has the last word on what becomes of an attribute.
//   - Names have _ for whatever no label's name may have, unless cfg keeps them. Maps
//     become a pair for each of their leaves, with the keys on the way joined by _, or,
//     if names are kept, by a dot; arrays become JSON.
//   - The line is the body: a string as it is, maps and arrays as JSON, bytes in base64.
//   - The time is the record's own, else when it was observed, else 0, which the
//     request asks to be filled in.
//
// Nothing of data is referred to afterwards.
func OTLP(data []byte, cfg *limits.OTLPConfig, memory *Reservation) (*ingestv1.WriteRequest, error) {
	r := &otlpReader{builder: newBuilder(memory, DoorOTLP), text: textWriter{memory: memory}, cfg: cfg, splits: cfg.SplitsRecords()}
	r.out.Stamp, r.left = true, len(data)
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 1 && typ == protowire.BytesType {
			err := r.resource(v.bytes)
			r.left -= len(v.bytes)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.out, nil
}

// IndexAttributes returns the resource attributes that become labels.
func IndexAttributes() []string { return slices.Clone(indexAttributes[:]) }

var indexAttributes = [...]string{
	"service.name", "service.namespace", "service.instance.id", "deployment.environment", "deployment.environment.name",
	"cloud.region", "cloud.availability_zone", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name",
	"k8s.container.name", "container.name", "k8s.replicaset.name", "k8s.deployment.name", "k8s.statefulset.name",
	"k8s.daemonset.name", "k8s.cronjob.name", "k8s.job.name",
}

// maxAttributeName is the longest name of structured metadata, in bytes. The longest
// that could be stored is what the distributor says; this bounds the work.
const maxAttributeName = 4096

type otlpReader struct {
	*builder
	cfg    *limits.OTLPConfig
	splits bool // cfg.SplitsRecords()
	work   int  // for the labels of records, see maxSplitLabels
	// actions are what becomes of attributes, as far as they have come up.
	actions [3]map[string]limits.OTLPAction

	common []attribute // of the resource in work
	scoped []attribute // of the scope in work and its resource
	name   []byte      // scratch: the name of an attribute
	text   textWriter  // scratch: the text of a value
}

// attribute is a pair of structured metadata.
type attribute struct{ name, value []byte }

// resource decodes a ResourceLogs { resource 1, scope_logs 2 }.
func (r *otlpReader) resource(data []byte) error {
	rows, size := 0, 0
	pairs := r.pairs[:0]
	label := r.addTo(&pairs)
	r.common = r.common[:0]
	held := 0
	defer func() { r.memory.Shrink(held) }()
	// Fields may come in any order, and the resource is needed first.
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			return r.attributes(v.bytes, ofResource, func(name, val []byte) error { return r.keep(&r.common, &held, name, val) }, label)
		case num == 2 && typ == protowire.BytesType:
			n, bytes, err := count(v.bytes, 2)
			rows, size = rows+n, size+bytes
			return err
		}
		return nil
	})
	if err != nil || rows == 0 {
		return err
	}
	r.common = lastOfEqual(r.common)
	if r.splits {
		err := r.split(data, pairs, rows)
		r.pairs = pairs[:0]
		return err
	}
	if len(pairs) == 0 {
		pairs = append(pairs, unknownService)
	}
	pairs = lastLabels(pairs)
	if err := r.startStream(rows, size); err != nil {
		return err
	}
	err = fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 2 && typ == protowire.BytesType {
			return r.scope(v.bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.setLabels(pairs)
	r.pairs = pairs[:0]
	r.endStream()
	return nil
}

// addTo returns a function that adds an attribute to labels.
func (r *otlpReader) addTo(pairs *[]model.Label) func(name, val []byte) error {
	return func(name, val []byte) error {
		*pairs = append(*pairs, model.Label{Name: string(name), Value: string(bytes.ToValidUTF8(val, []byte("\uFFFD")))})
		return r.memory.Grow(64 + len(name) + len(val))
	}
}

// lastLabels sorts labels by name and keeps the last one of each.
func lastLabels(pairs []model.Label) []model.Label {
	slices.Reverse(pairs)
	slices.SortStableFunc(pairs, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(pairs, func(a, b model.Label) bool { return a.Name == b.Name })
}

// lastOfEqual sorts attributes by name and keeps the last one of each.
func lastOfEqual(as []attribute) []attribute {
	slices.Reverse(as)
	slices.SortStableFunc(as, func(a, b attribute) int { return bytes.Compare(a.name, b.name) })
	return slices.CompactFunc(as, func(a, b attribute) bool { return bytes.Equal(a.name, b.name) })
}

// keep adds a copy of an attribute to a list and counts it in held.
func (r *otlpReader) keep(list *[]attribute, held *int, name, val []byte) error {
	n := 2*48 + len(name) + len(val)
	if err := r.memory.Grow(n); err != nil {
		return err
	}
	*held += n
	*list = append(*list, attribute{bytes.Clone(name), bytes.Clone(val)})
	return nil
}

// scope decodes a ScopeLogs { scope 1, log_records 2 }.
func (r *otlpReader) scope(data []byte) error {
	if rows, _, err := count(data, 2); err != nil || rows == 0 {
		return err
	}
	held := 0
	defer func() { r.memory.Shrink(held) }()
	if err := r.startScope(data, &held); err != nil {
		return err
	}
	return fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 2 && typ == protowire.BytesType {
			return r.record(v.bytes)
		}
		return nil
	})
}

// startScope reads what all records of a ScopeLogs have, and counts it in held.
func (r *otlpReader) startScope(data []byte, held *int) error {
	r.scoped = append(r.scoped[:0], r.common...)
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 1 && typ == protowire.BytesType {
			return r.scopeFields(v.bytes, func(name, val []byte) error { return r.keep(&r.scoped, held, name, val) })
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.scoped) > len(r.common) {
		r.scoped = lastOfEqual(r.scoped)
	}
	return nil
}

// scopeFields decodes an InstrumentationScope { name 1, version 2, attributes 3,
// dropped_attributes_count 4 }.
func (r *otlpReader) scopeFields(data []byte, add func(name, val []byte) error) error {
	if err := r.attributes(data, ofScope, add, nil); err != nil {
		return err
	}
	return fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch {
		case num == 1 && typ == protowire.BytesType && len(v.bytes) > 0:
			return add([]byte("scope_name"), v.bytes)
		case num == 2 && typ == protowire.BytesType && len(v.bytes) > 0:
			return add([]byte("scope_version"), v.bytes)
		case num == 4 && typ == protowire.VarintType && uint32(v.number) != 0:
			return add([]byte("scope_dropped_attributes_count"), strconv.AppendUint(nil, uint64(uint32(v.number)), 10))
		}
		return nil
	})
}

// Names of the metadata that a record's own fields become.
var (
	severityNumber    = []byte("severity_number")
	severityText      = []byte("severity_text")
	droppedAttributes = []byte("dropped_attributes_count")
	flagsName         = []byte("flags")
	traceID           = []byte("trace_id")
	spanID            = []byte("span_id")
	eventName         = []byte("event_name")
	observedTimestamp = []byte("observed_timestamp")
)

// record decodes a LogRecord { time_unix_nano 1, severity_number 2, severity_text 3,
// body 5, attributes 6, dropped_attributes_count 7, flags 8, trace_id 9, span_id 10,
// observed_time_unix_nano 11, event_name 12 }.
func (r *otlpReader) record(data []byte) error {
	for _, a := range r.scoped {
		if err := r.setMetadata(a.name, a.value); err != nil {
			return err
		}
	}
	if err := r.attributes(data, ofRecord, r.setMetadata, nil); err != nil {
		return err
	}
	var time, observed uint64
	var body []byte
	number := func(name []byte, n uint64) error {
		if n == 0 {
			return nil
		}
		var b [20]byte
		return r.setMetadata(name, strconv.AppendUint(b[:0], n, 10))
	}
	// An id of zeros or of another length means that there is none.
	id := func(name, val []byte, length int) error {
		if len(val) != length || len(bytes.Trim(val, "\x00")) == 0 {
			return nil
		}
		var b [32]byte
		return r.setMetadata(name, hex.AppendEncode(b[:0], val))
	}
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		switch typ {
		case protowire.Fixed64Type:
			switch num {
			case 1:
				time = v.number
			case 11:
				observed = v.number
			}
		case protowire.VarintType:
			switch num {
			case 2:
				if n := int32(v.number); n > 0 {
					return number(severityNumber, uint64(n))
				}
			case 7:
				return number(droppedAttributes, uint64(uint32(v.number)))
			}
		case protowire.Fixed32Type:
			if num == 8 {
				return number(flagsName, v.number)
			}
		case protowire.BytesType:
			switch num {
			case 3:
				if len(v.bytes) > 0 && !r.cfg.SeverityTextAsLabel {
					return r.setMetadata(severityText, v.bytes)
				}
			case 5:
				body = v.bytes
			case 9:
				return id(traceID, v.bytes, 16)
			case 10:
				return id(spanID, v.bytes, 8)
			case 12:
				if len(v.bytes) > 0 {
					return r.setMetadata(eventName, v.bytes)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if time != 0 && observed != 0 {
		if err := number(observedTimestamp, observed); err != nil {
			return err
		}
	}
	v, err := readAny(body)
	if err != nil {
		return err
	}
	line, err := r.text.of(v, 0)
	if err != nil {
		return err
	}
	if err := r.setLine(line); err != nil {
		return err
	}
	if time == 0 {
		time = observed
	}
	// What is behind the last nanosecond is refused as too new, by itself.
	return r.endRow(int64(min(time, 1<<63-1)), 0)
}

// owner is what attributes are of.
type owner int

const (
	ofResource owner = iota
	ofScope
	ofRecord
)

// number is that of the field that holds the attributes.
func (o owner) number() protowire.Number { return [...]protowire.Number{1, 3, 6}[o] }

// attributes calls meta with each attribute of a message that becomes metadata, and
// label with each that becomes a label. Either may be nil. What they are given is
// valid until they return; values are never empty.
func (r *otlpReader) attributes(data []byte, of owner, meta, label func(name, val []byte) error) error {
	number := of.number()
	return fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num != number || typ != protowire.BytesType {
			return nil
		}
		key, val, err := pair(v.bytes)
		if err != nil {
			return err
		}
		f := meta
		switch r.action(of, key) {
		case limits.OTLPIndexLabel:
			f = label
		case limits.OTLPDrop:
			f = nil
		}
		if f == nil {
			return nil
		}
		r.name = r.name[:0]
		return r.flatten(key, val, 0, f)
	})
}

// maxActions is how many attributes' actions are remembered.
const maxActions = 1024

// action is what becomes of an attribute.
func (r *otlpReader) action(of owner, key []byte) limits.OTLPAction {
	var rules []limits.OTLPRule
	switch of {
	case ofResource:
		rules = r.cfg.ResourceAttributes.AttributesConfig
	case ofScope:
		rules = r.cfg.ScopeAttributes
	case ofRecord:
		rules = r.cfg.LogAttributes
	}
	if len(rules) > 0 {
		a, ok := r.actions[of][string(key)]
		if !ok {
			a = limits.OTLPActionOf(rules, string(key))
			if r.actions[of] == nil {
				r.actions[of] = map[string]limits.OTLPAction{}
			}
			if len(r.actions[of]) < maxActions && len(key) < maxAttributeName {
				r.actions[of][string(key)] = a
			}
		}
		if a != limits.OTLPUnset {
			return a
		}
	}
	if of == ofResource && !r.cfg.ResourceAttributes.IgnoreDefaults && slices.Contains(indexAttributes[:], string(key)) {
		return limits.OTLPIndexLabel
	}
	return limits.OTLPStructuredMetadata
}

// flatten calls f with the leaves of an attribute.
func (r *otlpReader) flatten(key, data []byte, depth int, f func(name, val []byte) error) error {
	if depth > maxDepth {
		return errTooDeep
	}
	from := len(r.name)
	defer func() { r.name = r.name[:from] }()
	if from > 0 {
		if r.cfg.KeepNames {
			r.name = append(r.name, '.')
		} else {
			r.name = append(r.name, '_')
		}
	}
	if from+len(key) > maxAttributeName {
		return rpcerr.New(rpcerr.InvalidArgument, "the name of an attribute has more than %d bytes", maxAttributeName)
	}
	switch {
	case !r.cfg.KeepNames, from == 0 && string(key) == "service.name": // which names the service
		r.name = appendName(r.name, key)
	case utf8.Valid(key):
		r.name = append(r.name, key...)
	default:
		r.name = append(r.name, bytes.ToValidUTF8(key, []byte("_"))...)
	}
	if len(r.name) == 0 {
		return nil
	}
	v, err := readAny(data)
	if err != nil {
		return err
	}
	if v.kind == anyMap {
		return fields(v.bytes, func(num protowire.Number, typ protowire.Type, e value) error {
			if num != 1 || typ != protowire.BytesType {
				return nil
			}
			key, val, err := pair(e.bytes)
			if err != nil {
				return err
			}
			return r.flatten(key, val, depth+1, f)
		})
	}
	text, err := r.text.of(v, depth)
	if err != nil || len(text) == 0 {
		return err
	}
	return f(r.name, text)
}

// appendName appends a name in the alphabet of labels.
func appendName(b, name []byte) []byte {
	if len(b) == 0 && len(name) > 0 && '0' <= name[0] && name[0] <= '9' {
		b = append(b, "key_"...)
	}
	for _, c := range string(name) { // an invalid byte counts as a rune
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			b = append(b, byte(c))
		default:
			b = append(b, '_')
		}
	}
	return b
}
