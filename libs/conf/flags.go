package conf

import (
	"fmt"
	"strings"
)

// commandLine is what the arguments say, before the names of flags are looked up. The standard
// flag package stops at the first mistake; here all of them are wanted.
type commandLine struct {
	action   Action
	config   string
	flags    []flagValue
	problems []error
}

type flagValue struct {
	name, value string
	bare        bool // no value was given, and one is needed if there is such a flag
}

// parseArgs reads -name=value, --name=value, --name value, and --name alone where isBool.
func parseArgs(args []string, isBool func(name string) bool) commandLine {
	var cl commandLine
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			cl.problems = append(cl.problems, fmt.Errorf("unexpected argument %q", arg))
			continue
		}
		name, value, has := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		special := Run
		switch name {
		case "help", "h":
			special = Help
		case "version":
			special = Version
		case "print-config":
			special = PrintConfig
		}
		if special != Run {
			if cl.action != Help && (!has || value == "true") {
				cl.action = special
			}
			continue
		}
		if !has && isBool(name) {
			value, has = "true", true
		}
		if !has && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			value, has = args[i], true
		}
		switch {
		case name == "config" && !has:
			cl.problems = append(cl.problems, errBare(name))
		case name == "config":
			cl.config = value
		default:
			cl.flags = append(cl.flags, flagValue{name, value, !has})
		}
	}
	return cl
}

func errBare(flag string) error { return fmt.Errorf("flag --%s needs a value", flag) }

// didYouMean names the candidate nearest to got, if one is near enough to be meant.
func didYouMean(got string, candidates []string, prefix string) string {
	best, bestDistance := "", 1+max(2, len(got)/3)
	for _, c := range candidates {
		if d := distance(got, c, bestDistance); d < bestDistance || d == bestDistance && best != "" && c < best {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		// A key given without its section, or with a wrong one.
		last := got[strings.LastIndexAny(got, ".")+1:]
		for _, c := range candidates {
			if c == last || strings.HasSuffix(c, "."+last) {
				best = c
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", prefix, best)
}

// distance is the number of single-byte edits between a and b, or something above limit if it
// must be more than that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
