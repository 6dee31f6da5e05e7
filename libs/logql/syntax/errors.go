package syntax

import (
	"errors"
	"fmt"
)

// ErrNotSelector is returned by ParseSelector for a query that is more than matchers.
var ErrNotSelector = errors.New("only label matchers are supported")

// ParseError is a query that cannot be parsed, or not be run as it stands. It is
// always the client's fault.
type ParseError struct {
	// Pos is where; the zero Pos if the error has no single place.
	Pos Pos
	Msg string
}

// Error returns `parse error at line 1, col 7: …` or, without a place, `parse error : …`.
func (e *ParseError) Error() string {
	if e.Pos == (Pos{}) {
		return "parse error : " + e.Msg
	}
	return fmt.Sprintf("parse error at line %d, col %d: %s", e.Pos.Line, e.Pos.Col, e.Msg)
}

// StageError is how the compiler of a pipeline reports a stage which the parser
// let pass: a line-filter regex, an ip() pattern, a path, a template.
func StageError(s Stage, err error) *ParseError {
	return &ParseError{Msg: fmt.Sprintf("stage '%s' : %s", s, err)}
}
