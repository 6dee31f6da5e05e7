package compact

import "github.com/weir-logs/weir/libs/logql/syntax"

// Cutoff is a rule of retention at one moment.
type Cutoff struct {
	Selector *syntax.LogSelector // which entries it concerns; nil: all
	Before   int64               // those before have expired; MinTime: none
}

// Cutoffs returns the rules at time now, in nanoseconds since the Unix epoch: of those
// that concern an entry the first one counts. The last one concerns all.
func (r *Rules) Cutoffs(now int64) []Cutoff {
	out := make([]Cutoff, len(r.rules))
	for i, rule := range r.rules {
		out[i].Before = MinTime
		if rule.period != forever {
			out[i].Before = now - int64(rule.period)
		}
		if rule.selection != nil {
			out[i].Selector = rule.selection.Selector()
		}
	}
	return out
}
