// Package discover derives what senders left out: the severity of an entry and
// the service a stream belongs to. It is pure and does not allocate.
package discover

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Label is a name and its value. Any type of this shape can be passed.
type Label = struct{ Name, Value string }

// Names of the labels that hold what is derived.
const (
	LevelName       = "detected_level"
	ServiceNameName = "service_name"
)

// Normal forms of levels.
const (
	LevelTrace    = "trace"
	LevelDebug    = "debug"
	LevelInfo     = "info"
	LevelWarn     = "warn"
	LevelError    = "error"
	LevelCritical = "critical"
	LevelFatal    = "fatal"
	LevelUnknown  = "unknown"
)

// UnknownService is the service name of a stream that names none.
const UnknownService = "unknown_service"

// Version names the rules of this package. It changes with them, so that values
// derived by different versions can be told apart.
const Version = 1

// serviceLabels are looked at in this order.
var serviceLabels = [...]string{
	"service", "app", "application", "app_name", "name", "app_kubernetes_io_name",
	"container", "container_name", "k8s_container_name", "component", "workload",
	"job", "k8s_job_name",
}

// ServiceName returns the value that the label service_name of a stream ought to
// have: the given one, else the first non-empty of service, app, container, job
// and their likes, else UnknownService.
func ServiceName[L ~struct{ Name, Value string }](labels []L) string {
	best, value := len(serviceLabels), UnknownService
	for i := range labels {
		l := Label(labels[i])
		if l.Value == "" {
			continue
		}
		if l.Name == ServiceNameName {
			return l.Value
		}
		for j := range best {
			if serviceLabels[j] == l.Name {
				best, value = j, l.Value
				break
			}
		}
	}
	return value
}

// levelFields in order of precedence, as they must be written in labels,
// metadata and JSON.
var levelFields = [...]string{
	"level", "LEVEL", "Level", "log.level", "severity", "SEVERITY", "Severity",
	"SeverityText", "lvl", "LVL", "Lvl", "severity_text", "Severity_Text", "SEVERITY_TEXT",
}

// Level returns the level of an entry, from the first of these that gives one:
// the metadata detected_level; a level field among the labels; one in the
// metadata; the metadata severity_number (of OpenTelemetry); the line. Values of
// labels and metadata that are no known level are returned as they are; without
// any hit the answer is LevelUnknown. The result aliases no part of line.
func Level[L, M ~struct{ Name, Value string }](labels []L, meta []M, line []byte) string {
	for i := range meta {
		if m := Label(meta[i]); m.Name == LevelName && m.Value != "" {
			return normalOr(m.Value, m.Value)
		}
	}
	if v, ok := field(labels); ok {
		return normalOr(v, v)
	}
	if v, ok := field(meta); ok {
		return normalOr(v, v)
	}
	for i := range meta {
		if m := Label(meta[i]); m.Name == "severity_number" && m.Value != "" {
			return severityNumber(m.Value)
		}
	}
	return LineLevel(line)
}

func field[L ~struct{ Name, Value string }](labels []L) (string, bool) {
	best, value := len(levelFields), ""
	for i := range labels {
		l := Label(labels[i])
		if l.Value == "" || len(l.Name) < 3 || len(l.Name) > 13 {
			continue
		}
		for j := range best {
			if levelFields[j] == l.Name {
				best, value = j, l.Value
				break
			}
		}
	}
	return value, best < len(levelFields)
}

func severityNumber(s string) string {
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return LevelInfo
	case n < 1 || n > 24:
		return LevelUnknown
	}
	return [...]string{LevelTrace, LevelDebug, LevelInfo, LevelWarn, LevelError, LevelFatal}[(n-1)/4]
}

func normalOr(v, or string) string {
	if n := normal(v); n != "" {
		return n
	}
	return or
}

// normal returns the normal form of a level's name, or "".
func normal[S string | []byte](v S) string {
	if len(v) < 3 || len(v) > 11 {
		return ""
	}
	var b [11]byte
	for i := range len(v) {
		b[i] = lower[v[i]]
	}
	switch string(b[:len(v)]) {
	case "trace", "trc":
		return LevelTrace
	case "debug", "dbg":
		return LevelDebug
	case "info", "inf", "information":
		return LevelInfo
	case "warn", "wrn", "warning":
		return LevelWarn
	case "error", "err":
		return LevelError
	case "critical":
		return LevelCritical
	case "fatal":
		return LevelFatal
	}
	return ""
}

// LineLevel returns the level that a line itself tells: of a JSON object a level
// field at most two objects deep, else of logfmt a level pair, else the first
// word that names a level. LevelUnknown if there is none.
func LineLevel(line []byte) string {
	if isObject(line) {
		if l := normal(jsonLevel(line)); l != "" {
			return l
		}
	} else if bytes.IndexByte(line, '=') >= 0 {
		if l := normal(logfmtLevel(line)); l != "" {
			return l
		}
	}
	return textLevel(line)
}

func isObject(line []byte) bool {
	i, j := 0, len(line)
	for i < j && blank(line[i]) {
		i++
	}
	for j > i && blank(line[j-1]) {
		j--
	}
	return j-i >= 2 && line[i] == '{' && line[j-1] == '}'
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// isLevelKey compares literally.
func isLevelKey(key []byte) bool {
	if len(key) < 3 || len(key) > 13 {
		return false
	}
	switch key[0] {
	case 'l', 'L', 's', 'S':
	default:
		return false
	}
	for _, f := range levelFields {
		if string(key) == f {
			return true
		}
	}
	return false
}

// logfmtRank is the place of a key, case ignored, among the level fields; -1: none.
func logfmtRank(key []byte) int {
	if len(key) < 3 || len(key) > 13 || (lower[key[0]] != 'l' && lower[key[0]] != 's') {
		return -1
	}
	for i, f := range levelFields {
		if len(f) == len(key) && strings.EqualFold(f, string(key)) {
			return i
		}
	}
	return -1
}

// logfmtLevel returns the raw value of the level pair of the lowest rank in front
// of the first broken pair, or nil.
func logfmtLevel(line []byte) []byte {
	var best []byte
	rank := len(levelFields)
	for i := 0; i < len(line); {
		if line[i] <= ' ' {
			i++
			continue
		}
		start := i
		for i < len(line) && line[i] > ' ' && line[i] != '=' && line[i] != '"' {
			i++
		}
		if i == len(line) || line[i] <= ' ' {
			continue // a word
		}
		key := line[start:i]
		if line[i] == '"' || len(key) == 0 {
			return best
		}
		i++
		var value []byte
		if i < len(line) && line[i] == '"' {
			start, i = i+1, i+1
			for i < len(line) && line[i] != '"' {
				if line[i] == '\\' {
					i++
				}
				i++
			}
			if i >= len(line) {
				return best
			}
			value = line[start:i]
			i++
		} else {
			start = i
			for i < len(line) && line[i] > ' ' {
				if line[i] == '=' || line[i] == '"' {
					return best
				}
				i++
			}
			value = line[start:i]
		}
		if len(value) > 0 {
			if r := logfmtRank(key); r >= 0 && r < rank {
				if best, rank = value, r; r == 0 {
					return best
				}
			}
		}
	}
	return best
}

// jsonLevel returns the raw first string value, at most two objects deep, whose
// key is a level field, or nil. It stops at the first thing that is no JSON.
func jsonLevel(line []byte) []byte {
	depth, square := 0, 0 // open braces outside of arrays; all brackets inside one
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '{':
			if square > 0 {
				square++
			} else {
				depth++
			}
		case '[':
			square++
		case ']', '}':
			if square > 0 {
				square--
			} else if depth--; depth == 0 {
				return nil
			}
		case '"':
			start := i + 1
			if i = closing(line, start); i < 0 {
				return nil
			}
			if square > 0 || depth > 2 || !isLevelKey(line[start:i]) {
				continue
			}
			j := i + 1
			for j < len(line) && blank(line[j]) {
				j++
			}
			if j == len(line) || line[j] != ':' {
				continue // a value
			}
			for j++; j < len(line) && blank(line[j]); j++ {
			}
			if j < len(line) && line[j] == '"' {
				end := closing(line, j+1)
				if end < 0 {
					return nil
				}
				return line[j+1 : end]
			}
		}
	}
	return nil
}

// closing returns the index of the quote that ends the string starting at i, or -1.
func closing(line []byte, i int) int {
	for {
		n := bytes.IndexByte(line[i:], '"')
		if n < 0 {
			return -1
		}
		e := i + n
		slashes := 0
		for e-slashes > i && line[e-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return e
		}
		// The quote is escaped, so a scan that starts behind it sees whole escapes.
		i = e + 1
	}
}

// LabelLevel returns the level that a stream's labels tell, if they do: that of all
// its entries that have no detected_level of their own.
func LabelLevel[L ~struct{ Name, Value string }](labels []L) (string, bool) {
	v, ok := field(labels)
	return normalOr(v, v), ok
}

// TellsLevel reports whether metadata of that name plays a part in Level.
func TellsLevel(name string) bool {
	return name == LevelName || name == "severity_number" || slices.Contains(levelFields[:], name)
}

// ServiceLabels returns the names that ServiceName looks at, in order.
func ServiceLabels() []string { return slices.Clone(serviceLabels[:]) }

// LevelFields returns the names that Level looks at, in order.
func LevelFields() []string { return slices.Clone(levelFields[:]) }
