package pipeline

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// corpus is where the recorded answers lie next to the repository, if they are there.
const corpus = "../../../../shared/conformance"

type corpusRow struct {
	ts   int64
	line []byte
	meta []model.Label
	seq  int
}

type corpusStream struct {
	labels model.Labels
	rows   []corpusRow
}

func loadCorpus(t *testing.T) []*corpusStream {
	f, err := os.Open(filepath.Join(corpus, "data/own.jsonl.gz"))
	if err != nil {
		t.Skip("no corpus: ", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	streams := map[string]*corpusStream{}
	var out []*corpusStream
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 4<<20)
	for seq := 0; sc.Scan(); seq++ {
		var e struct {
			Labels   map[string]string
			TS       string
			Line     string
			LineB64  []byte `json:"line_b64"`
			Metadata map[string]string
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		labels := model.LabelsFromMap(e.Labels)
		e.Labels[discover.ServiceNameName] = discover.ServiceName(labels)
		labels = model.LabelsFromMap(e.Labels)
		s := streams[labels.String()]
		if s == nil {
			s = &corpusStream{labels: labels}
			streams[labels.String()] = s
			out = append(out, s)
		}
		row := corpusRow{line: []byte(e.Line), seq: seq}
		if e.LineB64 != nil {
			row.line = e.LineB64
		}
		row.ts, _ = strconv.ParseInt(e.TS, 10, 64)
		for k, v := range e.Metadata {
			if v != "" {
				row.meta = append(row.meta, model.Label{Name: string(appendSanitized(nil, []byte(k))), Value: v})
			}
		}
		sortLabels(row.meta)
		row.meta = append(row.meta, model.Label{Name: discover.LevelName, Value: discover.Level(labels, row.meta, row.line)})
		dup := slices.ContainsFunc(s.rows, func(r corpusRow) bool {
			return r.ts == row.ts && string(r.line) == string(row.line) && slices.Equal(r.meta, row.meta)
		})
		if !dup {
			s.rows = append(s.rows, row)
		}
	}
	return out
}

type recorded struct {
	Name    string
	Quirk   bool
	Params  map[string]string
	Headers map[string]string
	Expect  struct {
		Status    int
		Substring string
		Body      json.RawMessage
	}
}

type answer struct {
	Data struct {
		ResultType string
		Result     []struct {
			Stream map[string]string
			Values [][]json.RawMessage
		}
	}
}

// TestConformance runs the recorded log queries over the corpus, by hand: no index, no limits.
func TestConformance(t *testing.T) {
	streams := loadCorpus(t)
	only := os.Getenv("CASE")
	ran := 0
	for _, file := range strings.Fields("line_filter label_filter json logfmt regexp pattern unpack line_format label_format drop_keep decolorize pipeline_error edge level metadata realistic response") {
		b, err := os.ReadFile(filepath.Join(corpus, "cases/own", file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		var cases []recorded
		if err := json.Unmarshal(b, &cases); err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			if c.Quirk || c.Params["query"] == "" || (only != "" && !strings.HasPrefix(c.Name, only)) {
				continue
			}
			sel, err := syntax.ParseLogQuery(c.Params["query"])
			if err != nil {
				continue // a metric query, or wrong already as text
			}
			p, err := Compile(sel.Stages, Hints{Now: time.Now})
			if err != nil || c.Expect.Status != 200 {
				if c.Expect.Status != 400 {
					t.Errorf("%s: %v", c.Name, err)
				} else if want, _, _ := strings.Cut(c.Expect.Substring, "…"); err != nil && !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%s: error is %q, want %q", c.Name, err, c.Expect.Substring)
				}
				continue
			}
			var want answer
			if err := json.Unmarshal(c.Expect.Body, &want); err != nil || want.Data.ResultType != "streams" {
				continue
			}
			ran++
			categorize := strings.Contains(c.Headers["X-Loki-Response-Encoding-Flags"], "categorize")
			got := runQuery(t, streams, sel, p, c.Params, categorize)
			if w := flatten(want); !slices.Equal(got, w) {
				for i := range max(len(got), len(w)) {
					g, ww := "", ""
					if i < len(got) {
						g = got[i]
					}
					if i < len(w) {
						ww = w[i]
					}
					if g != ww {
						t.Errorf("%s: %s\n  entry %d of %d, %d\n  got  %.600s\n  want %.600s", c.Name, c.Params["query"], i, len(got), len(w), g, ww)
						break
					}
				}
			}
		}
	}
	t.Logf("%d queries", ran)
}

func runQuery(t *testing.T, streams []*corpusStream, sel *syntax.LogSelector, p *Pipeline, params map[string]string, categorize bool) []string {
	type result struct {
		ts   int64
		seq  int
		text string
	}
	start, err1 := strconv.ParseInt(params["start"], 10, 64)
	end, err2 := strconv.ParseInt(params["end"], 10, 64)
	if err1 != nil || err2 != nil {
		start, end = 0, 1<<62
	}
	var all []result
next:
	for _, s := range streams {
		for _, m := range sel.Matchers {
			if !m.Matches(s.labels.Get(m.Name)) {
				continue next
			}
		}
		st := p.ForStream(s.labels)
		for _, r := range s.rows {
			if r.ts < start || r.ts >= end {
				continue
			}
			line, set, ok := st.Process(r.ts, r.line, r.meta)
			if !ok {
				continue
			}
			var text string
			if categorize {
				text = entryText(set.AppendStream(nil), r.ts, string(line), set.AppendMetadata(nil), set.AppendParsed(nil))
			} else {
				text = entryText(set.Append(nil), r.ts, string(line), nil, nil)
			}
			all = append(all, result{r.ts, r.seq, text})
		}
	}
	sign := int64(-1)
	if params["direction"] == "forward" {
		sign = 1
	}
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.ts != b.ts {
			return (a.ts-b.ts)*sign < 0
		}
		return int64(a.seq-b.seq)*sign < 0
	})
	limit, err := strconv.Atoi(params["limit"])
	if err != nil {
		limit = 100
	}
	var out []string
	for _, r := range all[:min(limit, len(all))] {
		out = append(out, r.text)
	}
	sort.Strings(out)
	return out
}

func entryText(labels []model.Label, ts int64, line string, meta, parsed []model.Label) string {
	m := model.Labels(labels).Map()
	delete(m, errorDetailsLabel)
	p := model.Labels(parsed).Map()
	delete(p, errorDetailsLabel)
	l := strings.ToValidUTF8(line, "\uFFFD")
	if strings.Contains(l, "\uFFFD") || strings.Contains(l, "sha256") || len(l) > 1000 {
		l = "odd or long" // told in other ways by the records
	}
	return fmt.Sprintf("%d %q %v %v %v", ts, l, asText(m), asText(model.Labels(meta).Map()), asText(p))
}

func asText(m map[string]string) string {
	for k, v := range m {
		m[k] = strings.ToValidUTF8(v, "\uFFFD")
		if len(v) > 1000 {
			m[k] = "long"
		}
	}
	b, _ := json.Marshal(m)
	return string(b)
}

func flatten(a answer) []string {
	var out []string
	for _, s := range a.Data.Result {
		for _, v := range s.Values {
			var ts, line string
			var extra struct{ StructuredMetadata, Parsed map[string]string }
			json.Unmarshal(v[0], &ts)
			json.Unmarshal(v[1], &line)
			if len(v) > 2 {
				json.Unmarshal(v[2], &extra)
			}
			n, _ := strconv.ParseInt(ts, 10, 64)
			out = append(out, entryText(pairs(s.Stream), n, line, pairs(extra.StructuredMetadata), pairs(extra.Parsed)))
		}
	}
	sort.Strings(out)
	return out
}

// pairs keeps labels without a value, which LabelsFromMap does not.
func pairs(m map[string]string) []model.Label {
	var out []model.Label
	for k, v := range m {
		out = append(out, model.Label{Name: k, Value: v})
	}
	sortLabels(out)
	return out
}
