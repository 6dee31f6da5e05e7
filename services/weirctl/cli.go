package weirctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Exit codes.
const (
	ExitOK    = 0
	ExitError = 1 // the command failed, or a part of it
	ExitUsage = 2 // the command line makes no sense
)

// Env is all that a command can see of the world outside.
type Env struct {
	// Args are the arguments after the program's name.
	Args []string
	// Stdin, Stdout and Stderr are the standard streams.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// StdoutTerminal and StderrTerminal say whether people read the streams.
	StdoutTerminal, StderrTerminal bool
	// Getenv reads an environment variable.
	Getenv func(string) string
	// Now is the clock.
	Now func() time.Time
	// Version is the version of the build.
	Version string
}

// usageError is a command line that makes no sense.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// command is one command. It is made anew for each run: its flags are bound to
// variables that run closes over.
type command struct {
	name  string
	args  string // how arguments are written, such as "QUERY"; empty: none
	short string // one line for the list of commands
	long  string
	// examples are command lines without the program's name, each with a
	// comment before it.
	examples []string
	// nargs are the least and most arguments; most -1: any number.
	nargs [2]int
	flags *pflag.FlagSet
	run   func(ctx context.Context, args []string) error
}

// commands builds the commands in the order in which help lists them.
func commands(env *Env) []*command {
	return []*command{
		queryCommand(env), tailCommand(env), pushCommand(env),
		labelsCommand(env), seriesCommand(env), statsCommand(env),
		formatCommand(env), explainCommand(env),
		exportCommand(env), importCommand(env),
		queriesCommand(env), deletesCommand(env), retentionCommand(env), blocksCommand(env),
		statusCommand(env), ringCommand(env), flushCommand(env),
		generateCommand(env), canaryCommand(env),
	}
}

// Run runs the command that env.Args names and returns the exit code. It
// returns soon after ctx is done.
func Run(ctx context.Context, env *Env) int {
	err := dispatch(ctx, env)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errReported):
		return ExitError
	}
	fmt.Fprintf(env.Stderr, "weirctl: %s\n", describe(err))
	if errors.As(err, new(usageError)) {
		return ExitUsage
	}
	return ExitError
}

// errReported is a failure that the user has been told about.
var errReported = errors.New("failed")

func dispatch(ctx context.Context, env *Env) error {
	cmds := commands(env)
	if len(env.Args) == 0 {
		writeOverview(env.Stderr, cmds)
		return usagef("no command given")
	}
	name, args := env.Args[0], env.Args[1:]
	switch name {
	case "-h", "--help":
		writeOverview(env.Stdout, cmds)
		return nil
	case "--version", "version":
		fmt.Fprintf(env.Stdout, "weirctl %s\n", env.Version)
		return nil
	case "help":
		if len(args) == 0 {
			writeOverview(env.Stdout, cmds)
			return nil
		}
		name, args = args[0], []string{"--help"}
	}
	names := make([]string, len(cmds))
	for i, c := range cmds {
		names[i] = c.name
		if c.name == name {
			return c.execute(ctx, env, args)
		}
	}
	if strings.HasPrefix(name, "-") {
		return usagef("unknown flag %s: flags come after the command (weirctl --help lists the commands)", name)
	}
	return usagef("unknown command %q%s (weirctl --help lists the commands)", name, suggest(name, names))
}

func (c *command) execute(ctx context.Context, env *Env, args []string) error {
	c.flags.SortFlags = false
	c.flags.SetOutput(io.Discard)
	c.flags.Usage = func() {}
	if err := c.flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			c.writeHelp(env.Stdout)
			return nil
		}
		return c.flagError(err)
	}
	args = c.flags.Args()
	switch n := len(args); {
	case n < c.nargs[0]:
		return usagef("%s needs %s (weirctl %s --help shows examples)", c.name, c.args, c.name)
	case c.nargs[1] >= 0 && n > c.nargs[1]:
		hint := ""
		if c.nargs[1] > 0 {
			hint = "; is a quote missing around the query?"
		}
		return usagef("%s: unexpected argument %q%s", c.name, args[c.nargs[1]], hint)
	}
	return c.run(ctx, args)
}

func (c *command) flagError(err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		return usagef("%s: --%s %q: %s", c.name, value.GetFlag().Name, value.GetValue(), whyNot(value))
	}
	if !errors.As(err, &unknown) {
		return usagef("%s: %v", c.name, err)
	}
	var names []string
	c.flags.VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	given := unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() == "" {
		given = "--" + given
	} else {
		given = "-" + given
	}
	return usagef("%s: unknown flag %s%s (weirctl %s --help lists the flags)", c.name, given, suggest(given, names), c.name)
}

// whyNot says what a flag takes that does not take a value.
func whyNot(e *pflag.InvalidValueError) string {
	over := errors.Is(e, strconv.ErrRange)
	switch kind := e.GetFlag().Value.Type(); {
	case kind == "stringToString":
		return "not name=value"
	case kind == "bool":
		return "neither true nor false"
	case kind == "float64" && over:
		return "too large"
	case kind == "float64":
		return "not a number"
	case kind == "uint32" && over:
		return fmt.Sprintf("must be at most %d", uint32(math.MaxUint32))
	case strings.HasPrefix(kind, "uint") && over:
		return "too large"
	case strings.HasPrefix(kind, "uint"):
		return "not a whole number of 0 or more"
	case kind == "int" && over:
		return "too large or too small"
	case kind == "int":
		return "not a whole number"
	}
	return e.Unwrap().Error()
}

// writeOverview writes all at once, as writeHelp does: a reader that has seen enough, such as
// head, may be gone before a second write, which would end the process by a signal.
func writeOverview(out io.Writer, cmds []*command) {
	w := new(strings.Builder)
	defer func() { _, _ = io.WriteString(out, w.String()) }()
	fmt.Fprint(w, "weirctl talks to a Weir server over gRPC.\n\nUsage:\n  weirctl COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n")
	for _, c := range cmds {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprintf(w, `
weirctl COMMAND --help shows a command's flags and examples.

Environment:
  WEIR_ADDR    the server's gRPC address (default %s)
  WEIR_TENANT  the tenant, where authentication is off (default: the server's)
  WEIR_STORE   the object store that blocks and export look into
  NO_COLOR     set: no colours

Exit codes: 0 done, 1 failed (or a part did), 2 the command line makes no sense.
`, defaultAddr)
}

func (c *command) writeHelp(out io.Writer) {
	w := new(strings.Builder)
	defer func() { _, _ = io.WriteString(out, w.String()) }()
	fmt.Fprintf(w, "%s\n\nUsage:\n  weirctl %s", c.long, c.name)
	if c.args != "" {
		fmt.Fprintf(w, " %s", c.args)
	}
	fmt.Fprintf(w, " [FLAGS]\n\nExamples:\n")
	for _, e := range c.examples {
		comment, line, _ := strings.Cut(e, "\n")
		fmt.Fprintf(w, "  # %s\n  weirctl %s\n", comment, line)
	}
	fmt.Fprintf(w, "\nFlags:\n%s", c.flags.FlagUsages())
}

// suggest returns a hint at the candidate that given may have been meant for.
func suggest(given string, candidates []string) string {
	best, distance := "", max(2, len(given)/3)+1
	for _, c := range candidates {
		if d := editDistance(given, c); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance counts the insertions, deletions and replacements between two
// texts.
func editDistance(a, b string) int {
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
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
