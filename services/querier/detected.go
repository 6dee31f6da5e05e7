package querier

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	defaultFields = 1000
	// maxPathDepth bounds how deep objects are looked into for a field's path.
	maxPathDepth = 16
	// About what a field and a value take in memory besides their texts.
	fieldSize, valueSize = 256, 48
)

// field is what is known of a field that entries have.
type field struct {
	kind    string // of the oldest value
	parsers []string
	path    []string // in JSON
	values  map[string]struct{}
}

// asksFields is what requests about the fields of entries have in common.
type asksFields interface {
	GetQuery() string
	GetStart() *timestamppb.Timestamp
	GetEnd() *timestamppb.Timestamp
	GetLineLimit() uint32
	GetLimit() uint32
	GetPartial() bool
}

// detected is the fields of the newest entries of a query.
type detected struct {
	fields     map[string]*field
	limit      int // most that may be told
	statistics *queryv1.Statistics
	warnings   []string
}

// detect finds the fields of the newest entries: their metadata, and what a parser
// makes of their lines.
func (s *Service) detect(ctx context.Context, req asksFields) (*detected, error) {
	sc, err := s.scope(ctx)
	if err != nil {
		return nil, err
	}
	if limit := int(sc.limits.MaxQueryText); len(req.GetQuery()) > limit {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "parse error : input size too long (%d > %d)", len(req.GetQuery()), limit)
	}
	q, err := syntax.ParseLogQuery(req.GetQuery())
	if err != nil {
		return nil, parseError(err)
	}
	f, err := newFinder(q, s.deps.Now)
	if err != nil {
		return nil, err
	}
	lines := req.GetLineLimit()
	if lines == 0 {
		lines = defaultLimit
	}
	memory := engine.NewMemory(s.memory)
	res, place, err := s.runRange(ctx, &queryv1.QueryRangeRequest{
		Query: req.GetQuery(), Start: req.GetStart(), End: req.GetEnd(), Limit: lines, Partial: req.GetPartial(),
	}, nil, func(found []engine.LogStream) error {
		for i := range found {
			before := f.size
			f.stream(&found[i])
			if err := memory.Reserve(f.size - before); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &detected{fields: f.fields, limit: int(req.GetLimit()), statistics: statistics(res, place), warnings: res.Warnings}
	if out.limit == 0 {
		out.limit = defaultFields
	}
	return out, nil
}

// DetectedFields implements queryv1.QueryServiceServer.
func (s *Service) DetectedFields(ctx context.Context, req *queryv1.DetectedFieldsRequest) (*queryv1.DetectedFieldsResponse, error) {
	d, err := s.detect(ctx, req)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(d.fields))
	out := &queryv1.DetectedFieldsResponse{Limit: uint32(d.limit), Statistics: d.statistics, Warnings: d.warnings}
	for _, name := range names[:min(len(names), d.limit)] {
		f := d.fields[name]
		out.Fields = append(out.Fields, &queryv1.DetectedField{
			Name: validText(name), Type: f.kind, Cardinality: uint64(len(f.values)), Parsers: f.parsers, JsonPath: f.path,
		})
	}
	return out, nil
}

// DetectedFieldValues implements queryv1.QueryServiceServer.
func (s *Service) DetectedFieldValues(ctx context.Context, req *queryv1.DetectedFieldValuesRequest) (*queryv1.DetectedFieldValuesResponse, error) {
	if req.GetName() == "" {
		return nil, rpcerr.New(rpcerr.InvalidArgument, "name is missing")
	}
	d, err := s.detect(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &queryv1.DetectedFieldValuesResponse{Limit: uint32(d.limit), Statistics: d.statistics, Warnings: d.warnings}
	if f := d.fields[req.GetName()]; f != nil {
		values := slices.Sorted(maps.Keys(f.values))
		out.Values = values[:min(len(values), d.limit)]
	}
	return out, nil
}

// finder gathers fields.
type finder struct {
	given        []string // parsers of the query
	json, logfmt *pipeline.Pipeline
	fields       map[string]*field
	size         int // about what fields takes in memory
	parsed       []model.Label
}

func newFinder(q *syntax.LogSelector, now func() time.Time) (*finder, error) {
	f := &finder{fields: map[string]*field{}}
	for _, s := range q.Stages {
		switch s.(type) {
		case *syntax.JSON:
			f.given = append(f.given, "json")
		case *syntax.Logfmt:
			f.given = append(f.given, "logfmt")
		}
	}
	var err error
	if f.json, err = pipeline.Compile([]syntax.Stage{&syntax.JSON{}}, pipeline.Hints{Now: now}); err != nil {
		return nil, err
	}
	f.logfmt, err = pipeline.Compile([]syntax.Stage{&syntax.Logfmt{}}, pipeline.Hints{Now: now})
	return f, err
}

func (f *finder) stream(s *engine.LogStream) {
	asJSON, asLogfmt := f.json.ForStream(s.Labels), f.logfmt.ForStream(s.Labels)
	for i := range s.Entries {
		e := &s.Entries[i]
		for _, l := range e.Metadata {
			f.add(l.Name, l.Value, nil)
		}
		if len(f.given) > 0 {
			for _, l := range e.Parsed {
				f.add(l.Name, l.Value, f.given)
			}
			continue
		}
		parser := "json"
		_, set, _ := asJSON.Process(e.Time, e.Line, nil)
		if kind, _ := set.Err(); kind != "" {
			parser = "logfmt"
			_, set, _ = asLogfmt.Process(e.Time, e.Line, nil)
		}
		f.parsed = set.AppendParsed(f.parsed[:0])
		var paths map[string][]string
		for _, l := range f.parsed {
			fd := f.add(l.Name, l.Value, []string{parser})
			if fd == nil || parser != "json" || fd.path != nil {
				continue
			}
			if paths == nil {
				paths = jsonPaths(e.Line)
			}
			name := l.Name
			if paths[name] == nil {
				name = strings.TrimSuffix(name, "_extracted")
			}
			if fd.path = paths[name]; fd.path == nil {
				fd.path = []string{validText(strings.Clone(name))} // the parser reads more than the standard library does
			}
		}
	}
}

// validText is what labelMap makes of a value.
func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// add notes a value of a field, of which it keeps copies. Errors are no fields.
func (f *finder) add(name, value string, parsers []string) *field {
	if strings.HasPrefix(name, "__error") {
		return nil
	}
	value = validText(value)
	fd := f.fields[name]
	if fd == nil {
		name = strings.Clone(name)
		fd = &field{values: map[string]struct{}{}}
		f.fields[name] = fd
		f.size += len(name) + fieldSize
	}
	for _, p := range parsers {
		if !slices.Contains(fd.parsers, p) {
			fd.parsers = append(fd.parsers, p)
		}
	}
	fd.kind = kindOf(value)
	if _, known := fd.values[value]; !known {
		fd.values[strings.Clone(value)] = struct{}{}
		f.size += len(value) + valueSize
	}
	return fd
}

// kindOf tells what a value looks like.
func kindOf(v string) string {
	if _, err := strconv.ParseInt(v, 10, 64); err == nil {
		return "int"
	}
	if _, err := strconv.ParseFloat(v, 64); err == nil {
		return "float"
	}
	if _, err := strconv.ParseBool(v); err == nil {
		return "boolean"
	}
	if _, err := time.ParseDuration(v); err == nil {
		return "duration"
	}
	if _, err := pipeline.ParseBytes(v); err == nil {
		return "bytes"
	}
	return "string"
}

// jsonPaths returns where the fields of a JSON object are, by the names that the
// parser gives them.
func jsonPaths(line []byte) map[string][]string {
	out := map[string][]string{}
	var walk func(raw json.RawMessage, path []string)
	walk = func(raw json.RawMessage, path []string) {
		raw = bytes.TrimSpace(raw)
		if len(raw) > 0 && raw[0] == '{' && len(path) < maxPathDepth {
			if json.Valid(raw) {
				// Key by key: of two fields of one name the first counts.
				dec := json.NewDecoder(bytes.NewReader(raw))
				_, _ = dec.Token()
				for dec.More() {
					key, err := dec.Token()
					k, ok := key.(string)
					var v json.RawMessage
					if err != nil || !ok || dec.Decode(&v) != nil {
						return
					}
					walk(v, append(path[:len(path):len(path)], k))
				}
				return
			}
		}
		if name := fieldName(path); out[name] == nil {
			out[name] = path
		}
	}
	walk(line, nil)
	return out
}

// fieldName is the label that the JSON parser makes of a path.
func fieldName(path []string) string {
	var b strings.Builder
	for i, key := range path {
		if i > 0 {
			b.WriteByte('_')
		}
		for k, c := range strings.TrimSpace(key) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
				b.WriteRune(c)
			case '0' <= c && c <= '9':
				if i == 0 && k == 0 {
					b.WriteByte('_')
				}
				b.WriteRune(c)
			default:
				b.WriteByte('_')
			}
		}
	}
	return b.String()
}
