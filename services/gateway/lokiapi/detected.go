package lokiapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
	"github.com/weir-logs/weir/libs/rpcerr"
)

const (
	defaultLines  = 100
	defaultFields = 1000
	// maxPathDepth bounds how deep objects are looked into for a field's path.
	maxPathDepth = 16
)

// field is what is known of a field that entries have.
type field struct {
	kind    string // of the oldest value
	parsers []string
	path    []string // in JSON
	values  map[string]struct{}
}

// fieldsRequest asks which fields the newest entries of a query have.
type fieldsRequest struct {
	query *queryv1.QueryRangeRequest
	limit int
	// parsers are those that the query has itself.
	parsers []string
}

func (a *API) fieldsRequest(r *http.Request) (*fieldsRequest, error) {
	text := r.Form.Get("query")
	q, err := syntax.ParseLogQuery(text)
	if err != nil {
		return nil, rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
	}
	out := &fieldsRequest{limit: defaultFields}
	for _, s := range q.Stages {
		switch s.(type) {
		case *syntax.JSON:
			out.parsers = append(out.parsers, "json")
		case *syntax.Logfmt:
			out.parsers = append(out.parsers, "logfmt")
		}
	}
	start, end, err := a.bounds(r)
	if err != nil {
		return nil, err
	}
	lines, err := limitParam(r, "line_limit")
	if err != nil {
		return nil, err
	}
	if lines == 0 {
		lines = defaultLines
	}
	for _, name := range []string{"limit", "field_limit"} {
		n, err := limitParam(r, name)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			out.limit = int(n)
		}
	}
	out.query = &queryv1.QueryRangeRequest{Query: text, Start: start, End: end, Limit: lines}
	return out, nil
}

// fields finds the fields of the newest entries: their metadata, and what a parser
// makes of their lines.
func (a *API) fields(r *http.Request) (*fieldsRequest, map[string]*field, error) {
	req, err := a.fieldsRequest(r)
	if err != nil {
		return nil, nil, err
	}
	stream, err := a.deps.Query.QueryStream(r.Context(), &queryv1.QueryStreamRequest{Query: req.query})
	if err != nil {
		return nil, nil, err
	}
	f, err := newFinder(req.parsers, a.deps.Now)
	if err != nil {
		return nil, nil, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return req, f.fields, nil
		}
		if err != nil {
			return nil, nil, err
		}
		for _, s := range m.GetStreams().GetStreams() {
			f.stream(s)
		}
	}
}

// finder gathers fields.
type finder struct {
	given        []string // parsers of the query
	json, logfmt *pipeline.Pipeline
	fields       map[string]*field
	parsed       []model.Label
}

func newFinder(given []string, now func() time.Time) (*finder, error) {
	f := &finder{given: given, fields: map[string]*field{}}
	var err error
	if f.json, err = pipeline.Compile([]syntax.Stage{&syntax.JSON{}}, pipeline.Hints{Now: now}); err != nil {
		return nil, err
	}
	f.logfmt, err = pipeline.Compile([]syntax.Stage{&syntax.Logfmt{}}, pipeline.Hints{Now: now})
	return f, err
}

func (f *finder) stream(s *queryv1.LogStream) {
	labels := model.LabelsFromMap(s.GetLabels())
	asJSON, asLogfmt := f.json.ForStream(labels), f.logfmt.ForStream(labels)
	for _, e := range s.GetEntries() {
		for k, v := range e.GetStructuredMetadata() {
			f.add(k, v, nil)
		}
		if len(f.given) > 0 {
			for k, v := range e.GetParsed() {
				f.add(k, v, f.given)
			}
			continue
		}
		line := []byte(e.GetText())
		if raw := e.GetRaw(); len(raw) > 0 {
			line = raw
		}
		parser := "json"
		_, set, _ := asJSON.Process(e.GetTimestampUnixNano(), line, nil)
		if kind, _ := set.Err(); kind != "" {
			parser = "logfmt"
			_, set, _ = asLogfmt.Process(e.GetTimestampUnixNano(), line, nil)
		}
		f.parsed = set.AppendParsed(f.parsed[:0])
		var paths map[string][]string
		for _, l := range f.parsed {
			fd := f.add(strings.Clone(l.Name), strings.Clone(l.Value), []string{parser})
			if fd == nil || parser != "json" || fd.path != nil {
				continue
			}
			if paths == nil {
				paths = jsonPaths(line)
			}
			name := l.Name
			if paths[name] == nil {
				name = strings.TrimSuffix(name, "_extracted")
			}
			if fd.path = paths[name]; fd.path == nil {
				fd.path = []string{name} // the parser reads more than the standard library does
			}
		}
	}
}

// add notes a value of a field. Errors are no fields.
func (f *finder) add(name, value string, parsers []string) *field {
	if strings.HasPrefix(name, "__error") {
		return nil
	}
	fd := f.fields[name]
	if fd == nil {
		fd = &field{values: map[string]struct{}{}}
		f.fields[name] = fd
	}
	for _, p := range parsers {
		if !slices.Contains(fd.parsers, p) {
			fd.parsers = append(fd.parsers, p)
		}
	}
	fd.kind = kindOf(value)
	fd.values[value] = struct{}{}
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

// detectedFields lists the fields of entries.
func (a *API) detectedFields(w http.ResponseWriter, r *http.Request) error {
	req, fields, err := a.fields(r)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(fields))
	names = names[:min(len(names), req.limit)]
	b := []byte(`{"fields":[`)
	for i, name := range names {
		f := fields[name]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"label":`...), name)
		b = appendString(append(b, `,"type":`...), f.kind)
		b = strconv.AppendInt(append(b, `,"cardinality":`...), int64(len(f.values)), 10)
		b = append(b, `,"parsers":`...)
		if len(f.parsers) == 0 {
			b = append(b, "null"...)
		} else {
			b = appendStrings(b, f.parsers)
		}
		if len(f.path) > 0 {
			b = appendStrings(append(b, `,"jsonPath":`...), f.path)
		}
		b = append(b, '}')
	}
	b = strconv.AppendInt(append(b, `],"limit":`...), int64(req.limit), 10)
	writeJSON(w, append(b, '}'))
	return nil
}

// detectedFieldValues lists the values of a field.
func (a *API) detectedFieldValues(w http.ResponseWriter, r *http.Request) error {
	req, fields, err := a.fields(r)
	if err != nil {
		return err
	}
	var values []string
	if f := fields[r.PathValue("name")]; f != nil {
		values = slices.Sorted(maps.Keys(f.values))
	}
	b := appendStrings([]byte(`{"values":`), values[:min(len(values), req.limit)])
	b = strconv.AppendInt(append(b, `,"limit":`...), int64(req.limit), 10)
	writeJSON(w, append(b, '}'))
	return nil
}
