package syntax

import (
	"strings"
	"time"
)

type kind uint8

const (
	tEOF kind = iota
	tError
	tUnknown // a character of no meaning
	tIdent
	tString
	tNumber
	tDuration
	tBytes
	tRange
	tFlag

	tOpenBrace
	tCloseBrace
	tOpenParen
	tCloseParen
	tComma
	tDot
	tPipe
	tEq       // =
	tNeq      // !=
	tRe       // =~
	tNre      // !~
	tPipeEq   // |=
	tPipeRe   // |~
	tPipePat  // |>
	tNotPat   // !>
	tCmpEq    // ==
	tGt       // >
	tGte      // >=
	tLt       // <
	tLte      // <=
	tAdd      // +
	tSub      // -
	tMul      // *
	tDiv      // /
	tMod      // %
	tPow      // ^
	lastPunct = tPow

	tBy kind = iota
	tWithout
	tBool
	tOffset
	tOn
	tIgnoring
	tGroupLeft
	tGroupRight
	tOr
	tAnd
	tUnless
	tJSON
	tRegexp
	tLogfmt
	tUnpack
	tPattern
	tLabelFormat
	tLineFormat
	tDecolorize
	tDrop
	tKeep
	tUnwrap

	// Function names, only where one is called; text has the name.
	tRangeOp
	tVectorOp
	tConversion
	tVector
	tLabelReplace
	tIP
	tFunction
	tTime
)

var punctText = [...]string{
	tOpenBrace: "{", tCloseBrace: "}", tOpenParen: "(", tCloseParen: ")",
	tComma: ",", tDot: ".", tPipe: "|", tEq: "=", tNeq: "!=", tRe: "=~", tNre: "!~",
	tPipeEq: "|=", tPipeRe: "|~", tPipePat: "|>", tNotPat: "!>",
	tCmpEq: "==", tGt: ">", tGte: ">=", tLt: "<", tLte: "<=",
	tAdd: "+", tSub: "-", tMul: "*", tDiv: "/", tMod: "%", tPow: "^",
}

var keywords = map[string]kind{
	"by": tBy, "without": tWithout, "bool": tBool, "offset": tOffset,
	"on": tOn, "ignoring": tIgnoring, "group_left": tGroupLeft, "group_right": tGroupRight,
	"or": tOr, "and": tAnd, "unless": tUnless,
	"json": tJSON, "regexp": tRegexp, "logfmt": tLogfmt, "unpack": tUnpack, "pattern": tPattern,
	"label_format": tLabelFormat, "line_format": tLineFormat, "decolorize": tDecolorize,
	"drop": tDrop, "keep": tKeep, "unwrap": tUnwrap,
}

var functions = map[string]kind{
	string(OpCountOverTime): tRangeOp, string(OpRate): tRangeOp, string(OpRateCounter): tRangeOp,
	string(OpBytesOverTime): tRangeOp, string(OpBytesRate): tRangeOp, string(OpAbsentOverTime): tRangeOp,
	string(OpSumOverTime): tRangeOp, string(OpAvgOverTime): tRangeOp, string(OpMinOverTime): tRangeOp,
	string(OpMaxOverTime): tRangeOp, string(OpFirstOverTime): tRangeOp, string(OpLastOverTime): tRangeOp,
	string(OpStddevOverTime): tRangeOp, string(OpStdvarOverTime): tRangeOp, string(OpQuantileOverTime): tRangeOp,

	string(OpCountDistinctOverTime): tRangeOp, string(OpHistogramOverTime): tRangeOp,

	string(FuncAbs): tFunction, string(FuncCeil): tFunction, string(FuncFloor): tFunction,
	string(FuncRound): tFunction, string(FuncClamp): tFunction, string(FuncClampMin): tFunction,
	string(FuncClampMax): tFunction, string(FuncExp): tFunction, string(FuncLn): tFunction,
	string(FuncSqrt): tFunction, "time": tTime,

	string(OpSum): tVectorOp, string(OpAvg): tVectorOp, string(OpCount): tVectorOp,
	string(OpMin): tVectorOp, string(OpMax): tVectorOp, string(OpStddev): tVectorOp,
	string(OpStdvar): tVectorOp, string(OpTopk): tVectorOp, string(OpBottomk): tVectorOp,
	string(OpApproxTopk): tVectorOp, string(OpSort): tVectorOp, string(OpSortDesc): tVectorOp,

	string(ConvertBytes): tConversion, string(ConvertDuration): tConversion, string(ConvertDurationSeconds): tConversion,
	"vector": tVector, "label_replace": tLabelReplace, "ip": tIP,
}

type token struct {
	kind kind
	off  int    // byte offset of the start
	text string // source text; decoded for strings, lower case for keywords and functions, message for tError
	dur  time.Duration
	size uint64
	pos  Pos
}

// name is how errors call the token.
func (t token) name() string {
	switch t.kind {
	case tEOF:
		return "$end"
	case tUnknown, tIdent:
		return "IDENTIFIER"
	case tString:
		return "STRING"
	case tNumber:
		return "NUMBER"
	case tDuration:
		return "DURATION"
	case tBytes:
		return "BYTES"
	case tRange:
		return "RANGE"
	case tFlag:
		return "FUNCTION_FLAG"
	case tRangeOp, tVectorOp, tVector, tFunction, tTime:
		return strings.ToUpper(t.text)
	case tConversion:
		return strings.ToUpper(t.text) + "_CONV"
	}
	if t.kind <= lastPunct {
		return punctText[t.kind]
	}
	return t.text
}
