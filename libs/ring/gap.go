package ring

import (
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// EphemeralPrefix begins the incarnations of members that store nothing. Past ones
// are dropped.
const EphemeralPrefix = "-"

// notedMark is in the incarnation of a noted gap, behind the incarnation that has it.
const notedMark = "~"

// ephemeral reports whether nothing is lost with the incarnation.
func (m *Member) ephemeral() bool { return strings.HasPrefix(m.Incarnation, EphemeralPrefix) }

// Noted reports whether the record is a noted gap, which is never current.
func (m *Member) Noted() bool { return strings.Contains(m.Incarnation, notedMark) }

// Missing reports whether what a past incarnation held, or what a noted gap is about,
// is missing or lost.
func (m *Member) Missing() bool { return m.Stores() && m.State != Left && m.State != Forgotten }

// GapID is the incarnation that the record of a noted gap has. What says which part
// is missing; an incarnation may have several.
func GapID(incarnation, what string) string {
	return fmt.Sprintf("%.*s%s%016x", MaxIncarnationLen-17, incarnation, notedMark, xxhash.Sum64String(what))
}

// NoteGap returns the table with a gap of the current incarnation of a name, at a
// time that is for people, and whether it is new. A gap that has healed stays healed.
func (t Table) NoteGap(name, what string, millis int64) (Table, Member, bool, error) {
	m, ok := t.Get(name)
	if !ok || !m.Stores() {
		return t, Member{}, false, fmt.Errorf("%w: %q", ErrUnknownMember, name)
	}
	m.Incarnation, m.State, m.Version, m.ChangedMillis, m.extra = GapID(m.Incarnation, what), Gap, 1, millis, ""
	if old, ok := t.Incarnation(name, m.Incarnation); ok {
		return t, old, false, nil
	}
	t, took, err := t.Put(m)
	return t, m, took, err
}

// Settle returns the table with a past incarnation or noted gap made Lost or
// Forgotten: what it held is gone, or is elsewhere or given up. Like Forget it does
// not ask whether that is true.
func (t Table) Settle(name, incarnation string, s State, millis int64) (Table, Member, error) {
	if s != Lost && s != Forgotten {
		return t, Member{}, fmt.Errorf("ring: a gap does not become %s", s)
	}
	if cur, ok := t.Get(name); ok && cur.Incarnation == incarnation {
		return t, Member{}, fmt.Errorf("ring: %q has its present data directory, not a gap", name)
	}
	m, ok := t.Incarnation(name, incarnation)
	if !ok || !m.Missing() {
		return t, Member{}, fmt.Errorf("%w: %q has no gap %q", ErrUnknownMember, name, incarnation)
	}
	// The version stays: it must not become greater than that of the current
	// incarnation. Among equals the later state wins.
	m.State, m.ChangedMillis = s, max(m.ChangedMillis, millis)
	t, _, err := t.Put(m)
	return t, m, err
}

// Gaps returns, by name, the past incarnations and noted gaps that have not healed:
// for completeness their members count as missing. Those that are Lost are not among
// them; see Losses.
func (v *View) Gaps() []*Member { return v.missing(func(s State) bool { return s != Lost }) }

// Losses returns the past incarnations and noted gaps that cannot heal and that no
// operator has acknowledged: whoever answers from the ring has to say so.
func (v *View) Losses() []*Member { return v.missing(func(s State) bool { return s == Lost }) }

func (v *View) missing(want func(State) bool) []*Member {
	var out []*Member
	for m := range v.table.Past() {
		if m.Missing() && want(m.State) {
			out = append(out, m)
		}
	}
	return out
}

// HasGap reports whether the member called name counts as missing though it answers.
func (v *View) HasGap(name string) bool { return v.gaps[name] }

// Healed says what became of the gaps of the members, once those for which flushed is
// true have everything that was acknowledged before in the store. A gap is healed if
// fewer than Quorum ingesters have one or have not flushed; it is hopeless if there
// are more with all others flushed, too.
func (v *View) Healed(flushed func(*Member) bool) (healed, hopeless bool) {
	if healed, _ = v.CompleteAnywhere(flushed); healed {
		return true, false
	}
	possible, _ := v.CompleteAnywhere(func(*Member) bool { return true })
	return false, len(v.members) >= v.largestQuorum() && !possible
}
