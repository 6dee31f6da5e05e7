package rpcerr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Error is a failure as callers see it. It is immutable once it has been returned.
//
// Errors are the same to errors.Is when their reasons are:
// errors.Is(err, rpcerr.New(rpcerr.NotFound, "")) holds for every NotFound, also after a trip
// over the wire. [ReasonOf] and [Is] say the same with less.
type Error struct {
	// Reason identifies the failure; empty means Internal.
	Reason Reason
	// Code is the gRPC code; OK (zero) means the code of Reason.
	Code codes.Code
	// Message is for people and goes to the caller.
	Message string
	// RetryAfter is how long a caller should wait before the next attempt; 0 says nothing.
	RetryAfter time.Duration
	// Metadata are further facts for programs, such as the limit that was hit.
	Metadata map[string]string

	// cause stays in this process: errors.Is and As see it, callers over the wire never do.
	cause error
}

// New returns an Error with the code of reason.
func New(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: message(format, args)}
}

// Wrap returns an Error that hides cause from remote callers and keeps it for errors.Is and the log.
func Wrap(cause error, reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: message(format, args), cause: cause}
}

func message(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// WithRetry returns a copy of e that asks for a delay before the next attempt.
func (e *Error) WithRetry(after time.Duration) *Error {
	c := *e
	c.RetryAfter = after
	return &c
}

// With returns a copy of e with one more pair of metadata.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[key] = value
	return &c
}

// Error returns the message alone: reason and code are for programs.
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.reason())
	}
	return e.Message
}

// Unwrap returns the cause, nil if there is none.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an Error of the same reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.reason() == e.reason()
}

func (e *Error) reason() Reason {
	if e.Reason == "" {
		return Internal
	}
	return e.Reason
}

func (e *Error) code() codes.Code {
	if e.Code != codes.OK {
		return e.Code
	}
	return e.reason().Code()
}

// maxMessage bounds a message on the wire, in bytes. It travels in the trailers, twice, and some
// clients refuse more than 8 KiB of those: they would then see that and not the error.
const maxMessage = 2 << 10

// wireText returns s as the wire can carry it: valid UTF-8, without which the details would be
// lost, and not too long.
func wireText(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage-len("…")]
		for len(s) > 0 { // not in the middle of a character
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// GRPCStatus makes an Error a status also where no interceptor runs. Its message is cut to 2 KiB.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.code(), wireText(e.Error()))
	info := &errdetails.ErrorInfo{Reason: string(e.reason()), Domain: Domain}
	for k, v := range e.Metadata {
		if info.Metadata == nil {
			info.Metadata = make(map[string]string, len(e.Metadata))
		}
		info.Metadata[wireText(k)] = wireText(v)
	}
	with, err := st.WithDetails(info)
	if err == nil && e.RetryAfter > 0 {
		with, err = with.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if err != nil { // cannot happen: all texts are UTF-8 and the code is not OK
		return st
	}
	return with
}

// Is reports whether err has this reason.
func Is(err error, reason Reason) bool { return err != nil && ReasonOf(err) == reason }

// ReasonOf returns the reason of err: that of an Error or of a status in its chain, Canceled or
// Timeout for a context's error, else Internal. It is empty for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return find(err).reason()
}

// RetryAfter returns how long to wait before the next attempt, 0 if err does not say.
func RetryAfter(err error) time.Duration {
	if err == nil {
		return 0
	}
	return find(err).RetryAfter
}

// find returns the Error that stands for err, which is not nil.
func find(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if st, ok := statusOf(err); ok {
		return fromStatus(st)
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return Wrap(err, TooLarge, "request body too large: at most %d bytes are allowed", tooLarge.Limit)
	}
	if errors.Is(err, context.Canceled) {
		return Wrap(err, Canceled, "the request was cancelled by the client")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Wrap(err, Timeout, "the request was not done by its deadline")
	}
	return Wrap(err, Internal, "internal error")
}

// statusOf finds a gRPC status in err's chain. Its own message is kept: status.FromError would
// replace it by the text of whatever wraps it.
func statusOf(err error) (*status.Status, bool) {
	type grpcStatus interface{ GRPCStatus() *status.Status }
	if s, ok := errors.AsType[interface {
		error
		grpcStatus
	}](err); ok {
		if st := s.GRPCStatus(); st != nil && st.Code() != codes.OK {
			return st, true
		}
	}
	return nil, false
}

// fromStatus reads a status that is not OK.
func fromStatus(st *status.Status) *Error {
	e := &Error{Code: st.Code(), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain && e.Reason == "" {
				e.Reason = Reason(d.GetReason())
				e.Metadata = d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			if after := d.GetRetryDelay().AsDuration(); after > 0 {
				e.RetryAfter = after
			}
		}
	}
	if e.Reason == "" {
		e.Reason = codeReason[st.Code()]
	}
	switch e.Reason {
	case Canceled:
		e.cause = context.Canceled
	case Timeout:
		e.cause = context.DeadlineExceeded
	}
	return e
}
