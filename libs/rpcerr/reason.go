package rpcerr

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// Domain is the domain of every google.rpc.ErrorInfo that Weir sends.
const Domain = "weir"

// StatusClientClosedRequest is the HTTP status of a request whose client went away (nginx's 499).
const StatusClientClosedRequest = 499

// Reason identifies a kind of failure. Its text is part of the API and never changes.
type Reason string

// The reasons that have a place in the table. A service may add its own in its [Table].
const (
	// InvalidArgument is a request that can never succeed and fits no closer reason.
	InvalidArgument Reason = "INVALID_ARGUMENT"
	// ParseError is text that does not parse: a query, labels, a number, a body.
	ParseError Reason = "PARSE_ERROR"
	// InvalidTenant is a tenant id that is malformed, or several where one is meant.
	InvalidTenant Reason = "INVALID_TENANT"
	// InvalidLabels is a set of stream labels that breaks the rules for labels.
	InvalidLabels Reason = "INVALID_LABELS"
	// LimitExceeded is a request beyond a limit that waiting does not lift.
	LimitExceeded Reason = "LIMIT_EXCEEDED"
	// TooLarge is a request whose body is over the size limit: send less at a time.
	TooLarge Reason = "TOO_LARGE"
	// Unsupported is something that is well formed and not supported yet.
	Unsupported Reason = "UNSUPPORTED"
	// RateLimited is a tenant beyond its rate; nothing was stored, come back after RetryAfter.
	RateLimited Reason = "RATE_LIMITED"
	// Overloaded is a server that sheds load before it does any work.
	Overloaded Reason = "OVERLOADED"
	// DiskFull is a server whose disk has no room to keep the promise of an ack.
	DiskFull Reason = "DISK_FULL"
	// ReadOnly is a server that takes no writes at present, because it leaves or is short of disk.
	ReadOnly Reason = "READ_ONLY"
	// Fenced is a writer that has been replaced by a newer incarnation.
	Fenced Reason = "FENCED"
	// NoQuorum is a write that too few replicas could take.
	NoQuorum Reason = "NO_QUORUM"
	// Incomplete is a query that cannot be answered wholly at present.
	Incomplete Reason = "INCOMPLETE"
	// NotReady is a server that is starting or stopping.
	NotReady Reason = "NOT_READY"
	// Unavailable is a peer that could not be reached.
	Unavailable Reason = "UNAVAILABLE"
	// DataLoss is data that should be there and is not, or does not match its checksum.
	DataLoss Reason = "DATA_LOSS"
	// NotFound is a thing that does not exist.
	NotFound Reason = "NOT_FOUND"
	// Conflict is a change to something that is not in the state that the change needs.
	Conflict Reason = "CONFLICT"
	// Unauthenticated is a request without valid credentials.
	Unauthenticated Reason = "UNAUTHENTICATED"
	// PermissionDenied is a caller who may not do this.
	PermissionDenied Reason = "PERMISSION_DENIED"
	// Canceled is a request whose caller went away.
	Canceled Reason = "CANCELLED"
	// Timeout is a request that was not done by its deadline.
	Timeout Reason = "TIMEOUT"
	// Internal is a fault of the server; the cause is in its log.
	Internal Reason = "INTERNAL"
)

// kind is what a reason means on each transport.
type kind struct {
	code codes.Code
	http int
}

// kinds is the table. A reason that is not in it takes the status of its gRPC code.
var kinds = map[Reason]kind{
	InvalidArgument:  {codes.InvalidArgument, http.StatusBadRequest},
	ParseError:       {codes.InvalidArgument, http.StatusBadRequest},
	InvalidTenant:    {codes.InvalidArgument, http.StatusBadRequest},
	InvalidLabels:    {codes.InvalidArgument, http.StatusBadRequest},
	LimitExceeded:    {codes.InvalidArgument, http.StatusBadRequest},
	TooLarge:         {codes.InvalidArgument, http.StatusRequestEntityTooLarge},
	Unsupported:      {codes.Unimplemented, http.StatusNotImplemented},
	RateLimited:      {codes.ResourceExhausted, http.StatusTooManyRequests},
	Overloaded:       {codes.ResourceExhausted, http.StatusServiceUnavailable},
	DiskFull:         {codes.Unavailable, http.StatusServiceUnavailable},
	ReadOnly:         {codes.Unavailable, http.StatusServiceUnavailable},
	Fenced:           {codes.FailedPrecondition, http.StatusConflict},
	NoQuorum:         {codes.Unavailable, http.StatusServiceUnavailable},
	Incomplete:       {codes.Unavailable, http.StatusServiceUnavailable},
	NotReady:         {codes.Unavailable, http.StatusServiceUnavailable},
	Unavailable:      {codes.Unavailable, http.StatusServiceUnavailable},
	DataLoss:         {codes.DataLoss, http.StatusInternalServerError},
	NotFound:         {codes.NotFound, http.StatusNotFound},
	Conflict:         {codes.FailedPrecondition, http.StatusConflict},
	Unauthenticated:  {codes.Unauthenticated, http.StatusUnauthorized},
	PermissionDenied: {codes.PermissionDenied, http.StatusForbidden},
	Canceled:         {codes.Canceled, StatusClientClosedRequest},
	Timeout:          {codes.DeadlineExceeded, http.StatusGatewayTimeout},
	Internal:         {codes.Internal, http.StatusInternalServerError},
}

// codeHTTP is the HTTP status of a code whose reason is unknown.
var codeHTTP = map[codes.Code]int{
	codes.Canceled:           StatusClientClosedRequest,
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.DeadlineExceeded:   http.StatusGatewayTimeout,
	codes.NotFound:           http.StatusNotFound,
	codes.AlreadyExists:      http.StatusConflict,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.ResourceExhausted:  http.StatusTooManyRequests,
	codes.FailedPrecondition: http.StatusConflict,
	codes.Aborted:            http.StatusConflict,
	codes.OutOfRange:         http.StatusBadRequest,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.Unauthenticated:    http.StatusUnauthorized,
}

// codeReason is the reason of a status that carries none: one that gRPC itself made, or that of a
// server which is not ours.
var codeReason = map[codes.Code]Reason{
	codes.Canceled:           Canceled,
	codes.InvalidArgument:    InvalidArgument,
	codes.DeadlineExceeded:   Timeout,
	codes.NotFound:           NotFound,
	codes.AlreadyExists:      Conflict,
	codes.PermissionDenied:   PermissionDenied,
	codes.ResourceExhausted:  Overloaded,
	codes.FailedPrecondition: Conflict,
	codes.Aborted:            Conflict,
	codes.OutOfRange:         InvalidArgument,
	codes.Unimplemented:      Unsupported,
	codes.Unavailable:        Unavailable,
	codes.DataLoss:           DataLoss,
	codes.Unauthenticated:    Unauthenticated,
}

// Code returns the gRPC code of r, Internal when r is not in the table.
func (r Reason) Code() codes.Code {
	if k, ok := kinds[r]; ok {
		return k.code
	}
	return codes.Internal
}
