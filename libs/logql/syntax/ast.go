// Package syntax is the text form of LogQL: lexer, parser, syntax tree, printer
// and formatter. It is pure: no I/O, no clock, no goroutines.
//
// A tree that the parser returned is immutable by convention and may be shared
// between goroutines. Whoever builds trees by hand must keep the invariants
// stated at each type; then ParseExpr(e.String()) yields an equal tree
// (positions apart).
//
// The parser checks all that can be told from the text alone. Line-filter
// regexes, ip() patterns, json and logfmt paths and templates are left to the
// package that compiles pipelines; see StageError for how it reports them.
package syntax

import (
	"fmt"
	"time"
)

// Pos is a place in the query text, 1-based, columns counted in characters.
// The zero Pos means "no place".
type Pos struct {
	Line, Col int
}

// Expr is a whole query or an operand of one: *LogSelector, *RangeAggregation,
// *VectorAggregation, *BinaryExpr, *Literal, *Vector, *LabelReplace, *Function or
// *Time.
type Expr interface {
	// String returns the canonical text on one line. It parses back to an equal tree.
	fmt.Stringer
	// Position is where the expression starts in the text it was parsed from.
	Position() Pos
	expr()
}

// Stage is one step of a pipeline: *LineFilter, *JSON, *Logfmt, *Regexp,
// *Pattern, *Unpack, *LabelFilter, *LineFormat, *LabelFormat, *Decolorize,
// *Drop, *Keep or one of those that Loki does not have, see Extended.
type Stage interface {
	// String returns the stage as it stands in a query, operator included:
	// `|= "a"`, `| json a="b"`. Error texts quote it.
	fmt.Stringer
	Position() Pos
	stage()
}

// LogSelector selects streams and sends their entries through a pipeline. As a
// whole query it yields log entries; else it is the selector of a range.
type LogSelector struct {
	// Matchers has one at least that does not match "" (ParseSelector may
	// return none at all), or, of a search without a selector, is empty.
	Matchers []*Matcher
	// Bare is a search without a selector, over all streams: it has a stage.
	Bare bool
	// Stages in the order written.
	Stages []Stage
	At     Pos
}

// LineOp is the operator of a line filter.
type LineOp uint8

// Operators of line filters. The negated ones keep a line if no alternative matches.
const (
	LineContains    LineOp = iota // |=
	LineNotContains               // !=
	LineRegexp                    // |~ (unanchored)
	LineNotRegexp                 // !~
	LinePattern                   // |> (`<_>` wildcards)
	LineNotPattern                // !>
)

// Negated reports whether the operator drops what matches.
func (o LineOp) Negated() bool { return o&1 == 1 }

// LineFilter keeps or drops entries by their line.
type LineFilter struct {
	Op LineOp
	// Alternatives are joined by or; there is one at least.
	Alternatives []LineMatch
	At           Pos
}

// LineMatch is one alternative of a line filter. What Text means (literal,
// regex, pattern) is the filter's operator's choice, unless IP is set.
type LineMatch struct {
	Text string
	// IP: Text is the argument of ip(…): an address, a CIDR or a range a-b.
	// Only legal with |= and !=, which the parser does not check.
	IP bool
}

// Extraction names a label and the path it is read from: alias="path".
type Extraction struct {
	Name string
	Path string
}

// JSON is `| json`, extracting all fields, or only those of Extractions if there are any.
type JSON struct {
	Extractions []Extraction
	At          Pos
}

// Logfmt is `| logfmt`, extracting all pairs, or only those of Extractions if there are any.
type Logfmt struct {
	Strict      bool // --strict
	KeepEmpty   bool // --keep-empty
	Extractions []Extraction
	At          Pos
}

// Regexp is `| regexp "…"`. The parser has checked Text: it compiles, has a
// named group, and the names are valid and distinct.
type Regexp struct {
	Text string
	At   Pos
}

// Pattern is `| pattern "…"`. The parser has checked Text; PatternParts splits it.
type Pattern struct {
	Text string
	At   Pos
}

// Unpack is `| unpack`.
type Unpack struct {
	At Pos
}

// LabelFilter keeps entries whose labels satisfy Cond.
type LabelFilter struct {
	Cond Condition
	At   Pos
}

// Condition is a tree of tests on labels: *LogicalCond over *StringCond,
// *NumberCond, *DurationCond, *BytesCond, *IPCond and *InCond.
type Condition interface {
	fmt.Stringer
	condition()
}

// LogicalCond joins two conditions. The right one is not evaluated if the left
// one decides. The tree already has the grammar's shape: a comma or blank takes
// everything to its right.
type LogicalCond struct {
	Or          bool // or; else and, comma or blank
	Left, Right Condition
}

// StringCond compares the label as text; a missing label is "".
//
// Matcher.Matches anchors the regex; Loki's simplified treatment of label-filter
// regexes is the business of the package that compiles pipelines.
type StringCond struct {
	*Matcher
}

// CompareOp is the operator of a numeric label filter.
type CompareOp uint8

// Comparison operators.
const (
	CompareEqual        CompareOp = iota // == (and = in queries)
	CompareNotEqual                      // !=
	CompareGreater                       // >
	CompareGreaterEqual                  // >=
	CompareLess                          // <
	CompareLessEqual                     // <=
)

// NumberCond compares the label as a Go float.
type NumberCond struct {
	Name  string
	Op    CompareOp
	Value float64 // finite
}

// DurationCond compares the label as a Go duration.
type DurationCond struct {
	Name  string
	Op    CompareOp
	Value time.Duration
}

// BytesCond compares the label as a number of bytes. In a pipeline the parser
// has rounded Value to two digits (RoundBytes), as Loki does; behind an unwrap
// it is exact.
type BytesCond struct {
	Name  string
	Op    CompareOp
	Value uint64
}

// IPCond tests whether the label is an address inside Pattern (address, CIDR or
// range a-b; not checked by the parser).
type IPCond struct {
	Name    string
	Negated bool // !=
	Pattern string
}

// LineFormat is `| line_format "…"`; the template is not checked by the parser.
type LineFormat struct {
	Template string
	At       Pos
}

// LabelAssign is one part of label_format.
type LabelAssign struct {
	Name string
	// Rename: Value is the name of the label that is renamed to Name
	// (dst=src); else it is a template (dst="…"), unchecked.
	Rename bool
	Value  string
}

// LabelFormat is `| label_format a=b, c="…"`; one Assign at least. Repeated
// destinations and templates are not checked by the parser.
type LabelFormat struct {
	Assigns []LabelAssign
	At      Pos
}

// Decolorize is `| decolorize`.
type Decolorize struct {
	At Pos
}

// LabelRef is one part of drop and keep: a name or, if Matcher is set, a test on the
// value of the label Name. In the language a line filter with != or !~ cannot
// follow a list that ends in a bare name: it would be that name's matcher.
type LabelRef struct {
	Name    string
	Matcher *Matcher // nil, or Matcher.Name == Name
}

// Drop is `| drop a, b="c"`; one label at least.
type Drop struct {
	Labels []LabelRef
	At     Pos
}

// Keep is `| keep a, b="c"`; one label at least.
type Keep struct {
	Labels []LabelRef
	At     Pos
}

// Conversion says how unwrap turns a label into a number.
type Conversion string

// Conversions of unwrap. ConvertDuration and ConvertDurationSeconds do the same.
const (
	ConvertNone            Conversion = ""                 // Go float
	ConvertBytes           Conversion = "bytes"            // bytes(x)
	ConvertDuration        Conversion = "duration"         // duration(x), in seconds
	ConvertDurationSeconds Conversion = "duration_seconds" // duration_seconds(x)
)

// Unwrap makes the label Name the value of a sample.
type Unwrap struct {
	Name       string
	Conversion Conversion
	// Filters run after the conversion and see its errors.
	Filters []*LabelFilter
	At      Pos
}

// Range is the operand of a range aggregation: the entries of Selector in the
// window (t−Offset−Interval, t−Offset].
type Range struct {
	Selector *LogSelector
	Unwrap   *Unwrap       // nil: no unwrap
	Interval time.Duration // whole milliseconds
	Offset   time.Duration // may be negative
}

// RangeOp is a range aggregation, by its name in queries.
type RangeOp string

// Range aggregations.
const (
	OpCountOverTime    RangeOp = "count_over_time"
	OpRate             RangeOp = "rate"
	OpRateCounter      RangeOp = "rate_counter"
	OpBytesOverTime    RangeOp = "bytes_over_time"
	OpBytesRate        RangeOp = "bytes_rate"
	OpAbsentOverTime   RangeOp = "absent_over_time"
	OpSumOverTime      RangeOp = "sum_over_time"
	OpAvgOverTime      RangeOp = "avg_over_time"
	OpMinOverTime      RangeOp = "min_over_time"
	OpMaxOverTime      RangeOp = "max_over_time"
	OpFirstOverTime    RangeOp = "first_over_time"
	OpLastOverTime     RangeOp = "last_over_time"
	OpStddevOverTime   RangeOp = "stddev_over_time"
	OpStdvarOverTime   RangeOp = "stdvar_over_time"
	OpQuantileOverTime RangeOp = "quantile_over_time"
)

// Grouping is by (…) or without (…). On a range aggregation a nil *Grouping
// keeps all labels, and by () drops all. On a vector aggregation nil stands for
// by () too.
type Grouping struct {
	Without bool
	Labels  []string // as written, may be empty
}

// RangeAggregation aggregates the entries of a window per series.
type RangeAggregation struct {
	Op       RangeOp
	Param    float64   // φ of quantile_over_time (not negative), else 0
	Labels   []string  // that count_distinct_over_time counts the values of, else nil
	Bounds   []float64 // of histogram_over_time's buckets: they ascend; else nil
	Range    Range
	Grouping *Grouping // nil: none
	At       Pos
}

// VectorOp is a vector aggregation, by its name in queries.
type VectorOp string

// Vector aggregations.
const (
	OpSum        VectorOp = "sum"
	OpAvg        VectorOp = "avg"
	OpCount      VectorOp = "count"
	OpMin        VectorOp = "min"
	OpMax        VectorOp = "max"
	OpStddev     VectorOp = "stddev"
	OpStdvar     VectorOp = "stdvar"
	OpTopk       VectorOp = "topk"
	OpBottomk    VectorOp = "bottomk"
	OpApproxTopk VectorOp = "approx_topk"
	OpSort       VectorOp = "sort"
	OpSortDesc   VectorOp = "sort_desc"
)

// VectorAggregation aggregates the series of one point in time.
type VectorAggregation struct {
	Op       VectorOp
	Param    int       // k of topk, bottomk, approx_topk (positive), else 0
	Grouping *Grouping // nil: one group; `by ()` is parsed to nil
	Inner    Expr      // a metric expression
	At       Pos
}

// BinaryOp is a binary operator, as written in queries.
type BinaryOp string

// Binary operators.
const (
	OpOr           BinaryOp = "or"
	OpAnd          BinaryOp = "and"
	OpUnless       BinaryOp = "unless"
	OpAdd          BinaryOp = "+"
	OpSub          BinaryOp = "-"
	OpMul          BinaryOp = "*"
	OpDiv          BinaryOp = "/"
	OpMod          BinaryOp = "%"
	OpPow          BinaryOp = "^"
	OpEqual        BinaryOp = "=="
	OpNotEqual     BinaryOp = "!="
	OpGreater      BinaryOp = ">"
	OpGreaterEqual BinaryOp = ">="
	OpLess         BinaryOp = "<"
	OpLessEqual    BinaryOp = "<="
)

// IsSet reports whether the operator is and, or, unless.
func (o BinaryOp) IsSet() bool { return o == OpOr || o == OpAnd || o == OpUnless }

// IsComparison reports whether the operator is one of == != > >= < <=.
func (o BinaryOp) IsComparison() bool {
	switch o {
	case OpEqual, OpNotEqual, OpGreater, OpGreaterEqual, OpLess, OpLessEqual:
		return true
	}
	return false
}

// Cardinality says how many series a match may have on each side.
type Cardinality uint8

// Cardinalities.
const (
	OneToOne  Cardinality = iota
	ManyToOne             // group_left: many on the left
	OneToMany             // group_right: many on the right
)

// Matching is on (…)/ignoring (…) with group_left/group_right.
type Matching struct {
	On      bool     // on; else ignoring
	Labels  []string // of on or ignoring, may be empty
	Card    Cardinality
	Include []string // of group_left or group_right
}

// BinaryExpr joins two metric expressions, of which one may be a scalar (see
// IsScalar; two literals are folded by the parser), but not with a set operator.
type BinaryExpr struct {
	Op         BinaryOp
	ReturnBool bool      // bool: a comparison gives 0 or 1. Without effect on other operators
	Matching   *Matching // nil: all labels, one to one
	LHS, RHS   Expr
	At         Pos
}

// Literal is a number. Folding may have made it NaN or infinite.
type Literal struct {
	Value float64
	At    Pos
}

// Vector is vector(N): one series without labels at every step.
type Vector struct {
	Value float64 // finite, not negative
	At    Pos
}

// LabelReplace is label_replace(Inner, "Dst", "Replacement", "Src", "Regex").
// The parser has checked that Regex compiles; names are not checked.
type LabelReplace struct {
	Inner       Expr // a metric expression
	Dst         string
	Replacement string
	Src         string
	Regex       string // matched anchored
	At          Pos
}
