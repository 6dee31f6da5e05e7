package decode

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/model"
)

// splitRecord is a record of a resource whose records are of several streams.
type splitRecord struct {
	group       uint32 // the stream
	scope, data []byte
}

// splitCost is what a record takes in memory until its stream is built.
const splitCost = 2 * 56

// groupCost is what a stream takes until then, besides its labels.
const groupCost = 128

// split decodes the scopes of a resource into a stream for each label set that its
// records have. pairs are the labels of the resource.
func (r *otlpReader) split(data []byte, pairs []model.Label, rows int) error {
	held := splitCost * rows
	if err := r.memory.Grow(held); err != nil {
		return err
	}
	defer func() { r.memory.Shrink(held) }()
	s := &otlpSplitter{reader: r, groups: map[string]uint32{}, records: make([]splitRecord, 0, rows), held: &held}
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 2 && typ == protowire.BytesType {
			return s.scope(v.bytes, pairs)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(s.records, func(a, b splitRecord) int { return cmp.Compare(a.group, b.group) })
	for rest := s.records; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && rest[n].group == rest[0].group {
			size += len(rest[n].data)
			n++
		}
		if err := r.stream(rest[:n], size, s.labels[rest[0].group]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// stream builds the stream of records.
func (r *otlpReader) stream(records []splitRecord, size int, labels string) error {
	if err := r.startStream(len(records), size); err != nil {
		return err
	}
	held := 0
	defer func() { r.memory.Shrink(held) }()
	var scope []byte
	for i, rec := range records {
		if i == 0 || &scope[0] != &rec.scope[0] {
			scope = rec.scope
			r.memory.Shrink(held)
			held = 0
			if err := r.startScope(scope, &held); err != nil {
				return err
			}
		}
		if err := r.record(rec.data); err != nil {
			return err
		}
	}
	r.labels = labels
	r.endStream()
	return nil
}

// otlpSplitter sorts the records of a resource into streams.
type otlpSplitter struct {
	reader  *otlpReader
	groups  map[string]uint32 // by labels
	labels  []string
	records []splitRecord
	held    *int // of the reader's memory
	pairs   []model.Label
}

// scope adds the records of a ScopeLogs.
func (s *otlpSplitter) scope(data []byte, pairs []model.Label) error {
	r := s.reader
	if rows, _, err := count(data, 2); err != nil || rows == 0 {
		return err
	}
	base := slices.Clone(pairs)
	label := s.addTo(&base)
	err := fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num == 1 && typ == protowire.BytesType {
			return r.attributes(v.bytes, ofScope, nil, label)
		}
		return nil
	})
	if err != nil {
		return err
	}
	label = s.addTo(&s.pairs)
	return fields(data, func(num protowire.Number, typ protowire.Type, v value) error {
		if num != 2 || typ != protowire.BytesType {
			return nil
		}
		s.pairs = append(s.pairs[:0], base...)
		if err := r.attributes(v.bytes, ofRecord, nil, label); err != nil {
			return err
		}
		if r.cfg.SeverityTextAsLabel {
			err := fields(v.bytes, func(num protowire.Number, typ protowire.Type, v value) error {
				if num == 3 && typ == protowire.BytesType && len(v.bytes) > 0 {
					return label(severityText, v.bytes)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		group, err := s.group()
		s.records = append(s.records, splitRecord{group, data, v.bytes})
		return err
	})
}

// addTo is otlpReader.addTo for labels that do not stay.
func (s *otlpSplitter) addTo(pairs *[]model.Label) func(name, val []byte) error {
	add := s.reader.addTo(pairs)
	return func(name, val []byte) error {
		defer s.reader.memory.Shrink(64 + len(name) + len(val))
		return add(name, val)
	}
}

// group returns the number of the stream with the labels in pairs.
func (s *otlpSplitter) group() (uint32, error) {
	pairs := lastLabels(s.pairs)
	if len(pairs) == 0 {
		pairs = append(pairs, unknownService)
	}
	text := labelText(pairs)
	s.pairs = pairs
	if n, ok := s.groups[text]; ok {
		return n, nil
	}
	n := groupCost + 2*len(text)
	if err := s.reader.memory.Grow(n); err != nil {
		return 0, err
	}
	*s.held += n
	s.groups[text] = uint32(len(s.labels))
	s.labels = append(s.labels, text)
	return s.groups[text], nil
}

var unknownService = model.Label{Name: discover.ServiceNameName, Value: discover.UnknownService}
