package querier

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

func TestDetectedFields(t *testing.T) {
	info := model.LabelsFromMap(map[string]string{"detected_level": "info"})
	plain := []engine.Entry{
		{Time: 5, Line: []byte(`{"app":"y","n":5,"o":{"x-y":"10ms"}}`), Metadata: info},
		{Time: 4, Line: []byte("n=6 ok=true size=5KB f=1.5 plain"), Metadata: info},
		{Time: 3, Line: []byte("nothing to parse"), Metadata: model.LabelsFromMap(map[string]string{"bad": "\xff\xfe"})},
	}
	parsed := []engine.Entry{{Time: 5, Line: []byte("x"), Parsed: model.LabelsFromMap(map[string]string{"n": "7", "__error__": "e"})}}
	for _, c := range []struct {
		query   string
		entries []engine.Entry
		want    string
	}{
		{`{app="x"}`, plain, `app_extracted string [json] [app] ["y"]
bad string [] [] ["�"]
detected_level string [] [] ["info"]
f float [logfmt] [] ["1.5"]
n int [json logfmt] [n] ["5" "6"]
o_x_y duration [json] [o x-y] ["10ms"]
ok boolean [logfmt] [] ["true"]
size bytes [logfmt] [] ["5KB"]`},
		{`{app="x"} | json | logfmt`, parsed, `n int [json logfmt] [] ["7"]`},
	} {
		q, err := syntax.ParseLogQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFinder(q, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		f.stream(&engine.LogStream{Labels: model.LabelsFromMap(map[string]string{"app": "x"}), Entries: c.entries})
		size := f.size
		f.stream(&engine.LogStream{Labels: model.LabelsFromMap(map[string]string{"app": "x"}), Entries: c.entries})
		if size == 0 || f.size != size {
			t.Errorf("%s: %d bytes, and %d after the same once more", c.query, size, f.size)
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(f.fields)) {
			fd := f.fields[name]
			got = append(got, fmt.Sprintf("%s %s %v %v %q", name, fd.kind, fd.parsers, fd.path, slices.Sorted(maps.Keys(fd.values))))
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.query, text, c.want)
		}
	}
}

// Names that the parser of queries wants in quotes have them.
func TestVolumeQueries(t *testing.T) {
	ms, err := syntax.ParseSelector(`{app="x" , "k8s.pod.name"=~"p.*" }`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v    volumes
		want string
	}{
		{volumes{matchers: ms, by: []string{"app", "k8s.pod.name"}}, `=sum by (app,"k8s.pod.name")(bytes_over_time({app="x", "k8s.pod.name"=~"p.*"}[1m]))`},
		{volumes{matchers: ms, by: []string{"b.c", "by"}, single: true}, `b.c=sum(bytes_over_time({app="x", "k8s.pod.name"=~"p.*", "b.c"!=""}[1m]))` +
			"\n" + `by=sum(bytes_over_time({app="x", "k8s.pod.name"=~"p.*", "by"!=""}[1m]))`},
	} {
		var got []string
		if err := c.v.ask(time.Minute+time.Nanosecond, func(text, label string) error {
			if _, err := syntax.ParseExpr(text); err != nil {
				t.Error(err)
			}
			got = append(got, label+"="+text)
			return nil
		}); err != nil {
			t.Error(err)
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s\nwant\n%s", text, c.want)
		}
	}
}
