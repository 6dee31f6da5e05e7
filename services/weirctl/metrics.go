package weirctl

import (
	"math"
	"strconv"
	"time"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

type jsonSample struct {
	Timestamp string `json:"timestamp"`
	// Value is text, as JSON knows neither NaN nor infinity.
	Value string `json:"value"`
}

type jsonSeries struct {
	Labels  map[string]string `json:"labels"`
	Samples []jsonSample      `json:"samples"`
}

func sampleOf(s *queryv1.Sample) jsonSample {
	return jsonSample{time.Unix(0, s.GetTimestampUnixNano()).UTC().Format(time.RFC3339Nano), formatValue(s.GetValue())}
}

func formatValue(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// matrix writes series of samples.
func (o *output) matrix(m *queryv1.Matrix) error {
	for _, s := range m.GetSeries() {
		if err := o.series(s); err != nil {
			return err
		}
	}
	return nil
}

func (o *output) series(s *queryv1.Series) error {
	switch o.format {
	case "json":
		v := jsonSeries{Labels: s.GetLabels(), Samples: []jsonSample{}}
		for _, p := range s.GetSamples() {
			v.Samples = append(v.Samples, sampleOf(p))
		}
		if err := o.json(v); err != nil {
			return err
		}
		return o.end()
	case "text":
		o.paint(cyan, formatLabels(s.GetLabels()))
		if o.terminal {
			o.line = append(append(o.line, ' '), sparkline(s.GetSamples(), 60)...)
		}
		if err := o.end(); err != nil {
			return err
		}
	}
	for _, p := range s.GetSamples() {
		if o.format == "text" {
			o.line = append(o.line, "  "...)
		}
		if err := o.sample(s.GetLabels(), p, false); err != nil {
			return err
		}
	}
	return nil
}

// sample writes one sample on a line; in text, labels are shown if named is.
func (o *output) sample(labels map[string]string, p *queryv1.Sample, named bool) error {
	switch o.format {
	case "json":
		v := struct {
			Labels map[string]string `json:"labels"`
			jsonSample
		}{labels, sampleOf(p)}
		if err := o.json(v); err != nil {
			return err
		}
	case "logfmt":
		v := sampleOf(p)
		o.line = appendPair(o.line, "ts", v.Timestamp)
		o.pairs(labels)
		o.line = appendPair(o.line, "value", v.Value)
	case "raw":
		o.line = append(o.line, formatValue(p.GetValue())...)
	default:
		if named {
			o.paint(cyan, formatLabels(labels))
		} else {
			o.paint(dim, o.time(p.GetTimestampUnixNano()))
		}
		o.line = append(append(o.line, ' '), formatValue(p.GetValue())...)
	}
	return o.end()
}

// instant writes the value of an instant query.
func (o *output) instant(r *queryv1.QueryResponse) error {
	if s := r.GetScalar(); s != nil {
		return o.sample(nil, s.GetSample(), false)
	}
	for _, s := range r.GetVector().GetSamples() {
		if err := o.sample(s.GetLabels(), s.GetSample(), true); err != nil {
			return err
		}
	}
	return nil
}

// sparkline draws samples as bars, the highest of each of at most width groups.
func sparkline(samples []*queryv1.Sample, width int) string {
	low, high := math.Inf(1), math.Inf(-1)
	groups := min(width, len(samples))
	tops := make([]float64, groups)
	for i := range groups {
		tops[i] = math.NaN()
		for _, s := range samples[i*len(samples)/groups : (i+1)*len(samples)/groups] {
			if v := s.GetValue(); !math.IsInf(v, 0) && !(v <= tops[i]) && !math.IsNaN(v) {
				tops[i] = v
			}
		}
		if !math.IsNaN(tops[i]) {
			low, high = min(low, tops[i]), max(high, tops[i])
		}
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	line := make([]rune, groups)
	for i, v := range tops {
		switch {
		case math.IsNaN(v):
			line[i] = ' '
		case high == low:
			line[i] = bars[len(bars)/2]
		default:
			line[i] = bars[min(len(bars)-1, int((v/2-low/2)/(high/2-low/2)*float64(len(bars))))]
		}
	}
	return string(line)
}
