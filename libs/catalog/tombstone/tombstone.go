// Package tombstone keeps deletes: which entries of a tenant are not to be there any more.
//
// A tombstone is an immutable object. It is in force from its creation on, wherever entries are read.
// Whether it is carried out or cancelled is decided once, by one object that only the first can put.
// Then compactors write blocks anew without the entries, and at last, when nobody can bring them back,
// the tombstone is retired. Which rows a tombstone's pipeline keeps, which are those that it deletes,
// is the query engine's business.
package tombstone

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// ErrInvalid means that a tombstone asks for what none can do. The text is for the user.
var ErrInvalid = errors.New("invalid delete")

// MaxQuery is the longest query in bytes.
const MaxQuery = 16 << 10

// Tombstone is entries of a tenant that are deleted. It is immutable.
type Tombstone struct {
	ID     string
	Tenant string
	// Query is LogQL, a selector with line filters and label filters: what it keeps is deleted.
	Query string
	// Start and End of the range, End not included, nanoseconds since the Unix epoch. End is not after
	// Created: entries that are pushed later stay.
	Start, End int64
	Created    time.Time // milliseconds

	selector *syntax.LogSelector
}

// New returns a tombstone of now. A start of math.MinInt64 is the beginning of time; an end of
// math.MaxInt64 is now. The error wraps ErrInvalid.
func New(now time.Time, rand io.Reader, tenant, query string, start, end int64) (*Tombstone, error) {
	id, err := catalog.NewID(now, rand)
	if err != nil {
		return nil, err
	}
	created := time.UnixMilli(now.UnixMilli()).UTC()
	if end == math.MaxInt64 {
		end = created.UnixNano()
	}
	t := &Tombstone{ID: string(id), Tenant: tenant, Query: query, Start: start, End: end, Created: created}
	if err := t.parse(); err != nil {
		return t, err
	}
	// Whoever reads entries runs the filters: one that cannot run would fail them all.
	if _, err := pipeline.Compile(t.selector.Stages, pipeline.Hints{}); err != nil {
		return t, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return t, nil
}

// parse checks the tombstone and sets what follows from its query.
func (t *Tombstone) parse() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if err := catalog.ValidateID(catalog.ID(t.ID)); err != nil {
		return fail("%v", err)
	}
	if t.Tenant == "" {
		return fail("no tenant")
	}
	if len(t.Query) > MaxQuery {
		return fail("the query has %d bytes, at most %d are allowed", len(t.Query), MaxQuery)
	}
	s, err := syntax.ParseLogQuery(t.Query)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for _, stage := range s.Stages {
		switch stage.(type) {
		case *syntax.LineFilter, *syntax.LabelFilter:
		default:
			return fail("%s: a delete selects by labels and lines only", stage)
		}
	}
	if t.Start >= t.End {
		return fail("the range is empty")
	}
	if t.End > t.Created.UnixNano() {
		return fail("the range ends in the future")
	}
	t.selector = s
	return nil
}

// Selector returns the parsed query, which is not to be changed.
func (t *Tombstone) Selector() *syntax.LogSelector { return t.selector }

// Stages returns the parsed filters. Without any, all entries of the streams in the range are deleted.
func (t *Tombstone) Stages() []syntax.Stage { return t.selector.Stages }

// MatchesStream reports whether entries of a stream may be deleted.
func (t *Tombstone) MatchesStream(ls model.Labels) bool {
	for _, m := range t.selector.Matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Overlaps reports whether entries from least to greatest, both included, may be deleted.
func (t *Tombstone) Overlaps(least, greatest int64) bool { return least < t.End && greatest >= t.Start }

// State is how far a delete is.
type State int

// The states.
const (
	Received  State = iota // in force when reading; it can be cancelled
	Rewriting              // rows are being removed
	Cancelled              // never to be carried out
)

// String returns the state for people.
func (s State) String() string { return [...]string{"received", "rewriting", "cancelled"}[s] }

// Set is tombstones of a tenant that are in force. It is immutable.
type Set struct {
	all     []*Tombstone // ascending by id
	started map[string]bool
	taken   time.Time
}

// newSet makes a set of tombstones in any order.
func newSet(all []*Tombstone, started map[string]bool, taken time.Time) *Set {
	slices.SortFunc(all, func(a, b *Tombstone) int { return strings.Compare(a.ID, b.ID) })
	return &Set{all, started, taken}
}

// All returns the tombstones, ascending by id.
func (s *Set) All() []*Tombstone { return slices.Clone(s.all) }

// Taken is when the set was true.
func (s *Set) Taken() time.Time { return s.taken }

// IDs names the set for others: Store.Named gives the same one.
func (s *Set) IDs() []string {
	out := make([]string, len(s.all))
	for i, t := range s.all {
		out[i] = t.ID
	}
	return out
}

// Version identifies the set's tombstones, which never change: an answer by one version is an answer
// by it for ever.
func (s *Set) Version() string {
	h := sha256.New()
	for _, t := range s.all {
		fmt.Fprintf(h, "%d:%s", len(t.ID), t.ID)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// For returns the tombstones that may delete entries of the stream from least to greatest, both
// included.
func (s *Set) For(ls model.Labels, least, greatest int64) []*Tombstone {
	var out []*Tombstone
	for _, t := range s.all {
		if t.Overlaps(least, greatest) && t.MatchesStream(ls) {
			out = append(out, t)
		}
	}
	return out
}

// Started returns the tombstones that are being carried out: only by these may rows be removed.
func (s *Set) Started() []*Tombstone {
	var out []*Tombstone
	for _, t := range s.all {
		if s.started[t.ID] {
			out = append(out, t)
		}
	}
	return out
}
