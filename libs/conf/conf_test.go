package conf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/libs/conf"
)

type server struct {
	Listen     string `help:"Address of the port."`
	GRPCListen string
	MaxBody    conf.ByteSize
	Timeout    time.Duration
	TLS        bool
	Workers    int
	Ratio      float64
}

func (s server) Validate() error {
	var problems []error
	if s.Workers < 1 {
		problems = append(problems, errors.New("workers must be at least 1"))
	}
	if s.Timeout <= 0 {
		problems = append(problems, errors.New("timeout must be more than 0"))
	}
	return errors.Join(problems...)
}

type shared struct{ MaxLine conf.ByteSize }

type limits struct {
	shared  // unexported: no keys
	Common  `yaml:"common"`
	Tenants map[string]conf.Raw
	Labels  map[string]string
}

// Common is embedded: its keys are those of the section around it.
type Common struct {
	MaxStreams int `help:"Most streams."`
	MaxLines   uint8
}

type config struct {
	Target  []string `help:"What to start."`
	DataDir string
	Server  server
	Auth    struct{ Token conf.Secret }
	Log     struct {
		Level  slog.Level
		Format string `enum:"text,json"`
	}
	Limits limits
	Hidden string `yaml:"-"`
}

func defaults() *config {
	c := &config{Target: []string{"all"}, DataDir: "data"}
	c.Server = server{Listen: "127.0.0.1:3100", GRPCListen: "127.0.0.1:9095", MaxBody: 16 * conf.MiB, Timeout: 5 * time.Minute, Workers: 4, Ratio: 0.5}
	c.Log.Format = "text"
	c.Limits.MaxStreams = 100
	return c
}

var options = conf.Options{
	Name: "weir", EnvPrefix: "WEIR", IgnoreEnv: []string{"WEIR_ADDR"},
	Aliases: map[string]string{"listen": "server.listen"},
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, yamlText string, env []string, args ...string) (*config, conf.Action, error) {
	t.Helper()
	c := defaults()
	set, err := conf.New(c, options)
	if err != nil {
		t.Fatal(err)
	}
	if yamlText != "" {
		args = append([]string{"--config", write(t, yamlText)}, args...)
	}
	action, err := set.Load(args, env)
	return c, action, err
}

func TestLayers(t *testing.T) {
	c, action, err := load(t, `
data_dir: from-file
server: {listen: "file:1", grpc_listen: "file:2", timeout: 90s, max_body: 1MB, workers: 7}
limits:
  max_streams: 5
  labels: {a: b}
target: [one, two]
`, []string{"WEIR_SERVER_LISTEN=env:1", "WEIR_SERVER_WORKERS=8", "WEIR_ADDR=x", "HOME=/", "WEIR_INGESTER_PORT=tcp://10.0.0.1:9095"},
		"--listen=flag:1", "--server.tls", "--target", "a,b", "--target=c", "--server.ratio", "-1")
	if err != nil || action != conf.Run {
		t.Fatal(action, err)
	}
	want := defaults()
	want.Target, want.DataDir = []string{"a", "b", "c"}, "from-file"
	want.Server = server{Listen: "flag:1", GRPCListen: "file:2", MaxBody: conf.MB, Timeout: 90 * time.Second, TLS: true, Workers: 8, Ratio: -1}
	want.Limits.MaxStreams, want.Limits.Labels = 5, map[string]string{"a": "b"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, _, err := load(t, `data_dirr: x
server:
  listn: a
  max_body: 12 parsecs
  workers: many
  workers: 3
log: {format: xml, level: LOUD}
limits: {max_lines: 300, tenants: [a]}
hidden: x
`, []string{"WEIR_SERVER_WORKER=1", "WEIR_SERVER_TIMEOUT=5"}, "--listne=x", "stray", "--server.tls=perhaps", "--help-me", "--data-dir")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`line 1: unknown key "data_dirr" (did you mean data_dir?)`,
		`line 3: unknown key "server.listn" (did you mean listen?)`,
		`line 4: server.max_body: "12 parsecs" is not a size`,
		`line 5: server.workers: "many" is not a whole number`,
		`line 6: server.workers: given twice, first in line 5`,
		`line 7: log.format: "xml" is not one of text, json`,
		`line 7: log.level: `,
		`line 8: limits.max_lines: 300 is out of range`,
		`line 8: limits.tenants: want a mapping`,
		`line 9: unknown key "hidden"`,
		`environment WEIR_SERVER_WORKER: no such key (did you mean WEIR_SERVER_WORKERS?)`,
		`environment WEIR_SERVER_TIMEOUT: "5" is not a duration`,
		`unknown flag --listne (did you mean --listen?)`,
		`unexpected argument "stray"`,
		`flag --server.tls: "perhaps" is not true or false`,
		`unknown flag --help-me`,
		`flag --data-dir needs a value`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %s\nin:\n%v", want, err)
		}
	}
}

func TestValidateSections(t *testing.T) {
	_, _, err := load(t, "server: {workers: 0, timeout: 0s}", nil)
	if want := "server: workers must be at least 1\nserver: timeout must be more than 0"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestFileMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":              "line 1",
		"- a":               "line 1: want a mapping of keys to values",
		"a: 1\n---\nb: 2":   "more than one YAML document",
		"server: 5":         "line 1: server: want a mapping",
		"data_dir: [a]":     "line 1: data_dir: want a single value",
		"target: [[a]]":     "line 1: target: want a list of texts",
		"? {a: b}\n: c":     "a key must be a plain text",
		"<<: {data_dir: x}": `unknown key "<<"`,
		"target: {a: b}":    "line 1: target: want a single value",
	} {
		if _, _, err := load(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"# nothing\n", "server:\n", "data_dir: ~", "{}"} {
		if c, _, err := load(t, text, nil); err != nil || !reflect.DeepEqual(c, defaults()) {
			t.Errorf("%q: got %+v, %v", text, c, err)
		}
	}
	c := defaults()
	set, _ := conf.New(c, options)
	if _, err := set.Load([]string{"--config=/does/not/exist"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := set.Load(nil, []string{"WEIR_CONFIG=/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestActions(t *testing.T) {
	for arg, want := range map[string]conf.Action{"--help": conf.Help, "-h": conf.Help, "-help": conf.Help, "--version": conf.Version, "--print-config": conf.PrintConfig} {
		if _, got, err := load(t, "", nil, arg); got != want || err != nil {
			t.Errorf("%s: %v, %v", arg, got, err)
		}
	}
	// --help works whatever else is wrong.
	if _, got, err := load(t, "", []string{"WEIR_NO=1"}, "--nonsense", "--help"); got != conf.Help || err != nil {
		t.Error(got, err)
	}
}

func TestPrintRoundTrip(t *testing.T) {
	c, _, err := load(t, `
server: {max_body: 1500KB, timeout: 1h}
limits:
  tenants: {a: {max_line: 1KiB}}
  labels: {b: c}
log: {level: WARN}
target: []
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := conf.New(c, options)
	var b bytes.Buffer
	if err := set.Print(&b); err != nil {
		t.Fatal(err)
	}
	again, _, err := load(t, b.String(), nil)
	if err != nil {
		t.Fatal(err, b.String())
	}
	var one, two struct{ MaxLine conf.ByteSize }
	if err := errors.Join(c.Limits.Tenants["a"].Decode(&one), again.Limits.Tenants["a"].Decode(&two)); err != nil || one != two || one.MaxLine != conf.KiB {
		t.Error(err, one, two)
	}
	c.Limits.Tenants, again.Limits.Tenants = nil, nil
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got  %+v\nwant %+v\n%s", again, c, b.String())
	}
}

func TestSecret(t *testing.T) {
	const canary = "hunter2-canary"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]func() (*config, conf.Action, error){
		"yaml":      func() (*config, conf.Action, error) { return load(t, "auth: {token: "+canary+"}", nil) },
		"yaml file": func() (*config, conf.Action, error) { return load(t, "auth: {token_file: "+file+"}", nil) },
		"env":       func() (*config, conf.Action, error) { return load(t, "", []string{"WEIR_AUTH_TOKEN=" + canary}) },
		"env file":  func() (*config, conf.Action, error) { return load(t, "", []string{"WEIR_AUTH_TOKEN_FILE=" + file}) },
		"flag file": func() (*config, conf.Action, error) { return load(t, "", nil, "--auth.token-file", file) },
	} {
		c, _, err := from()
		if err != nil || c.Auth.Token.Reveal() != canary {
			t.Fatal(name, err)
		}
		set, _ := conf.New(c, options)
		var out bytes.Buffer
		_ = set.Print(&out)
		_ = set.Usage(&out)
		_ = set.Reference(&out)
		inner := struct{ s conf.Secret }{c.Auth.Token}
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d", c, c, c, c.Auth.Token, c.Auth.Token, c.Auth.Token, c.Auth.Token)
		fmt.Fprintf(&out, "%v %+v %#v", inner, inner, &inner)
		y, _ := yaml.Marshal(c.Auth)
		j, _ := json.Marshal(c.Auth)
		out.Write(y)
		out.Write(j)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", c.Auth.Token, "config", c)
		if strings.Contains(out.String(), canary) {
			t.Errorf("%s: the secret is in the output:\n%s", name, out.String())
		}
		if !strings.Contains(out.String(), "<redacted>") {
			t.Error("no trace of the secret")
		}
	}
	if _, _, err := load(t, `auth: {token: "<redacted>"}`, nil); err == nil {
		t.Error("a redacted secret was taken for the secret")
	}
	if _, _, err := load(t, "auth: {token_file: /does/not/exist}", nil); err == nil {
		t.Error("a missing file was taken for a secret")
	}
}

func TestUsageAndReference(t *testing.T) {
	set, _ := conf.New(defaults(), options)
	var usage, reference bytes.Buffer
	if err := errors.Join(set.Usage(&usage), set.Reference(&reference)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--listen, --server.listen=TEXT\n        Address of the port. (default 127.0.0.1:3100; env WEIR_SERVER_LISTEN)",
		"--data-dir=TEXT", "--server.timeout=DURATION", "default 5m;", "--auth.token-file=FILE", "--server.tls\n", "\nserver:\n", "\nlimits:\n", "limits.tenants\n"} {
		if !strings.Contains(usage.String(), want) {
			t.Errorf("missing %q in\n%s", want, usage.String())
		}
	}
	for _, want := range []string{"| `server.max_body` | size | `16MiB` |", "## limits", "| `limits.max_streams` | integer | `100` | Most streams. |", "Also `--listen`."} {
		if !strings.Contains(reference.String(), want) {
			t.Errorf("missing %q in\n%s", want, reference.String())
		}
	}
	if strings.Contains(usage.String()+reference.String(), "hidden") {
		t.Error("a field without a key is shown")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]any{
		"no pointer":       config{},
		"unsupported type": &struct{ C chan int }{},
		"same variable": &struct {
			C int `yaml:"a_b"`
			A struct{ B int }
		}{},
		"same key": &struct {
			A int
			B int `yaml:"a"`
		}{},
		"reserved flag": &struct{ Help string }{},
	} {
		if _, err := conf.New(c, conf.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, alias := range []string{"help", "data-dir"} {
		if _, err := conf.New(defaults(), conf.Options{Aliases: map[string]string{alias: "server.listen"}}); err == nil {
			t.Errorf("alias %s: no error", alias)
		}
	}
	if _, err := conf.New(defaults(), conf.Options{Aliases: map[string]string{"x": "server.nothing"}}); err == nil {
		t.Error("alias of nothing: no error")
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]conf.ByteSize{
		"0": 0, "1": 1, "17B": 17, "64MiB": 64 << 20, "16MB": 16e6, "1.5GiB": 3 << 29, "2 kib": 2048, "1tb": 1e12,
		" 5KB ": 5000, "9223372036854775807": 1<<63 - 1, ".5KiB": 512,
	} {
		if got, err := conf.ParseByteSize(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1PiB", "1e3", "0x10", "NaN", "inf", "1.2.3MB", "9223372036854775808", "8388608TiB", "1 2MB", "."} {
		if got, err := conf.ParseByteSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func FuzzByteSize(f *testing.F) {
	for _, s := range []string{"64MiB", "16MB", "1.5GiB", "", "-1", "9223372036854775807B"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := conf.ParseByteSize(s)
		if err != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q: negative: %d", s, b)
		}
		if again, err := conf.ParseByteSize(b.String()); err != nil || again != b {
			t.Fatalf("%q: %d is written %q, which reads %d, %v", s, b, b.String(), again, err)
		}
	})
}

func FuzzDecodeYAML(f *testing.F) {
	for _, s := range []string{"server: {listen: a}", "a: &x {b: *x}", "limits: {tenants: {a: {b: c}}}", "target: [a, b]", "auth: {token: x}", "server:\n  workers: 1\n  workers: 2"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("_file")) {
			t.Skip("would open files")
		}
		c := defaults()
		if conf.DecodeYAML(data, c) != nil {
			return
		}
		set, err := conf.New(c, options)
		if err != nil {
			t.Fatal(err)
		}
		c.Auth.Token = conf.Secret{}
		c.Limits.Tenants = nil // written as it was read, comments and anchors and all
		var b bytes.Buffer
		if err := set.Print(&b); err != nil {
			t.Fatal(err)
		}
		again := defaults()
		if err := conf.DecodeYAML(b.Bytes(), again); err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if fmt.Sprint(c) != fmt.Sprint(again) {
			t.Fatalf("got  %v\nwant %v\n%s", again, c, b.String())
		}
	})
}
