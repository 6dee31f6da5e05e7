package rpcerr

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Rule says how one domain error crosses the wire.
type Rule struct {
	// Err is the sentinel, found by errors.Is.
	Err error
	// Reason identifies it on the wire. Coming back, a reason means the first rule that has it,
	// so a sentinel whose identity callers need has a reason of its own.
	Reason Reason
	// Code is needed only for a reason that this package does not know.
	Code codes.Code
	// Public says that the whole text of the error, with what wraps the sentinel, is meant for
	// callers. Else they get the sentinel's own text.
	Public bool
}

// Table lists the domain errors of a service. The zero table maps nothing: only an [Error], a
// status and a context's error keep their identity. A Table is read only and safe for concurrent use.
type Table []Rule

// ToError returns what a remote caller may know of err. An Error or a status in err's chain wins
// over the rules, the rules over contexts' errors. It returns nil for nil.
//
// The texts that wrap an Error or a status are for the log: callers get its own message.
func (t Table) ToError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := statusOf(err); !ok {
		for _, r := range t {
			if errors.Is(err, r.Err) {
				text := r.Err.Error()
				if r.Public {
					text = err.Error()
				}
				return &Error{Reason: r.Reason, Code: r.Code, Message: text, cause: err}
			}
		}
	}
	return find(err)
}

// ToStatus returns the status of err, with reason and retry delay as details; nil for nil.
func (t Table) ToStatus(err error) *status.Status {
	if err == nil {
		return nil
	}
	return t.ToError(err).GRPCStatus()
}

// FromStatus turns the error of a client call into an [*Error] that errors.Is also finds equal to
// the sentinel whose rule has its reason. It returns nil for nil.
func (t Table) FromStatus(err error) error {
	if err == nil {
		return nil
	}
	found := *find(err)
	for _, r := range t {
		if r.Reason == found.Reason {
			found.cause = r.Err
			break
		}
	}
	return &found
}

// HTTPStatus returns the HTTP status of err by t, 200 for nil.
func (t Table) HTTPStatus(err error) int {
	if err == nil {
		return 200
	}
	e := t.ToError(err)
	if k, ok := kinds[e.reason()]; ok {
		return k.http
	}
	if s, ok := codeHTTP[e.code()]; ok {
		return s
	}
	return 500
}

// ToStatus is [Table.ToStatus] of the empty table.
func ToStatus(err error) *status.Status { return Table(nil).ToStatus(err) }

// FromStatus is [Table.FromStatus] of the empty table.
func FromStatus(err error) error { return Table(nil).FromStatus(err) }

// HTTPStatus is [Table.HTTPStatus] of the empty table.
func HTTPStatus(err error) int { return Table(nil).HTTPStatus(err) }
