package decode

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// splitRecord is a record of a resource whose records are of several streams.
type splitRecord struct {
	group, scope uint32 // the stream, and of the splitter's scopes
	data         []byte
}

// splitCost is what a record takes in memory until its stream is built.
const splitCost = 2 * 32

// maxSplitLabels bounds the work for labels of records that may be of several streams,
// in bytes: those of a resource and a scope are looked at again for each record.
const maxSplitLabels = 1 << 30

// pairCost is the work for a label besides its bytes.
const pairCost = 64

// scopeCost and attributeCost are what a scope takes until then, and each of its
// attributes besides its bytes.
const scopeCost, attributeCost = 2 * 24, 48

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
		if err := r.stream(rest[:n], size, s.labels[rest[0].group], s.scopes); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// stream builds the stream of records.
func (r *otlpReader) stream(records []splitRecord, size int, labels string, scopes [][]attribute) error {
	if err := r.startStream(len(records), size); err != nil {
		return err
	}
	for i, rec := range records {
		if i == 0 || rec.scope != records[i-1].scope {
			r.scoped = append(r.scoped[:0], scopes[rec.scope]...)
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
	scopes  [][]attribute // what all records of each have
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
	// Read once, not for each of the streams that its records are of.
	if err := r.startScope(data, s.held); err != nil {
		return err
	}
	n := scopeCost + attributeCost*len(r.scoped)
	if err := r.memory.Grow(n); err != nil {
		return err
	}
	*s.held += n
	scope := uint32(len(s.scopes))
	s.scopes = append(s.scopes, slices.Clone(r.scoped))
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
		s.records = append(s.records, splitRecord{group, scope, v.bytes})
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
	for _, l := range s.pairs {
		s.reader.work += pairCost + len(l.Name) + len(l.Value)
	}
	if s.reader.work > maxSplitLabels {
		return 0, errManyLabels
	}
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

var errManyLabels = rpcerr.New(rpcerr.InvalidArgument, "the labels of the records take %d bytes and more to tell their streams: send fewer records or labels at once", maxSplitLabels)
