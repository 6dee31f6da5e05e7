package compact

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-logs/weir/libs/limits"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/model"
)

// forever is the period of what is kept for ever.
const forever = time.Duration(math.MaxInt64)

// Rules is a tenant's retention by age. It is immutable and safe for concurrent use.
type Rules struct {
	rules []rule // the one that counts first; the last is that of all entries
}

type rule struct {
	selection *selection.Selection // nil: all
	text      string
	period    time.Duration
	mark      string
}

// NewRules returns the rules of a tenant's limits. They are valid if the limits are.
func NewRules(l limits.Limits) (*Rules, error) {
	r := &Rules{}
	list := slices.Clone(l.RetentionStream)
	slices.SortStableFunc(list, func(a, b limits.RetentionStream) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(period(a.Period), period(b.Period)))
	})
	for _, s := range list {
		sel, err := selection.Parse(s.Selector)
		if err != nil {
			return nil, err
		}
		r.rules = append(r.rules, rule{selection: sel, text: sel.String(), period: period(s.Period)})
	}
	r.rules = append(r.rules, rule{text: "all", period: period(l.RetentionPeriod)})
	// A mark says that a rule was applied: it holds for these rules in this order.
	h := xxhash.New()
	for _, rule := range r.rules {
		fmt.Fprintf(h, "%s %d\n", rule.text, rule.period)
	}
	for i := range r.rules {
		r.rules[i].mark = fmt.Sprintf("%s%016x-%d", markPrefix, h.Sum64(), i)
	}
	return r, nil
}

const markPrefix = "retention-"

func period(d time.Duration) time.Duration {
	if d == 0 {
		return forever
	}
	return d
}

// Name identifies the rules: others have another one.
func (r *Rules) Name() string { return r.rules[0].mark }

// Shortest is the shortest period; false if all is kept for ever.
func (r *Rules) Shortest() (time.Duration, bool) {
	d := forever
	for _, rule := range r.rules {
		d = min(d, rule.period)
	}
	return d, d != forever
}

// of returns the rules that may be that of an entry of a stream, the one that counts
// first; the last one is that of all entries that no other selects.
func (r *Rules) of(ls model.Labels) []*rule {
	var out []*rule
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.selection == nil {
			return append(out, rule)
		}
		if rule.selection.Stream(ls) {
			out = append(out, rule)
			if rule.selection.Whole() {
				return out
			}
		}
	}
	return out
}

// Verdict is what retention means for a block.
type Verdict struct {
	// Whole: all entries have expired.
	Whole bool
	// Part: entries of the block have expired that none was removed for yet.
	Part bool
	// Entries of the streams that the rules concern: all of Whole, else those of the
	// streams that expired rules select.
	Entries uint64
	Reason  string
	// Next is when the verdict changes at the earliest; MaxTime: never.
	Next int64
}

// Judge says what retention means at time now, in nanoseconds since the Unix epoch,
// for a block with these streams that has these marks.
func (r *Rules) Judge(streams []Stream, marks []string, now int64) Verdict {
	v := Verdict{Whole: true, Next: MaxTime}
	last := int64(MinTime) // of the block
	var reasons []string
	for _, s := range streams {
		if n := len(s.Runs); n > 0 {
			last = max(last, s.Runs[n-1].MaxTime)
		}
	}
	for _, s := range streams {
		if len(s.Runs) == 0 {
			continue
		}
		rows := uint64(0)
		for _, run := range s.Runs {
			rows += run.Rows
		}
		longest, part := time.Duration(0), false
		for _, rule := range r.of(s.Labels) {
			longest = max(longest, rule.period)
			due := expiry(last, rule.period)
			if due > now {
				v.Next = min(v.Next, due)
			} else if !slices.Contains(marks, rule.mark) {
				part = true
				if why := fmt.Sprintf("older than %s: %s", rule.period, rule.text); !slices.Contains(reasons, why) {
					reasons = append(reasons, why)
				}
			}
		}
		if end := expiry(s.Runs[len(s.Runs)-1].MaxTime, longest); end > now {
			v.Whole = false
			v.Next = min(v.Next, end)
		}
		if part {
			v.Part = true
			v.Entries += rows
		}
	}
	slices.Sort(reasons)
	v.Reason = strings.Join(reasons, "; ")
	if v.Whole {
		v.Part, v.Entries, v.Reason = false, 0, "all entries have expired"
		for _, s := range streams {
			for _, run := range s.Runs {
				v.Entries += run.Rows
			}
		}
	}
	return v
}

// expiry is when an entry has expired.
func expiry(t int64, d time.Duration) int64 {
	if d == forever || t > math.MaxInt64-int64(d)-1 {
		return MaxTime
	}
	return t + int64(d) + 1
}

// Marks returns the marks of a block of which all that had expired at time now was
// removed, and that has no entry behind last.
func (r *Rules) Marks(last, now int64) (marks []string) {
	for _, rule := range r.rules {
		if rule.period != forever && expiry(last, rule.period) <= now {
			marks = append(marks, rule.mark)
		}
	}
	return marks
}

// IsMark reports whether a name among a block's tombstones is a mark of retention.
func IsMark(name string) bool {
	return len(name) > len(markPrefix) && name[:len(markPrefix)] == markPrefix
}

// Remover returns what removes entries that have expired at time now.
func (r *Rules) Remover(now int64) Remover { return retention{r, now} }

// RetentionName is the name of the removers of retention.
const RetentionName = "retention"

type retention struct {
	rules *Rules
	now   int64
}

// Name implements Remover.
func (retention) Name() string { return RetentionName }

// ForStream implements Remover.
func (r retention) ForStream(ls model.Labels) RowRemover {
	out := &retentionRows{before: MinTime}
	for _, rule := range r.rules.of(ls) {
		c := candidate{before: MinTime}
		if rule.period != forever {
			c.before = r.now - int64(rule.period)
		}
		if rule.selection != nil && !rule.selection.Whole() {
			c.rows = rule.selection.ForStream(ls)
		}
		out.candidates = append(out.candidates, c)
		out.before = max(out.before, c.before)
	}
	if out.before == MinTime {
		return nil
	}
	return out
}

type retentionRows struct {
	candidates []candidate
	before     int64 // entries from it on have not expired whatever rule counts
}

type candidate struct {
	rows   *selection.Rows // nil: all
	before int64
}

// Remove implements RowRemover.
func (r *retentionRows) Remove(rows *model.Rows, i int) bool {
	t := rows.Times[i]
	if t >= r.before {
		return false
	}
	for _, c := range r.candidates {
		if c.rows == nil || c.rows.Match(rows, i) {
			return t < c.before
		}
	}
	return false
}
