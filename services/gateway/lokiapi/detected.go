package lokiapi

import (
	"cmp"
	"net/http"
	"strconv"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

// fieldsRequest reads the parameters of the endpoints about fields.
func (a *API) fieldsRequest(r *http.Request) (*queryv1.DetectedFieldsRequest, error) {
	start, end, err := a.bounds(r)
	if err != nil {
		return nil, err
	}
	lines, err := limitParam(r, "line_limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitParam(r, "limit")
	if err != nil {
		return nil, err
	}
	fields, err := limitParam(r, "field_limit")
	if err != nil {
		return nil, err
	}
	return &queryv1.DetectedFieldsRequest{
		Query: r.Form.Get("query"), Start: start, End: end, LineLimit: lines, Limit: cmp.Or(fields, limit),
	}, nil
}

// detectedFields lists the fields of entries.
func (a *API) detectedFields(w http.ResponseWriter, r *http.Request) error {
	req, err := a.fieldsRequest(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.DetectedFields(r.Context(), req)
	if err != nil {
		return err
	}
	b := []byte(`{"fields":[`)
	for i, f := range resp.GetFields() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"label":`...), f.GetName())
		b = appendString(append(b, `,"type":`...), f.GetType())
		b = strconv.AppendUint(append(b, `,"cardinality":`...), f.GetCardinality(), 10)
		b = append(b, `,"parsers":`...)
		if len(f.GetParsers()) == 0 {
			b = append(b, "null"...)
		} else {
			b = appendStrings(b, f.GetParsers())
		}
		if len(f.GetJsonPath()) > 0 {
			b = appendStrings(append(b, `,"jsonPath":`...), f.GetJsonPath())
		}
		b = append(b, '}')
	}
	b = strconv.AppendUint(append(b, `],"limit":`...), uint64(resp.GetLimit()), 10)
	writeJSON(w, append(appendWarnings(b, resp.GetWarnings()), '}'))
	return nil
}

// detectedFieldValues lists the values of a field.
func (a *API) detectedFieldValues(w http.ResponseWriter, r *http.Request) error {
	req, err := a.fieldsRequest(r)
	if err != nil {
		return err
	}
	resp, err := a.deps.Query.DetectedFieldValues(r.Context(), &queryv1.DetectedFieldValuesRequest{
		Name: r.PathValue("name"), Query: req.GetQuery(), Start: req.GetStart(), End: req.GetEnd(), LineLimit: req.GetLineLimit(), Limit: req.GetLimit(),
	})
	if err != nil {
		return err
	}
	b := appendStrings([]byte(`{"values":`), resp.GetValues())
	b = strconv.AppendUint(append(b, `,"limit":`...), uint64(resp.GetLimit()), 10)
	writeJSON(w, append(appendWarnings(b, resp.GetWarnings()), '}'))
	return nil
}
