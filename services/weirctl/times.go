package weirctl

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// span is the range of time that a command asks about.
type span struct {
	now      func() time.Time
	since    duration
	from, to string
	flags    *pflag.FlagSet
}

func (s *span) register(fs *pflag.FlagSet, env *Env) {
	s.now, s.flags = env.Now, fs
	s.since = duration(time.Hour)
	fs.Var(&s.since, "since", "how far back from --to the range starts, such as 15m, 6h, 7d")
	fs.StringVar(&s.from, "from", "", "start of the range: RFC 3339, a date, Unix seconds, or now-DURATION")
	fs.StringVar(&s.to, "to", "now", "end of the range, written like --from")
}

// bounds returns the range.
func (s *span) bounds() (start, end time.Time, err error) {
	now := s.now()
	if end, err = parseTime(s.to, now); err != nil {
		return start, end, usagef("--to: %v", err)
	}
	switch {
	case s.from == "":
		start = end.Add(-time.Duration(s.since))
	case s.flags.Changed("since"):
		return start, end, usagef("--since and --from exclude each other")
	default:
		if start, err = parseTime(s.from, now); err != nil {
			return start, end, usagef("--from: %v", err)
		}
	}
	if !start.Before(end) {
		return start, end, usagef("the range is empty: it starts at %s and ends at %s", start.Format(time.RFC3339), end.Format(time.RFC3339))
	}
	return start, end, nil
}

func (s *span) proto() (start, end *timestamppb.Timestamp, err error) {
	from, to, err := s.bounds()
	if err != nil {
		return nil, nil, err
	}
	return timestamppb.New(from), timestamppb.New(to), nil
}

// parseTime reads a time as people write it. Without a zone it is local.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if ago, ok := strings.CutPrefix(text, "now-"); ok {
		d, err := parseDuration(ago)
		return now.Add(-d), err
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		if n > 1e17 { // nanoseconds, as servers print them
			return time.Unix(0, n), nil
		}
		return time.Unix(n, 0), nil
	}
	return time.Time{}, fmt.Errorf("cannot read %q as a time: write it like 2026-03-01T09:30:00Z, 2026-03-01, 1772357400 or now-2h", text)
}

// duration is a time.Duration flag that takes days and weeks as well.
type duration time.Duration

func (d *duration) String() string { return formatDuration(time.Duration(*d)) }
func (d *duration) Type() string   { return "duration" }
func (d *duration) Set(text string) error {
	v, err := parseDuration(text)
	*d = duration(v)
	return err
}

// formatDuration leaves out the units that say nothing: 1h, not 1h0m0s.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// parseDuration reads a duration of at least 0 in Go's notation, with the units
// d and w, alone or in front: 7d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	total, rest := time.Duration(0), text
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, after, ok := strings.Cut(rest, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n > uint64((math.MaxInt64-total)/unit.size) {
			return 0, fmt.Errorf("cannot read %q as a duration", text)
		}
		total, rest = total+time.Duration(n)*unit.size, after
	}
	if rest == "" && text != "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || total+d < total {
		return 0, fmt.Errorf("cannot read %q as a duration: write it like 30s, 15m, 6h, 7d", text)
	}
	return total + d, nil
}
