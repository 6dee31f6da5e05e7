package weirctl

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	"github.com/weir-logs/weir/libs/client"
)

// output is the flags that say how results look, and what writes them.
type output struct {
	format   string
	color    string
	utc      bool
	noLabels bool
	details  bool

	w        *bufio.Writer
	terminal bool
	colored  bool
	line     []byte
	// labels is the text of the labels of stream, kept for the next entry.
	stream *queryv1.LogStream
	labels string
}

func (o *output) register(fs *pflag.FlagSet, entries bool) {
	fs.StringVarP(&o.format, "output", "o", "text", "text, raw (lines or values alone), json or logfmt")
	fs.StringVar(&o.color, "color", "auto", "auto (on terminals), always or never")
	fs.BoolVar(&o.utc, "utc", false, "show times in UTC instead of the local zone")
	if entries {
		fs.BoolVar(&o.noLabels, "no-labels", false, "text: leave out the labels")
		fs.BoolVar(&o.details, "details", false, "text: show structured metadata and extracted pairs as well")
	}
}

// open checks the flags and makes ready to write.
func (o *output) open(env *Env) error {
	if !slices.Contains([]string{"text", "raw", "json", "logfmt"}, o.format) {
		return usagef("--output %s: there are text, raw, json and logfmt%s", o.format, suggest(o.format, []string{"text", "raw", "json", "logfmt"}))
	}
	switch o.color {
	case "auto":
		o.colored = env.StdoutTerminal && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
	case "always":
		o.colored = true
	case "never":
	default:
		return usagef("--color %s: there are auto, always and never", o.color)
	}
	o.terminal = env.StdoutTerminal
	o.w = bufio.NewWriterSize(env.Stdout, 64<<10)
	return nil
}

// Colours, as ANSI sequences.
const (
	reset  = "\x1b[0m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
)

// levelColor is the colour of an entry's line; empty: none.
func levelColor(s *queryv1.LogStream, e *queryv1.LogEntry) string {
	level := ""
	for _, l := range []string{e.GetParsed()["level"], e.GetStructuredMetadata()["detected_level"], s.GetLabels()["detected_level"], s.GetLabels()["level"]} {
		if level = l; level != "" {
			break
		}
	}
	switch strings.ToLower(level) {
	case "fatal", "critical", "crit", "error", "err", "emerg", "alert", "panic":
		return red
	case "warn", "warning":
		return yellow
	case "debug", "trace":
		return dim
	}
	return ""
}

// paint appends text in a colour.
func (o *output) paint(color, text string) {
	if !o.colored || color == "" {
		o.line = append(o.line, text...)
		return
	}
	o.line = append(append(append(o.line, color...), text...), reset...)
}

// text appends bytes that came from outside: as they are, or, where a terminal
// would obey them, made harmless.
func (o *output) text(b []byte) {
	if o.terminal {
		o.line = appendSafe(o.line, b, "\n    ")
		return
	}
	o.line = append(o.line, b...)
}

func (o *output) end() error {
	o.line = append(o.line, '\n')
	_, err := o.w.Write(o.line)
	o.line = o.line[:0]
	return err
}

func (o *output) flush() error { return o.w.Flush() }

func (o *output) time(unixNano int64) string {
	t := time.Unix(0, unixNano)
	if o.utc {
		t = t.UTC()
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

// entry writes one log entry.
func (o *output) entry(s *queryv1.LogStream, e *queryv1.LogEntry) error {
	switch line := client.Line(e); o.format {
	case "raw":
		o.text(line)
	case "json":
		if err := o.jsonEntry(s, e, line); err != nil {
			return err
		}
	case "logfmt":
		o.line = appendPair(o.line, "ts", time.Unix(0, e.GetTimestampUnixNano()).UTC().Format(time.RFC3339Nano))
		o.pairs(s.GetLabels())
		o.pairs(e.GetStructuredMetadata())
		o.pairs(e.GetParsed())
		o.line = appendPair(o.line, "line", string(line))
	default:
		o.textEntry(s, e, line)
	}
	return o.end()
}

func (o *output) textEntry(s *queryv1.LogStream, e *queryv1.LogEntry, line []byte) {
	o.paint(dim, o.time(e.GetTimestampUnixNano()))
	o.line = append(o.line, ' ')
	if !o.noLabels {
		if o.stream != s {
			o.stream, o.labels = s, formatLabels(s.GetLabels())
		}
		o.paint(cyan, o.labels)
		o.line = append(o.line, ' ')
	}
	color := ""
	if o.colored {
		color = levelColor(s, e)
		o.line = append(o.line, color...)
	}
	o.text(line)
	if color != "" {
		o.line = append(o.line, reset...)
	}
	if o.details {
		for _, pairs := range []map[string]string{e.GetStructuredMetadata(), e.GetParsed()} {
			if len(pairs) > 0 {
				o.line = append(o.line, ' ')
				o.paint(dim, formatLabels(pairs))
			}
		}
	}
}

type jsonEntry struct {
	Timestamp string            `json:"timestamp"`
	Labels    map[string]string `json:"labels"`
	Line      *string           `json:"line,omitempty"`
	Base64    []byte            `json:"line_base64,omitempty"`
	Metadata  map[string]string `json:"structured_metadata,omitempty"`
	Parsed    map[string]string `json:"parsed,omitempty"`
}

// jsonEntry appends an object; a line that is not UTF-8, which JSON cannot
// hold, is written in base64.
func (o *output) jsonEntry(s *queryv1.LogStream, e *queryv1.LogEntry, line []byte) error {
	v := jsonEntry{
		Timestamp: time.Unix(0, e.GetTimestampUnixNano()).UTC().Format(time.RFC3339Nano),
		Labels:    s.GetLabels(), Metadata: e.GetStructuredMetadata(), Parsed: e.GetParsed(),
	}
	if utf8.Valid(line) {
		text := string(line)
		v.Line = &text
	} else {
		v.Base64 = line
	}
	return o.json(v)
}

// json appends a value as JSON on one line.
func (o *output) json(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	o.text(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return nil
}

// value writes one value of a list, such as a label's name.
func (o *output) value(v string) error {
	switch o.format {
	case "json":
		if err := o.json(v); err != nil {
			return err
		}
	case "logfmt":
		o.line = appendPair(o.line, "value", v)
	default:
		o.text([]byte(v))
	}
	return o.end()
}

// labelSet writes one label set of a list.
func (o *output) labelSet(labels map[string]string) error {
	switch o.format {
	case "json":
		if err := o.json(labels); err != nil {
			return err
		}
	case "logfmt":
		o.pairs(labels)
	default:
		o.paint(cyan, formatLabels(labels))
	}
	return o.end()
}

func (o *output) pairs(pairs map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		o.line = appendPair(o.line, k, pairs[k])
	}
}

// appendPair appends a logfmt pair, with a space before it unless it is the
// first.
func appendPair(b []byte, key, value string) []byte {
	if len(b) > 0 {
		b = append(b, ' ')
	}
	for _, r := range key {
		if r <= ' ' || r == '=' || r == '"' || r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '_'
		}
		b = utf8.AppendRune(b, r)
	}
	b = append(b, '=')
	plain := value != "" && utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool {
		return r <= ' ' || r == '=' || r == '"' || r == '\\' || !unicode.IsPrint(r)
	})
	if plain {
		return append(b, value...)
	}
	return strconv.AppendQuote(b, value)
}

// formatLabels writes a label set as a selector that matches it; what a
// terminal would obey is escaped.
func formatLabels(labels map[string]string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, k := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.Write(appendSafe(nil, []byte(k), `\n`))
		b.WriteByte('=')
		b.WriteString(strconv.Quote(labels[k]))
	}
	b.WriteByte('}')
	return b.String()
}

// warn tells of what is missing in an answer.
func warn(w io.Writer, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintf(w, "weirctl: warning: %s\n", appendSafe(nil, []byte(text), " "))
	}
}
