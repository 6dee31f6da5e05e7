package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is the failure of a call, as every method of this package returns it
// (use errors.As).
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason tells failures of one code apart, such as RATE_LIMITED or
	// PARSE_ERROR. Empty: the server, or whatever answered for it, gave none.
	Reason string
	// Domain is who defined the reason.
	Domain string
	// Message is for people.
	Message string
	// Metadata is what the server says beside the reason, such as the position
	// of a syntax error.
	Metadata map[string]string
	// RetryAfter is how long the server asks to wait before a retry. 0: it says
	// nothing.
	RetryAfter time.Duration

	err error
}

// Error gives reason, code and message on one line.
func (e *Error) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%s (%s): %s", e.Reason, e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap gives the error of the gRPC library.
func (e *Error) Unwrap() error { return e.err }

// GRPCStatus lets status.FromError and status.Code see the code and details.
func (e *Error) GRPCStatus() *status.Status {
	if st, ok := status.FromError(e.err); ok && e.err != nil {
		return st
	}
	return status.New(e.Code, e.Message)
}

// Is makes errors.Is(err, context.DeadlineExceeded) and context.Canceled true
// for calls that ended that way.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case context.Canceled:
		return e.Code == codes.Canceled
	}
	return false
}

// AsError gives the Error in an error's chain, or makes one of a gRPC status.
// nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	e = &Error{Code: st.Code(), Message: st.Message(), err: err}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.Reason, e.Domain, e.Metadata = d.GetReason(), d.GetDomain(), d.GetMetadata()
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		}
	}
	return e
}

// Reason gives an error's reason, or "".
func Reason(err error) string {
	if e := AsError(err); e != nil {
		return e.Reason
	}
	return ""
}

// wrap makes an Error of what gRPC returns; io.EOF, the end of a stream, stays.
func wrap(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // gRPC returns io.EOF itself
		return err
	}
	return AsError(err)
}

// verdict is what to do about a failed push.
type verdict int

const (
	retry   verdict = iota // nothing wrong with the batch: send it again later
	isolate                // something in the batch is wrong: send its parts
	fail                   // no batch will do: tell the caller
)

// tooLarge recognises a message over a size limit. gRPC's own limits give no
// reason, only these words.
func (e *Error) tooLarge() bool {
	return e.Reason == "TOO_LARGE" ||
		e.Code == codes.ResourceExhausted && strings.Contains(e.Message, "message larger than max")
}

func (e *Error) verdict() verdict {
	if e.tooLarge() {
		return isolate
	}
	switch e.Code {
	case codes.InvalidArgument, codes.OutOfRange:
		if e.Reason == "INVALID_TENANT" {
			return fail
		}
		return isolate
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Internal,
		codes.Aborted, codes.Canceled, codes.Unknown, codes.DataLoss:
		return retry
	}
	return fail
}

// Temporary says whether the same call may succeed later without a change to
// it or to the server's configuration.
func (e *Error) Temporary() bool { return e.verdict() == retry }
